//! Functions of a program or library by their place in its file, which is what a stack contains.

use super::{
    budget::{Budget, ReadLimits, Unread},
    debug_file,
    functions::{LOCAL, Range, code_sections, code_segments},
    go::GoTable,
    image::{ByteSource, Image, SymbolTable},
    packed,
};

/// The suffix that the compiler gives to a part of a function that it moved elsewhere.
const COLD: &str = ".cold";

/// A symbol that may be a function's.
#[derive(Clone, Copy, Debug)]
struct SymbolCandidate {
    address: u64,
    size: u64,
    /// Offset of its name in the names of its table.
    name: u32,
    /// The index of its table, of all that were read.
    table: u8,
    rank: u8,
}

/// A function or part of one: its range in the file, and the offset of its name.
#[derive(Clone, Copy, Debug)]
struct SymbolEntry {
    from: u64,
    to: u64,
    name: u32,
    length: u32,
}

/// The functions of a file.
#[derive(Debug, Default)]
pub struct FileSymbols {
    /// The functions by place.
    entries: Vec<SymbolEntry>,
    names: String,
    segments: Vec<Range>,
    /// Why functions are missing that the file lists elsewhere than in its own symbols.
    pub lacking: Option<Unread>,
}

/// Returns what was read, or keeps the reason why it was not read and goes on. A file that cannot be read at all is an error.
pub(super) fn or_lacking<T>(
    read: Result<T, Unread>,
    lacking: &mut Option<Unread>,
) -> Result<Option<T>, Unread> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error @ Unread::Io(_)) => Err(error),
        Err(why) => {
            *lacking = Some(why);
            Ok(None)
        }
    }
}

impl FileSymbols {
    /// Reads the symbols of a file and, if it lacks some, those of its separate debug file, packed symbols, and Go's table,
    /// within these limits. A file without any has none.
    pub fn read(source: &dyn ByteSource, limits: ReadLimits) -> Result<Self, Unread> {
        let budget = Budget::new(limits);
        let image = Image::read(source, &budget)?;
        let debug = image.build_id()?.and_then(|id| debug_file(&id));
        let debug = debug.as_ref().and_then(|file| Image::read(file, &budget).ok());
        let has_all = [Some(&image), debug.as_ref()].into_iter().flatten().any(Image::has_all_symbols);
        let mut lacking = None;
        let bytes = if has_all {
            None
        } else {
            or_lacking(packed::unpacked(&image, &budget), &mut lacking)?.flatten()
        };
        let bytes = bytes.as_deref();
        let packed = match bytes.as_ref().map(|bytes| Image::read(bytes, &budget)) {
            Some(read) => or_lacking(read, &mut lacking)?,
            None => None,
        };
        let go =
            if has_all { None } else { or_lacking(GoTable::find(&image, &budget), &mut lacking)?.flatten() };
        let tables: Vec<(&Image<'_>, SymbolTable)> = [Some(&image), debug.as_ref(), packed.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|image| image.tables().into_iter().map(move |table| (image, table)))
            .collect();
        let mut candidates = Vec::new();
        for (number, (image, table)) in (0..).zip(&tables) {
            image.symbols(table, |symbol| {
                if symbol.is_definition() && symbol.is_function() {
                    budget.keep(size_of::<SymbolCandidate>())?;
                    let (address, size, rank) = (symbol.address, symbol.size, symbol.rank());
                    candidates.push(SymbolCandidate {
                        address,
                        size,
                        name: symbol.name,
                        table: number,
                        rank,
                    });
                }
                Ok(())
            })?;
        }
        let mut names: Vec<_> = tables.iter().map(|(image, table)| image.names_of(table)).collect();
        if let Some(go) = go {
            let table = u8::try_from(names.len()).unwrap_or(u8::MAX);
            let visited = go.visit(&image, &budget, |function| {
                budget.keep(size_of::<SymbolCandidate>())?;
                let (address, size, name) = (function.address, function.size, function.name);
                candidates.push(SymbolCandidate { address, size, name, table, rank: LOCAL });
                Ok(())
            });
            or_lacking(visited, &mut lacking)?;
            names.push(go.names(&image));
        }
        candidates.sort_unstable_by_key(|candidate| (candidate.address, candidate.rank));
        let name = |candidate: &SymbolCandidate| match names.get(usize::from(candidate.table)) {
            Some(names) => names.get(candidate.name),
            None => Ok(None),
        };
        let segments = code_segments(&image);
        let sections = code_sections(&image);
        let mut symbols = Self { segments, lacking, ..Self::default() };
        let mut groups = candidates.chunk_by(|one, other| one.address == other.address).peekable();
        while let Some(group) = groups.next() {
            let address = group[0].address;
            let Some(segment) = Range::of(&symbols.segments, address) else { continue };
            // Of several names of one function take the one with the best rank, then the shortest.
            let mut best: Option<(u8, String)> = None;
            for candidate in group {
                if best.as_ref().is_some_and(|(rank, _)| *rank < candidate.rank) {
                    break;
                }
                let Some(name) = name(candidate)?.filter(|name| !name.is_empty()) else { continue };
                if best.as_ref().is_none_or(|(_, best)| (name.len(), &name) < (best.len(), best)) {
                    best = Some((candidate.rank, name));
                }
            }
            let Some((_, name)) = best else { continue };
            // A part of a function gets the name of the whole.
            let name = name.split_once(COLD).map_or(name.as_str(), |(function, _)| function);
            budget.keep(size_of::<SymbolEntry>() + name.len())?;
            let within = Range::of(&sections, address).unwrap_or(segment);
            let end = within.address.saturating_add(within.length);
            let size = group.iter().map(|candidate| candidate.size).max().unwrap_or(0);
            let next = groups.peek().map_or(u64::MAX, |next| next[0].address).min(end);
            let size = if size == 0 { next - address } else { size.min(end - address) };
            let from = segment.place(address);
            let too_long = |_| Unread::TooLarge("the names of its functions take too much memory");
            symbols.entries.push(SymbolEntry {
                from,
                to: from.saturating_add(size),
                name: u32::try_from(symbols.names.len()).map_err(too_long)?,
                length: u32::try_from(name.len()).map_err(too_long)?,
            });
            symbols.names.push_str(name);
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

    /// Bytes of memory that this takes.
    pub fn memory(&self) -> usize {
        self.names.len() + self.entries.len() * size_of::<SymbolEntry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::build_id;
    use crate::elf::functions;
    use std::{env, fs::File};

    #[test]
    fn every_function_is_found_by_its_place() {
        let path = env::current_exe().unwrap();
        let symbols = FileSymbols::read(&File::open(&path).unwrap(), ReadLimits::TRUSTED).unwrap();
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
        let own = build_id(&File::open(env::current_exe().unwrap()).unwrap()).unwrap();
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
        assert!(build_id(&File::open("/proc/self/maps").unwrap()).is_err());
    }
}
