//! What a pair of block events costs: ours beside bpftrace's equal script, attached to the same events at
//! the same time, and what a scrape of 10 000 series takes.
//!
//! Needs root, `bpftrace`, `bpftool` and `losetup`; where one is missing it says so and ends. The numbers are
//! the kernel's own (`bpf_stats`), whose measuring is in both. Both orders of attaching are run, because who
//! comes second finds the caches warm.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark stops where something is wrong"
)]

#[path = "support/device.rs"]
mod device;
mod support;

use device::LoopDevice;
use std::{
    io::Write,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use support::{Bpftrace, Loaded};
use tapster::{
    collector::{LabelContext, ProbeReader, View},
    exporter::{Exporter, StartOptions},
    exposition::{self, Format},
    host::Host,
    kernel::Kernel,
    load,
    source::Source,
    sys::{self, PossibleCpus},
};
use tapster_ebpf::{declaration, diagnostic::SourceFile, probe::Probe, program::ROWS};

const READS: u64 = 200_000;
/// Even, so that each comes first equally often.
const ROUNDS: usize = 6;

/// The probe as the library has it, by request, and the same on the tracepoints that the script uses.
const RAW: &str = r#"
probes:
  - name: pair_raw
    start: { at: "rawtracepoint:block:block_rq_issue", key: args.rq }
    end: { at: "rawtracepoint:block:block_rq_complete", key: args.rq }
    let: { disk: args.rq.q.disk ?? args.rq.rq_disk }
    labels:
      device: { value: disk.major << 20 | disk.first_minor, as: block_device }
      operation: args.rq.cmd_flags & 0xff
    metrics:
      - { histogram: pair_raw_duration_seconds, value: duration }
"#;
const TRACEPOINT: &str = r#"
probes:
  - name: pair_tp
    start: { at: "tracepoint:block:block_rq_issue", key: [args.dev, args.sector] }
    end: { at: "tracepoint:block:block_rq_complete", key: [args.dev, args.sector] }
    labels:
      device: { value: args.dev, as: block_device }
      operation: args.rwbs
    metrics:
      - { histogram: pair_tp_duration_seconds, value: duration }
"#;

/// The same in bpftrace: histogram and sum by device and operation. Its histogram has one bucket for each
/// power of two where ours has eight.
const SCRIPT: &str = "
tracepoint:block:block_rq_issue { @start[args->dev, args->sector] = nsecs; }
tracepoint:block:block_rq_complete /@start[args->dev, args->sector]/ {
  $d = nsecs - @start[args->dev, args->sector];
  @hist[args->dev, args->rwbs] = hist($d);
  @sum[args->dev, args->rwbs] = sum($d);
  delete(@start[args->dev, args->sector]);
}";

fn probes(yaml: &str) -> Vec<Probe> {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("bench", yaml));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    file.probes
}

fn bpftrace() -> Bpftrace {
    Bpftrace::start(SCRIPT, 2, |program| program.kind == "tracepoint" && program.name.starts_with("block_rq"))
}

fn script_cost(script: &Bpftrace) -> f64 {
    let per_run = |program: &Loaded| {
        // Some hosts hide an event in ten thousand from every tracing program.
        let runs = program.runs;
        assert!(runs >= READS / 1000 * 999, "a program ran {runs} times for {READS} events");
        program.run_ns as f64 / runs as f64
    };
    script.programs().iter().map(per_run).sum()
}

/// Nanoseconds of start and end together, by the exporter's own account.
fn own_cost(exporter: &Exporter) -> f64 {
    let status = exporter.status().remove(0);
    assert!(status.down.is_none(), "{:?}", status.down);
    status.programs.iter().map(|program| program.run_ns as f64 / program.runs as f64).sum()
}

