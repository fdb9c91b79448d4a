//! TLS: who is trusted, and who is not.

use crate::{
    Waiting,
    authority::Authority,
    pushing::{Pushing, settings, start},
    receiver::{Options, Receiver, Transport},
    support::{
        cases::{Cases, Outcome},
        exporter::within,
    },
    together,
};
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

/// Pushes by TLS with these files of settings.
fn push(receiver: &Receiver, transport: Transport, files: &[(&str, &PathBuf)]) -> Pushing {
    let endpoint = format!("https://{}", receiver.address());
    let protocol = if transport == Transport::Grpc { "grpc" } else { "http/protobuf" };
    let texts: Vec<String> = files.iter().map(|(_, path)| path.display().to_string()).collect();
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "400"),
    ];
    variables.extend(files.iter().zip(&texts).map(|((name, _), text)| (*name, text.as_str())));
    start(settings(&variables)).unwrap_or_else(|error| panic!("{error}"))
}

const AUTHORITY: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY";

fn is_taken(receiver: &Receiver) -> Outcome {
    let received = receiver.wait(3);
    assert!(received.iter().all(|request| request.connection == received[0].connection), "{received:?}");
    Ok(format!("{} requests on one connection", received.len()))
}

/// Nothing arrives, and it is said why.
fn is_refused(receiver: &Receiver, pushing: &Pushing, why: &[&str]) -> Outcome {
    let failed = within(Duration::from_secs(10), || pushing.ended("failed") >= 2);
    assert!(failed.is_some(), "{:?}", pushing.state.status());
    assert!(receiver.received().is_empty());
    let message = pushing.message();
    assert!(why.iter().any(|part| message.contains(part)), "`{message}` does not say why: {why:?}");
    Ok(message)
}

/// Certificates and files that the cases share.
struct World {
    files: Files,
    ours: Authority,
    others: Authority,
    /// Files of the two authorities.
    authority: PathBuf,
    wrong: PathBuf,
}

impl World {
    fn new() -> Self {
        let (files, ours, others) = (Files::new(), Authority::new("ours"), Authority::new("others"));
        let (authority, wrong) =
            (files.write("ours.pem", &ours.pem()), files.write("others.pem", &others.pem()));
        Self { files, ours, others, authority, wrong }
    }

    fn receiver(&self, transport: Transport, demands: Option<&Authority>) -> Receiver {
        Receiver::start(Options { tls: Some(self.ours.server(demands)), ..Options::of(transport) })
    }

    /// Pushes as a client that `authority` knows, to a receiver that asks for one of ours.
    fn client(&self, transport: Transport, authority: &Authority, name: &str) -> (Receiver, Pushing) {
        let receiver = self.receiver(transport, Some(&self.ours));
        let (certificate, key) = authority.client(name);
        let certificate = self.files.write(&format!("{transport:?}-{name}.pem"), &certificate);
        let key = self.files.write(&format!("{transport:?}-{name}.key"), &key);
        let of_client = [(AUTHORITY, &self.authority), (CERTIFICATE, &certificate), (KEY, &key)];
        let pushing = push(&receiver, transport, &of_client);
        (receiver, pushing)
    }
}

fn cases(world: &World, transport: Transport) -> Vec<Waiting<'_>> {
    let World { files, ours, others, authority, wrong } = world;
    let case =
        |what: &str, case: Box<dyn FnOnce() -> Outcome + Send>| (format!("{transport:?}: {what}"), case);
    vec![
        case(
            "the right authority",
            Box::new(move || {
                let receiver = world.receiver(transport, None);
                let _pushing = push(&receiver, transport, &[(AUTHORITY, authority)]);
                is_taken(&receiver)
            }),
        ),
        case(
            "another authority",
            Box::new(move || {
                let receiver = world.receiver(transport, None);
                let pushing = push(&receiver, transport, &[(AUTHORITY, wrong)]);
                is_refused(&receiver, &pushing, &["invalid peer certificate: UnknownIssuer"])
            }),
        ),
        case(
            "only what the host trusts",
            Box::new(move || {
                let receiver = world.receiver(transport, None);
                let pushing = push(&receiver, transport, &[]);
                is_refused(&receiver, &pushing, &["invalid peer certificate: UnknownIssuer"])
            }),
        ),
        case(
            "a client's certificate",
            Box::new(move || {
                let (receiver, _pushing) = world.client(transport, ours, "node-17");
                is_taken(&receiver)
            }),
        ),
        case(
            "no client's certificate where one is asked for",
            Box::new(move || {
                let receiver = world.receiver(transport, Some(ours));
                let pushing = push(&receiver, transport, &[(AUTHORITY, authority)]);
                is_refused(&receiver, &pushing, &["CertificateRequired", "asks for a client's certificate"])
            }),
        ),
        case(
            "a client's certificate of another authority",
            Box::new(move || {
                let (receiver, pushing) = world.client(transport, others, "stranger");
                is_refused(&receiver, &pushing, &["UnknownCA", "asks for a client's certificate"])
            }),
        ),
        case(
            "a file that is replaced",
            Box::new(move || {
                let receiver = world.receiver(transport, None);
                let rotated = files.write(&format!("{transport:?}-rotated.pem"), &others.pem());
                let pushing = push(&receiver, transport, &[(AUTHORITY, &rotated)]);
                let failed = within(Duration::from_secs(10), || pushing.ended("failed") >= 1);
                assert!(failed.is_some() && receiver.received().is_empty());
                // One that cannot be used changes nothing and ends nothing.
                fs::write(&rotated, "no certificate").unwrap();
                let before = pushing.ended("failed");
                assert!(within(Duration::from_secs(10), || pushing.ended("failed") > before + 1).is_some());
                fs::write(&rotated, ours.pem()).unwrap();
                is_taken(&receiver)
            }),
        ),
    ]
}

