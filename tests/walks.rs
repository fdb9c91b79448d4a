//! Probes that walk over what there is, beside what this process has and what `/proc` says of it: threads, sockets, files.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
};
use support::{
    cases::{Cases, Outcome},
    exporter::Tapster,
    http,
    metrics::{Metrics, whole},
};

/// Threads have this name, which no other program's have.
const NAME: &str = "walker_thread";
/// At 5.10 the name of a task's state is another.
const PROBES: &str = r"
probes:
  - name: threads
    help: Threads of one process.
    at: iter:task
    where: args.task.tgid == PROCESS
    labels:
      comm: str(args.task.comm)
      sleeps: { value: '((args.task.__state ?? args.task.state) & 1) != 0', as: { 0: 'no', 1: 'yes' } }
    metrics:
      - { sum: walk_threads, help: Threads., value: 1 }
  - name: process
    help: The same without a label.
    at: iter:task
    where: args.task.tgid == PROCESS
    metrics:
      - { sum: walk_process_threads, help: Threads., value: 1 }
      - { max: walk_thread_number, help: The highest number of a thread., value: args.task.pid }
  - name: sockets
    help: Sockets of one port.
    at: iter:tcp
    where: args.sk_common.skc_num == PORT
    labels:
      state: { value: args.sk_common.skc_state, as: tcp_state }
      peer: { value: args.sk_common.skc_daddr, as: ip }
    metrics:
      - { sum: walk_sockets, help: Sockets., value: 1 }
  - name: files
    help: Open files of one process.
    at: iter:task_file
    where: args.task.pid == PROCESS
    metrics:
      - { sum: walk_files, help: Open files., value: 1 }
";

/// Threads that sleep until they are told to end.
struct Sleepers(Vec<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Sleepers {
    fn start(count: usize) -> Self {
        let one = |_| {
            let (end, ended) = mpsc::channel::<()>();
            let body = move || {
                let _ = ended.recv();
            };
            (end, thread::Builder::new().name(NAME.into()).spawn(body).unwrap())
        };
        let started = Self((0..count).map(one).collect());
        // A thread names itself.
        while named_threads() < count {
            thread::yield_now();
        }
        started
    }

    /// Ends some, and waits until the kernel has no thread of them any more.
    fn end(&mut self, count: usize) {
        let left = self.0.len() - count;
        for (end, thread) in self.0.split_off(left) {
            drop(end);
            thread.join().unwrap();
        }
        // The number of a thread stays for a moment after another thread has seen its end.
        while named_threads() > left {
            thread::yield_now();
        }
    }
}

/// Threads of this process with that name, as `/proc` has them.
fn named_threads() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    names
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .filter(|comm| comm.trim_end() == NAME)
        .count()
}

fn count(metrics: &Metrics, family: &str, labels: &[(&str, &str)]) -> usize {
    usize::try_from(whole(metrics.sum(family, labels))).unwrap()
}

fn threads(tapster: &Tapster) -> Outcome {
    let named = |metrics: &Metrics| count(metrics, "tapster_walk_threads", &[("comm", NAME)]);
    let mut sleepers = Sleepers::start(7);
    let mut seen = Vec::new();
    for ends in [0, 3, 2, 2] {
        sleepers.end(ends);
        let metrics = tapster.scrape();
        assert_eq!(named(&metrics), named_threads(), "after {seen:?}");
        assert_eq!(named(&metrics), sleepers.0.len(), "after {seen:?}");
        seen.push(named(&metrics));
    }
    // None is left, so there is no series, and not one of 0 that stays for ever.
    let metrics = tapster.scrape();
    assert_eq!(metrics.find("tapster_walk_threads", &[("comm", NAME)]), None);
    // What sleeps is told apart from what does not.
    let mut sleepers = Sleepers::start(4);
    let asleep = support::exporter::within(std::time::Duration::from_secs(10), || {
        count(&tapster.scrape(), "tapster_walk_threads", &[("comm", NAME), ("sleeps", "yes")]) == 4
    });
    assert!(asleep.is_some(), "four threads sleep");
    sleepers.end(4);
    Ok(format!("{seen:?} of 7, 4, 2 and 0 threads"))
}

