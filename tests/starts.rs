//! Starts and ends of pairs on several processors at once, in this kernel: the programs run by `BPF_PROG_TEST_RUN`,
//! attached to nothing, over a table of starts so small that they get in each other's way all the time.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

#[path = "../ebpf/tests/support/mod.rs"]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use support::{case::parse, random::Random, world::World};
use tapster::{
    collector::{Reader, Shared, View},
    family::Value,
    kernel::{Kernel, Paths},
    label::Host,
    loader::Loader,
    sys::{Capabilities, Capability, PossibleCpus, prog_test_run_raw_tp},
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
    inflight_timeout: TIMEOUT
    start: { at: 'rawtracepoint:test:untyped', key: [arg0, arg1], save: { saved: arg0 * 31 + arg1 } }
    end: { at: 'rawtracepoint:test:stop', key: [arg0, arg1] }
    labels: { right: start.saved == arg0 * 31 + arg1, thread: arg0 }
    metrics:
      - { counter: pairs_total }
";

/// What the counter has in all rows of which this is true.
fn counted(reader: &Reader, which: impl Fn(&[String]) -> bool) -> u64 {
    let collected = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap();
    let samples = collected.families[0].samples.iter().filter(|sample| which(&sample.labels));
    samples
        .map(|sample| match sample.value {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
            Value::Number(number) => number as u64,
            Value::Histogram(_) => panic!("not a counter"),
        })
        .sum()
}

/// Each thread begins and ends calls of its own, up to eight at a time; the number of starts and ends of each.
fn run(reader: &Reader, timeout: bool) -> Vec<[u64; 2]> {
    let done = AtomicBool::new(false);
    let code = |end: &str| {
        let codes = &reader.program().codes;
        codes.iter().position(|code| code.at.to_string().ends_with(end)).unwrap()
    };
    let (start, stop) = (
        reader.attached().program_fd(code("untyped")).unwrap(),
        reader.attached().program_fd(code("stop")).unwrap(),
    );
    thread::scope(|scope| {
        let sweeper = timeout.then(|| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    reader.sweep().unwrap();
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
        if let Some(sweeper) = sweeper {
            sweeper.join().unwrap();
        }
        counts
    })
}

fn reader(timeout: &str) -> Option<Reader> {
    let capabilities = Capabilities::of_process().unwrap();
    if !capabilities.has(Capability::SysAdmin) {
        println!("skipped: needs CAP_SYS_ADMIN");
        return None;
    }
    let cpus = PossibleCpus::of_host().unwrap();
    let kernel = Kernel::detect(&Paths::default()).version;
    let probe = parse(&PROBE.replace("TIMEOUT", timeout)).unwrap();
    let world = World::new();
    let target = Target { kernel, ..world.target(cpus.get()) };
    let program = tapster_ebpf::compile(&probe, &target).unwrap();
    let attached = Loader::new(None).load(program).unwrap();
    let host = Host::default();
    Some(
        Reader::new(attached, std::time::SystemTime::now(), &host, &Shared::new(&host, Vec::new()), cpus)
            .unwrap(),
    )
}

#[test]
fn every_end_finds_its_own_start() {
    let Some(reader) = reader("1h") else { return };
    let counts = run(&reader, false);
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
    let Some(reader) = reader("1us") else { return };
    let counts = run(&reader, true);
    reader.sweep().unwrap();
    let ends: u64 = counts.iter().map(|[_, ends]| ends).sum();
    let found = counted(&reader, |_| true);
    let dropped = reader.collect(&Arc::new(Topology::default()), View::Now).unwrap().dropped;
    let expired = dropped.losses.iter().find(|(reason, _)| *reason == "expired").unwrap().1;
    println!("{found} found and {expired} given up of {ends}");
    assert_eq!(counted(&reader, |labels| labels[0] != "1"), 0, "ends that found another's start");
    assert_eq!((found + expired, dropped.unmatched), (ends, Some(expired)));
    assert!(found > 0 && expired > 0);
}
