//! Runs the exporter as a separate process.

use super::{
    command::{output, tool},
    http,
    metrics::Metrics,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long the exporter may take to start or to end before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The lines of the log so far, and whether it has ended.
type Log = Arc<(Mutex<(Vec<String>, bool)>, Condvar)>;

#[derive(Debug)]
pub struct Tapster {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    pub address: SocketAddr,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: Vec<String>,
}

pub fn binary() -> Command {
    // Beside the directory of the running test: cargo builds both.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).expect("a test is in `target/PROFILE/deps`").join("tapster");
    Command::new(program)
}

/// Whether the exporter is optimized; sizes and times mean something only then.
pub fn is_release() -> bool {
    !cfg!(debug_assertions)
}

impl Tapster {
    /// Starts it on a free port and waits until it serves.
    pub fn start(arguments: &[&str]) -> Self {
        match Self::start_at("127.0.0.1:0", arguments) {
            Ok(tapster) => tapster,
            Err(Ended { status, log }) => panic!("tapster ended with {status}:\n{}", log.join("\n")),
        }
    }

    /// Starts it on this address; the error is a run that ended instead of serving.
    pub fn start_at(listen: &str, arguments: &[&str]) -> Result<Self, Ended> {
        Self::start_by(binary(), listen, arguments)
    }

    /// Starts it by a command that executes it with additional arguments.
    pub fn start_by(mut command: Command, listen: &str, arguments: &[&str]) -> Result<Self, Ended> {
        command.args(["run", "--log.format", "json", "--web.listen-address", listen]).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let shared = log.clone();
        let reader = std::thread::spawn(move || {
            let (lines, changed) = &*shared;
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().unwrap().0.push(line);
                changed.notify_all();
            }
            lines.lock().unwrap().1 = true;
            changed.notify_all();
        });
        let address = "127.0.0.1:0".parse().unwrap();
        let mut tapster = Self { child, log, reader: Some(reader), address };
        match tapster.wait_for("serving /metrics") {
            Some(line) => {
                tapster.address = line["address"].as_str().unwrap().parse().unwrap();
                Ok(tapster)
            }
            None => Err(tapster.ended()),
        }
    }

    /// Waits for the line of the log with this message; `None` if the log ends first.
    pub fn wait_for(&self, message: &str) -> Option<Value> {
        let (lines, changed) = &*self.log;
        let deadline = Instant::now() + PATIENCE;
        let mut state = lines.lock().unwrap();
        loop {
            let parsed = |line: &String| serde_json::from_str::<Value>(line).ok();
            if let Some(found) = state.0.iter().filter_map(parsed).find(|line| line["message"] == message) {
                return Some(found);
            }
            if state.1 {
                return None;
            }
            let left =
                deadline.checked_duration_since(Instant::now()).expect("tapster neither serves nor ends");
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.0.lock().unwrap().0.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> http::Response {
        http::get(self.address, path, None).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn scrape(&self) -> Metrics {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200, "{}", response.head);
        Metrics::parse(response.text())
    }

    /// Scrapes until nothing counted under `name` and `labels` changes for a while: completions may be counted a moment after
    /// the task that waited for them goes on.
    pub fn settled(&self, name: &str, labels: &[(&str, &str)]) -> Metrics {
        let mut last = self.scrape();
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(60));
            let now = self.scrape();
            if now.find(name, labels) == last.find(name, labels) {
                return now;
            }
            last = now;
        }
        panic!("`{name}` {labels:?} does not come to rest");
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).unwrap();
        // SAFETY: it reads no memory of ours, and the process is a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "tapster does not end");
            std::thread::sleep(Duration::from_millis(2));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        Ended { status, log: self.log() }
    }

    /// Resident memory in KiB, by the kernel's account.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Kernel ids of the programs that this process holds.
    pub fn programs(&self) -> BTreeSet<u64> {
        held_programs(&PathBuf::from(format!("/proc/{}", self.pid())))
    }
}

impl Drop for Tapster {
    fn drop(&mut self) {
        // Both fail if it has already ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Programs for which a process has descriptors.
fn held_programs(process: &Path) -> BTreeSet<u64> {
    held(process, "prog_id:")
}

/// The values of this key in the information about a process's descriptors.
fn held(process: &Path, key: &str) -> BTreeSet<u64> {
    let entries = fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .flat_map(|text| {
            let ids = text.lines().filter_map(|line| line.strip_prefix(key)?.trim().parse().ok());
            ids.collect::<Vec<u64>>()
        })
        .collect()
}

/// Every program in the kernel, as `bpftool` lists them.
pub fn kernel_programs() -> Result<BTreeSet<u64>, super::cases::Skip> {
    let output = output(tool("bpftool")?.args(["-j", "prog", "show"]));
    // It fails when a program goes away between two of its calls; its output is a list all the same.
    let text = String::from_utf8_lossy(&output.stdout);
    let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    Ok(list.iter().filter_map(|program| program["id"].as_u64()).collect())
}

/// Maps that no process holds.
pub fn orphan_maps() -> Result<BTreeSet<u64>, super::cases::Skip> {
    let output = output(tool("bpftool")?.args(["-j", "map", "show"]));
    let list: Vec<Value> = serde_json::from_str(&String::from_utf8_lossy(&output.stdout)).unwrap_or_default();
    let mut orphans: BTreeSet<u64> = list.iter().filter_map(|map| map["id"].as_u64()).collect();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let held = held(&process.path(), "map_id:");
        orphans.retain(|id| !held.contains(id));
    }
    Ok(orphans)
}

/// Programs that no process holds. Other tests and tools come and go on a host, so a leak shows in this and not in the number
/// of programs.
pub fn orphans() -> Result<BTreeSet<u64>, super::cases::Skip> {
    let mut orphans = kernel_programs()?;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        if process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            let held = held_programs(&process.path());
            orphans.retain(|id| !held.contains(id));
        }
    }
    Ok(orphans)
}

/// Waits until `done` or `limit`; returns how long it took, if it was in time.
pub fn within(limit: Duration, mut done: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    loop {
        if done() {
            return Some(begun.elapsed());
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
