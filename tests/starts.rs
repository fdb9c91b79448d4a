//! Starts and ends of pairs on several processors at once, in this kernel: the programs run by `BPF_PROG_TEST_RUN`,
//! attached to nothing, over a table of starts so small that they get in each other's way all the time.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use std::{
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{case::parse, random::Random, world::World};
use tapster::{
    collector::{LabelContext, ProbeReader, View},
    family::{MetricFamily, SampleValue},
    host::Host,
    kernel::Kernel,
    load,
    sys::{Capabilities, Capability, PossibleCpus, monotonic_ns, prog_test_run_raw_tp},
    topology::Topology,
};
use tapster_ebpf::attach::Target;

const THREADS: u64 = 4;
const EVENTS: u64 = 60_000;

/// The saved value is made from the key, so a start that is another's shows.
const PROBE: &str = "
probes:
  - name: pairs
    max_inflight: 64
    TIMEOUT
    start: { at: 'rawtracepoint:test:untyped', key: [arg0, arg1], save: { saved: arg0 * 31 + arg1 } }
    end: { at: 'rawtracepoint:test:stop', key: [arg0, arg1] }
    labels: { right: start.saved == arg0 * 31 + arg1, thread: arg0 }
    metrics:
      - { counter: pairs_total }
      - { in_flight: pairs_in_flight }
      - { oldest: pairs_oldest_seconds }
";

/// What the counter has in all rows of which this is true.
fn counted(reader: &ProbeReader, which: impl Fn(&[String]) -> bool) -> u64 {
    let collected = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap();
    let samples = collected.families[0].samples.iter().filter(|sample| which(&sample.labels));
    samples
        .map(|sample| match sample.value {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
            SampleValue::Number(number) => number as u64,
            SampleValue::Histogram(_) => panic!("not a counter"),
        })
        .sum()
}

/// Each thread begins and ends calls of its own, up to eight at a time; the number of starts and ends of each.
///
/// `beside` is done again and again meanwhile.
fn run(reader: &ProbeReader, beside: Option<&(dyn Fn() + Sync)>) -> Vec<[u64; 2]> {
    let done = AtomicBool::new(false);
    let code = |end: &str| {
        let codes = &reader.program().codes;
        codes.iter().position(|code| code.at.to_string().ends_with(end)).unwrap()
    };
    let (start, stop) = (
        reader.attached().program_fd(code("untyped")).unwrap(),
        reader.attached().program_fd(code("stop")).unwrap(),
    );
    let (start, stop) = (start.as_fd(), stop.as_fd());
    thread::scope(|scope| {
        let other = beside.map(|beside| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    beside();
                    thread::yield_now();
                }
            })
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random(thread);
                    let (mut waiting, mut counts) = (Vec::new(), [0, 0]);
                    let mut call = 0;
                    while counts[0] < EVENTS || !waiting.is_empty() {
                        let begins = counts[0] < EVENTS && waiting.len() < 8 && random.one_in(2);
                        if begins {
                            // Keys come back, as those of requests do.
                            call = (call + 1) % 100;
                            prog_test_run_raw_tp(start, &[thread, call]).unwrap();
                            waiting.push(call);
                            counts[0] += 1;
                        } else if !waiting.is_empty() {
                            let call = waiting.swap_remove(random.below(waiting.len()));
                            prog_test_run_raw_tp(stop, &[thread, call]).unwrap();
                            counts[1] += 1;
                        }
                    }
                    counts
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        if let Some(other) = other {
            other.join().unwrap();
        }
        counts
    })
}

fn reader(timeout: &str) -> Option<ProbeReader> {
    reader_of(&PROBE.replace("TIMEOUT", timeout))
}

