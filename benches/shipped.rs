//! What the shipped probes cost whoever causes their events: reads of a block device, switches between tasks, system calls, packets,
//! pages of files; with and without the kernel's counting of runs, and beside variants of themselves.
//!
//! Needs root and `losetup`. A load is run in batches, by the clock on the wall; of a round counts the batch that a quarter of all are
//! faster than, which others that work on the host disturb least. In each round every contestant has its turn, and what the load
//! takes with nothing attached is measured before each. Printed is the median of the differences, the least and the most.
//!
//! `TAPSTER_BENCH_ROUNDS` says how often, `TAPSTER_BENCH_ONLY` which load: `block`, `sched`, `syscalls`, `packets` or `pages`.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark stops where something is wrong"
)]

#[path = "support/device.rs"]
mod device;

use device::LoopDevice;
use std::{
    env, fs,
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    net::UdpSocket,
    os::{fd::AsRawFd, unix::fs::FileExt},
    process::Command,
    thread,
    time::Instant,
};
use tapster::{
    exporter::{Exporter, StartOptions},
    host::Host,
    kernel::Kernel,
    source::Source,
};
use tapster_ebpf::{declaration, diagnostic::SourceFile, probe::Probe};

const BLOCK: &str = include_str!("../config/probes/block.yaml");
const RAID: &str = include_str!("../config/probes/raid.yaml");
const SCHED: &str = include_str!("../config/probes/sched.yaml");
const FUNCTIONS: &str = include_str!("../config/probes/functions.yaml");
const CPU: &str = include_str!("../config/probes/cpu.yaml");
const NETWORK: &str = include_str!("../config/probes/network.yaml");
const MEMORY: &str = include_str!("../config/probes/memory.yaml");

/// Probes that are attached together.
struct Contestant {
    name: &'static str,
    probes: Vec<Probe>,
    /// Whether the kernel counts runs meanwhile.
    counted: bool,
}

/// The probes of a shipped file, changed as the pairs of texts say, that have one of these names; all without names.
fn probes(kernel: &Kernel, yaml: &str, changes: &[(&str, &str)], names: &[&str]) -> Vec<Probe> {
    let mut yaml = yaml.to_owned();
    for (from, to) in changes {
        assert!(yaml.contains(from), "the file has no `{from}`");
        yaml = yaml.replace(from, to);
    }
    let (file, diagnostics) = declaration::parse(&SourceFile::new("bench", yaml));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let (mut probes, _) = tapster_ebpf::check::select(file.probes, &kernel.target());
    probes.retain(|probe| names.is_empty() || names.contains(&probe.name.value.as_str()));
    assert!(!probes.is_empty());
    probes
}

fn contestant(name: &'static str, probes: Vec<Probe>) -> Contestant {
    Contestant { name, probes, counted: false }
}

fn block(kernel: &Kernel) -> Vec<Contestant> {
    let sequence = ("(disk.diskseq ?? 0) << 32 | ", "");
    let default = || [probes(kernel, BLOCK, &[], &[]), probes(kernel, RAID, &[], &[])].concat();
    vec![
        contestant("block_io, block_request, raid_member", default()),
        Contestant { counted: true, ..contestant("the same, runs counted", default()) },
        contestant("block_io", probes(kernel, BLOCK, &[], &["block_io"])),
        contestant("block_io without the disk's sequence", probes(kernel, BLOCK, &[sequence], &["block_io"])),
        contestant("block_request", probes(kernel, BLOCK, &[], &["block_request"])),
        contestant(
            "block_request without the disk's sequence",
            probes(kernel, BLOCK, &[sequence], &["block_request"]),
        ),
        contestant("raid_member", probes(kernel, RAID, &[], &[])),
    ]
}

fn sched(kernel: &Kernel) -> Vec<Contestant> {
    let all = || probes(kernel, SCHED, &[], &[]);
    vec![
        contestant("all of sched", all()),
        Contestant { counted: true, ..contestant("the same, runs counted", all()) },
        contestant("sched_off_cpu", probes(kernel, SCHED, &[], &["sched_off_cpu"])),
        contestant("sched_run_queue", probes(kernel, SCHED, &[], &["sched_run_queue"])),
        contestant(
            "sched_run_queue, rows of all processors",
            probes(kernel, SCHED, &[("max_series: 2\n", "rows: shared\n")], &["sched_run_queue"]),
        ),
    ]
}

