//! Functions of programs built by Go, from the table that its runtime uses for unwinding (`.gopclntab`): programs without
//! symbols have it too (`-ldflags=-s -w`), and most vendors ship such programs.
//!
//! The forms of Go 1.2, 1.16, 1.18 and 1.20 are read (`src/runtime/symtab.go`, `src/debug/gosym/pclntab.go`).

use super::{
    budget::{Budget, Unread},
    image::{Image, NameTable, Section},
};

/// The first word of the table, by the version of Go.
const OF_1_2: u64 = 0xffff_fffb;
const OF_1_16: u64 = 0xffff_fffa;
const OF_1_18: u64 = 0xffff_fff0;
const OF_1_20: u64 = 0xffff_fff1;
/// Names of its section, in a program at a fixed address and in one at any address.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Bytes of the table that are read at a time.
const WINDOW: usize = 64 << 10;
/// Bytes that are read of the record of a function: its address, and where its name is, in words of two sizes.
const FUNCTION: usize = 12;

/// The table.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoTable {
    /// The base of addresses of functions; 0 if they are absolute.
    text: u64,
    /// How many functions there are.
    count: u64,
    /// Bytes of an entry of the list of functions.
    entry: usize,
    /// The offset in the file that places of functions start from, and the size of the table behind it.
    functions: (u64, u64),
    /// Where the list begins, from the same offset.
    list: u64,
    /// The same for names.
    names: (u64, u64),
}

/// A function of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoFunction {
    pub(super) address: u64,
    pub(super) size: u64,
    /// Where its name is among the names.
    pub(super) name: u32,
}

impl GoTable {
    /// Finds the table of a file, if it has one in a known form.
    pub(super) fn find(image: &Image<'_>, budget: &Budget) -> Result<Option<Self>, Unread> {
        for name in SECTIONS {
            let Some(section) = image.section_named(name)?.filter(Section::is_in_file) else {
                continue;
            };
            let header = image.bytes(section.offset, section.size.min(72))?;
            if header.len() < 72 || !image.is_wide() {
                return Ok(None);
            }
            let mut words = image.words(&header);
            let (magic, zeros, _quantum, pointer) =
                (words.number(4), words.number(2), words.number(1), words.number(1));
            if zeros != 0 || pointer != 8 {
                return Ok(None);
            }
            let count = words.number(8);
            if magic == OF_1_2 {
                let whole = (section.offset, section.size);
                return Ok(Some(Self {
                    text: 0,
                    count,
                    entry: 16,
                    functions: whole,
                    list: 16,
                    names: whole,
                }));
            }
            let _files = words.number(8);
            // Before 1.18 the table does not say where the text begins.
            let (text, entry) = match magic {
                OF_1_16 => (Some(0), 16),
                OF_1_18 | OF_1_20 => (text(image, section.address.wrapping_add(24), words.number(8))?, 8),
                _ => return Ok(None),
            };
            let names = words.number(8);
            let _units_files_counters = (words.number(8), words.number(8), words.number(8));
            let functions = words.number(8);
            let part = |from: u64| {
                let at = section.offset.checked_add(from)?;
                Some((at, section.size.checked_sub(from)?))
            };
            let (Some(functions), Some(names)) = (part(functions), part(names)) else {
                return Err(Unread::Damaged("its table of functions is not whole"));
            };
            let table = |text| Self { text, count, entry, functions, list: 0, names };
            if let Some(text) = text {
                return Ok(Some(table(text)));
            }
            // If all of the text is Go's, it begins with its section, and the program's first function is one of Go's.
            let guess = image.section_named(".text")?.map(|text| table(text.address));
            return match guess {
                Some(table) if table.begins_the_program(image, budget)? => Ok(Some(table)),
                _ => Err(Unread::Damaged("where the code of its table of functions begins is not told")),
            };
        }
        Ok(None)
    }

    fn begins_the_program(&self, image: &Image<'_>, budget: &Budget) -> Result<bool, Unread> {
        let mut name = None;
        self.visit(image, budget, |function| {
            name = name.or((function.address == image.entry).then_some(function.name));
            Ok(())
        })?;
        let name = name.map(|name| self.names(image).get(name)).transpose()?.flatten();
        Ok(name.is_some_and(|name| name.starts_with("_rt0_")))
    }

    /// Its names.
    pub(super) fn names<'i, 's>(&self, image: &'i Image<'s>) -> NameTable<'i, 's> {
        image.strings(self.names.0, self.names.1)
    }

    /// Calls `visit` with each function, in the order of their addresses.
    pub(super) fn visit(
        &self,
        image: &Image<'_>,
        budget: &Budget,
        mut visit: impl FnMut(GoFunction) -> Result<(), Unread>,
    ) -> Result<(), Unread> {
        let (offset, length) = self.functions;
        let half = self.entry / 2;
        let (mut list, mut bodies) = (Window::default(), Window::default());
        let mut before: Option<(u64, u64)> = None;
        // One more, which only says where the last one ends.
        for index in 0..=self.count {
            budget.look(1)?;
            let entry = u64::try_from(self.entry).unwrap_or(u64::MAX);
            let at = index.checked_mul(entry).and_then(|at| at.checked_add(self.list));
            let Some(at) = at.filter(|at| *at < length) else { break };
            let bytes = list.get(image, (offset, length), at, self.entry.min(clip(length - at)))?;
            let mut words = image.words(bytes);
            let (address, body) = (self.text.wrapping_add(words.number(half)), words.number(half));
            if let Some((start, body)) = before
                && start < address
                && let Some(at) = Some(body).filter(|body| *body < length)
            {
                // The address again, as long as in the list, then the place of the name.
                let bytes = bodies.get(image, (offset, length), at, FUNCTION.min(clip(length - at)))?;
                let mut words = image.words(bytes);
                let _address = words.number(half);
                let name = u32::try_from(words.number(4)).unwrap_or(u32::MAX);
                visit(GoFunction { address: start, size: address - start, name })?;
            }
            before = Some((address, body));
        }
        Ok(())
    }
}

