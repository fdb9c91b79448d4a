//! What examples count, compared with the program that caused it or with the kernel's own counters. Tasks of the test cause all of it,
//! and labels tell these from others.

use super::support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    device::LoopDevice,
    exporter::Tapster,
    fixture,
    metrics::{Histogram, Metrics, whole},
};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The command of the program that causes events.
const CAUSES: &str = "causes";
/// A port without a service, of which the kernel gives none out.
const NOBODY: &str = "19";

/// The program that causes events, and a directory for its files.
struct Causes {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Causes {
    fn build() -> Result<Self, Skip> {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let program = directory.path().join(CAUSES);
        let source = fixture::file("programs/causes.c");
        text(tool("cc")?.args(["-O1", "-Wall", "-pthread", "-o"]).arg(&program).arg(source));
        Ok(Self { directory, program })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Causes something so often; returns what the program prints.
    fn run(&self, what: &str, count: u64, argument: &str) -> String {
        // Where it is set, as under cargo, the loader looks for libc in many directories first, and each look is a system call.
        let mut command = Command::new(&self.program);
        command.current_dir(self.directory.path()).env_remove("LD_LIBRARY_PATH");
        text(command.arg(what).arg(count.to_string()).arg(argument))
    }
}

/// What a probe counted while something happened.
struct Window {
    before: Metrics,
    after: Metrics,
}

impl Window {
    /// Runs these probes of an example while `cause` happens.
    fn of<T>(example: &str, probes: &str, cause: impl FnOnce() -> T) -> (Self, T) {
        let file = fixture::repository().join("examples").join(example);
        let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap(), "--probes", probes]);
        let before = tapster.scrape();
        let done = cause();
        // What ends in an interrupt or in another task may be counted a moment later.
        thread::sleep(Duration::from_millis(200));
        let after = tapster.scrape();
        for name in ["tapster_probe_missed_total", "tapster_probe_dropped_total"] {
            let labels: &[(&str, &str)] =
                if name.ends_with("dropped_total") { &[("reason", "max_series")] } else { &[] };
            assert_eq!(whole(after.sum(name, labels)), 0, "{example}: {name}");
        }
        (Self { before, after }, done)
    }

    fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.after.since(&self.before, &format!("tapster_{name}"), labels)
    }

    fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        self.after.histogram_since(&self.before, &format!("tapster_{name}"), labels)
    }

    /// Asserts how many events a counter has of the causing program, or of what `labels` say.
    fn assert(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        assert_eq!(self.count(name, labels), expected, "{name}{labels:?}");
    }

    /// The same of a histogram; returns its sum.
    fn assert_times(&self, name: &str, labels: &[(&str, &str)], expected: u64) -> f64 {
        let found = self.histogram(name, labels);
        assert_eq!(found.count(), expected, "{name}{labels:?}");
        found.sum
    }
}

const COMM: (&str, &str) = ("comm", CAUSES);

fn connects(causes: &Causes) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (window, ()) = Window::of("network/connects.yaml", "tcp_opens", || {
        causes.run("connects", 20, &port);
    });
    window.assert("tcp_opens_total", &[COMM, ("port", &port), ("address", "127.0.0.1")], 20);
    let (window, ()) = Window::of("network/connect_failures.yaml", "connect_failures", || {
        causes.run("connects", 20, &port);
        causes.run("connects", 7, NOBODY);
    });
    window.assert_times("connect_failure_seconds", &[COMM, ("port", NOBODY), ("error", "ECONNREFUSED")], 7);
    window.assert("connects_done_total", &[COMM, ("port", &port), ("error", "ok")], 20);
    Ok("20 connections and 7 that are refused".into())
}

