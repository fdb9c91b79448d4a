//! Handshakes of OpenSSL on the loopback, by its own programs: as many as they were told to make or say they made.

use super::{
    Outcome, Server, Skip, assert_whole, copied, directory, start,
    support::{
        command::{text, tool},
        exporter::{Tapster, within},
    },
};
use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    time::Duration,
};

const LIBRARY: &str = "libssl.so.3";
const CLIENTS: u64 = 12;

/// A certificate of our own, and a port that nobody has.
fn prepare(directory: &Path) -> Result<u16, Skip> {
    let mut openssl = tool("openssl")?;
    openssl.current_dir(directory).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    text(openssl.args(["-nodes", "-subj", "/CN=localhost", "-keyout", "key", "-out", "cert", "-days", "1"]));
    Ok(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
}

/// `openssl s_server`, with libraries from `libraries`; each connection counts, so it is not asked whether it is up but
/// by the kernel's list of listening sockets.
fn serve(directory: &Path, port: u16, libraries: &Path, more: &[&str]) -> Result<Server, Skip> {
    let mut openssl = tool("openssl")?;
    openssl.current_dir(directory).args(["s_server", "-cert", "cert", "-key", "key", "-quiet", "-accept"]);
    openssl.arg(format!("127.0.0.1:{port}")).args(more).env("LD_LIBRARY_PATH", libraries);
    // What it is given to say it says at once, which makes it leave the handshake to SSL_write: so it gets nothing, and
    // no end of it either.
    openssl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(openssl.spawn().unwrap());
    let listening = format!("0100007F:{port:04X} 00000000:0000 0A");
    let up = || std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&listening);
    assert!(within(Duration::from_secs(30), up).is_some(), "s_server does not listen");
    Ok(server)
}

fn handshakes(tapster: &Tapster, result: &str) -> u64 {
    let metrics = tapster.scrape();
    assert_whole(&metrics);
    let labels = [("comm", "openssl"), ("result", result)];
    metrics.histogram("tapster_tls_handshake_duration_seconds", &labels).count()
}

/// `SSL_accept`: as many as there were clients, and one that only knocked.
pub(super) fn server() -> Outcome {
    let directory = directory();
    let library = copied(LIBRARY, directory.path())?;
    let port = prepare(directory.path())?;
    let tapster = start("tls_handshake", LIBRARY, &library, directory.path());
    let naccept = (CLIENTS + 1).to_string();
    let mut server = serve(directory.path(), port, directory.path(), &["-naccept", &naccept])?;
    for _ in 0..CLIENTS {
        let mut client = tool("openssl")?;
        client.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]);
        text(client.stdin(Stdio::null()).stderr(Stdio::null()));
    }
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    server.finish();
    assert_eq!(handshakes(&tapster, "done"), CLIENTS);
    assert_eq!(handshakes(&tapster, "unfinished") + handshakes(&tapster, "refused"), 1, "who said nothing");
    Ok(format!("{CLIENTS} clients of s_server, and 1 that said nothing"))
}

/// `SSL_connect`: as many as `s_time` says it made in a second.
pub(super) fn client() -> Outcome {
    let directory = directory();
    let library = copied(LIBRARY, directory.path())?;
    let port = prepare(directory.path())?;
    let server = serve(directory.path(), port, Path::new("/nonexistent"), &[])?;
    let tapster = start("tls_handshake", LIBRARY, &library, directory.path());
    let mut client = tool("openssl")?;
    client.args(["s_time", "-connect", &format!("127.0.0.1:{port}"), "-new", "-time", "1"]);
    let output = text(client.env("LD_LIBRARY_PATH", directory.path()).stderr(Stdio::null()));
    drop(server);
    let said = output.lines().find_map(|line| line.split_once(" connections in ")?.0.trim().parse().ok());
    let said: u64 = said.unwrap_or_else(|| panic!("no count in {output}"));
    assert_eq!((handshakes(&tapster, "done"), said > 0), (said, true));
    Ok(format!("{said} connections, says s_time"))
}