#[test]
fn only_who_is_trusted_gets_metrics() {
    let mut suite = Cases::new("trust");
    let world = World::new();
    let waiting =
        [Transport::Http, Transport::Grpc].into_iter().flat_map(|transport| cases(&world, transport));
    together(&mut suite, waiting.collect());
    suite.finish();
}

/// A proxy that hands every `CONNECT` on to one address, and keeps the heads of requests. It ends with the test process.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let kept = heads.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let is_known = head.contains("Proxy-Authorization: Basic bWU6czNjcmV0");
            kept.lock().unwrap().push(head);
            if !is_known {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
                continue;
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut server = TcpStream::connect(to).unwrap();
            let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || io::copy(&mut from, &mut into));
            std::thread::spawn(move || io::copy(&mut server, &mut client));
        }
    });
    (address, heads)
}

/// The proxy of the host is used for what is not on the host, and TLS is with the receiver.
#[test]
fn pushes_go_through_a_proxy() {
    let world = World::new();
    for (transport, protocol) in [(Transport::Http, "http/protobuf"), (Transport::Grpc, "grpc")] {
        let receiver = world.receiver(transport, None);
        let (address, heads) = proxy(receiver.address());
        let authority = world.authority.display().to_string();
        let push = |user: &str, endpoint: &str, except: &str| {
            start(settings(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority),
                ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
                ("OTEL_METRIC_EXPORT_TIMEOUT", "400"),
                ("HTTPS_PROXY", &format!("http://{user}{address}")),
                ("NO_PROXY", except),
            ]))
            .unwrap_or_else(|error| panic!("{error}"))
        };
        let mut through = push("me:s3cret@", "https://collector.test:4318", "other.test");
        let arrived = within(Duration::from_secs(10), || receiver.received().len() >= 2);
        assert!(
            arrived.is_some(),
            "{:?}; the proxy saw {:?}",
            through.message(),
            heads.lock().unwrap().first()
        );
        through.stop();
        let seen = heads.lock().unwrap().clone();
        assert!(seen.iter().all(|head| head.starts_with("CONNECT collector.test:4318 HTTP/1.1")), "{seen:?}");
        assert_eq!(seen.len(), 1, "the tunnel is kept");
        // One that is refused is said, without the password.
        let refused = push("me:wrong@", "https://collector.test:4318", "");
        assert!(within(Duration::from_secs(10), || refused.ended("failed") > 0).is_some());
        let message = refused.message();
        assert!(message.contains("HTTPS_PROXY") && !message.contains("wrong"), "{message}");
        drop(refused);
        // Receivers on this host, and those that are excepted, are reached without it.
        let before = heads.lock().unwrap().len();
        let here = push("me:s3cret@", &format!("https://{}", receiver.address()), "");
        let taken = receiver.received().len();
        receiver.wait(taken + 2);
        drop(here);
        let excepted = push("me:s3cret@", "https://collector.test:4318", ".test");
        assert!(within(Duration::from_secs(10), || excepted.ended("failed") > 0).is_some());
        assert_eq!(heads.lock().unwrap().len(), before, "{}", excepted.message());
    }
}

/// Files that cannot be used end the start, with the name of the setting.
#[test]
fn wrong_files_are_named() {
    let (files, ours, others) = (Files::new(), Authority::new("ours"), Authority::new("others"));
    let (certificate, key) = ours.client("node-17");
    let (_, other_key) = others.client("node-18");
    let certificate = files.write("client.pem", &certificate);
    let key = files.write("client.key", &key);
    let other_key = files.write("other.key", &other_key);
    let (text, missing) = (files.write("text", "hello"), files.directory.path().join("missing"));
    let text_of = |path: &PathBuf| path.display().to_string();
    for (given, expected) in [
        (
            vec![(AUTHORITY, &missing)],
            format!(
                "`{AUTHORITY}`: cannot read `{}`: No such file or directory (os error 2)",
                text_of(&missing)
            ),
        ),
        (
            vec![(AUTHORITY, &text)],
            format!("`{AUTHORITY}`: `{}` holds no certificate in PEM", text_of(&text)),
        ),
        (
            vec![(CERTIFICATE, &key), (KEY, &key)],
            format!("`{CERTIFICATE}`: `{}` holds no certificate in PEM", text_of(&key)),
        ),
        (
            vec![(CERTIFICATE, &certificate), (KEY, &certificate)],
            format!("`{KEY}`: `{}` holds no key in PEM", text_of(&certificate)),
        ),
        (
            vec![(CERTIFICATE, &certificate), (KEY, &other_key)],
            format!("`{KEY}`: `{}` does not go with the certificate", text_of(&other_key)),
        ),
    ] {
        let texts: Vec<String> = given.iter().map(|(_, path)| text_of(path)).collect();
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")];
        variables.extend(given.iter().zip(&texts).map(|((name, _), text)| (*name, text.as_str())));
        let error = start(settings(&variables)).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("error: {expected}")), "{error}\n{expected}");
    }
}
