//! Names that are found outside of the kernel's events: interfaces beside what `ip` says in networks that the test makes, users and
//! devices of PCI beside the files of a root that the test makes, functions of programs beside the program's source.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::{Tapster, within},
    fixture,
    metrics::{Metrics, whole},
};

/// How long symbols may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);

const INTERFACES: &str = "
probes:
  - name: sent
    help: Packets that an interface was given.
    at: rawtracepoint:net:net_dev_xmit
    labels:
      device: { value: args.dev.nd_net.net.ns.inum << 32 | args.dev.ifindex, as: ifname }
      host: { value: args.dev.ifindex, as: ifname }
      network: args.dev.nd_net.net.ns.inum
    metrics: [{ counter: sent_total, help: Packets. }]
";

/// The host's alone, which takes no look into other processes.
const HOST: &str = "
probes:
  - name: sent_by_host
    help: Packets that an interface was given, by its index alone.
    at: rawtracepoint:net:net_dev_xmit
    labels: { device: { value: args.dev.ifindex, as: ifname }, kernel: args.dev.name }
    metrics: [{ counter: sent_by_host_total, help: Packets. }]
";

const FILES: &str = "
probes:
  - name: begun
    help: Programs that began.
    at: tracepoint:sched:sched_process_exec
    labels: { user: { value: uid, as: user } }
    metrics: [{ counter: begun_total, help: Programs. }]
  - name: cards
    help: Numbers of devices at an event of one user.
    at: tracepoint:sched:sched_process_exec
    where: uid == 12345
    labels:
      vendor: { value: 0x8086, as: pci_vendor }
      device: { value: 0x8086 << 16 | 0x1237, as: pci_device }
      other: { value: 0x8086 << 16 | 0x9999, as: pci_device }
      class: { value: 0x020000, as: pci_class }
      subclass: { value: 0x020000, as: pci_subclass }
    metrics: [{ counter: cards_total, help: Events. }]
";

const FUNCTIONS: &str = "
probes:
  - name: threads
    help: Threads that a program makes.
    at: { one_of: [\"uprobe:libc:pthread_create\", \"uprobe:libpthread:pthread_create\"] }
    where: comm == \"starter\" || comm == \"bare\"
    labels:
      comm: comm
      function: { value: arg2, as: usym }
      argument: { value: arg3, as: usym }
    metrics: [{ counter: threads_total, help: Threads. }]
";

/// A directory for files of the test.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn tapster(&self, probes: &str, arguments: &[&str]) -> Tapster {
        let file = self.write("probes.yaml", probes);
        Tapster::start(&[&["--strict", "-c", file.to_str().unwrap()], arguments].concat())
    }
}

fn count(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    whole(metrics.sum(&format!("tapster_{name}"), labels))
}

/// A shell in a network of its own. The network is gone when the shell is.
struct Network {
    shell: Child,
    said: BufReader<ChildStdout>,
    /// The number that the kernel has for it.
    number: String,
}