fn lifetimes(_: &Causes) -> Outcome {
    const BYTES: usize = 5000;
    const COUNT: u64 = 9;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let port = address.port().to_string();
    let (window, ()) = Window::of("network/connection_lifetimes.yaml", "tcp_life", || {
        for _ in 0..COUNT {
            let mut client = TcpStream::connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[1; BYTES]).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut all = Vec::new();
            server.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), BYTES);
            thread::sleep(Duration::from_millis(20));
            drop(server);
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        }
    });
    // Both ends have the port of the listener. Who accepts is known where functions of the kernel can be probed.
    let is_told = whole(window.after.sum("tapster_probe_event_absent", &[("probe", "tcp_life")])) == 0;
    let ends = if is_told { 2 * COUNT } else { COUNT };
    let comm = fs::read_to_string("/proc/thread-self/comm").unwrap();
    let client = [("comm", comm.trim_end()), ("port", port.as_str())];
    let server = [("comm", if is_told { comm.trim_end() } else { "~nobody" }), ("port", port.as_str())];
    window.assert_times("tcp_life_seconds", &client, ends);
    let time = window.assert_times("tcp_life_seconds", &server, ends);
    assert!((0.02 * ends as f64..5.0).contains(&time), "{time} s");
    // The end of the stream counts as a byte.
    let received = window.count("tcp_life_received_bytes_total", &server);
    assert!((BYTES as u64 * COUNT..=(BYTES as u64 + 1) * COUNT).contains(&received), "{received} bytes");
    Ok(format!("{COUNT} connections of 20 ms and {BYTES} bytes, in {time:.3} s"))
}

fn datagrams(causes: &Causes) -> Outcome {
    let ports = || {
        let text = fs::read_to_string("/proc/net/snmp").unwrap();
        let line = text.lines().filter(|line| line.starts_with("Udp: ")).nth(1).unwrap().to_owned();
        line.split(' ').nth(2).unwrap().parse::<u64>().unwrap()
    };
    let (window, unknown) = Window::of("network/drops.yaml", "skb_drops", || {
        let before = ports();
        causes.run("sends", 30, NOBODY);
        ports() - before
    });
    let to = [("transport", "udp"), ("port", NOBODY)];
    window.assert("skb_drops_total", &[to[0], to[1], ("reason", "NO_SOCKET"), ("protocol", "ipv4")], 30);
    assert!(unknown >= 30, "{unknown} by the kernel");
    let (window, ()) = Window::of("network/incoming_packets.yaml", "incoming_packets", || {
        causes.run("sends", 30, NOBODY);
    });
    window.assert("incoming_packets_total", &to, 30);
    window.assert("incoming_bytes_total", &to, 30 * (14 + 29));
    Ok("30 datagrams to nobody arrive and are dropped".into())
}

fn full_sockets(_: &Causes) -> Outcome {
    const SENT: u64 = 3000;
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let (window, ()) = Window::of("network/udp_drops.yaml", "udp_full", || {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..SENT {
            sender.send_to(b"x", address).unwrap();
        }
    });
    receiver.set_nonblocking(true).unwrap();
    let mut received = 0;
    while receiver.recv(&mut [0; 8]).is_ok() {
        received += 1;
    }
    window.assert("udp_full_total", &[("port", &address.port().to_string())], SENT - received);
    assert!(received < SENT, "none was dropped");
    Ok(format!("{SENT} sent, {received} received, the others dropped"))
}

fn names(causes: &Causes) -> Outcome {
    const DELAY: Duration = Duration::from_millis(20);
    let Ok(server) = UdpSocket::bind("127.0.0.1:53") else {
        return Err(Skip("somebody serves names at 127.0.0.1".into()));
    };
    let (window, ()) = Window::of("network/dns_answers.yaml", "name_servers", || {
        let answers = thread::spawn(move || {
            for _ in 0..10 {
                let mut message = [0; 64];
                let (size, from) = server.recv_from(&mut message).unwrap();
                thread::sleep(DELAY);
                // An answer: there is no such name.
                (message[2], message[3]) = (0x81, 0x83);
                server.send_to(&message[..size], from).unwrap();
            }
        });
        causes.run("asks", 10, "53");
        answers.join().unwrap();
    });
    let time =
        window.assert_times("dns_answer_seconds", &[("server", "127.0.0.1"), ("result", "no_such_name")], 10);
    assert!(time >= 10.0 * DELAY.as_secs_f64() && time < 2.0, "{time} s");
    Ok(format!("10 answers after 20 ms each, {time:.3} s"))
}

/// The name of the thread that starts programs.
fn parent() -> String {
    fs::read_to_string("/proc/thread-self/comm").unwrap().trim_end().to_owned()
}

