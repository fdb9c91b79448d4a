//! Stacks as compiled programs keep them: run by the virtual machine on stacks that the test has made.

#![allow(clippy::unwrap_used, missing_docs, reason = "a panic is a test's report")]

use tapster_testing::compiler as support;

use std::collections::{BTreeMap, BTreeSet};
use support::{case, world::World};
use tapster_ebpf::{
    check,
    host::HostFacts,
    layout::DropReason,
    lower,
    probe::KernelVersion,
    program::{DROPS, Program, ROWS},
    typed::{LOST_STACK, NO_STACK, Side},
    vm::{Environment, Vm},
};

const KERNELS: [KernelVersion; 2] = [KernelVersion(5, 10, 0), KernelVersion(6, 18, 0)];

/// A probe with these labels, compiled for a kernel, and a machine to run it.
fn machine(labels: &str, more: &str, kernel: KernelVersion) -> (Program, Vm) {
    let world = World::new();
    let target = world.target(2);
    let yaml = format!(
        "probes:\n  - name: case\n    at: rawtracepoint:test:typed\n{more}    labels: {{ {labels} }}\n    metrics: [{{ counter: case_total }}]\n"
    );
    let typed = check::check(&case::parse(&yaml).unwrap(), &target).unwrap();
    let program = lower::lower(typed, HostFacts { kernel, ..HostFacts::of(&target) }).unwrap();
    let vm = case::machine(&program, Environment::default());
    (program, vm)
}

fn run(vm: &mut Vm) {
    vm.run(&[0; 80]).unwrap();
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Rows by their labels as numbers, with their count.
fn rows(vm: &Vm) -> BTreeMap<Vec<u64>, u64> {
    let map = vm.map(usize::try_from(ROWS).unwrap());
    let numbers = |key: &[u8]| key.chunks_exact(8).map(|part| word(part, 0)).collect();
    map.iter()
        .map(|(key, _)| {
            let count = (0..2).filter_map(|cpu| map.get_cpu(&key, cpu)).map(|row| word(row, 0)).sum();
            (numbers(&key), count)
        })
        .collect()
}

/// What is kept under a number: the process, and the frames' bytes.
fn kept(program: &Program, vm: &Vm, side: Side, number: u64) -> (u32, Vec<u8>) {
    let stacks = program.layout.stacks.iter().find(|stacks| stacks.side == side).unwrap();
    let map = vm.map(usize::try_from(program.map_named(stacks.map()).unwrap()).unwrap());
    let value = map.get_cpu(&number.to_le_bytes(), 0).unwrap();
    let header = word(value, 0);
    let length = usize::try_from(header >> 32).unwrap();
    (u32::try_from(header & 0xffff_ffff).unwrap(), value[8..8 + length].to_vec())
}

fn drops(vm: &Vm, reason: DropReason) -> u64 {
    let map = vm.map(usize::try_from(DROPS).unwrap());
    let key = reason.index().to_le_bytes();
    (0..2).filter_map(|cpu| map.get_cpu(&key, cpu)).map(|value| word(value, 0)).sum()
}

fn addresses(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|address| word(address, 0)).collect()
}

#[test]
fn a_named_stack_that_nothing_uses_takes_no_memory() {
    let named = "    let: { stack: kstack }\n";
    for (labels, maps) in [("pid: pid", 0), ("stack: stack", 1)] {
        let (program, _) = machine(labels, named, KERNELS[1]);
        assert_eq!(program.layout.stacks.len(), maps, "{labels}");
    }
}

#[test]
fn a_stack_is_kept_once_under_one_number() {
    for kernel in KERNELS {
        let (program, mut vm) = machine("stack: kstack", "", kernel);
        let stacks: [&[u64]; 4] = [&[1, 2, 3], &[1, 2], &[3, 2, 1], &[0xffff_ffff_8100_0000]];
        for (times, stack) in (1..).zip(stacks) {
            vm.env.kernel_stack = stack.to_vec();
            for cpu in [0, 1] {
                vm.env.cpu = cpu;
                (0..times).for_each(|_| run(&mut vm));
            }
        }
        let rows = rows(&vm);
        assert_eq!(rows.len(), 4, "{rows:?}");
        let mut counts: Vec<(Vec<u64>, u64)> = rows
            .iter()
            .map(|(key, count)| (addresses(&kept(&program, &vm, Side::Kernel, key[0]).1), *count))
            .collect();
        counts.sort_by_key(|(_, count)| *count);
        let expected: Vec<(Vec<u64>, u64)> =
            (1..).zip(stacks).map(|(times, stack)| (stack.to_vec(), 2 * times)).collect();
        assert_eq!(counts, expected);
        assert!(rows.keys().all(|key| key[0] > LOST_STACK));
    }
}

#[test]
fn no_stack_is_a_number_of_its_own() {
    let (_, mut vm) = machine("stack: kstack, user: ustack", "", KERNELS[0]);
    run(&mut vm);
    assert_eq!(rows(&vm), BTreeMap::from([(vec![NO_STACK, NO_STACK], 1)]));
    // The memory of the CPU was given free.
    vm.env.kernel_stack = vec![7];
    run(&mut vm);
    assert_eq!(rows(&vm).len(), 2);
    assert_eq!(drops(&vm, DropReason::Busy), 0);
}