fn reader_of(yaml: &str) -> Option<ProbeReader> {
    let capabilities = Capabilities::of_process().unwrap();
    if !capabilities.has(Capability::SysAdmin) {
        println!("skipped: needs CAP_SYS_ADMIN");
        return None;
    }
    let cpus = PossibleCpus::of_host().unwrap();
    let kernel = Kernel::detect(&Host::default()).version;
    let probe = parse(yaml).unwrap();
    let world = World::new();
    let target = Target { kernel, ..world.target(cpus.get()) };
    let program = tapster_ebpf::compile(&probe, &target).unwrap();
    let attached = load::load(program, None).unwrap();
    let host = Host::default();
    Some(
        ProbeReader::new(
            attached,
            std::time::SystemTime::now(),
            &host,
            &LabelContext::new(&host, Vec::new()),
            cpus,
        )
        .unwrap(),
    )
}

#[test]
fn every_end_finds_its_own_start() {
    let Some(reader) = reader("inflight_timeout: 1h") else { return };
    let counts = run(&reader, None);
    for (thread, [starts, ends]) in (0..).zip(&counts) {
        let name = u64::to_string(&thread);
        assert_eq!((*starts, *ends), (EVENTS, EVENTS));
        assert_eq!(counted(&reader, |labels| labels[1] == name), EVENTS, "thread {name}");
    }
    assert_eq!(counted(&reader, |labels| labels[0] != "1"), 0, "ends that found another's start");
    let dropped = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap().dropped;
    assert_eq!(dropped.unmatched, Some(0));
    assert!(dropped.losses.iter().all(|(_, count)| *count == 0), "{:?}", dropped.losses);
}

#[test]
fn a_start_is_given_up_or_found_by_its_end_never_both() {
    let Some(reader) = reader("inflight_timeout: 1us") else { return };
    let counts = run(&reader, Some(&|| reader.sweep(monotonic_ns()).unwrap()));
    reader.sweep(monotonic_ns()).unwrap();
    let ends: u64 = counts.iter().map(|[_, ends]| ends).sum();
    let found = counted(&reader, |_| true);
    let dropped = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap().dropped;
    let expired = dropped.losses.iter().find(|(reason, _)| *reason == "expired").unwrap().1;
    println!("{found} found and {expired} given up of {ends}");
    assert_eq!(counted(&reader, |labels| labels[0] != "1"), 0, "ends that found another's start");
    assert_eq!((found + expired, dropped.unmatched), (ends, Some(expired)));
    assert!(found > 0 && expired > 0);
}

/// Number and age of what waits, by the label `right`.
fn waiting(reader: &ProbeReader) -> Vec<(String, f64, f64)> {
    let collected = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap();
    let numbers = |family: usize| {
        let family: &MetricFamily = &collected.families[family];
        family.samples.iter().map(|sample| match sample.value {
            SampleValue::Number(number) => (sample.labels[0].clone(), number),
            SampleValue::Histogram(_) => panic!("not a gauge"),
        })
    };
    assert_eq!(&*collected.families[1].name, "tapster_pairs_in_flight");
    numbers(1).zip(numbers(2)).map(|((right, number), (_, age))| (right, number, age)).collect()
}

fn in_flight(reader: &ProbeReader) -> f64 {
    // The sum of none is -0.
    waiting(reader).iter().fold(0.0, |sum, (_, number, _)| sum + number)
}

fn oldest(reader: &ProbeReader) -> f64 {
    waiting(reader).iter().map(|(_, _, age)| *age).fold(0.0, f64::max)
}

fn expired(reader: &ProbeReader) -> u64 {
    let losses = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap().dropped.losses;
    losses.iter().find(|(reason, _)| *reason == "expired").unwrap().1
}