fn processes(causes: &Causes) -> Outcome {
    let program = causes.program.to_str().unwrap();
    let many: Vec<String> = (0..100).map(|word| format!("word{word}")).collect();
    let (window, ()) = Window::of("process/execs.yaml", "program_starts", || {
        (0..9).for_each(|_| drop(causes.run("calls", 1, "two words")));
        (0..3).for_each(|_| drop(text(Command::new("true").args(["", "-x"]))));
        (0..2).for_each(|_| drop(text(Command::new("true").args(&many))));
    });
    let words = |words: &str, count| {
        window.assert("starts_of_programs_total", &[("words", words), ("parent", &parent())], count);
    };
    words(&format!("{program} calls 1 two words"), 9);
    words("true  -x", 3);
    words(&format!("true {}", many.join(" "))[..127], 2);
    let (window, ()) = Window::of("process/exec_lifetimes.yaml", "program_runs", || {
        (0..3).for_each(|_| drop(causes.run("naps", 1, "50")));
    });
    let time = window.assert_times("run_of_program_seconds", &[COMM], 3);
    assert!((0.15..2.0).contains(&time), "{time} s");
    let (window, ()) = Window::of("process/exits.yaml", "program_ends", || drop(causes.run("ends", 4, "")));
    window.assert("ends_of_programs_total", &[COMM, ("signal", "none"), ("code", "77")], 4);
    window.assert("ends_of_programs_total", &[COMM, ("signal", "SIGKILL")], 4);
    let made = || {
        let text = fs::read_to_string("/proc/stat").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("processes ")).unwrap().to_owned();
        line.parse::<u64>().unwrap()
    };
    let first = made();
    let (window, kernel) = Window::of("process/forks.yaml", "forks", || {
        let before = made();
        causes.run("ends", 50, "");
        made() - before
    });
    let most = made() - first;
    let counted = window.count("forks_total", &[]);
    assert!(counted >= 101 && kernel >= 101 && counted <= most, "{counted} counted, {kernel} to {most} made");
    Ok(format!(
        "9 starts, 8 ends, 3 runs of 50 ms in {time:.3} s, {counted} tasks made of {kernel} to {most}"
    ))
}

fn calls(causes: &Causes) -> Outcome {
    let (window, ()) = Window::of("process/signals_sent.yaml", "kill_calls,signals", || {
        causes.run("signals", 9, "");
    });
    window.assert("kill_calls_total", &[COMM, ("signal", "SIGURG"), ("error", "ok")], 9);
    window.assert("kill_calls_total", &[COMM, ("error", "EINVAL")], 9);
    window.assert("signals_total", &[("to", CAUSES), ("signal", "SIGURG")], 9);
    let (window, ()) = Window::of("process/naps.yaml", "naps", || drop(causes.run("naps", 6, "5")));
    window.assert("naps_total", &[COMM], 6);
    let wanted = window.assert_times("nap_wanted_seconds", &[COMM], 6);
    let slept = window.assert_times("nap_seconds", &[COMM], 6);
    assert!((wanted - 0.03).abs() < 1e-9 && slept >= wanted, "{wanted} s wanted, {slept} s slept");
    let (window, ()) =
        Window::of("process/uid_changes.yaml", "uid_changes", || drop(causes.run("users", 5, "")));
    window.assert("uid_changes_total", &[COMM, ("call", "setresuid"), ("to", "0"), ("error", "ok")], 5);
    let (window, ()) = Window::of("process/descriptor_exhaustion.yaml", "exhaustion", || {
        causes.run("exhausts", 6, "");
    });
    window.assert("exhaustion_total", &[COMM, ("syscall", "dup"), ("error", "EMFILE")], 6);
    let (window, ()) =
        Window::of("process/futex_waits.yaml", "futex_waits", || drop(causes.run("waits", 5, "10")));
    let waited = window.assert_times("futex_wait_seconds", &[COMM, ("result", "ETIMEDOUT")], 5);
    assert!((0.05..1.0).contains(&waited), "{waited} s");
    let (window, ()) = Window::of(
        "process/syscalls.yaml",
        "system_calls,system_calls_by_command,system_call_errors",
        || {
            causes.run("calls", 1000, "");
            causes.run("exhausts", 8, "");
        },
    );
    assert!(window.count("system_calls_total", &[("syscall", "getppid")]) >= 1000);
    let own = window.count("system_calls_by_command_total", &[COMM]);
    assert!((1008..1200).contains(&own), "{own} calls");
    window.assert("system_call_errors_total", &[("syscall", "dup"), ("error", "EMFILE")], 8);
    let (window, ()) =
        Window::of("kernel/clock_changes.yaml", "clock_changes", || drop(causes.run("clocks", 4, "")));
    window.assert("clock_changes_total", &[COMM, ("call", "clock_adjtime"), ("error", "ok")], 4);
    Ok(format!(
        "18 signals, 6 naps of 5 ms in {slept:.3} s, 5 waits of 10 ms in {waited:.3} s, {own} system calls"
    ))
}

