//! Pairs whose starts collide: the programs on the virtual machine against a dictionary.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use std::collections::HashMap;
use support::{
    case::{self, context, parse},
    random::Random,
    world::World,
};
use tapster_ebpf::{
    attach::Target,
    layout::DropReason,
    probe::KernelVersion,
    program::{DROPS, Program, ROWS, STARTS, TABLE},
    vm::{Environment, Vm},
};

/// Keys of one word and of two, one saved value; each pair adds its duration to the row of its saved value.
const PROBE: &str = "
probes:
  - name: pairs
    max_inflight: 32
    start: { at: 'rawtracepoint:test:untyped', key: KEY, first: FIRST, save: { saved: arg2 } }
    end: { at: 'rawtracepoint:test:stop', key: KEY }
    labels: { saved: start.saved }
    metrics:
      - { counter: pairs_total }
      - { counter: pair_time_total, value: duration, unit: none }
";

fn program(key: &str, first: bool, kernel: KernelVersion, world: &World) -> Program {
    let probe = parse(&PROBE.replace("KEY", key).replace("FIRST", &first.to_string())).unwrap();
    tapster_ebpf::compile(&probe, &Target { kernel, ..world.target(1) }).unwrap()
}

fn machine(program: &Program) -> Vm {
    case::machine(program, Environment { cpus: 1, ..Environment::default() })
}

fn map(index: u32) -> usize {
    usize::try_from(index).unwrap()
}

/// Starts and ends of few keys in any order, twice in a row too, and some that are never ended or never begun.
#[test]
fn a_start_is_found_by_its_end_and_by_no_other() {
    let world = World::new();
    let (mut collided, mut alone, mut again) = (0, 0, 0);
    for (kernel, first) in [
        (KernelVersion(5, 10, 0), false),
        (KernelVersion(6, 1, 0), false),
        (KernelVersion(5, 10, 0), true),
        (KernelVersion(6, 1, 0), true),
    ] {
        for (seed, key) in (0..40).zip(["arg0", "[arg0, arg1]"].into_iter().cycle()) {
            let mut random = Random(seed);
            let program = program(key, first, kernel, &world);
            let has_table = kernel >= KernelVersion(5, 12, 0) && !first;
            assert_eq!(program.layout.start.as_ref().unwrap().table.is_some(), has_table);
            let mut vm = machine(&program);
            let mut waiting: HashMap<[u64; 2], (u64, u64)> = HashMap::new();
            let mut rows: HashMap<u64, [u64; 2]> = HashMap::new();
            let mut unmatched = 0;
            // Two entries, so that with more keys than two some share one.
            let keys = 1 + random.below(8);
            let mut now = 1000;
            for _ in 0..400 {
                now += 1 + random.word() % 1000;
                vm.env.ktime_ns = now;
                let key =
                    [random.below(keys), random.below(2)].map(|word| u64::try_from(word).unwrap() << 40);
                let key = if key.len() > 1 && program.layout.start.as_ref().unwrap().key.len() == 1 {
                    [key[0], 0]
                } else {
                    key
                };
                let saved = random.word() % 5;
                let begins = random.one_in(2);
                let code = program
                    .codes
                    .iter()
                    .position(|code| code.at.to_string().ends_with(if begins { "untyped" } else { "stop" }));
                vm.load(&program.codes[code.unwrap()].assembled.insns);
                vm.run(&context(&[key[0], key[1], saved])).unwrap();
                if begins {
                    let kept = waiting.entry(key).or_insert((now, saved));
                    if !first {
                        *kept = (now, saved);
                    } else if *kept != (now, saved) {
                        again += 1;
                    }
                } else if let Some((since, saved)) = waiting.remove(&key) {
                    let row = rows.entry(saved).or_default();
                    *row = [row[0] + 1, row[1] + now - since];
                } else {
                    unmatched += 1;
                }
                if first {
                } else if vm.map(map(STARTS)).is_empty() {
                    alone += 1;
                } else {
                    collided += 1;
                }
            }
            for (key, value) in vm.map(map(ROWS)).iter() {
                let saved = u64::from_le_bytes(key.try_into().unwrap());
                let row: Vec<u64> =
                    value.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
                assert_eq!(rows.remove(&saved).unwrap().to_vec(), row, "seed {seed}, saved {saved}");
            }
            assert!(rows.is_empty(), "missing: {rows:?}, seed {seed}");
            for drop in DropReason::ALL {
                let counted = vm.map(map(DROPS)).get(&drop.index().to_le_bytes()).unwrap();
                let expected = if drop == DropReason::Unmatched { unmatched } else { 0 };
                assert_eq!(
                    u64::from_le_bytes(counted.try_into().unwrap()),
                    expected,
                    "{drop:?}, seed {seed}"
                );
            }
            if has_table {
                // What the entries say of the map is so.
                let elsewhere: u64 = vm
                    .map(map(TABLE))
                    .iter()
                    .map(|(_, entry)| u64::from_le_bytes(entry[8..16].try_into().unwrap()))
                    .sum();
                assert_eq!(elsewhere, u64::try_from(vm.map(map(STARTS)).len()).unwrap(), "seed {seed}");
            }
        }
    }
    println!(
        "{collided} times a start waited in the map, {alone} times none did; {again} times the first was kept"
    );
    assert!(collided > 1000 && alone > 1000 && again > 1000);
}

