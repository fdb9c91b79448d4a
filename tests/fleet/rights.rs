//! Rights that are given up once the probes are attached, as the kernel tells them, and that everything goes on without them.

use super::{
    host,
    support::{
        cases::{Cases, Outcome, Skip},
        command::tool,
        exporter::{Tapster, binary, within},
        http,
        load::Load,
        metrics::{Metrics, whole},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::Command,
    time::Duration,
};

const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_ADMIN: u64 = 1 << 21;

/// Lines of `/proc/PID/status`, by their names, of every thread.
fn status(tapster: &Tapster) -> Vec<BTreeMap<String, String>> {
    let threads = fs::read_dir(format!("/proc/{}/task", tapster.pid())).unwrap();
    let read = |directory: fs::DirEntry| {
        let text = fs::read_to_string(directory.path().join("status")).ok()?;
        let line =
            |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
        Some(text.lines().filter_map(line).collect())
    };
    threads.flatten().filter_map(read).collect()
}

/// What all threads have in a line; that they have the same is asserted.
fn everywhere(tapster: &Tapster, key: &str) -> String {
    let all: BTreeSet<String> = status(tapster).into_iter().map(|lines| lines[key].clone()).collect();
    assert_eq!(all.len(), 1, "{key}: threads differ: {all:?}");
    all.into_iter().next().unwrap()
}

fn mask(tapster: &Tapster, key: &str) -> u64 {
    u64::from_str_radix(&everywhere(tapster, key), 16).unwrap()
}

/// Whether this kernel has Landlock: it says which version.
fn has_landlock() -> bool {
    // SAFETY: asked for the version it takes no memory of ours.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) > 0 }
}

/// What the default leaves to a process that was started by root.
fn after_the_start() -> Outcome {
    let load = Load::new()?;
    let tapster = Tapster::start(&[]);
    for key in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(mask(&tapster, key), BPF | PERFMON | DAC_READ_SEARCH, "{key}");
    }
    assert_eq!([mask(&tapster, "CapInh"), mask(&tapster, "CapAmb")], [0, 0]);
    assert_eq!(
        [everywhere(&tapster, "NoNewPrivs"), everywhere(&tapster, "Seccomp")],
        ["1", "2"].map(String::from)
    );
    let said: Vec<String> = tapster.log();
    for name in [
        "capabilities: kept: CAP_BPF, CAP_DAC_READ_SEARCH, CAP_PERFMON",
        "no_new_privs: on",
        "seccomp: on",
        "landlock: ",
    ] {
        assert!(said.iter().any(|line| line.contains(name)), "{name}: {said:?}");
    }
    let page = tapster.get("/");
    assert!(page.text().contains("<h2>Rights</h2>") && page.text().contains("seccomp"), "{}", page.text());
    // It counts as ever.
    let ios = load.read()?;
    let counted = load.counted(&tapster);
    load.assert_all("reads", counted, ios);
    Ok(format!("{counted} of {ios} reads with three capabilities, {} threads", status(&tapster).len()))
}

