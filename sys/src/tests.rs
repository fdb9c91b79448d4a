//! Tests with the running kernel: maps and programs made here, by the same system call.

use super::{
    bpf::{self, Attributes, BpfCommand},
    mapping::{MapMemory, page_size},
    *,
};
use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tapster_ebpf::{
    insn::{Alu, Insn, R0, Size, Src},
    layout::TableLayout,
};

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_HASH: u32 = 5;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const QUEUE: u32 = 22;
/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;

#[derive(Default)]
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}
// SAFETY: numbers of one size only.
unsafe impl Attributes for MapCreate {}

#[derive(Default)]
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    count: u32,
    insns: u64,
    license: u64,
}
// SAFETY: numbers only, and none after a hole.
unsafe impl Attributes for ProgramLoad {}

/// Whether this process may use maps and programs; prints a line if not.
fn privileged() -> bool {
    let capabilities = Capabilities::of_process().unwrap();
    let enough = capabilities.has(Capability::SysAdmin)
        || capabilities.has(Capability::Bpf) && capabilities.has(Capability::Perfmon);
    if !enough {
        println!("skipped: needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN");
    }
    enough
}

fn create(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> OwnedFd {
    create_with(MapCreate { kind, key_size, value_size, max_entries, flags: 0 })
}

fn create_with(mut attributes: MapCreate) -> OwnedFd {
    // SAFETY: no addresses, and the command makes a descriptor.
    unsafe { bpf::bpf_fd(BpfCommand::MapCreate, &mut attributes) }.map_err(std::io::Error::from).unwrap()
}

fn map(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> Map {
    let fd = create(kind, key_size, value_size, max_entries);
    Map::open(fd.as_fd(), PossibleCpus::of_host().unwrap()).unwrap()
}

/// A raw tracepoint program that returns the sum of its first two arguments.
fn adder() -> OwnedFd {
    let insns: [u64; 5] = [
        0x0000_0000_0000_1079, // r0 = *(u64 *)(r1 + 0)
        0x0000_0000_0008_1279, // r2 = *(u64 *)(r1 + 8)
        0x0000_0000_0000_200f, // r0 += r2
        0x0000_0000_0000_00bf, // r0 = r0
        0x0000_0000_0000_0095, // exit
    ];
    let mut attributes =
        ProgramLoad { kind: 17, count: 5, insns: insns.as_ptr() as u64, license: c"GPL".as_ptr() as u64 };
    // SAFETY: both addresses are valid for the call, and the command makes a descriptor.
    unsafe { bpf::bpf_fd(BpfCommand::ProgramLoad, &mut attributes) }.map_err(std::io::Error::from).unwrap()
}

fn rows(dump: &Dump) -> HashMap<Vec<u8>, Vec<u8>> {
    let rows: HashMap<_, _> = dump.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(rows.len(), dump.len(), "a key came twice");
    rows
}

#[test]
fn every_kind_of_map_gives_back_what_was_put_in() {
    if !privileged() {
        return;
    }
    // Keys of 12 bytes and values of 5 reveal missing rounding.
    for (kind, key_size, count) in [
        (HASH, 12, 3000),
        (PERCPU_HASH, 12, 3000),
        (LRU_HASH, 12, 20),
        (ARRAY, 4, 3000),
        (PERCPU_ARRAY, 4, 3000),
    ] {
        let map = map(kind, key_size, 5, 3000);
        let mut expected = HashMap::new();
        for number in 0..count {
            let mut key = u32::to_ne_bytes(number).to_vec();
            key.resize(map.key_size(), 0xee);
            let mut value = vec![0; map.value_size()];
            for (index, cpu) in value.chunks_mut(8).enumerate() {
                cpu[..4].copy_from_slice(&(number * 7 + u32::try_from(index).unwrap()).to_ne_bytes());
            }
            map.update(&key, &value).unwrap();
            expected.insert(key, value);
        }
        for dump in [map.dump().unwrap(), map.dump_by(None).unwrap()] {
            assert!(dump.complete && !dump.is_empty());
            assert!(rows(&dump) == expected, "map type {kind}");
        }
        let (key, value) = expected.iter().next().unwrap();
        assert_eq!(map.lookup(key).unwrap().as_ref(), Some(value));
        assert!(map_memory(map.as_fd()).is_some_and(|bytes| bytes > 0));
    }
}

#[test]
fn elements_come_and_go() {
    if !privileged() {
        return;
    }
    let map = map(HASH, 4, 8, 4);
    assert!(map.dump().unwrap().is_empty());
    assert!(map.dump_by(None).unwrap().is_empty());
    assert_eq!(map.lookup(&[1; 4]).unwrap(), None);
    map.update(&[1; 4], &[2; 8]).unwrap();
    assert_eq!(map.lookup(&[1; 4]).unwrap(), Some(vec![2; 8]));
    assert!(map.delete(&[1; 4]).unwrap());
    assert!(!map.delete(&[1; 4]).unwrap());
}

#[test]
fn wrong_lengths_never_reach_the_kernel() {
    if !privileged() {
        return;
    }
    let map = map(HASH, 4, 8, 4);
    assert_eq!(map.lookup(&[1; 3]).unwrap_err().to_string(), "a key of this map has 4 bytes, not 3");
    assert!(map.delete(&[1; 5]).is_err());
    assert!(map.update(&[1; 5], &[0; 8]).is_err());
    assert!(map.update(&[1; 4], &[0; 7]).is_err());
}

#[test]
fn refusals_name_the_command() {
    if !privileged() {
        return;
    }
    let error = map(ARRAY, 4, 8, 4).delete(&[0; 4]).unwrap_err().to_string();
    assert!(error.starts_with("bpf(BPF_MAP_DELETE_ELEM): "), "{error}");
    let cpus = PossibleCpus::of_host().unwrap();
    let error = Map::open(create(QUEUE, 0, 8, 4).as_fd(), cpus).unwrap_err().to_string();
    assert_eq!(error, "map type 22 is neither a hash nor an array");
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let error = Map::open(file.as_fd(), cpus).unwrap_err().to_string();
    assert!(error.starts_with("bpf(BPF_OBJ_GET_INFO_BY_FD): "), "{error}");
}

#[test]
fn a_bucket_larger_than_a_batch_makes_the_batch_grow() {
    if !privileged() {
        return;
    }
    // Some of 700 keys in 1024 buckets share one.
    let map = map(HASH, 4, 8, 700);
    for number in 0..700_u32 {
        map.update(&number.to_ne_bytes(), &u64::from(number).to_ne_bytes()).unwrap();
    }
    for room in [1, 2, 64] {
        let rows = rows(&map.dump_by(Some(room)).unwrap());
        assert_eq!(rows.len(), 700);
        assert!(rows.iter().all(|(key, value)| key[..] == value[..4]));
    }
}

#[test]
fn a_dump_of_a_changing_map_has_all_that_stayed() {
    if !privileged() {
        return;
    }
    for kind in [HASH, PERCPU_HASH] {
        let map = map(kind, 4, 8, 4096);
        for number in 0..1000_u32 {
            map.update(&number.to_ne_bytes(), &vec![1; map.value_size()]).unwrap();
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let value = vec![2; map.value_size()];
                while !stop.load(Ordering::Relaxed) {
                    for number in 1000..4000_u32 {
                        map.update(&number.to_ne_bytes(), &value).unwrap();
                    }
                    for number in 1000..4000_u32 {
                        map.delete(&number.to_ne_bytes()).unwrap();
                    }
                }
            });
            let result = std::panic::catch_unwind(|| {
                for _ in 0..100 {
                    let dump = map.dump().unwrap();
                    assert!(dump.complete);
                    let rows = rows(&dump);
                    for number in 0..1000_u32 {
                        assert_eq!(rows[&number.to_ne_bytes()[..]], vec![1; map.value_size()], "{number}");
                    }
                }
                // Key by key it may give up, but must never hang or repeat.
                let complete = (0..20).filter(|_| {
                    let dump = map.dump_by(None).unwrap();
                    rows(&dump);
                    dump.complete
                });
                println!("map type {kind}: {} of 20 walks by key were complete", complete.count());
            });
            stop.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

#[test]
fn a_program_runs_on_given_arguments() {
    if !privileged() {
        return;
    }
    let program = adder();
    assert_eq!(prog_test_run_raw_tp(program.as_fd(), &[40, 2]).unwrap(), 42);
    let error = prog_test_run_raw_tp(program.as_fd(), &[40]).unwrap_err().to_string();
    assert!(error.starts_with("bpf(BPF_PROG_TEST_RUN): "), "{error}");
}

#[test]
fn runs_are_counted_while_statistics_are_on() {
    if !privileged() {
        return;
    }
    let program = adder();
    let before = prog_info(program.as_fd()).unwrap();
    assert!(before.id > 0 && before.memory_bytes > 0);
    assert_eq!(before.xlated_insns, 5);
    let statistics = enable_run_stats().unwrap();
    for _ in 0..10 {
        prog_test_run_raw_tp(program.as_fd(), &[1, 2]).unwrap();
    }
    let after = prog_info(program.as_fd()).unwrap();
    assert!(after.runs >= before.runs + 10 && after.run_ns > before.run_ns, "{before:?} {after:?}");
    assert_eq!(after.missed, 0);
    drop(statistics);
}

/// How long reading 10 000 rows takes; printed, not judged.
#[test]
#[ignore = "a measurement"]
fn dump_10_000_rows() {
    if !privileged() {
        return;
    }
    let map = map(PERCPU_HASH, 32, 27 * 8, 10_000);
    let value = vec![1; map.value_size()];
    for number in 0..10_000_u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_ne_bytes());
        map.update(&key, &value).unwrap();
    }
    for _ in 0..3 {
        let start = monotonic_ns();
        let dump = map.dump().unwrap();
        let batches = monotonic_ns() - start;
        let by_key = map.dump_by(None).unwrap();
        let keys = monotonic_ns() - start - batches;
        assert_eq!(dump.len(), by_key.len());
        println!("{} rows: {} us in batches, {} us key by key", dump.len(), batches / 1000, keys / 1000);
    }
}

#[test]
fn a_start_is_read_whole_or_not_at_all() {
    const FREE: u64 = 0;
    const CLAIMED: u64 = 1;
    const LOOKS: u64 = 200_000;
    const WORDS: usize = 6;
    if !privileged() {
        return;
    }
    let fd =
        create_with(MapCreate { kind: ARRAY, key_size: 4, value_size: 64, max_entries: 2, flags: MMAPABLE });
    let layout = TableLayout { bits: 1, entry_size: 64, spread: vec![u64::MAX] };
    let table = StartTable::open(fd.as_fd(), &layout).unwrap();
    let programs = MapMemory::new(fd.as_fd(), 0, page_size().unwrap(), true).unwrap();
    let (done, mut read, mut torn) = (AtomicBool::new(false), 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Like programs: each start has another time, with that time in every word.
            for time in 2.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let claim = |from| {
                    let first = programs.word(0);
                    first.compare_exchange(from, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).unwrap();
                };
                claim(FREE);
                for word in 2..2 + WORDS {
                    programs.word(word * 8).store(time, Ordering::Relaxed);
                }
                programs.word(0).store(time, Ordering::Release);
                claim(time);
                programs.word(0).store(FREE, Ordering::Release);
            }
        });
        let mut looks = 0;
        // On one processor, threads may take turns so that many reads see little.
        while looks < LOOKS || read < 20 && looks < 100 * LOOKS {
            looks += 1;
            table.waiting(|entry, since, bytes| {
                // Not asserted here: the other thread would go on without this one.
                let is_whole = (entry, bytes) == (0, [since.to_ne_bytes(); WORDS].concat().as_slice());
                torn += usize::from(!is_whole);
                read += 1;
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(read > 0);
    assert_eq!(torn, 0, "of {read} starts that were read, with words of another");
}

#[test]
fn a_log_without_room_is_asked_for_again() {
    if !privileged() {
        return;
    }
    // Each instruction has a line in the log, and the refused one is last.
    let mut insns = vec![Insn::Alu64(Alu::Mov, R0, Src::Imm(0)); 100];
    insns.extend([Insn::Load(Size::DW, R0, R0, 0), Insn::Exit]);
    let log = |sizes: &[usize]| {
        let loaded = load::load_with_logs("refused", ProgramKind::RawTracepoint, &insns, &[], sizes);
        loaded.unwrap_err().log
    };
    let whole = log(&[1 << 16]);
    assert!(whole.len() > 1000 && whole.contains("R0 invalid mem access"), "{whole}");
    assert!(log(&[256]).len() <= 256);
    assert_eq!(log(&[256, 1 << 16]), whole);
}
