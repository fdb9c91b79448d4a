//! What programs keep of each kind of metric is what a reader makes of it: written by the virtual machine on two
//! processors, joined and read again.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    world::World,
};
use tapster_ebpf::{
    names::FamilyKind,
    program::{Program, ROWS},
    vm::Environment,
};

const PROBE: &str = "
probes:
  - name: kinds
    at: 'rawtracepoint:test:untyped'
    metrics:
      - { counter: sum_total, value: (s64)arg1 }
      - { histogram: size, value: (s64)arg1, buckets: [-10, 0, 10] }
      - { gauge: last, value: (s64)arg1 }
      - { max: most, value: (s64)arg1, window: 300ns }
      - { sum: balance, value: (s64)arg1 }
";

/// The words of a metric after these events, as `(processor, time, value)`, read at `now`.
fn words(program: &Program, events: &[(u32, u64, i64)], index: usize, now: u64) -> Vec<u64> {
    let mut vm = case::machine(program, Environment { cpus: 2, ..Environment::default() });
    for (cpu, time, value) in events {
        (vm.env.cpu, vm.env.ktime_ns) = (*cpu, *time);
        vm.run(&context(&[0, value.cast_unsigned(), 0])).unwrap();
    }
    let (metric, slot) = (&program.metrics[index], program.layout.metrics[index]);
    let [from, size] = [slot.offset, slot.size].map(|bytes| usize::try_from(bytes).unwrap());
    let map = vm.map(usize::try_from(ROWS).unwrap());
    let mut rows = (0..2).map(|cpu| {
        let row = &map.get_cpu(&0_u32.to_le_bytes(), cpu).unwrap()[from..from + size];
        let mut words: Vec<u64> =
            row.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        metric.kind.settle(&mut words, now, metric.signed);
        words
    });
    let mut joined = rows.next().unwrap();
    rows.for_each(|row| metric.kind.join(&mut joined, &row, metric.signed));
    joined
}

#[test]
fn what_is_kept_is_what_is_read() {
    let program = tapster_ebpf::compile(&parse(PROBE).unwrap(), &World::new().target(2)).unwrap();
    assert!(program.layout.per_cpu, "a gauge has the time beside its value");
    let events = [(0, 1000, 5), (1, 1100, 70), (0, 1150, -8), (1, 1120, 6)];
    let number = |index: usize, events: &[(u32, u64, i64)], now| {
        let metric = &program.metrics[index];
        metric.kind.number(&words(&program, events, index, now), metric.signed)
    };
    // -8 is not added, since counters do not fall.
    assert_eq!(number(0, &events, 1200), Some(81));
    assert_eq!(number(2, &events, 1200), Some(-8), "the last of both processors");
    assert_eq!(number(3, &events, 1200), Some(70));
    assert_eq!(number(3, &events, 5000), None, "its window has passed");
    assert_eq!(number(3, &events[2..3], 1200), Some(-8), "a negative value is a value");
    assert_eq!((number(2, &[], 1200), number(3, &[], 1200)), (None, None), "there was none");
    assert_eq!(number(4, &events, 1200), Some(73), "a sum falls");
    assert_eq!(number(4, &events[2..3], 1200), Some(-8), "below zero as well");
    assert_eq!(number(4, &[], 1200), Some(0), "it begins at 0");
    // The sum, then the counts up to -10, 0, 10 and above.
    assert_eq!(words(&program, &events, 1, 1200), [73, 0, 1, 2, 1]);
    assert_eq!(number(1, &events, 1200), None);
    let kinds: Vec<_> = program.metrics.iter().map(|metric| (&metric.kind, metric.kind.family())).collect();
    assert_eq!(
        kinds
            .iter()
            .map(|(kind, family)| (*family, kind.buckets().is_some(), kind.window_ns()))
            .collect::<Vec<_>>(),
        [
            (FamilyKind::Counter, false, None),
            (FamilyKind::Histogram, true, None),
            (FamilyKind::Gauge, false, None),
            (FamilyKind::Gauge, false, Some(300)),
            (FamilyKind::Gauge, false, None),
        ]
    );
}
