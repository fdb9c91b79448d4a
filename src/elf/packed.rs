//! Symbols that are packed in a section of their own, `.gnu_debugdata`: Fedora and related distributions ship names of functions
//! this way after `strip`. The section holds an ELF file, packed by `xz`.

use super::{
    budget::{Budget, Unread},
    image::{Image, Section},
};
use lzma_rust2::XzReader;
use std::io::{ErrorKind, Read};

const SECTION: &str = ".gnu_debugdata";
/// Bytes that are unpacked at a time.
const PART: usize = 64 << 10;
/// Memory for unpacking besides its window, KiB.
const BESIDE: u64 = 256;

/// The file that is packed in another, if there is one.
pub(super) fn unpacked(image: &Image<'_>, budget: &Budget) -> Result<Option<Vec<u8>>, Unread> {
    let Some(section) = image.section_named(SECTION)?.filter(Section::is_in_file) else {
        return Ok(None);
    };
    // Packed data is not larger than its unpacked form, except for a few bytes.
    let most = budget.left_to_unpack();
    if section.size > most {
        return Err(Unread::TooLarge("what is packed in it is larger than that of any program"));
    }
    let packed = image.bytes(section.offset, section.size)?;
    // A window can refer back to all unpacked data at most, so a larger window is for larger data.
    let memory = u32::try_from(most / 1024 * 2 + BESIDE).unwrap_or(u32::MAX - 1);
    let mut reader = XzReader::new_mem_limit(packed.as_slice(), true, memory);
    let (mut bytes, mut part) = (Vec::new(), vec![0; PART]);
    loop {
        match reader.read(&mut part) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(count) => {
                budget.unpack(count)?;
                bytes.extend_from_slice(&part[..count]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                return Err(Unread::TooLarge("what is packed in it takes more memory to unpack than it may"));
            }
            Err(_) => return Err(Unread::Damaged("what is packed in it is not whole")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileSymbols, ReadLimits, Unread};
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    const PACKED: &[u8] = include_bytes!("../../fuzz/seeds/elf/packed");
    /// Where the packed data begins and ends in the file, and where its section has the size.
    const SECTION: std::ops::Range<usize> = 0xb8..0x188;
    const HEADER: usize = 0x1a8 + 2 * 64;

    /// The same file with other packed data.
    fn with(packed: &[u8]) -> Vec<u8> {
        let mut bytes = PACKED.to_vec();
        let place = u64::try_from(bytes.len()).unwrap();
        bytes.extend(packed);
        bytes[HEADER + 24..HEADER + 32].copy_from_slice(&place.to_le_bytes());
        bytes[HEADER + 32..HEADER + 40].copy_from_slice(&u64::try_from(packed.len()).unwrap().to_le_bytes());
        bytes
    }

    #[test]
    fn symbols_that_are_packed() {
        for bytes in [PACKED.to_vec(), with(&PACKED[SECTION])] {
            let symbols = FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK).unwrap();
            assert_eq!((symbols.at(120), symbols.at(136)), (Some("inner_one"), Some("inner_two")));
        }
        for length in 0..SECTION.len() {
            let bytes = with(&PACKED[SECTION][..length]);
            let symbols = FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK).unwrap();
            assert_eq!(symbols.at(120), None);
            assert!(matches!(symbols.lacking, Some(Unread::Damaged(_))), "{length}: {:?}", symbols.lacking);
        }
        for at in SECTION {
            let mut bytes = PACKED.to_vec();
            bytes[at] ^= 0x55;
            let symbols = FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK).unwrap();
            assert!(symbols.lacking.is_some(), "a byte is another one at {at:#x}");
        }
    }

    /// Packed data that becomes a thousand times as large.
    #[test]
    fn what_is_packed_is_unpacked_within_limits() {
        let pack = |flags: &[&str], zeros: usize| {
            let child = Command::new("xz").args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut child = child.ok()?;
            let mut input = child.stdin.take()?;
            let writer = std::thread::spawn(move || input.write_all(&vec![0; zeros]).unwrap());
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap();
            Some(output.stdout)
        };
        let Some(bomb) = pack(&["-6"], 64 << 20) else { return println!("skipped: no `xz`") };
        assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
        // A window of 1 GiB, which nothing in it needs.
        let window = pack(&["--lzma2=preset=6,dict=1GiB"], 1000).unwrap();
        for packed in [bomb, window] {
            let symbols = FileSymbols::read(&with(&packed).as_slice(), ReadLimits::STACK).unwrap();
            assert!(matches!(symbols.lacking, Some(Unread::TooLarge(_))), "{:?}", symbols.lacking);
        }
    }
}