fn files(causes: &Causes) -> Outcome {
    // In the directory of the program: where that is must not matter, and a label has no room for every path.
    let (here, gone) = ("here", "gone");
    fs::write(causes.path(here), "x").unwrap();
    for (example, probe, name, what) in [
        ("filesystem/opens.yaml", "file_opens", "file_opens_total", "opens"),
        ("filesystem/stats.yaml", "file_stats", "file_stats_total", "stats"),
    ] {
        let (window, ()) = Window::of(example, probe, || {
            causes.run(what, 12, here);
            causes.run(what, 3, gone);
        });
        window.assert(name, &[COMM, ("name", here), ("error", "ok")], 12);
        window.assert(name, &[COMM, ("name", gone), ("error", "ENOENT")], 3);
    }
    let (window, ()) = Window::of("filesystem/syncs.yaml", "syncs", || drop(causes.run("writes", 8, here)));
    window.assert_times("sync_seconds", &[COMM, ("call", "fdatasync")], 8);
    let (window, ()) = Window::of("filesystem/io_sizes.yaml", "read_sizes,write_sizes", || {
        causes.run("writes", 8, here);
    });
    let written = window.assert_times("write_size_bytes", &[COMM], 8);
    assert_eq!(whole(written), 8 * 3000);
    window.assert("reads_short_total", &[COMM], 8);
    Ok("12 files opened and 3 not, 8 writes of 3000 bytes, synced, 8 reads of 2000 of 3000".into())
}

fn faults(causes: &Causes) -> Outcome {
    let file = causes.path("faults");
    let (window, printed) = Window::of("memory/major_faults.yaml", "major_faults", || {
        causes.run("faults", 60, file.to_str().unwrap())
    });
    let numbers: Vec<u64> = printed.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [least, most] = numbers[..] else { panic!("{printed}") };
    if least == 0 {
        return Err(Skip("the file system of the target directory does not let go of pages".into()));
    }
    let counted = window.count("major_faults_total", &[COMM]);
    assert!((least..=most).contains(&counted), "{counted} counted, {least} to {most} by getrusage");
    Ok(format!("{counted} faults, {least} to {most} by getrusage"))
}

fn log_lines(causes: &Causes) -> Outcome {
    let (window, ()) = Window::of("kernel/log_lines.yaml", "log_lines", || {
        causes.run("says", 5, "a line of a test of tapster");
    });
    window.assert("kernel_log_lines_total", &[COMM], 5);
    Ok("5 lines".into())
}

fn libraries(causes: &Causes) -> Outcome {
    let (window, ()) =
        Window::of("program/threads.yaml", "thread_starts", || drop(causes.run("threads", 11, "")));
    window.assert("thread_starts_total", &[COMM, ("function", "nothing")], 7);
    window.assert("thread_starts_total", &[COMM, ("function", "something")], 4);
    let (window, ()) =
        Window::of("program/mallocs.yaml", "mallocs", || drop(causes.run("mallocs", 20_000, "")));
    let (calls, bytes) = (window.count("mallocs_total", &[]), window.count("malloc_bytes_total", &[]));
    assert!(calls >= 20_000 && bytes >= 20_000 * 1234, "{calls} calls, {bytes} bytes");
    Ok(format!("11 threads, 20000 of {calls} calls of malloc"))
}

fn lookups(_: &Causes) -> Outcome {
    tool("getent")?;
    let (window, ()) = Window::of("program/name_lookups.yaml", "name_lookups", || {
        (0..4).for_each(|_| drop(text(Command::new("getent").args(["ahosts", "localhost"]))));
    });
    window.assert_times("name_lookup_seconds", &[("comm", "getent"), ("name", "localhost")], 4);
    Ok("4 look-ups".into())
}