/// A file outside of those that were allowed is not read, though its owner is root.
fn files_outside() -> Outcome {
    if !has_landlock() {
        return Err(Skip("this kernel has no Landlock".into()));
    }
    let (site, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let probes = "probes:\n  - name: forks\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{counter: forks_total, help: Forks.}]\n";
    let file = site.path().join("probes.yaml");
    fs::write(&file, probes).unwrap();
    let other = outside.path().join("other.yaml");
    fs::write(&other, probes).unwrap();
    let path = file.display().to_string();
    for (arguments, status) in [(vec!["-c", &path], 500), (vec!["-c", &path, "--sandbox=off"], 200)] {
        let mut arguments = arguments;
        arguments.push("--web.enable-lifecycle");
        fs::write(&file, probes).unwrap();
        let tapster = Tapster::start(&arguments);
        // Within the directory files are exchanged by others, and read again.
        let next = site.path().join("next");
        fs::write(&next, probes.replace("forks_total", "others_total")).unwrap();
        fs::rename(&next, &file).unwrap();
        let post = || http::request(tapster.address, "POST", "/-/reload", "").unwrap();
        assert_eq!(post().status, 200, "{}", post().text());
        // A link out of it leads to where nothing is read.
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        let answer = post();
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 500 {
            assert!(answer.text().contains("Permission denied"), "{}", answer.text());
        }
        fs::remove_file(&file).unwrap();
    }
    Ok("a link that leads out is refused, and read without a sandbox".into())
}

fn what_is_kept() -> Outcome {
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let all = u64::from_str_radix(all.trim(), 16).unwrap();
    let kept = |arguments: &[&str]| {
        let tapster = Tapster::start(arguments);
        let metrics = tapster.scrape();
        assert_eq!(whole(metrics.sum("tapster_probe_up", &[])), 3, "{arguments:?}: maps are read");
        mask(&tapster, "CapEff")
    };
    assert_eq!(kept(&["--capabilities.keep", "none"]), 0);
    assert_eq!(kept(&["--capabilities.keep", "all"]), all);
    assert_eq!(kept(&["--capabilities.keep", "CAP_BPF,perfmon"]), BPF | PERFMON);
    let tapster = Tapster::start(&["--sandbox", "off"]);
    assert_eq!(everywhere(&tapster, "Seccomp"), "0");
    assert_eq!(mask(&tapster, "CapEff"), BPF | PERFMON | DAC_READ_SEARCH);
    drop(tapster);
    // Without any, a reload brings nothing new up, and says so; what runs goes on.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    fs::write(&file, "library: [block_request]\n").unwrap();
    let path = file.display().to_string();
    let tapster = Tapster::start(&["-c", &path, "--capabilities.keep", "none", "--web.enable-lifecycle"]);
    fs::write(&file, "library: [block_request, block_io]\n").unwrap();
    let answer = http::request(tapster.address, "POST", "/-/reload", "").unwrap();
    assert!(answer.text().contains("1 probe went on, down: block_io"), "{}", answer.text());
    let metrics = tapster.scrape();
    assert_eq!(metrics.find("tapster_probe_up", &[("probe", "block_request")]), Some(1.0));
    let said = tapster.log().into_iter().find(|line| line.contains("probe is down")).unwrap_or_default();
    drop(tapster);
    // A probe that names functions of the kernel, after the right to see their addresses is gone, would name none.
    fs::write(&file, "library: [block_request]\n").unwrap();
    let tapster = Tapster::start(&["-c", &path, "--web.enable-lifecycle"]);
    fs::write(&file, "library: [block_request, sched_off_cpu]\n").unwrap();
    let answer = http::request(tapster.address, "POST", "/-/reload", "").unwrap();
    assert!(answer.text().contains("1 probe went on, down: sched_off_cpu"), "{}", answer.text());
    let reason = tapster.scrape().values("tapster_probe_up", &[("probe", "sched_off_cpu")], "reason");
    assert_eq!(reason, ["sandbox"]);
    let mut command = binary();
    let wrong = command.args(["run", "--capabilities.keep", "bfp"]).output().unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no capability `bfp`"));
    Ok(format!("none, all, some; without any: {said}"))
}

/// Probes that are up, of those that are.
fn up(metrics: &Metrics) -> BTreeSet<String> {
    metrics
        .0
        .iter()
        .filter(|sample| sample.name == "tapster_probe_up" && sample.value > 0.0)
        .map(|sample| sample.labels["probe"].clone())
        .collect()
}

/// The names of all shipped probes.
fn library() -> Vec<String> {
    let output = binary().args(["list", "--library"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names =
        text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    let names: BTreeSet<String> = names.map(|name| name.trim_end_matches(':').to_owned()).collect();
    names.into_iter().collect()
}

/// The program where a user without rights may execute it.
pub(crate) struct Nobody {
    directory: tempfile::TempDir,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let all = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(all).tempdir().unwrap();
        fs::copy(binary().get_program(), directory.path().join("tapster")).unwrap();
        Self { directory }
    }

    /// Where its files are, which it may read.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The program as that user, with these capabilities: names with commas between.
    pub(crate) fn command(&self, capabilities: &str) -> Result<Command, Skip> {
        let mut command = tool("setpriv")?;
        let list: String =
            std::iter::once("-all").chain(capabilities.split(',').flat_map(|name| [",+", name])).collect();
        command
            .args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"])
            .args([
                format!("--inh-caps={list}"),
                format!("--ambient-caps={list}"),
                format!("--bounding-set={list}"),
            ])
            .arg(self.directory().join("tapster"));
        Ok(command)
    }

    pub(crate) fn start(&self, capabilities: &str, arguments: &[&str]) -> Result<Tapster, Skip> {
        match Tapster::start_by(self.command(capabilities)?, "127.0.0.1:0", arguments) {
            Ok(tapster) => Ok(tapster),
            Err(ended) => panic!("{capabilities}: {:?}", ended.log),
        }
    }
}

/// Whether this kernel attaches to programs by links, 6.6.
pub(crate) fn has_links() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 6)
}

