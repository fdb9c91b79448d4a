//! Functions of programs: this process and its own addresses.

use super::super::usym::UsymDecoder;
use super::*;
use crate::symbol::Symbols;
use std::{os::unix::fs::symlink, time::Duration};

fn raw(address: u64, process: u32) -> Vec<u8> {
    [address, process.into()].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An address that is known by its name.
#[inline(never)]
fn known_function() -> u64 {
    std::hint::black_box(7)
}

#[test]
fn functions_of_this_process() {
    let symbols = Arc::new(Symbols::new(&Host::default()));
    let mut decoder = UsymDecoder::new(&Host::default(), &symbols);
    symbols.begin();
    let own = std::process::id();
    let function = u64::try_from(known_function as *const () as usize).expect("an address");
    // Symbols may come at a later scrape.
    let name = (0..100).find_map(|_| {
        decoder.refresh(&Arc::default());
        let name = decoder.decode(&raw(function, own)).expect("shown");
        if name.contains("known_function") {
            return Some(name);
        }
        std::thread::sleep(Duration::from_millis(100));
        None
    });
    assert!(name.is_some(), "{:?}", decoder.decode(&raw(function, own)));
    let data = u64::try_from(std::ptr::from_ref(&symbols) as usize).expect("an address");
    assert_eq!(decoder.decode(&raw(data, own)).as_deref(), Some("[unknown]"), "a place on the stack");
    assert_eq!(decoder.decode(&raw(0, own)).as_deref(), Some("none"));
    assert_eq!(
        decoder.decode(&raw(0xffff_ffff_8100_0000, own)).as_deref(),
        Some("[unknown]"),
        "the kernel's"
    );
    assert_eq!(decoder.decode(&raw(function, 0)).as_deref(), Some("[unknown]"), "of no process");
    assert_eq!(decoder.decode(&[1, 2, 3]), None, "too short to be an address and a process");
}

#[test]
fn rows_of_processes_that_have_ended_leave_the_map() {
    let fixture = Fixture::new();
    fixture.directory("proc/1/ns");
    symlink("pid:[4026531836]", fixture.path("proc/1/ns/pid")).expect("a new link");
    fixture.directory("proc/20");
    let symbols = Arc::new(Symbols::new(&fixture.host()));
    let mut decoder = UsymDecoder::new(&fixture.host(), &symbols);
    let (living, ended, null) = (raw(0x1000, 20), raw(0x1000, 21), raw(0, 21));
    assert!(!decoder.is_gone(&ended), "it has no text yet");
    let gone = |decoder: &mut UsymDecoder| [&living, &ended, &null].map(|row| decoder.is_gone(row));
    decoder.texts.insert((0x1000, 20), "f".into());
    decoder.texts.insert((0x1000, 21), "f".into());
    assert_eq!(gone(&mut decoder), [false, true, true]);
    decoder.forget_gone();
    assert!(!decoder.is_gone(&ended), "another may have its number");
    fs::remove_dir_all(fixture.path("proc/20")).expect("it is there");
    assert!(!decoder.is_gone(&living), "until the next look");
    decoder.look();
    assert!(decoder.is_gone(&living));
    assert!(!decoder.is_gone(&[1, 2, 3]));
}

#[test]
fn where_processes_have_other_numbers_no_row_leaves_the_map() {
    let fixture = Fixture::new();
    fixture.directory("proc/1/ns");
    symlink("pid:[4026532999]", fixture.path("proc/1/ns/pid")).expect("a new link");
    let mut decoder = UsymDecoder::new(&fixture.host(), &Arc::new(Symbols::new(&fixture.host())));
    decoder.texts.insert((0x1000, 21), "f".into());
    assert!(!decoder.is_gone(&raw(0x1000, 21)) && !decoder.is_gone(&raw(0, 21)));
}
