//! Which bucket a program counts a value in: around every bound of every scheme, on the virtual machine, against the definition.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{self, context, parse},
    world::World,
};
use tapster_ebpf::{histogram::Buckets, program::ROWS, vm::Environment};

/// The place of a value's bucket: how many bounds are less than it.
fn place(buckets: &Buckets, value: i128) -> usize {
    match buckets {
        Buckets::Exponential { thresholds, .. } => {
            let raw = u64::try_from(value.max(0)).unwrap();
            usize::try_from(thresholds.position(raw)).unwrap()
        }
        Buckets::Explicit { .. } | Buckets::Linear { .. } => {
            bounds(buckets).into_iter().filter(|bound| *bound < value).count()
        }
    }
}

/// The largest value of each bucket.
fn bounds(buckets: &Buckets) -> Vec<i128> {
    match buckets {
        Buckets::Explicit { raw, .. } => raw.iter().map(|bound| i128::from(*bound)).collect(),
        Buckets::Linear { start, width, count } => {
            (0..i128::from(*count)).map(|step| i128::from(*start) + step * i128::from(*width)).collect()
        }
        Buckets::Exponential { thresholds, .. } => (0..=thresholds.count)
            .map(|position| {
                let (mut low, mut high) = (0_u64, 1 << 62);
                while low + 1 < high {
                    let middle = low.midpoint(high);
                    if thresholds.position(middle) <= position { low = middle } else { high = middle }
                }
                i128::from(low)
            })
            .collect(),
    }
}

/// Counts values around every bound; how many.
fn counts(value: &str, unit: &str, name: &str, scheme: &str) -> usize {
    let yaml = format!(
        "probes:\n- name: sizes\n  at: 'rawtracepoint:test:untyped'\n  metrics:\n  - {{ histogram: {name}, value: {value}, unit: {unit}, buckets: {scheme} }}\n"
    );
    let program = tapster_ebpf::compile(&parse(&yaml).unwrap(), &World::new().target(1)).unwrap();
    let buckets = program.metrics[0].kind.buckets().unwrap();
    let range = if program.metrics[0].signed {
        i128::from(i64::MIN)..=i128::from(i64::MAX)
    } else {
        0..=i128::from(u64::MAX)
    };
    let around = |bound: i128| [bound - 1, bound, bound + 1];
    let mut values: Vec<i128> = bounds(buckets).into_iter().flat_map(around).collect();
    values.extend([*range.start(), -1, 0, 1, i128::from(i64::MAX), 1 << 63, *range.end()]);
    values.retain(|value| range.contains(value));
    let mut vm = case::machine(&program, Environment { cpus: 1, ..Environment::default() });
    let slot = program.layout.metrics[0];
    let [from, size] = [slot.offset, slot.size].map(|bytes| usize::try_from(bytes).unwrap());
    // The first word is the sum.
    let mut expected = vec![0_u64; size / 8 - 1];
    for value in &values {
        expected[place(buckets, *value)] += 1;
        let word = u64::try_from(value & i128::from(u64::MAX)).unwrap();
        vm.run(&context(&[0, word, 0])).unwrap();
        let row = vm.map(usize::try_from(ROWS).unwrap()).get_cpu(&0_u32.to_le_bytes(), 0).unwrap();
        let counted: Vec<u64> = row[from + 8..from + size]
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(counted, expected, "{value} of {scheme}");
    }
    values.len()
}

#[test]
fn a_value_is_in_its_bucket() {
    let mut tried = 0;
    for signed in [false, true] {
        let value = if signed { "(s64)arg1" } else { "arg1" };
        for schema in 0..=4 {
            let scheme = |range: &str| format!("{{ exponential: {{ schema: {schema}, {range} }} }}");
            tried += counts(value, "ns", "waits_seconds", &scheme("min: -20, max: 4"));
            tried += counts(value, "ms", "waits_seconds", &scheme("min: -9, max: 14"));
            tried += counts(value, "bytes", "sizes_bytes", &scheme("min: 9, max: 30"));
            tried += counts(value, "sectors", "sizes_bytes", &scheme("min: 9, max: 30"));
        }
        // Few bounds are all compared, many are searched by halving.
        for bounds in [1_u32, 2, 3, 49, 50, 51, 200] {
            let list: Vec<String> = (0..bounds).map(|bound| (bound * bound + 5).to_string()).collect();
            tried += counts(value, "none", "sizes", &format!("[{}]", list.join(", ")));
        }
        tried += counts(value, "none", "sizes", "{ linear: { start: 7, width: 3, count: 20 } }");
    }
    tried += counts("(s64)arg1", "none", "sizes", "[-100, -10, -1, 0, 1, 10]");
    tried += counts("(s64)arg1", "none", "sizes", "{ linear: { start: -30, width: 10, count: 7 } }");
    println!("{tried} values");
    assert!(tried > 5000);
}