/// A first start for which there is no room is dropped as any other is, and one that waits is kept without room for more.
#[test]
fn the_first_start_is_kept_where_the_map_is_full() {
    let yaml =
        PROBE.replace("KEY", "arg0").replace("FIRST", "true").replace("max_inflight: 32", "max_inflight: 1");
    let program = tapster_ebpf::compile(&parse(&yaml).unwrap(), &World::new().target(1)).unwrap();
    let mut vm = machine(&program);
    for (now, point, key) in
        [(10, "untyped", 1), (20, "untyped", 1), (25, "untyped", 2), (40, "stop", 1), (41, "stop", 2)]
    {
        vm.env.ktime_ns = now;
        let code = program.codes.iter().find(|code| code.at.to_string().ends_with(point)).unwrap();
        vm.load(&code.assembled.insns);
        vm.run(&context(&[key, 0, 3])).unwrap();
    }
    let row = vm.map(map(ROWS)).get(&3_u64.to_le_bytes()).unwrap();
    assert_eq!(row[..16], [1_u64.to_le_bytes(), 30_u64.to_le_bytes()].concat(), "from the first to the end");
    for (reason, expected) in
        [(DropReason::Inflight, 1_u64), (DropReason::Unmatched, 1), (DropReason::Busy, 0)]
    {
        let counted = vm.map(map(DROPS)).get(&reason.index().to_le_bytes()).unwrap();
        assert_eq!(counted[..8], expected.to_le_bytes(), "{reason:?}");
    }
}

const BETWEEN: &str = "
probes:
  - name: gaps
    max_inflight: 32
    between: { at: 'rawtracepoint:test:untyped', key: arg0, where: arg1 != 9, save: { saved: arg2 } }
    labels: { saved: start.saved }
    metrics:
      - { counter: gaps_total }
      - { counter: gap_time_total, value: duration, unit: none }
";

/// Each event counts the time since the one before it with its key, by what that one saved; the first of a key counts nothing.
#[test]
fn each_event_ends_what_the_one_before_began() {
    let world = World::new();
    let (mut gaps, mut firsts) = (0, 0);
    for kernel in [KernelVersion(5, 10, 0), KernelVersion(6, 1, 0)] {
        let probe = parse(BETWEEN).unwrap();
        let program = tapster_ebpf::compile(&probe, &Target { kernel, ..world.target(1) }).unwrap();
        assert_eq!(program.codes.len(), 1, "one program takes and keeps");
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut vm = machine(&program);
            let mut last: HashMap<u64, (u64, u64)> = HashMap::new();
            let mut rows: HashMap<u64, [u64; 2]> = HashMap::new();
            let keys = 1 + random.below(8);
            let mut now = 1000;
            for _ in 0..400 {
                now += 1 + random.word() % 1000;
                vm.env.ktime_ns = now;
                let key = u64::try_from(random.below(keys)).unwrap() << 40;
                let (mark, saved) = (random.word() % 10, random.word() % 5);
                vm.run(&context(&[key, mark, saved])).unwrap();
                if mark == 9 {
                    continue;
                }
                if let Some((since, before)) = last.insert(key, (now, saved)) {
                    let row = rows.entry(before).or_default();
                    *row = [row[0] + 1, row[1] + now - since];
                    gaps += 1;
                } else {
                    firsts += 1;
                }
            }
            for (key, value) in vm.map(map(ROWS)).iter() {
                let saved = u64::from_le_bytes(key.try_into().unwrap());
                let row: Vec<u64> =
                    value.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
                assert_eq!(rows.remove(&saved).unwrap().to_vec(), row, "seed {seed}, saved {saved}");
            }
            assert!(rows.is_empty(), "missing: {rows:?}, seed {seed}");
            for drop in DropReason::ALL {
                let counted = vm.map(map(DROPS)).get(&drop.index().to_le_bytes()).unwrap();
                assert_eq!(counted[..8], [0; 8], "{drop:?}, seed {seed}: the first of a key is no loss");
            }
        }
    }
    println!("{gaps} times between two events, {firsts} events without one before");
    assert!(gaps > 10_000 && firsts > 100);
}

