//! Bad days of the exporter's own: a log that cannot be written, threads and files that are refused. It ends with one sentence
//! that names the limit, or it goes on.

use super::cgroup::Cgroup;
use crate::support::{
    cases::{Cases, Outcome, Skip},
    command::{output, tool},
    exporter::{Tapster, binary, orphans, within},
    http,
    metrics::Metrics,
};
use std::{
    fs::{self, File},
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long a test waits for what comes in a moment.
const PATIENCE: Duration = Duration::from_secs(30);
const LOST: &str = "tapster_log_lines_lost_total";

/// An exporter whose log nobody has to read, on a port that was free a moment ago.
struct Deaf {
    child: Child,
    address: SocketAddr,
}

impl Deaf {
    fn start(mut command: Command, log: Stdio) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        command
            .args(["run", "--probes", "block_request", "--web.listen-address", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Self { child: command.spawn().unwrap(), address }
    }

    /// Its metrics once it serves, or how it ended.
    fn serves(&mut self) -> Result<Metrics, ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Ok(response) = http::get(self.address, "/metrics", None) {
                assert_eq!(response.status, 200, "{}", response.head);
                return Ok(Metrics::parse(response.text()));
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(begun.elapsed() < PATIENCE, "it neither serves nor ends");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: it reads no memory of ours, and the process is a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        let mut status = None;
        within(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("it does not end")
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It serves all the same, says how many lines are lost, and ends in good order.
fn serves_without_a_log(log: Stdio) -> u64 {
    let mut tapster = Deaf::start(binary(), log);
    let metrics = tapster.serves().unwrap_or_else(|status| panic!("it ended with {status}"));
    let lost = crate::support::metrics::whole(metrics.find(LOST, &[]).unwrap());
    assert_eq!(http::get(tapster.address, "/-/healthy", None).unwrap().status, 200);
    assert_eq!(tapster.ends().code(), Some(0));
    lost
}

fn a_log_that_cannot_be_written() -> Outcome {
    let full = serves_without_a_log(File::options().write(true).open("/dev/full").unwrap().into());
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let gone = serves_without_a_log(writer.into());
    assert!(full >= 2 && gone >= 2, "{full} and {gone} lines lost");
    // A reader that sleeps: the pipe is full before it begins.
    let (reader, mut writer) = io::pipe().unwrap();
    let size = usize::try_from(
        // SAFETY: it only asks for the size of a pipe that is open.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) },
    )
    .unwrap();
    writer.write_all(&vec![b'x'; size]).unwrap();
    let asleep = serves_without_a_log(OwnedFd::from(writer).into());
    drop(reader);
    assert!(asleep >= 2, "{asleep} lines lost");
    let mut closed = Command::new("sh");
    closed.args(["-c", "exec \"$0\" \"$@\" 2>&-"]).arg(binary().get_program());
    let mut tapster = Deaf::start(closed, Stdio::null());
    assert!(tapster.serves().is_ok() && tapster.ends().code() == Some(0));
    Ok(format!(
        "lines lost: {full} to a full disk, {gone} to a reader that is gone, {asleep} to one that sleeps"
    ))
}

fn output_that_cannot_be_written() -> Outcome {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let schema = output(binary().arg("schema").stdout(full()).stderr(Stdio::piped()));
    let said = String::from_utf8(schema.stderr).unwrap();
    assert_eq!(schema.status.code(), Some(1));
    assert_eq!(said, "error: standard output cannot be written: No space left on device (os error 28)\n");
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let schema = output(binary().arg("schema").stdout(writer).stderr(Stdio::piped()));
    assert_eq!((schema.status.code(), &*schema.stderr), (Some(0), &b""[..]), "a closed pipe is no error");
    // What is wrong cannot be said either, but the status says it.
    let mut statuses = Vec::new();
    for arguments in [&["run", "-c", "/nonexistent"][..], &["check", "/nonexistent"], &["report", "no_such"]]
    {
        let refused = output(binary().args(arguments).stdout(full()).stderr(full()));
        statuses.push(refused.status.code());
    }
    assert_eq!(statuses, [Some(2); 3]);
    Ok("status 1 and a sentence for a full disk, 0 for a closed pipe".into())
}

/// How an exporter under some limit began: its sentence if it ended, which is one and names `limit`; else it serves.
fn begins(command: Command, limit: &str) -> Result<bool, Skip> {
    let before = orphans()?;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut tapster = Deaf::start(command, File::create(&path).unwrap().into());
    let served = tapster.serves();
    let status = if served.is_ok() { tapster.ends() } else { tapster.child.wait().unwrap() };
    let log = fs::read_to_string(&path).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    // A probe may be down at each of its five attach points.
    assert!(log.lines().count() < 50, "a loop of lines: {log}");
    if status.code() == Some(127) {
        // It is not we who need the files: the linker opens libraries.
        assert!(log.contains("loading shared libraries"), "{log}");
        return Ok(false);
    }
    if served.is_ok() {
        assert_eq!(status.code(), Some(0), "{log}");
    } else {
        let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!((status.code(), errors.len()), (Some(1), 1), "{log}");
        assert!(errors[0].contains(limit), "{log}");
    }
    let clean = || orphans().is_ok_and(|left| left.is_subset(&before));
    assert!(within(PATIENCE, clean).is_some(), "programs that nobody holds");
    Ok(served.is_ok())
}

fn few_files() -> Outcome {
    let mut first = None;
    // Around what it needs each number is tried, and some above.
    for files in (4..=40_u64).chain([48, 64, 80]) {
        let mut command = tool("prlimit")?;
        command.args([&format!("--nofile={files}:{files}"), "--"]).arg(binary().get_program());
        let serves = begins(command, "LimitNOFILE=")?;
        assert!(serves || first.is_none(), "it served with fewer than {files}");
        if serves {
            first.get_or_insert(files);
        }
    }
    let first = first.expect("it serves with 80 files");
    Ok(format!("one sentence with fewer than {first} files, served with {first} to 80"))
}

/// The soft limit is no limit.
fn soft_limit() -> Outcome {
    let mut command = tool("prlimit")?;
    command.args(["--nofile=32:4096", "--"]).arg(binary().get_program());
    let tapster = Tapster::start_by(command, "127.0.0.1:0", &["--probes", "block_request"])
        .unwrap_or_else(|ended| panic!("{ended:?}"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", tapster.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{limits}");
    Ok(files.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn few_threads() -> Outcome {
    let tasks = Cgroup::new("pids", &["pids.max"])?;
    let mut first = None;
    for most in 1..=16 {
        tasks.set(most);
        let serves = begins(tasks.command(), "`pids.max`")?;
        assert!(serves || first.is_none(), "it served with fewer than {most}");
        if serves {
            first.get_or_insert(most);
        }
    }
    let first = first.expect("it serves with 16 tasks");
    Ok(format!("one sentence with fewer than {first} tasks, served with {first} to 16"))
}

/// The exporter under `strace`, which fails some of its calls.
fn injected(call: &str, what: &str) -> Result<Command, Skip> {
    let mut command = tool("strace")?;
    command
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:{what}")])
        .arg(binary().get_program());
    Ok(command)
}

/// Each thread that is started is refused once, and all from one on.
fn threads_that_are_refused() -> Outcome {
    let (mut served, mut ended) = (0, 0);
    for when in (1..=12).flat_map(|number| [format!("{number}"), format!("{number}+")]) {
        if begins(injected("clone3", &format!("error=EAGAIN:when={when}"))?, "`pids.max`")? {
            served += 1;
        } else {
            ended += 1;
        }
    }
    assert!(served > 0 && ended > 0);
    Ok(format!("{ended} starts ended with a sentence, {served} served"))
}

fn connections_that_cannot_be_accepted() -> Outcome {
    let command = injected("accept4", "error=EMFILE:when=2..6")?;
    let tapster = Tapster::start_by(command, "127.0.0.1:0", &["--probes", "block_request"])
        .unwrap_or_else(|ended| panic!("{ended:?}"));
    for _ in 0..3 {
        assert_eq!(tapster.get("/-/healthy").status, 200);
    }
    let failures = tapster.scrape().sum("tapster_web_accept_failures_total", &[]);
    assert!((5.0..=6.0).contains(&failures), "{failures}");
    let said = |text: &str| tapster.log().iter().filter(|line| line.contains(text)).count();
    assert_eq!((said("cannot accept connections"), said("connections are accepted again")), (1, 1));
    assert_eq!(said("LimitNOFILE="), 1);
    Ok(format!("{failures} failures, said once, and once that it is over"))
}

/// More connections than files: those that do nothing give theirs up.
fn more_connections_than_files() -> Outcome {
    let mut command = tool("prlimit")?;
    command.args(["--nofile=64:64", "--"]).arg(binary().get_program());
    let tapster = Tapster::start_by(command, "127.0.0.1:0", &["--probes", "block_request"])
        .unwrap_or_else(|ended| panic!("{ended:?}"));
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(tapster.address).unwrap()).collect();
    for _ in 0..10 {
        assert_eq!(tapster.get("/-/healthy").status, 200);
        tapster.scrape();
    }
    let log = tapster.log();
    assert!(log.len() < 30 && !log.iter().any(|line| line.contains("panicked")), "{log:?}");
    assert!(log.iter().any(|line| line.contains("places for connections are short")), "{log:?}");
    drop(silent);
    Ok(format!("200 silent connections with 64 files, {} lines in the log", log.len()))
}

#[test]
fn bad_days() {
    let Some(mut cases) = Cases::as_root("bad days") else { return };
    cases.run("a log that cannot be written", a_log_that_cannot_be_written);
    cases.run("output that cannot be written", output_that_cannot_be_written);
    cases.run("few files", few_files);
    cases.run("the soft limit of files", soft_limit);
    cases.run("more connections than files", more_connections_than_files);
    cases.run("few threads", few_threads);
    cases.run("threads that are refused", threads_that_are_refused);
    cases.run("connections that cannot be accepted", connections_that_cannot_be_accepted);
    cases.finish();
}