fn clip(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The base of addresses of functions. In a program at any address the loader fills it in, from a list of
/// such places; a linker may leave 0 at the place itself, and from Go 1.26 on the table does not say it.
fn text(image: &Image<'_>, place: u64, told: u64) -> Result<Option<u64>, Unread> {
    if told != 0 { Ok(Some(told)) } else { image.relocation(place) }
}

/// A part of the table, read a window at a time.
#[derive(Default)]
struct Window {
    from: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Bytes at an offset of a part of the file with this length.
    fn get(
        &mut self,
        image: &Image<'_>,
        (offset, length): (u64, u64),
        at: u64,
        count: usize,
    ) -> Result<&[u8], Unread> {
        let has = |window: &Self| {
            let from = usize::try_from(at.checked_sub(window.from)?).ok()?;
            window.bytes.len().checked_sub(from)?.checked_sub(count)?;
            Some(from)
        };
        if has(self).is_none() {
            let most = length.saturating_sub(at).min(u64::try_from(WINDOW).unwrap_or(u64::MAX));
            let place = offset.checked_add(at).ok_or(Unread::Damaged("it is shorter than it says"))?;
            self.bytes = image.bytes(place, most)?;
            self.from = at;
        }
        let from = has(self).ok_or(Unread::Damaged("it is shorter than it says"))?;
        Ok(&self.bytes[from..from + count])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileSymbols, ReadLimits, Unread, build_id};

    const FORMS: [&[u8]; 3] = [
        include_bytes!("../../fuzz/seeds/elf/go_1_16"),
        include_bytes!("../../fuzz/seeds/elf/go_1_18"),
        include_bytes!("../../fuzz/seeds/elf/go_1_20"),
    ];

    /// The code is behind the headers: 64 and 56 bytes.
    const TEXT: u64 = 64 + 56;

    #[test]
    fn functions_of_every_form() {
        for bytes in FORMS {
            let symbols = FileSymbols::read(&bytes, ReadLimits::STACK).unwrap();
            let at = |place: u64| symbols.at(TEXT + place);
            assert_eq!(
                [at(0), at(16), at(31), at(32), at(63), at(64)],
                [
                    Some("_rt0_amd64_linux"),
                    Some("main.work"),
                    Some("main.work"),
                    Some("main.main"),
                    Some("main.main"),
                    None
                ]
            );
            assert!(symbols.lacking.is_none(), "{:?}", symbols.lacking);
        }
    }

    /// Until Go 1.15 the list follows at once, and all places are relative to the beginning of the table.
    #[test]
    fn the_oldest_form() {
        let mut bytes = FORMS[0].to_vec();
        let header = bytes.windows(4).position(|word| word == [0xfa, 0xff, 0xff, 0xff]).unwrap();
        let mut table = vec![0xfb, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        table.extend(3_u64.to_le_bytes());
        let address = 0x1000 + TEXT;
        // Each with the place of its record, and where the last one ends.
        for (from, said) in [(0, 72), (16, 84), (32, 96)] {
            table.extend([address + from, said].map(u64::to_le_bytes).concat());
        }
        table.extend((address + 64).to_le_bytes());
        for (from, name) in [(0, 108_u32), (16, 125), (32, 135)] {
            table.extend((address + from).to_le_bytes());
            table.extend(name.to_le_bytes());
        }
        table.extend(b"_rt0_amd64_linux\0main.work\0main.main\0");
        bytes[header..header + table.len()].copy_from_slice(&table);
        let symbols = FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK).unwrap();
        let names = [0, 16, 32, 63, 64].map(|place| symbols.at(TEXT + place));
        let expected = ["_rt0_amd64_linux", "main.work", "main.main", "main.main"].map(Some);
        assert_eq!((&names[..4], names[4]), (&expected[..], None));
        assert!(symbols.lacking.is_none(), "{:?}", symbols.lacking);
    }

    /// If the table does not say where the text begins, it is the beginning of its section, if the program begins there with Go's
    /// function.
    #[test]
    fn a_beginning_that_is_not_told() {
        let mut bytes = FORMS[2].to_vec();
        let header = bytes.windows(4).position(|word| word == [0xf1, 0xff, 0xff, 0xff]).unwrap();
        bytes[header + 24..header + 32].fill(0);
        let read = |bytes: &[u8]| FileSymbols::read(&bytes, ReadLimits::STACK).unwrap();
        assert_eq!(read(&bytes).at(TEXT), None, "the program begins elsewhere");
        assert!(matches!(read(&bytes).lacking, Some(Unread::Damaged(_))));
        bytes[24..32].copy_from_slice(&(0x1000 + TEXT).to_le_bytes());
        assert_eq!(read(&bytes).at(TEXT + 16), Some("main.work"));
    }

    #[test]
    fn damaged_tables_have_an_answer() {
        for bytes in FORMS {
            for at in 0..bytes.len() {
                for value in [0, 0x7f, 0xff] {
                    let mut bytes = bytes.to_vec();
                    bytes[at] = value;
                    let _ = (
                        FileSymbols::read(&bytes.as_slice(), ReadLimits::STACK),
                        build_id(&bytes.as_slice()),
                    );
                }
            }
        }
        let few = ReadLimits { symbols: 2, ..ReadLimits::STACK };
        let read = FileSymbols::read(&FORMS[2], few).unwrap();
        assert!(matches!(read.lacking, Some(Unread::TooLarge(_))), "{:?}", read.lacking);
    }
}