/// A condition on the duration counts nothing, and the next time begins all the same.
#[test]
fn what_does_not_count_begins_the_next_time() {
    let yaml = BETWEEN.replace("arg1 != 9", "'arg1 != 9 && duration > 10'");
    let program = tapster_ebpf::compile(&parse(&yaml).unwrap(), &World::new().target(1)).unwrap();
    let mut vm = machine(&program);
    for now in [100, 105, 120, 121, 150] {
        vm.env.ktime_ns = now;
        vm.run(&context(&[1, 0, 3])).unwrap();
    }
    let row = vm.map(map(ROWS)).get(&3_u64.to_le_bytes()).unwrap();
    assert_eq!(row[..16], [2_u64.to_le_bytes(), 44_u64.to_le_bytes()].concat(), "15 and 29");
}

/// An end that does not match leaves its start waiting.
#[test]
fn an_end_that_does_not_match_leaves_its_start() {
    let world = World::new();
    for kernel in [KernelVersion(5, 10, 0), KernelVersion(6, 1, 0)] {
        let probe = parse(
            &PROBE
                .replace("FIRST", "false")
                .replace("KEY }\n", "KEY, where: arg1 == 7 }\n")
                .replace("KEY", "arg0"),
        )
        .unwrap();
        let program = tapster_ebpf::compile(&probe, &Target { kernel, ..world.target(1) }).unwrap();
        let mut vm = machine(&program);
        for (now, point, word) in [(10, "untyped", 0), (20, "stop", 6), (30, "stop", 7)] {
            vm.env.ktime_ns = now;
            let code = program.codes.iter().find(|code| code.at.to_string().ends_with(point)).unwrap();
            vm.load(&code.assembled.insns);
            vm.run(&context(&[1, word, 3])).unwrap();
        }
        let row = vm.map(map(ROWS)).get(&3_u64.to_le_bytes()).expect("the second end found the start");
        assert_eq!(row[..16], [1_u64.to_le_bytes(), 20_u64.to_le_bytes()].concat());
        let unmatched = vm.map(map(DROPS)).get(&DropReason::Unmatched.index().to_le_bytes()).unwrap();
        assert_eq!(u64::from_le_bytes(unmatched.try_into().unwrap()), 0);
    }
}

/// The place that a program finds for a key is the one that the other side computes.
#[test]
fn both_sides_compute_the_same_place() {
    let world = World::new();
    for key in ["arg0", "[arg0, arg1]"] {
        let program = program(key, false, KernelVersion(6, 1, 0), &world);
        let start = program.layout.start.as_ref().unwrap();
        let table = start.table.as_ref().unwrap();
        for seed in 0..200 {
            let mut random = Random(seed);
            let words = [random.value(), random.value()];
            let mut vm = machine(&program);
            vm.env.ktime_ns = 77;
            vm.load(&program.codes[0].assembled.insns);
            vm.run(&context(&[words[0], words[1], 3])).unwrap();
            let bytes: Vec<u8> =
                words.iter().flat_map(|word| word.to_le_bytes()).take(map(start.key_size)).collect();
            let place = u32::try_from(table.place(&bytes)).unwrap();
            let entry = vm.map(map(TABLE)).get(&place.to_le_bytes()).unwrap();
            assert_eq!(entry[..8], 77_u64.to_le_bytes(), "{key} {words:x?}");
            assert_eq!(entry[16..16 + bytes.len()], bytes, "{key} {words:x?}");
        }
    }
}