/// A row without labels begins at zero at each scrape.
fn without_labels(tapster: &Tapster) -> Outcome {
    let mut found = Vec::new();
    for _ in 0..5 {
        let before = fs::read_dir("/proc/self/task").unwrap().count();
        let metrics = tapster.scrape();
        let after = fs::read_dir("/proc/self/task").unwrap().count();
        let threads = count(&metrics, "tapster_walk_process_threads", &[]);
        assert!(
            (before.min(after)..=before.max(after)).contains(&threads),
            "{threads} of {before} to {after}"
        );
        let highest = count(&metrics, "tapster_walk_thread_number", &[]);
        assert!(highest >= std::process::id().try_into().unwrap(), "{highest}");
        found.push(threads);
    }
    Ok(format!("{found:?} threads"))
}

/// Sockets of a port in a state, as `/proc/net/tcp` has them: hexadecimal, the state in the fourth column.
fn listed(port: u16, state: &str) -> usize {
    let text = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_it = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[1].ends_with(&format!(":{port:04X}")) && columns[3] == state
    };
    text.lines().skip(1).filter(is_it).count()
}

fn sockets(tapster: &Tapster, listener: &TcpListener) -> Outcome {
    let address = listener.local_addr().unwrap();
    let mut pairs: Vec<(TcpStream, TcpStream)> = (0..5)
        .map(|_| {
            let client = TcpStream::connect(address).unwrap();
            (client, listener.accept().unwrap().0)
        })
        .collect();
    let compare = |open: usize| {
        let metrics = tapster.scrape();
        let of = |state: &str, peer: &str| {
            count(&metrics, "tapster_walk_sockets", &[("state", state), ("peer", peer)])
        };
        assert_eq!(of("LISTEN", "0.0.0.0"), 1);
        assert_eq!(of("LISTEN", "0.0.0.0"), listed(address.port(), "0A"));
        assert_eq!(of("ESTABLISHED", "127.0.0.1"), open);
        assert_eq!(of("ESTABLISHED", "127.0.0.1"), listed(address.port(), "01"));
    };
    compare(5);
    pairs.truncate(2);
    compare(2);
    Ok("one listens, 5 and then 2 are established".into())
}

fn files(tapster: &Tapster) -> Outcome {
    let open = || count(&tapster.scrape(), "tapster_walk_files", &[]);
    // While the walk is on, the connection of the scrape is open, and while the directory is read, the directory is.
    let listed = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    assert_eq!(before, listed());
    let more: Vec<fs::File> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let with = open();
    assert_eq!(with, listed());
    assert_eq!(with, before + more.len());
    drop(more);
    assert_eq!(open(), before);
    Ok(format!("{before}, {with} and {before} files"))
}

/// Scrapes at one time: none sees the walk of another half done, or twice.
fn at_one_time(tapster: &Tapster) -> Outcome {
    const READERS: usize = 6;
    const SCRAPES: usize = 30;
    let mut sleepers = Sleepers::start(9);
    let address = tapster.address;
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            // Of two kinds, so that they share no answer.
            let accept = (number % 2 == 0).then_some("application/openmetrics-text");
            thread::spawn(move || {
                for _ in 0..SCRAPES {
                    let answer = http::get(address, "/metrics", accept).unwrap();
                    let metrics = Metrics::parse(answer.text());
                    assert_eq!(count(&metrics, "tapster_walk_threads", &[("comm", NAME)]), 9);
                }
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
    sleepers.end(9);
    Ok(format!("{READERS} readers, {SCRAPES} scrapes each: 9 threads in each"))
}

#[test]
fn what_there_is_is_counted() {
    let Some(mut cases) = Cases::as_root("walks") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let probes = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let text = PROBES
        .replace("PROCESS", &std::process::id().to_string())
        .replace("PORT", &listener.local_addr().unwrap().port().to_string());
    fs::write(probes.path(), text).unwrap();
    let tapster = Tapster::start(&["-c", probes.path().to_str().unwrap(), "--strict"]);
    cases.run("threads", || threads(&tapster));
    cases.run("without labels", || without_labels(&tapster));
    cases.run("sockets", || sockets(&tapster, &listener));
    cases.run("files", || files(&tapster));
    cases.run("at one time", || at_one_time(&tapster));
    cases.finish();
}