#[test]
fn what_waits_is_read_while_programs_write() {
    let Some(reader) = reader("") else { return };
    let (begun, seen) = (Instant::now(), AtomicU64::new(0));
    run(
        &reader,
        Some(&|| {
            for (right, number, age) in waiting(&reader) {
                // A value that is not the key's is of another start.
                assert!(right == "1" || number == 0.0, "{number} starts of two halves");
                assert!(
                    age <= begun.elapsed().as_secs_f64(),
                    "{age} s, {:?} after the first",
                    begun.elapsed()
                );
                if number > 0.0 {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        }),
    );
    println!("{seen:?} readings with something in flight");
    assert!(seen.into_inner() > 100);
    assert_eq!((in_flight(&reader), oldest(&reader)), (0.0, 0.0), "all have ended");
}

#[test]
fn what_waits_is_kept_until_its_end() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    for (timeout, kept) in [("", true), ("inflight_timeout: 10m", false)] {
        let Some(reader) = reader(timeout) else { return };
        let [start, stop] = ["untyped", "stop"].map(|end| {
            let codes = &reader.program().codes;
            let code = codes.iter().position(|code| code.at.to_string().ends_with(end)).unwrap();
            reader.attached().program_fd(code).unwrap()
        });
        // The table has four entries, so some of them are in the map.
        for call in 0..10 {
            prog_test_run_raw_tp(start.as_fd(), &[7, call]).unwrap();
        }
        assert_eq!(in_flight(&reader).to_bits(), 10_f64.to_bits());
        let before = oldest(&reader);
        thread::sleep(Duration::from_millis(20));
        assert!(oldest(&reader) >= before + 0.02);
        // As if nobody had looked for an hour.
        reader.sweep(monotonic_ns() + HOUR_NS).unwrap();
        let (still, given_up) = if kept { (10.0, 0) } else { (0.0, 10) };
        assert_eq!((in_flight(&reader), expired(&reader)), (still, given_up), "{timeout}");
        for call in 0..10 {
            prog_test_run_raw_tp(stop.as_fd(), &[7, call]).unwrap();
        }
        let dropped = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap().dropped;
        // Counted once, or lost once.
        assert_eq!(counted(&reader, |_| true) + expired(&reader), 10);
        assert_eq!(dropped.unmatched, Some(given_up));
        assert_eq!(in_flight(&reader).to_bits(), 0);
        // What is left behind makes room when there is little of it: the map has 64 places.
        for call in 0..66 {
            prog_test_run_raw_tp(start.as_fd(), &[8, call]).unwrap();
        }
        let (waits, before) = (in_flight(&reader), expired(&reader));
        assert_eq!(waits.to_bits(), 66_f64.to_bits());
        let oldest_before = oldest(&reader);
        reader.sweep(monotonic_ns() + HOUR_NS).unwrap();
        if kept {
            let (left, given_up) = (in_flight(&reader), expired(&reader) - before);
            println!("{left} of {waits} are left, {given_up} were given up");
            assert!(given_up > 0 && left >= 48.0 && oldest(&reader) >= oldest_before, "the oldest stay");
            assert!(left <= 52.0, "of the map a quarter is free again; the table has four");
        }
    }
}

#[test]
#[ignore = "measures what it costs a scrape that 16 384 starts wait, for docs/metrics.md"]
fn a_scrape_of_a_full_map() {
    const WAIT: u32 = 16_384;
    const TIMES: u32 = 20;
    let yaml = PROBE.replace("TIMEOUT", "").replace("max_inflight: 64", &format!("max_inflight: {WAIT}"));
    let Some(reader) = reader_of(&yaml) else { return };
    let start =
        reader.program().codes.iter().position(|code| code.at.to_string().ends_with("untyped")).unwrap();
    let start = reader.attached().program_fd(start).unwrap();
    let collect = || {
        let begun = Instant::now();
        for _ in 0..TIMES {
            reader.collect(&Arc::new(Topology::default()), View::Now).unwrap();
        }
        begun.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES)
    };
    println!("{:6} starts: {:.2} ms", in_flight(&reader), collect());
    let mut begun = 0;
    for upto in [512, WAIT] {
        for call in begun..upto {
            prog_test_run_raw_tp(start.as_fd(), &[7, call.into()]).unwrap();
        }
        begun = upto;
        assert_eq!(in_flight(&reader).to_bits(), f64::from(upto).to_bits());
        println!("{upto:6} starts: {:.2} ms", collect());
    }
    let begun = Instant::now();
    reader.sweep(monotonic_ns()).unwrap();
    println!("a look for ends that cannot come: {:.2} ms", begun.elapsed().as_secs_f64() * 1e3);
}