fn syscalls(kernel: &Kernel) -> Vec<Contestant> {
    let at_tracepoints = [
        ("rawtracepoint:raw_syscalls:", "tracepoint:raw_syscalls:"),
        ("(s32)(args.regs.orig_ax ?? args.regs.syscallno)", "args.id"),
    ];
    let mut all = Vec::new();
    for [name, counted, before] in [
        ["syscalls", "syscalls, runs counted", "syscalls at a tracepoint"],
        ["syscall_duration", "syscall_duration, runs counted", "syscall_duration at tracepoints"],
    ] {
        let shipped = || probes(kernel, FUNCTIONS, &[], &[name]);
        all.push(contestant(name, shipped()));
        all.push(Contestant { counted: true, ..contestant(counted, shipped()) });
        all.push(contestant(before, probes(kernel, FUNCTIONS, &at_tracepoints, &[name])));
    }
    all
}

fn packets(kernel: &Kernel) -> Vec<Contestant> {
    vec![
        contestant("softirq_wait", probes(kernel, CPU, &[], &["softirq_wait"])),
        contestant("softirqs", probes(kernel, CPU, &[], &["softirqs"])),
        contestant("dns_answers", probes(kernel, NETWORK, &[], &["dns_answers"])),
        contestant("container_traffic", probes(kernel, NETWORK, &[], &["container_traffic"])),
    ]
}

fn pages(kernel: &Kernel) -> Vec<Contestant> {
    vec![contestant("container_page_cache", probes(kernel, MEMORY, &[], &["container_page_cache"]))]
}

/// Pages of a file that come into the page cache one by one, none of them from a disk: it has nothing but a hole.
struct Hole(fs::File);

impl Hole {
    const PAGES: u64 = 2000;

    fn new() -> Self {
        let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        file.set_len(Self::PAGES << 12).unwrap();
        let hole = Self(file);
        hole.advise(libc::POSIX_FADV_RANDOM);
        hole
    }

    fn advise(&self, advice: i32) {
        // SAFETY: the file is open, and no memory is passed.
        assert_eq!(unsafe { libc::posix_fadvise(self.0.as_raw_fd(), 0, 0, advice) }, 0);
    }

    fn read(&self) {
        let mut byte = [0];
        for page in 0..Self::PAGES {
            self.0.read_exact_at(&mut byte, page << 12).unwrap();
        }
    }
}

/// Nanoseconds of one event: the batch that a quarter of all are faster than.
fn quarter(batches: u32, events: u64, mut batch: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..batches)
        .map(|_| {
            let begun = Instant::now();
            batch();
            begun.elapsed().as_nanos() as f64 / events as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 4]
}

/// Two threads of one processor that wake each other.
struct Switches(PipeWriter, PipeReader);

impl Switches {
    fn new() -> Self {
        let ((mut from, to), (back, mut answer)) = (pipe().unwrap(), pipe().unwrap());
        pin();
        thread::spawn(move || {
            pin();
            let mut byte = [0];
            while from.read_exact(&mut byte).is_ok() && answer.write_all(&byte).is_ok() {}
        });
        Self(to, back)
    }

    fn there_and_back(&mut self) {
        let mut byte = [0];
        self.0.write_all(&byte).unwrap();
        self.1.read_exact(&mut byte).unwrap();
    }
}

/// Keeps this thread to the first processor.
fn pin() {
    // SAFETY: a set is numbers only.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the first processor is within every set.
    unsafe { libc::CPU_SET(0, &mut set) };
    // SAFETY: the kernel reads as many bytes as the set has.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(result, 0);
}

fn start(kernel: &Kernel, contestant: &Contestant) -> Exporter {
    let options = StartOptions { run_stats: contestant.counted, attach: true, command: false };
    let (exporter, failures, _) =
        Exporter::start(&contestant.probes, kernel, &Host::default(), Vec::new(), options);
    assert!(failures.is_empty(), "{failures:?}");
    exporter
}