fn sqlite(_: &Causes) -> Outcome {
    let mut shell = tool("sqlite3")?;
    let (window, ()) = Window::of("program/sqlite.yaml", "sqlite_steps", || {
        let query =
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 50) select i from n;";
        assert_eq!(text(shell.args([":memory:", query])).lines().count(), 50);
    });
    window.assert_times("sqlite_step_seconds", &[("comm", "sqlite3"), ("result", "row")], 50);
    Ok("50 rows".into())
}

fn python(causes: &Causes) -> Outcome {
    let interpreter = Path::new("/usr/bin/python3");
    if !interpreter.exists() {
        return Err(Skip("needs /usr/bin/python3".into()));
    }
    let module = "tapster_of_a_test";
    fs::write(causes.path(&format!("{module}.py")), "").unwrap();
    let (window, ()) = Window::of("program/python_imports.yaml", "python_imports", || {
        for _ in 0..3 {
            text(
                Command::new(interpreter)
                    .arg("-c")
                    .arg(format!("import {module}"))
                    .current_dir(causes.directory.path()),
            );
        }
    });
    window.assert("python_imports_total", &[("module", module)], 3);
    Ok("3 imports".into())
}

fn shell(_: &Causes) -> Outcome {
    let mut terminal = tool("script")?;
    let line = "echo a-line-of-a-test";
    let (window, ()) = Window::of("program/shell_lines.yaml", "shell_lines", || {
        let mut child = terminal
            .args(["-qec", "/bin/bash --norc -i", "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The shell first sets up its terminal, and forgets what was typed before.
        thread::sleep(Duration::from_millis(500));
        let input = child.stdin.as_mut().unwrap();
        write!(input, "{line}\n{line}\nexit\n").unwrap();
        assert!(child.wait().unwrap().success());
    });
    window.assert("shell_lines_total", &[("line", line), ("uid", "0")], 2);
    Ok("2 lines".into())
}

/// `dd` writes to a disk without the page cache.
fn disks(causes: &Causes) -> Outcome {
    const COUNT: u64 = 20;
    const SIZE: u64 = 65536;
    let file = causes.path("disk");
    fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
    let disk = LoopDevice::over(&file, &[])?;
    let name = disk.name();
    let write = || {
        let to = format!("of=/dev/{name}");
        let count = format!("count={COUNT}");
        text(Command::new("dd").args([
            "if=/dev/zero",
            &to,
            "bs=65536",
            &count,
            "oflag=direct",
            "status=none",
        ]));
    };
    let device = ("device", name.as_str());
    let (window, ()) = Window::of("block/request_latency.yaml", "request_service", write);
    window.assert_times("request_service_seconds", &[device, ("operation", "WRITE")], COUNT);
    let (window, ()) = Window::of("block/bio_latency.yaml", "bio_latency", write);
    window.assert_times("bio_latency_seconds", &[device, ("direction", "write")], COUNT);
    let (window, ()) = Window::of("block/by_command.yaml", "io_by_command", write);
    window.assert_times("io_by_command_seconds", &[device, ("comm", "dd"), ("operation", "WRITE")], COUNT);
    let (window, ()) = Window::of("block/sync_writes.yaml", "sync_writes", write);
    window.assert("sync_writes_total", &[device, ("wait", "yes")], COUNT);
    window.assert("sync_written_bytes_total", &[device, ("wait", "yes")], COUNT * SIZE);
    // The second round begins where the first did.
    let (window, ()) = Window::of("block/sequential.yaml", "sequential", || {
        write();
        write();
    });
    window.assert("sequential_requests_total", &[device, ("place", "next")], 2 * COUNT - 2);
    window.assert("sequential_requests_total", &[device, ("place", "elsewhere")], 1);
    window.assert("sequential_bytes_total", &[device, ("place", "next")], (2 * COUNT - 2) * SIZE);
    let (window, ()) = Window::of("block/sizes.yaml", "request_sizes", write);
    let bytes = window.histogram("request_size_bytes", &[("comm", "dd")]);
    assert!(
        bytes.count() >= COUNT && whole(bytes.sum) >= COUNT * SIZE,
        "{} of {} bytes",
        bytes.count(),
        bytes.sum
    );
    Ok(format!("{COUNT} writes of {SIZE} bytes, five times"))
}

fn io_uring(causes: &Causes) -> Outcome {
    let mut fio = tool("fio")?;
    let file = causes.path("uring");
    let (window, ()) = Window::of("block/io_uring.yaml", "io_uring", || {
        text(
            fio.args([
                "--name=a",
                "--ioengine=io_uring",
                "--rw=randread",
                "--bs=4k",
                "--size=4m",
                "--number_ios=100",
            ])
            .arg(format!("--filename={}", file.display())),
        );
    });
    window.assert_times("io_uring_seconds", &[("operation", "READ"), ("error", "ok")], 100);
    Ok("100 reads".into())
}

fn busy(_: &Causes) -> Outcome {
    let mut load = tool("taskset")?;
    let cpu = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let cpu = cpu.trim().rsplit(['-', ',']).next().unwrap().to_owned();
    let begun = Instant::now();
    let (window, ()) = Window::of("cpu/busy_cpus.yaml", "busy_cpus", || {
        load.args(["-c", &cpu, "timeout", "2", "sh", "-c", "while :; do :; done"]).status().unwrap();
    });
    let samples = window.count("busy_cpu_samples_total", &[("cpu", &cpu)]);
    // 99 in a second: at least while the load ran, less some that fell on its beginning; at most all the time.
    let most = (99.0 * begun.elapsed().as_secs_f64()).ceil();
    assert!(samples >= 190 && samples as f64 <= most, "{samples} samples, at most {most}");
    Ok(format!("{samples} samples of a processor in 2 s"))
}

/// Variables of the kernel, where it tells of them.
fn variables(_: &Causes) -> Outcome {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    if !symbols.lines().any(|line| line.ends_with(" avenrun")) {
        return Err(Skip("this kernel tells of functions only".into()));
    }
    let loads = || {
        let text = fs::read_to_string("/proc/loadavg").unwrap();
        text.split(' ').take(3).map(|load| load.parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    // The load changes each five seconds, and the gauge is at most one second old.
    let (window, shown) = Window::of("cpu/load_average.yaml", "load_average", || {
        loop {
            let before = loads();
            thread::sleep(Duration::from_millis(1500));
            if loads() == before {
                return before;
            }
        }
    });
    for (family, shown) in ["1m", "5m", "15m"].into_iter().zip(&shown) {
        let counted = window.after.sum(&format!("tapster_load_average_{family}"), &[]);
        assert!((counted - shown).abs() <= 0.006, "{family}: {counted}, and {shown} in /proc/loadavg");
    }
    let mut bpftool = tool("bpftool")?;
    let (window, jited) = Window::of("kernel/bpf_jit.yaml", "bpf_jit", || {
        thread::sleep(Duration::from_millis(1500));
        let listed: serde_json::Value =
            serde_json::from_str(&text(bpftool.args(["--json", "prog", "show"]))).unwrap();
        let programs = listed.as_array().unwrap().iter();
        programs.filter_map(|program| program["bytes_jited"].as_u64()).sum::<u64>()
    });
    // Each begins at a place that is a multiple of 64, and trampolines are no programs.
    let counted = window.after.sum("tapster_bpf_jit_memory_bytes", &[]);
    assert!(jited > 0 && counted >= jited as f64, "{counted} bytes, and {jited} of programs");
    Ok(format!("load {shown:?}, {counted} bytes for {jited} of programs"))
}

/// A case, by its name.
type Case = (&'static str, fn(&Causes) -> Outcome);

const ALL: [Case; 18] = [
    ("connects", connects),
    ("lifetimes of connections", lifetimes),
    ("datagrams", datagrams),
    ("full sockets", full_sockets),
    ("answers of name servers", names),
    ("processes", processes),
    ("variables", variables),
    ("system calls", calls),
    ("files", files),
    ("major faults", faults),
    ("lines of the log", log_lines),
    ("libc", libraries),
    ("look-ups of names", lookups),
    ("sqlite", sqlite),
    ("python", python),
    ("shell", shell),
    ("disks", disks),
    ("io_uring", io_uring),
];

pub(crate) fn all(cases: &mut Cases) {
    let causes = match Causes::build() {
        Ok(causes) => causes,
        Err(Skip(why)) => return cases.run("causes", || Err(Skip(why))),
    };
    for (name, case) in ALL {
        cases.run(name, || case(&causes));
    }
    cases.run("busy processors", || busy(&causes));
}
