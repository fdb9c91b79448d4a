//! Files that are made to harm their reader: for each, reading returns a result or an error within its budget.

use super::{
    FileSymbols, ReadLimits, Unread,
    budget::Budget,
    build_id,
    image::{ByteSource, Image},
    name::{Name, short},
};
use std::{
    cell::Cell,
    io,
    time::{Duration, Instant},
};

/// Bytes of headers and of a symbol of 64 bits.
const HEADER: usize = 64;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
/// The offset and size of the code of the only segment.
const CODE: u64 = 0x1000;
const LENGTH: u64 = 0x1000;

/// The header of a section: kind, offset, size, link.
type SectionHeader = (u32, u64, u64, u32);

/// A file of 64 bits with one segment and these sections behind the first, then these bytes from `bodies_at` on.
fn file(sections: &[SectionHeader], bodies: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let half = |bytes: &mut Vec<u8>, number: u16| bytes.extend(number.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, number: u32| bytes.extend(number.to_le_bytes());
    let long = |bytes: &mut Vec<u8>, number: u64| bytes.extend(number.to_le_bytes());
    let count = u16::try_from(sections.len() + 1).unwrap();
    half(&mut bytes, 3);
    half(&mut bytes, 62);
    word(&mut bytes, 1);
    for number in [0, 64, 120] {
        long(&mut bytes, number);
    }
    word(&mut bytes, 0);
    for number in [64, 56, 1, 64, count, 0] {
        half(&mut bytes, number);
    }
    // A segment that is loaded and executed.
    for number in [1, 5] {
        word(&mut bytes, number);
    }
    for number in [0, CODE, CODE, LENGTH, LENGTH, 0x1000] {
        long(&mut bytes, number);
    }
    bytes.resize(bytes.len() + SECTION, 0);
    for (kind, offset, size, link) in sections {
        for number in [0, *kind] {
            word(&mut bytes, number);
        }
        for number in [0, 0, *offset, *size] {
            long(&mut bytes, number);
        }
        for number in [*link, 0] {
            word(&mut bytes, number);
        }
        for number in [4, 24] {
            long(&mut bytes, number);
        }
    }
    assert_eq!(bytes.len(), usize::try_from(bodies_at(sections.len())).unwrap());
    bytes.extend(bodies);
    bytes
}

/// Where the data behind the headers begins.
fn bodies_at(sections: usize) -> u64 {
    u64::try_from(HEADER + 56 + SECTION * (1 + sections)).unwrap()
}

/// A function's symbol.
fn symbol(name: u32, address: u64) -> Vec<u8> {
    let mut bytes = name.to_le_bytes().to_vec();
    bytes.extend([0x12, 0, 1, 0]);
    bytes.extend(address.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    assert_eq!(bytes.len(), SYMBOL);
    bytes
}

/// A file with these symbols and names.
fn named(symbols: &[u8], names: &[u8]) -> Vec<u8> {
    let at = bodies_at(2);
    let (length, rest) = (u64::try_from(symbols.len()).unwrap(), u64::try_from(names.len()).unwrap());
    file(&[(2, at, length, 2), (3, at + length, rest, 0)], &[symbols, names].concat())
}

/// Bytes followed by a number of zeros; counts the bytes that were read.
struct Sparse {
    bytes: Vec<u8>,
    length: u64,
    read: Cell<u64>,
}

impl Sparse {
    fn new(bytes: Vec<u8>, length: u64) -> Self {
        Self { bytes, length, read: Cell::new(0) }
    }
}

impl ByteSource for Sparse {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read.set(self.read.get() + u64::try_from(buffer.len()).unwrap());
        let at = usize::try_from(offset).unwrap();
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = self.bytes.get(at + index).copied().unwrap_or(0);
        }
        Ok(())
    }
}

fn reason(found: Result<FileSymbols, Unread>) -> String {
    match found {
        Ok(symbols) => format!("{} bytes", symbols.memory()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_file_as_it_should_be_is_read() {
    let symbols = [symbol(1, CODE + 16), symbol(6, CODE + 17)].concat();
    let bytes = named(&symbols, b"\0main\0rest\0");
    let read = FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK).unwrap();
    assert_eq!((read.at(16), read.at(17), read.at(18)), (Some("main"), Some("rest"), None));
}

#[test]
fn what_is_promised_is_not_taken_for_there() {
    // Beyond the end of the file.
    let bytes = file(&[(2, bodies_at(2), 4 << 30, 2), (3, bodies_at(2), 8, 0)], &[0; 64]);
    assert_eq!(reason(FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK)), "it is shorter than it says");
    // All there, with a hole.
    let sparse = Sparse::new(bytes, 8 << 30);
    assert_eq!(reason(FileSymbols::read(&sparse, ReadLimits::STACK)), "it has too many symbols");
    assert!(sparse.read.get() <= ReadLimits::STACK.bytes, "{}", sparse.read.get());
    // Offsets that overflow.
    for (offset, size) in [(u64::MAX, 48), (u64::MAX - 8, 24), (8, u64::MAX)] {
        let bytes = file(&[(2, offset, size, 2), (3, offset, size, 0)], &[]);
        assert!(FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK).is_err(), "{offset:#x} {size:#x}");
    }
}