fn contest(
    kernel: &Kernel,
    title: &str,
    contestants: &[Contestant],
    rounds: usize,
    mut measure: impl FnMut() -> f64,
) {
    let mut more = vec![Vec::new(); contestants.len()];
    let mut bare = Vec::new();
    measure();
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let index = (round + turn) % contestants.len();
            let without = measure();
            let exporter = start(kernel, &contestants[index]);
            let with = measure();
            drop(exporter);
            more[index].push(with - without);
            bare.push(without);
        }
    }
    bare.sort_by(f64::total_cmp);
    println!("{title}, {rounds} rounds; without probes {:.0} ns; longer with them, ns", bare[bare.len() / 2]);
    println!("{:44} median   least    most  of the first", "");
    let mut first = None;
    for (contestant, more) in contestants.iter().zip(&mut more) {
        more.sort_by(f64::total_cmp);
        let median = more[more.len() / 2];
        let share = median / *first.get_or_insert(median);
        println!(
            "{:44} {median:6.0} {:7.0} {:7.0}  {share:.2}",
            contestant.name,
            more[0],
            more[more.len() - 1]
        );
    }
    println!();
}

/// Processor time of this thread.
fn cpu_time_ns() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What it takes to look which disks are gone, as the exporter does every second.
fn looks(kernel: &Kernel, device: &LoopDevice) {
    const LOOKS: i64 = 500;
    let default = block(kernel).remove(0);
    let exporter = start(kernel, &default);
    device.read(1000);
    exporter.retire();
    let begun = cpu_time_ns();
    for _ in 0..LOOKS {
        exporter.retire();
    }
    let each_us = (cpu_time_ns() - begun) / LOOKS / 1000;
    let rows: u64 = exporter.status().iter().map(|probe| probe.series).sum();
    println!(
        "looking which disks are gone, {rows} rows of three probes: {each_us} us of processor time each second\n"
    );
}

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    if Command::new("losetup").arg("--version").output().is_err() {
        println!("skipped: `losetup` is not installed");
        return;
    }
    let kernel = Kernel::detect(&Host::default());
    if kernel.requirements().is_err() {
        println!("skipped: needs the capabilities to load programs");
        return;
    }
    let rounds = env::var("TAPSTER_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let only = env::var("TAPSTER_BENCH_ONLY").unwrap_or_default();
    let is_wanted = |load: &str| load.starts_with(&only);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Linux {}, load before: {}", kernel.release, load.trim());
    if is_wanted("block") {
        let device = LoopDevice::new();
        let read = || {
            quarter(150, 200, || {
                device.read(200);
            })
        };
        contest(&kernel, "a read of 4 KiB", &block(&kernel), rounds, read);
        looks(&kernel, &device);
    }
    if is_wanted("syscalls") {
        let call = || {
            quarter(200, 5000, || {
                for _ in 0..5000 {
                    // SAFETY: it reads nothing and only returns a number.
                    std::hint::black_box(unsafe { libc::syscall(libc::SYS_getppid) });
                }
            })
        };
        contest(&kernel, "a system call", &syscalls(&kernel), rounds, call);
    }
    if is_wanted("sched") {
        let mut switches = Switches::new();
        let switch = || {
            quarter(200, 2 * 500, || {
                for _ in 0..500 {
                    switches.there_and_back();
                }
            })
        };
        contest(&kernel, "a switch between two tasks", &sched(&kernel), rounds, switch);
    }
    if is_wanted("packets") {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap();
        let datagram = || {
            quarter(200, 500, || {
                for _ in 0..500 {
                    socket.send_to(b"x", own).unwrap();
                    socket.recv_from(&mut [0; 8]).unwrap();
                }
            })
        };
        contest(&kernel, "a datagram to oneself", &packets(&kernel), rounds, datagram);
    }
    if is_wanted("pages") {
        let hole = Hole::new();
        let page = || {
            quarter(60, Hole::PAGES, || {
                hole.advise(libc::POSIX_FADV_DONTNEED);
                hole.read();
            })
        };
        contest(&kernel, "a page that comes into the page cache and goes", &pages(&kernel), rounds, page);
    }
}
