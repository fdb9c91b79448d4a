//! Functions of a program or library by their place in its file, which is what a stack tells of them.

use super::{
    Bytes,
    functions::{Found, Range, code_sections, code_segments},
};
use object::{Object, ReadCache};
use std::{fs::File, io};

/// The build id of a file, if it has one.
pub fn build_id(file: File) -> Option<Vec<u8>> {
    let bytes: Bytes = ReadCache::new(file);
    let elf = object::File::parse(&bytes).ok()?;
    elf.build_id().ok().flatten().map(<[u8]>::to_vec)
}

/// A function or part of one: from where to where in the file, and where its name is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    from: u64,
    to: u64,
    name: u32,
    length: u32,
}

/// The functions of a file.
#[derive(Debug, Default)]
pub struct Symbols {
    /// By place.
    entries: Vec<Entry>,
    names: String,
    segments: Vec<Range>,
}

impl Symbols {
    /// Reads the symbols of a file and of its separate debug file. A file without any has none.
    pub fn read(file: File) -> io::Result<Self> {
        let bytes: Bytes = ReadCache::new(file);
        let elf = object::File::parse(&bytes).map_err(io::Error::other)?;
        let segments = code_segments(&elf);
        let list = Found::of(&elf).list(&segments, &code_sections(&elf));
        let mut symbols = Self { segments, ..Self::default() };
        for function in &list {
            let name = u32::try_from(symbols.names.len()).map_err(io::Error::other)?;
            let length = u32::try_from(function.name.len()).map_err(io::Error::other)?;
            symbols.names.push_str(&function.name);
            let size = if function.size == 0 { function.room } else { function.size };
            let parts = function.parts.iter().map(|(_, offset, size)| (*offset, *size));
            for (from, size) in std::iter::once((function.offset, size)).chain(parts) {
                symbols.entries.push(Entry { from, to: from.saturating_add(size), name, length });
            }
        }
        symbols.entries.sort_by_key(|entry| entry.from);
        symbols.entries.shrink_to_fit();
        symbols.names.shrink_to_fit();
        Ok(symbols)
    }

    /// The symbol of the function around a place in the file.
    pub fn at(&self, offset: u64) -> Option<&str> {
        let next = self.entries.partition_point(|entry| entry.from <= offset);
        let entry = self.entries.get(next.checked_sub(1)?).filter(|entry| offset < entry.to)?;
        let from = usize::try_from(entry.name).ok()?;
        self.names.get(from..from + usize::try_from(entry.length).ok()?)
    }

    /// The address of a place in the file's code, as `nm` and `addr2line` mean it; `None` where there is no code.
    pub fn address(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|range| {
            let from = offset.checked_sub(range.offset).filter(|from| *from < range.length)?;
            range.address.checked_add(from)
        })
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.names.len() + self.entries.len() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::functions;
    use std::env;

    #[test]
    fn every_function_is_found_by_its_place() {
        let path = env::current_exe().unwrap();
        let symbols = Symbols::read(File::open(&path).unwrap()).unwrap();
        let functions = functions(path.to_str().unwrap()).unwrap();
        let mut found = 0;
        for function in functions.list.iter().filter(|function| function.size > 0) {
            // Where two overlap, the later one is taken.
            if symbols.at(function.offset) == Some(&function.name) {
                found += 1;
            }
            assert_eq!(symbols.address(function.offset), Some(function.address), "{}", function.name);
        }
        assert!(
            found > 1000 && found * 100 >= functions.list.len() * 99,
            "{found} of {}",
            functions.list.len()
        );
        let last = functions.list.iter().max_by_key(|function| function.offset).unwrap();
        assert_eq!(symbols.at(last.offset + last.room.max(last.size) + 1), None);
        assert_eq!((symbols.at(0), symbols.at(u64::MAX)), (None, None));
        assert_eq!((symbols.address(0), symbols.address(u64::MAX)), (None, None));
    }

    #[test]
    fn build_ids() {
        let own = build_id(File::open(env::current_exe().unwrap()).unwrap());
        let shown = std::process::Command::new("readelf")
            .arg("-n")
            .arg(env::current_exe().unwrap())
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let id = shown.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).map(str::to_owned);
        let id = id.map(|digits| {
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.as_bytes().chunks(2).map(byte).collect::<Vec<u8>>()
        });
        assert_eq!(own, id);
        assert_eq!(build_id(File::open("/proc/self/maps").unwrap()), None);
    }
}