impl Network {
    fn new() -> Result<Self, Skip> {
        for program in ["bash", "ip"] {
            tool(program)?;
        }
        let mut command = tool("unshare")?;
        let mut shell =
            command.args(["--net", "bash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(shell.stdout.take().unwrap());
        let mut network = Self { shell, said, number: String::new() };
        let link = network.run("readlink /proc/self/ns/net");
        link.trim_start_matches("net:[").trim_end_matches(']').clone_into(&mut network.number);
        Ok(network)
    }

    /// Runs commands; returns what they print.
    fn run(&mut self, commands: &str) -> String {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{commands}\necho = $?").unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the shell ended: {commands}");
            if let Some(status) = line.strip_prefix("= ") {
                assert_eq!(status.trim(), "0", "{commands}: {lines:?}");
                return lines.join("\n");
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    /// Makes a pair of interfaces, the first with this index, and gives the first an address and a neighbour.
    fn pair(&mut self, name: &str, index: u32) {
        self.run(&format!(
            "set -e; ip link add {name} index {index} type veth peer name {name}_peer; ip link set {name}_peer up"
        ));
        self.up(name);
    }

    fn up(&mut self, name: &str) {
        self.run(&format!(
            "ip link set {name} up; ip addr replace 192.0.2.1/24 dev {name}; ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev {name}"
        ));
    }

    /// Sends this many packets.
    fn send(&mut self, packets: u32) {
        self.run(&format!("for each in $(seq {packets}); do echo x > /dev/udp/192.0.2.2/9; done"));
    }

    /// Packets that an interface has sent, by its own count.
    fn sent(&mut self, name: &str) -> u64 {
        let all: serde_json::Value =
            serde_json::from_str(&self.run(&format!("ip -j -s link show {name}"))).unwrap();
        assert_eq!(all[0]["ifname"], name, "{all}");
        all[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn interfaces() -> Outcome {
    const INDEX: u32 = 71;
    let directory = Directory::new();
    let (mut one, mut other) = (Network::new()?, Network::new()?);
    let tapster = directory.tapster(INTERFACES, &[]);
    one.pair("tapst_a", INDEX);
    other.pair("tapst_z", INDEX);
    one.send(20);
    other.send(30);
    // What each interface has sent by its own count; IPv6 may send some as well, at any time.
    let assert_sent = |network: &mut Network, name: &str, least: u64| {
        let before = network.sent(name);
        let metrics = tapster.scrape();
        let after = network.sent(name);
        let labels = [("device", name), ("network", network.number.as_str())];
        let found = count(&metrics, "sent_total", &labels);
        assert!(before >= least && (before..=after).contains(&found), "{name}: {before}, {found}, {after}");
        // The host has no such index: no name is better than a wrong one.
        let index = INDEX.to_string();
        assert_eq!(count(&metrics, "sent_total", &[labels[0], labels[1], ("host", &index)]), found, "{name}");
        found
    };
    let first = assert_sent(&mut one, "tapst_a", 20);
    let second = assert_sent(&mut other, "tapst_z", 30);
    // Another name: the counts move with it.
    one.run("set -e; ip link set tapst_a down; ip link set tapst_a name tapst_c");
    one.up("tapst_c");
    one.send(5);
    assert_sent(&mut one, "tapst_c", first + 5);
    let name_of = |metrics: &Metrics, network: &Network| {
        let labels = [("network", network.number.as_str()), ("host", "71")];
        metrics.values("tapster_sent_total", &labels, "device")
    };
    assert_eq!(name_of(&tapster.scrape(), &one), ["tapst_c"]);
    // Gone, and another with its index.
    one.run("ip link del tapst_c");
    assert_eq!(name_of(&tapster.scrape(), &one), ["tapst_c"]);
    one.pair("tapst_d", INDEX);
    assert_eq!(name_of(&tapster.scrape(), &one), ["tapst_d"]);
    // The whole network is gone.
    let number = other.number.clone();
    drop(other);
    let metrics = tapster.scrape();
    let labels = [("device", "tapst_z"), ("network", number.as_str())];
    assert!(count(&metrics, "sent_total", &labels) >= second);
    // A scrape goes through the host's own.
    assert!(count(&metrics, "sent_total", &[("device", "lo"), ("host", "lo")]) > 0);
    Ok(format!("{first} and {second} packets of index {INDEX} in two networks, three names of one"))
}

fn interfaces_of_the_host() -> Outcome {
    let tapster = Directory::new().tapster(HOST, &[]);
    tapster.scrape();
    let metrics = tapster.scrape();
    assert!(count(&metrics, "sent_by_host_total", &[("device", "lo"), ("kernel", "lo")]) > 0);
    let landlock = tapster.get("/").text().to_owned();
    assert!(!landlock.contains("off: probes of programs"), "it needs no other process: {landlock}");
    Ok("`lo` by its index, without a look into other processes".into())
}

/// Starts a program so often as a user.
fn begin(user: u32, times: u32) {
    for _ in 0..times {
        let status = Command::new("true").uid(user).gid(user).current_dir("/").status().unwrap();
        assert!(status.success());
    }
}

fn files() -> Outcome {
    const USERS: &str = "root:x:0:0::/:\nann:x:12345:12345::/:\n";
    let directory = Directory::new();
    let users = directory.write("root/etc/passwd", USERS);
    directory.write(
        "root/usr/share/misc/pci.ids",
        "8086  A Maker\n\t1237  A Bridge\nC 02  Network controller\n\t00  Ethernet controller\n",
    );
    let root = directory.path("root");
    let tapster = directory.tapster(FILES, &["--path.rootfs", root.to_str().unwrap()]);
    begin(12345, 7);
    begin(12346, 3);
    let metrics = tapster.scrape();
    let begun = |metrics: &Metrics, user: &str| count(metrics, "begun_total", &[("user", user)]);
    assert_eq!((begun(&metrics, "ann"), begun(&metrics, "12346")), (7, 3));
    let cards = [
        ("vendor", "A Maker"),
        ("device", "A Bridge"),
        ("other", "8086:9999"),
        ("class", "Network controller"),
        ("subclass", "Ethernet controller"),
    ];
    assert_eq!(count(&metrics, "cards_total", &cards), 7);
    // Another file in its place, as `useradd` and `usermod` do it; the exporter is within its sandbox.
    let next = directory.write("root/etc/passwd+", "ann2:x:12345:12345::/:\nben:x:12346:12346::/:\n");
    fs::rename(next, users).unwrap();
    begin(12346, 1);
    let metrics = tapster.scrape();
    let all = ["ann", "ann2", "12346", "ben"].map(|user| begun(&metrics, user));
    assert_eq!(all, [0, 7, 0, 4]);
    Ok("7 and 4 programs of two users, one of them named later".into())
}

fn build(directory: &Directory, name: &str, flags: &[&str]) -> Result<PathBuf, Skip> {
    let program = directory.path(name);
    let source = fixture::file("programs/causes.c");
    text(tool("cc")?.args(["-Wall", "-pthread"]).args(flags).arg("-o").arg(&program).arg(source));
    Ok(program)
}

fn starts(program: &Path) {
    text(Command::new(program).args(["threads", "9"]));
}

fn functions() -> Outcome {
    let directory = Directory::new();
    let program = build(&directory, "starter", &["-O1"])?;
    // Of another build id: by the same one, it would have the names of the first.
    let bare = build(&directory, "bare", &["-O2", "-s"])?;
    let tapster = directory.tapster(FUNCTIONS, &[]);
    // Both have ended before they are asked about.
    starts(&program);
    starts(&bare);
    let of = |function: &'static str| [("comm", "starter"), ("function", function)];
    // Symbols may come at a later scrape, and the counts move to their names.
    within(PATIENCE, || count(&tapster.scrape(), "threads_total", &of("nothing")) == 6);
    let metrics = tapster.scrape();
    assert_eq!(count(&metrics, "threads_total", &of("nothing")), 6);
    assert_eq!(count(&metrics, "threads_total", &of("something")), 3);
    // What is no address, and a null pointer.
    assert_eq!(count(&metrics, "threads_total", &[("comm", "starter"), ("argument", "none")]), 9);
    let names = metrics.values("tapster_threads_total", &[("comm", "bare")], "function");
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("[bare+0x") && name.ends_with(']')), "{names:?}");
    assert_eq!(count(&metrics, "threads_total", &[("comm", "bare")]), 9);
    // Rows of processes that have ended leave the map, and the counts stay.
    let rows = || whole(tapster.scrape().sum("tapster_probe_series", &[("probe", "threads")]));
    assert!(within(PATIENCE, || rows() == 0).is_some(), "{} rows", rows());
    starts(&program);
    assert!(within(PATIENCE, || count(&tapster.scrape(), "threads_total", &of("nothing")) == 12).is_some());
    let metrics = tapster.scrape();
    assert_eq!(count(&metrics, "threads_total", &of("something")), 6);
    assert_eq!(count(&metrics, "threads_total", &[("comm", "bare")]), 9);
    Ok(format!("9 threads of two functions; {} without symbols", names.join(", ")))
}

#[test]
fn names_are_found() {
    let Some(mut cases) = Cases::as_root("names") else { return };
    cases.run("interfaces", interfaces);
    cases.run("interfaces of the host", interfaces_of_the_host);
    cases.run("files of the host", files);
    cases.run("functions of programs", functions);
    cases.finish();
}