#[test]
fn frames_are_limited_and_what_was_there_before_is_no_part_of_a_stack() {
    let (program, mut vm) = machine("short: kstack(2), long: kstack(20)", "", KERNELS[1]);
    let shown = |program: &Program, vm: &Vm, key: &[u64]| {
        key.iter()
            .map(|number| addresses(&kept(program, vm, Side::Kernel, *number).1).len())
            .collect::<Vec<_>>()
    };
    vm.env.kernel_stack = (1..=40).collect();
    run(&mut vm);
    let first: Vec<Vec<u64>> = rows(&vm).into_keys().collect();
    // The frames of the way to the program come on top.
    assert_eq!(shown(&program, &vm, &first[0]), [10, 28]);
    vm.env.kernel_stack = vec![1];
    run(&mut vm);
    let second = rows(&vm).into_keys().find(|key| *key != first[0]).unwrap();
    assert_eq!(shown(&program, &vm, &second), [1, 1]);
    assert_eq!(second[0], second[1], "one stack has one number, whatever its limit");
}

#[test]
fn stacks_of_programs_are_told_apart_by_process_only_where_they_hold_addresses() {
    let by_file = |offset: u64| [0x0403_0201_0000_0001, 5, 6, offset];
    let by_address = |address: u64| [2, 0, 0, address];
    for kernel in KERNELS {
        let (program, mut vm) = machine("stack: ustack", "", kernel);
        let mut run_as = |stack: Vec<[u64; 4]>, process: u64| {
            vm.env.user_stack = stack;
            vm.env.pid_tgid = (process << 32) + 77;
            run(&mut vm);
        };
        for process in [10, 11] {
            run_as(vec![by_file(0x100), by_file(0x200)], process);
            run_as(vec![by_file(0x100), by_address(0x7000)], process);
        }
        let mut found: Vec<(u32, usize, u64)> = rows(&vm)
            .into_iter()
            .map(|(key, count)| {
                let (process, frames) = kept(&program, &vm, Side::User, key[0]);
                (process, frames.len(), count)
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, [(0, 64, 2), (10, 64, 1), (11, 64, 1)]);
    }
}

#[test]
fn what_does_not_fit_is_counted_under_a_number_of_its_own() {
    let (_, mut vm) = machine("stack: kstack", "    max_series: 12\n", KERNELS[1]);
    for stack in 1..=30 {
        vm.env.kernel_stack = vec![stack];
        run(&mut vm);
    }
    // Known ones go on.
    vm.env.kernel_stack = vec![1];
    run(&mut vm);
    let rows = rows(&vm);
    assert_eq!(rows.len(), 11, "ten stacks, and the rest");
    assert_eq!(rows[&vec![LOST_STACK]], 20);
    assert_eq!(rows.values().sum::<u64>(), 31, "every event is counted");
    assert_eq!((drops(&vm, DropReason::Stack), drops(&vm, DropReason::Series)), (20, 0));
}

#[test]
fn what_does_not_fit_has_rows_also_where_other_labels_tell_it_apart() {
    let (_, mut vm) = machine("stack: kstack, processor: cpu", "    max_series: 16\n", KERNELS[1]);
    for (cpu, stacks) in [(0, 1..=30), (1, 13..=30)] {
        vm.env.cpu = cpu;
        for stack in stacks {
            vm.env.kernel_stack = vec![stack];
            run(&mut vm);
        }
    }
    let rows = rows(&vm);
    assert_eq!(rows.len(), 14, "twelve stacks, and the rest of each processor");
    assert_eq!([rows[&vec![LOST_STACK, 0]], rows[&vec![LOST_STACK, 1]]], [18, 18]);
    assert_eq!((drops(&vm, DropReason::Stack), drops(&vm, DropReason::Series)), (36, 0));
}

#[test]
fn memory_in_use_is_left_alone() {
    for kernel in KERNELS {
        let (program, mut vm) = machine("stack: kstack", "", kernel);
        let scratch =
            usize::try_from(program.map_named(program.layout.stacks[0].scratch()).unwrap()).unwrap();
        // Of all CPUs; the first is in use.
        let mut value = vm.map(scratch).get(&[0; 4]).unwrap();
        value[0] = 1;
        vm.map_mut(scratch).insert(&[0; 4], &value).unwrap();
        vm.env.kernel_stack = vec![1, 2];
        run(&mut vm);
        assert_eq!(rows(&vm), BTreeMap::from([(vec![LOST_STACK], 1)]));
        assert_eq!(drops(&vm, DropReason::Busy), 1);
        assert_eq!(vm.map(scratch).get(&[0; 4]).unwrap(), value);
        // That of another CPU is free.
        vm.env.cpu = 1;
        run(&mut vm);
        assert_eq!(rows(&vm).len(), 2);
    }
}

#[test]
fn a_stack_is_taken_only_where_it_is_wanted() {
    let (_, mut vm) = machine("stack: 'tid > 5 ? kstack : 0'", "", KERNELS[1]);
    vm.env.kernel_stack = vec![9];
    for thread in [1, 6] {
        vm.env.pid_tgid = thread;
        run(&mut vm);
    }
    let rows = rows(&vm);
    assert_eq!((rows.len(), rows[&vec![NO_STACK]]), (2, 1));
}

#[test]
fn numbers_do_not_meet() {
    // Stacks that differ in little: one bit, the order, the length, zeros.
    let (_, mut vm) = machine("stack: kstack", "    max_series: 100000\n", KERNELS[1]);
    let mut stacks: BTreeSet<Vec<u64>> = BTreeSet::new();
    for bit in 0..64 {
        for length in 1..4 {
            for place in 0..length {
                let mut stack = vec![0xffff_ffff_8123_4560; length];
                stack[place] ^= 1 << bit;
                stacks.insert(stack);
                let mut stack = vec![0; length];
                stack[place] = 1 << bit;
                stacks.insert(stack);
            }
        }
    }
    for stack in &stacks {
        vm.env.kernel_stack = stack.clone();
        run(&mut vm);
    }
    assert_eq!(rows(&vm).len(), stacks.len());
}
