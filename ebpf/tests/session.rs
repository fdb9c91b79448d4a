//! Both ends of the calls of many functions in one program, on the virtual machine: calls of several threads that call
//! themselves and each other, of which some never return or have no entry, against stacks kept by the test.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use std::collections::BTreeMap;
use support::{
    case::{self, parse},
    random::Random,
    world::World,
};
use tapster_ebpf::{
    attach::{Arch, Target},
    insn::{Insn, KernelFunction},
    layout::DropReason,
    probe::KernelVersion,
    program::{DROPS, Program, ROWS},
    vm::Environment,
};

const PROBE: &str = "
probes:
  - name: calls
    function: 'call_*'
    save: { first: arg0 }
    labels: { func: func, first: start.first, result: retval }
    metrics:
      - { counter: calls_total }
      - { counter: call_time_total, value: duration, unit: none }
";

fn program(text: &str, kernel: KernelVersion, arch: Arch) -> Program {
    let world = World::new();
    tapster_ebpf::compile(&parse(text).unwrap(), &Target { kernel, arch, ..world.target(1) }).unwrap()
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

/// A call under way.
struct Call {
    function: u64,
    first: u64,
    frame: u64,
    since: u64,
    /// What the kernel keeps for its return; `None` if it does not know of the entry.
    cookie: Option<[u8; 8]>,
}

/// Registers with these in them, and in the others what no program should use.
fn registers(arch: Arch, set: &[(u32, u64)]) -> Vec<u8> {
    let mut bytes = vec![0xc3; 272];
    for (at, value) in set {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    if arch == Arch::X86_64 {
        bytes.truncate(168);
    }
    bytes
}

#[test]
fn a_return_belongs_to_its_entry() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let program = program(PROBE, KernelVersion(6, 18, 0), arch);
        let session = program.session.as_ref().expect("the kernel has sessions");
        let mut deepest = 0;
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut vm = case::machine(&program, Environment { cpus: 1, ..Environment::default() });
            vm.load(&session.insns);
            let mut threads: Vec<Vec<Call>> = (0..3).map(|_| Vec::new()).collect();
            let mut expected: BTreeMap<Vec<u64>, [u64; 2]> = BTreeMap::new();
            let mut now = 1000;
            for _ in 0..600 {
                now += 1 + random.word() % 1000;
                vm.env.ktime_ns = now;
                let thread = random.below(threads.len());
                let calls = &mut threads[thread];
                if random.one_in(2) && calls.len() < 12 {
                    let above = calls
                        .last()
                        .map_or(0xffff_c900_0001_0000 + (thread as u64 * 0x10000), |call| call.frame);
                    // One may jump to the other instead of calling it, and then they share a frame.
                    let jumps = calls.last().is_some_and(|call| call.function == 0) && random.one_in(4);
                    let (function, frame) = if jumps {
                        (1, above)
                    } else {
                        (random.word() % 2, above - 16 - 8 * (random.word() % 3))
                    };
                    let first = random.word() % 3;
                    let mut call = Call { function, first, frame, since: now, cookie: None };
                    if !random.one_in(10) {
                        vm.env.is_return = false;
                        vm.env.cookie = function;
                        vm.env.session_cookie = [0xee; 8];
                        let (stack, argument) = (arch.stack_pointer(), arch.argument(0).unwrap());
                        vm.run(&registers(arch, &[(stack, frame), (argument, first)])).unwrap();
                        call.cookie = Some(vm.env.session_cookie);
                    }
                    calls.push(call);
                    deepest = deepest.max(calls.len());
                } else if let Some(Call { function, first, since, cookie: Some(cookie), .. }) = calls.pop() {
                    // A return that is missed leaves its start behind.
                    if random.one_in(10) {
                        continue;
                    }
                    let result = random.word() % 2;
                    vm.env.is_return = true;
                    vm.env.cookie = function;
                    vm.env.session_cookie = cookie;
                    vm.run(&registers(arch, &[(arch.result(), result)])).unwrap();
                    let row = expected.entry(vec![function, first, result]).or_default();
                    *row = [row[0] + 1, row[1] + now - since];
                }
            }
            let rows: BTreeMap<Vec<u64>, [u64; 2]> = vm
                .map(usize::try_from(ROWS).unwrap())
                .iter()
                .map(|(key, value)| (words(&key), words(&value).try_into().unwrap()))
                .collect();
            assert_eq!(rows, expected, "seed {seed}");
            for drop in DropReason::ALL {
                let counted =
                    vm.map(usize::try_from(DROPS).unwrap()).get(&drop.index().to_le_bytes()).unwrap();
                assert_eq!(words(&counted), [0], "{drop:?}, seed {seed}");
            }
        }
        assert!(deepest >= 10, "{deepest} calls in each other");
    }
}

#[test]
fn only_pairs_that_need_the_frame_of_several_functions_are_sessions() {
    let kernel = KernelVersion(6, 18, 0);
    let is_session = |text: &str| {
        let text = format!("probes:\n  - name: p\n{text}\n    metrics: [{{ counter: a_total }}]\n");
        program(&text, kernel, Arch::X86_64).session.is_some()
    };
    let pair = |start: &str, end: &str, key: &str| {
        is_session(&format!(
            "    start: {{ at: 'kprobe:{start}', key: {key} }}\n    end: {{ at: 'kretprobe:{end}', key: {key} }}"
        ))
    };
    assert!(is_session("    function: 'call_*'"));
    assert!(pair("call_*", "call_*", "frame"));
    assert!(pair("call_*", "call_*", "[frame, tid]"));
    // Without the frame two links do as well.
    assert!(!pair("call_*", "call_*", "tid"));
    // Others are at the end than at the start.
    assert!(!pair("call_*", "other_*", "frame"));
    assert!(!pair("call_first", "call_first", "frame"));
    assert!(!is_session("    function: call_first"));
    assert!(!is_session("    at: 'kretprobe:call_*'"));
}

/// What only its listing shows: the two codes as they are for two links, one after the other.
#[test]
fn the_program_begins_by_asking_for_the_end() {
    let program = program(PROBE, KernelVersion(6, 18, 0), Arch::X86_64);
    let session = program.session.unwrap();
    let calls: Vec<KernelFunction> = session
        .insns
        .iter()
        .filter_map(|insn| if let Insn::CallKernel(function, _) = insn { Some(*function) } else { None })
        .collect();
    let cookie = KernelFunction::SessionCookie;
    assert_eq!(calls, [KernelFunction::SessionIsReturn, cookie, cookie]);
    let exits = session.insns.iter().filter(|insn| **insn == Insn::Exit).count();
    assert_eq!(exits, 2);
    assert!(session.listing().contains("call bpf_session_cookie#"), "{}", session.listing());
    let jump = session
        .insns
        .iter()
        .find_map(|insn| if let Insn::JumpIf(.., distance) = insn { Some(*distance) } else { None });
    let entry: usize =
        session.insns[5..].iter().take_while(|insn| **insn != Insn::Exit).map(Insn::slots).sum::<usize>() + 1;
    assert_eq!(usize::try_from(jump.unwrap()).unwrap(), entry, "to the first instruction of the return");
}