/// As a user without rights but the documented capabilities, what runs as root does.
fn as_nobody() -> Outcome {
    let nobody = Nobody::new();
    let start = |capabilities: &str, arguments: &[&str]| nobody.start(capabilities, arguments);
    let tapster = start("bpf,perfmon,dac_read_search", &[])?;
    assert_eq!(up(&tapster.scrape()), ["block_io", "block_request", "raid_member"].map(String::from).into());
    assert_eq!(mask(&tapster, "CapEff"), BPF | PERFMON | DAC_READ_SEARCH);
    assert_ne!(everywhere(&tapster, "Uid").split_whitespace().next(), Some("0"));
    drop(tapster);
    let names = library().join(",");
    let root = Tapster::start(&["--probes", &names]);
    let expected = up(&root.scrape());
    drop(root);
    let tapster = start("bpf,perfmon,dac_read_search,syslog,sys_ptrace,sys_admin", &["--probes", &names])?;
    assert_eq!(up(&tapster.scrape()), expected);
    drop(tapster);
    // What attaches to a program that is replaced stays, where that is not done by links.
    if expected.contains("malloc") {
        let capabilities = "bpf,perfmon,dac_read_search,sys_ptrace,sys_admin";
        let kept = mask(&start(capabilities, &["--probes", "malloc"])?, "CapEff");
        assert_eq!(kept & SYS_ADMIN != 0, !has_links(), "{kept:x}");
    }
    Ok(format!("{} of {} shipped probes are up, as for root", expected.len(), library().len()))
}

/// What systemd is told, by a socket as it has one.
fn notifies() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let read = || {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
    };
    let until = |wanted: &str| {
        let mut told = Vec::new();
        loop {
            let message = read();
            let is_found = message.lines().any(|line| line == wanted);
            told.push(message);
            if is_found {
                return told;
            }
            assert!(told.len() < 100, "{wanted} is not among {told:?}");
        }
    };
    let mut command = binary();
    // Its own number is asked for, where it is given.
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let tapster = Tapster::start_by(command, "127.0.0.1:0", &["--probes", "block_request"])
        .unwrap_or_else(|ended| panic!("{:?}", ended.log));
    assert_eq!(read(), "READY=1\nSTATUS=1 of 1 probes are up");
    for _ in 0..3 {
        assert_eq!(read(), "WATCHDOG=1");
    }
    tapster.signal(libc::SIGHUP);
    let told = until("RELOADING=1");
    assert!(told.last().is_some_and(|message| message.contains("MONOTONIC_USEC=")), "{told:?}");
    until("READY=1");
    tapster.signal(libc::SIGTERM);
    until("STOPPING=1");
    let ended = tapster.ended();
    assert_eq!(ended.status.code(), Some(0));
    Ok("READY, WATCHDOG, RELOADING, READY, STOPPING".into())
}

/// Manual pages and completions are those of the flags that there are.
fn manual_and_completions() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (man, completions) = (directory.path().join("man"), directory.path().join("completions"));
    for (what, path) in [("man", &man), ("completions", &completions)] {
        assert!(binary().args(["generate", what]).arg(path).status().unwrap().success());
    }
    let page = fs::read_to_string(man.join("tapster-run.1")).unwrap();
    assert!(page.contains("web.config.file"), "{page}");
    let found = fs::read_dir(&man).unwrap().count();
    let script = completions.join("tapster.bash");
    let mut bash = Command::new("bash");
    let text = "source \"$0\"; COMP_WORDS=(tapster run --web.co); COMP_CWORD=2; _tapster tapster --web.co run; echo \"${COMPREPLY[*]}\"";
    let said = bash.args(["-c", text]).arg(&script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "--web.config.file", "{said:?}");
    assert!(within(Duration::ZERO, || completions.join("_tapster").exists()).is_some());
    Ok(format!("{found} pages; bash completes `--web.co`"))
}

#[test]
fn rights_are_given_up() {
    let Some(mut cases) = Cases::as_root("rights") else { return };
    let _host = host();
    cases.run("after the start", after_the_start);
    cases.run("files outside", files_outside);
    cases.run("what is kept", what_is_kept);
    cases.run("as nobody", as_nobody);
    cases.run("systemd", notifies);
    cases.run("manual and completions", manual_and_completions);
    cases.finish();
}