#[test]
fn more_sections_than_any_program_has_are_not_read() {
    let mut bytes = file(&[], &[]);
    bytes[60..62].copy_from_slice(&u16::MAX.to_le_bytes());
    let sparse = Sparse::new(bytes.clone(), 1 << 40);
    assert_eq!(reason(FileSymbols::read(&sparse, ReadLimits::STACK)), "it has too many sections");
    // As many as the first section says.
    bytes[60..62].copy_from_slice(&0_u16.to_le_bytes());
    bytes[120 + 32..120 + 40].copy_from_slice(&u64::MAX.to_le_bytes());
    let sparse = Sparse::new(bytes, 1 << 40);
    assert_eq!(reason(FileSymbols::read(&sparse, ReadLimits::STACK)), "it has too many sections");
    assert!(sparse.read.get() < 1024, "{}", sparse.read.get());
    let mut bytes = file(&[], &[]);
    bytes[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(
        reason(FileSymbols::read(&Sparse::new(bytes, 1 << 40), ReadLimits::STACK)),
        "it has too many segments"
    );
}

#[test]
fn names_that_overlap_cost_no_more_than_others() {
    let text = [vec![b'n'; 4000], vec![0]].concat();
    // Each name is that of the one before without its first byte; all of them, twelve times, would be 96 MB.
    let symbols: Vec<u8> =
        (0..48_000_u32).flat_map(|index| symbol(index % 3999, CODE + u64::from(index) % LENGTH)).collect();
    let limits = ReadLimits { memory: 4 << 20, ..ReadLimits::STACK };
    let read = reason(FileSymbols::read(&named(&symbols, &text).as_slice(), limits));
    assert_eq!(read, "the names of its functions take too much memory");
    // One that never ends is none.
    let endless = vec![b'n'; 100_000];
    let read = FileSymbols::read(&named(&symbol(0, CODE), &endless).as_slice(), ReadLimits::STACK).unwrap();
    assert_eq!(read.at(0), None);
    let few = ReadLimits { bytes: 1 << 20, ..ReadLimits::STACK };
    let read = reason(FileSymbols::read(&named(&symbols, &endless).as_slice(), few));
    assert_eq!(read, "more would have to be read of it than of any program");
}

#[test]
fn time_is_bounded() {
    let none = ReadLimits { time: Duration::ZERO, ..ReadLimits::STACK };
    let bytes = named(&symbol(1, CODE), b"\0main\0");
    assert_eq!(reason(FileSymbols::read(&bytes.as_slice(), none)), "reading it takes too long");
}

#[test]
fn notes_that_are_none() {
    let at = bodies_at(1);
    let note = |name: u32, size: u32, rest: &[u8]| {
        let mut bytes: Vec<u8> = [name, size, 3].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend(rest);
        bytes
    };
    let id = |section: &[u8]| {
        let length = u64::try_from(section.len()).unwrap();
        build_id(&file(&[(7, at, length, 0)], section).as_slice()).unwrap()
    };
    assert_eq!(id(&note(4, 4, b"GNU\0\x01\x02\x03\x04")), Some(vec![1, 2, 3, 4]));
    let two = [note(4, 1, b"abc\0\x01\0\0\0"), note(4, 2, b"GNU\0\x05\x06\0\0")].concat();
    assert_eq!(id(&two), Some(vec![5, 6]), "behind another");
    for (name, size) in [(4, 0), (4, 65), (4, u32::MAX), (u32::MAX, 4), (u32::MAX, u32::MAX), (0, 0)] {
        assert_eq!(id(&note(name, size, b"GNU\0\x01\x02\x03\x04")), None, "{name} {size}");
    }
    assert_eq!(id(&note(4, 65, &[b"GNU\0".as_slice(), &[7; 68]].concat())), None, "longer than any");
    // A section of notes that is longer than any is passed over, not read.
    let sparse = Sparse::new(file(&[(7, at, 1 << 30, 0)], &[]), 2 << 30);
    assert_eq!(build_id(&sparse).unwrap(), None);
    assert!(sparse.read.get() < 1024, "{}", sparse.read.get());
}

#[test]
fn headers_of_any_bytes_have_an_answer() {
    let symbols = [symbol(1, CODE + 16), symbol(6, CODE + 17)].concat();
    let whole = named(&symbols, b"\0main\0rest\0");
    let limits = ReadLimits { bytes: 1 << 20, symbols: 1 << 14, ..ReadLimits::STACK };
    // A generator of numbers, the same in each run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=next() % 4 {
            let at = usize::try_from(next()).unwrap() % bytes.len();
            bytes[at] =
                [0, 1, 0x7f, 0x80, 0xff, next().to_le_bytes()[0]][usize::try_from(next()).unwrap() % 6];
        }
        bytes.truncate(bytes.len() - usize::try_from(next()).unwrap() % 3);
        read += usize::from(FileSymbols::read(&bytes.as_slice(), limits).is_ok());
        let budget = Budget::new(limits);
        if let Ok(image) = Image::read(&bytes.as_slice(), &budget) {
            let _ = (image.build_id().is_ok(), image.section_named(".note.stapsdt").is_ok());
        }
    }
    assert!((1000..19_900).contains(&read), "{read} of 20 000 could be read");
}

#[test]
fn names_that_double_are_shown_as_they_are() {
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let doubled = |times: usize| {
        let step = |step: usize| format!("S0_IS{0}_S{0}_E", char::from(digits[step]));
        format!("_Z1fI1SIiiE{}EvT_", (1..=times).map(step).collect::<String>())
    };
    let begun = Instant::now();
    assert!(Name::new(&doubled(3)).shown.contains("S<S<int, int>, S<int, int> >"));
    for times in [15, 30] {
        let symbol = doubled(times);
        assert_eq!(Name::new(&symbol).shown, symbol);
        assert_eq!(short(&symbol), symbol);
    }
    // Whole, the last would be 10 GB.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