fn pair() {
    let device = LoopDevice::new();
    let kernel = Kernel::detect(&Host::default());
    let options = StartOptions { run_stats: true, attach: true, command: false };
    let start = |yaml: &str| Exporter::start(&probes(yaml), &kernel, &Host::default(), Vec::new(), options).0;
    println!(
        "a pair of block events, {READS} reads of 4 KiB a round, ns for start and end together by the kernel's count"
    );
    println!("round  attached first  rawtracepoint  tracepoint  bpftrace  ratio raw  ratio tracepoint");
    let (mut raw_sum, mut tracepoint_sum, mut script_sum) = (0.0, 0.0, 0.0);
    for round in 0..ROUNDS {
        let ours_first = round % 2 == 0;
        let early = (!ours_first).then(bpftrace);
        let (raw, tracepoint) = (start(RAW), start(TRACEPOINT));
        let script = early.unwrap_or_else(bpftrace);
        device.read(READS);
        let (raw_ns, tracepoint_ns, script_ns) =
            (own_cost(&raw), own_cost(&tracepoint), script_cost(&script));
        let first = if ours_first { "ours" } else { "bpftrace" };
        let (raw_ratio, tracepoint_ratio) = (raw_ns / script_ns, tracepoint_ns / script_ns);
        println!(
            "{round:5}  {first:14}  {raw_ns:13.0}  {tracepoint_ns:10.0}  {script_ns:8.0}  {raw_ratio:9.2}  {tracepoint_ratio:16.2}"
        );
        raw_sum += raw_ns;
        tracepoint_sum += tracepoint_ns;
        script_sum += script_ns;
    }
    println!("all rounds: ratio {:.2} and {:.2}\n", raw_sum / script_sum, tracepoint_sum / script_sum);
}

fn cpu_time() -> Duration {
    let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
    Duration::from_secs_f64((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Fills a probe's map with made-up label sets and scrapes it.
fn scrape(name: &str, metric: &str, rows: u64, lines: u64) {
    let yaml = format!(
        "probes:\n  - name: many\n    at: tracepoint:sched:sched_process_fork\n    max_series: 20000\n    labels: {{ id: nsecs, comm: comm }}\n    metrics: [{metric}]\n"
    );
    let kernel = Kernel::detect(&Host::default());
    let program = tapster_ebpf::compile(&probes(&yaml)[0], &kernel.target()).unwrap();
    let attached = load::load(program, None).unwrap();
    let cpus = PossibleCpus::of_host().unwrap();
    {
        let map = sys::Map::open(attached.map(ROWS).unwrap(), cpus).unwrap();
        let words = map.value_size() / 8;
        for row in 0..rows {
            let mut key = row.to_le_bytes().to_vec();
            key.extend_from_slice(b"a_command\0\0\0\0\0\0\0");
            let value: Vec<u8> =
                (0..words).flat_map(|word| (row + u64::try_from(word).unwrap() % 7).to_le_bytes()).collect();
            map.update(&key, &value).unwrap();
        }
    }
    let host = Host::default();
    let reader = ProbeReader::new(
        attached,
        std::time::SystemTime::now(),
        &host,
        &LabelContext::new(&host, Vec::new()),
        cpus,
    )
    .unwrap();
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        const TIMES: u32 = 20;
        let mut bytes = 0;
        let (begun, cpu) = (Instant::now(), cpu_time());
        for _ in 0..TIMES {
            bytes = exposition::encode(reader.collect(&Arc::default(), View::Now).unwrap().families, format)
                .body
                .len();
        }
        println!(
            "{name:34} {rows:6} label sets {lines:7} series  {:12} {:6.1} ms CPU {:6.1} ms wall {:8} bytes",
            format!("{format:?}"),
            cpu_time().saturating_sub(cpu).as_secs_f64() * 1e3 / f64::from(TIMES),
            begun.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES),
            bytes,
        );
        std::io::stdout().flush().unwrap();
    }
}

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    for tool in ["bpftrace", "bpftool", "losetup"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: `{tool}` is not installed");
            return;
        }
    }
    if Kernel::detect(&Host::default()).requirements().is_err() {
        println!("skipped: needs the capabilities to load programs");
        return;
    }
    pair();
    println!("one scrape: maps read, labels decoded, families encoded");
    scrape("counters", "{ counter: many_total }", 10_000, 10_000);
    scrape(
        "histograms, classic and native",
        "{ histogram: many_seconds, value: nsecs, unit: ns }",
        345,
        345 * 31,
    );
    scrape(
        "histograms, one for each label set",
        "{ histogram: many_seconds, value: nsecs, unit: ns }",
        10_000,
        310_000,
    );
}
