//! Stacks, with a kernel's symbols from a file and frames that the test makes.

use super::super::stack::{StackDecoder, StackLookup};
use super::*;
use crate::symbol::Symbols;
use std::collections::HashMap;
use tapster_ebpf::typed::Side;

const KALLSYMS: &str = "\
ffffffff81000100 T inner
ffffffff81000200 T middle
ffffffff81000300 T outer
ffffffff81000400 T __traceiter_event
ffffffff81000500 T bpf_trace_run2
ffffffff81000600 T schedule
ffffffffc0000000 t bpf_prog_6deef7357e7b4530_tap\t[bpf]
ffffffffc0001000 t disk_read\t[disk]
";

/// Stacks by their number; the high half of the first word is their length.
fn kept(stacks: &[(u64, &[u64])]) -> StackLookup {
    let stacks: HashMap<u64, Vec<u8>> = stacks
        .iter()
        .map(|(number, frames)| {
            let length = 8 * u64::try_from(frames.len()).expect("a few");
            let words = [length << 32].into_iter().chain(frames.iter().copied()).chain([0xdead; 3]);
            (*number, words.flat_map(u64::to_le_bytes).collect())
        })
        .collect();
    Box::new(move |number| Ok(stacks.get(&number).cloned()))
}

fn decoder(fixture: &Fixture, frames: u32, stacks: &[(u64, &[u64])]) -> StackDecoder {
    let symbols = Arc::new(Symbols::new(&fixture.host()));
    symbols.want_kernel().expect("kallsyms is there");
    StackDecoder::new(Side::Kernel, frames, kept(stacks), symbols)
}

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("proc/kallsyms", KALLSYMS);
    fixture.write("proc/modules", "disk 4096 1 - Live 0xffffffffc0001000\n");
    fixture
}

const INNER: u64 = 0xffff_ffff_8100_0100;

#[test]
fn functions_stand_outermost_first() {
    let fixture = fixture();
    let stacks: [(u64, &[u64]); 4] = [
        // A call that does not return is the last of its function: the place behind it is in the next.
        (7, &[INNER, INNER + 0x200, INNER + 0x210]),
        (8, &[0xffff_ffff_c000_1010, 0x1234, INNER + 0x250]),
        // How the kernel reached the program is not shown.
        (9, &[0xffff_ffff_c000_0020, INNER + 0x410, INNER + 0x310, INNER + 0x510, INNER + 0x10]),
        (10, &[]),
    ];
    let mut stack = decoder(&fixture, 127, &stacks);
    for (number, expected) in [
        (0, ""),
        (1, "~lost"),
        (7, "outer;middle;inner"),
        (8, "outer;[unknown];disk_read"),
        (9, "inner;schedule"),
        (10, ""),
        (11, "~lost"),
    ] {
        assert_eq!(text(&mut stack, number), expected, "{number}");
    }
}

#[test]
fn as_many_are_shown_as_were_asked_for() {
    let fixture = fixture();
    let stacks: [(u64, &[u64]); 1] =
        [(9, &[0xffff_ffff_c000_0020, INNER + 0x410, INNER + 0x510, INNER + 0x110, INNER + 0x210])];
    assert_eq!(text(&mut decoder(&fixture, 2, &stacks), 9), "middle;schedule");
    assert_eq!(text(&mut decoder(&fixture, 1, &stacks), 9), "schedule");
}

#[test]
fn a_stack_keeps_its_text() {
    let fixture = fixture();
    let stacks: [(u64, &[u64]); 2] = [(7, &[0xffff_ffff_c000_1010]), (8, &[0xffff_ffff_c000_1020])];
    let mut stack = decoder(&fixture, 127, &stacks);
    assert_eq!(text(&mut stack, 7), "disk_read");
    // Another module comes to the same place.
    fixture.write("proc/kallsyms", &KALLSYMS.replace("disk_read", "net_poll"));
    fixture.write("proc/modules", "net 4096 1 - Live 0xffffffffc0001000\n");
    stack.refresh(&Arc::default());
    assert_eq!((text(&mut stack, 7), text(&mut stack, 8)), ("disk_read".into(), "net_poll".into()));
}

#[test]
fn a_long_text_begins_where_it_was_cut() {
    let fixture = fixture();
    let frames = [INNER; 127].map(|address| address + 0x510);
    let mut stack = decoder(&fixture, 127, &[(7, &frames)]);
    assert_eq!(text(&mut stack, 7).split(';').count(), 127, "9 bytes each are not too much");
    let name = "a_name_of_forty_bytes_or_so_is_no_rarity";
    fixture.write("proc/kallsyms", &KALLSYMS.replace("schedule", name));
    let mut stack = decoder(&fixture, 127, &[(7, &frames)]);
    let text = text(&mut stack, 7);
    assert!(text.starts_with(&format!("~cut;{name};")) && text.ends_with(name), "{text}");
    assert!((2000..=2048).contains(&text.len()), "{} bytes", text.len());
}
