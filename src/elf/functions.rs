//! All functions of a program or library, where each begins and ends, and its code.

use super::{
    Binary, Missing, ReadLimits,
    budget::{Budget, Unread},
    debug_file,
    exits::{Exits, UnknownExits, exits},
    go::GoTable,
    image::{self, Image, Section, Segment},
    missing, packed, parse,
    symbols::or_lacking,
    unread,
};
use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use tapster_ebpf::{attach::Arch, probe::Root, usdt::FileId};

/// Longest function whose code is decoded, bytes.
const LONGEST: u64 = 4 << 20;
/// Most parts of a function; compilers make one or two.
const MOST_PARTS: usize = 16;
/// The rank of a symbol that other files cannot use, see [`image::ElfSymbol::rank`].
pub(super) const LOCAL: u8 = 2;
/// Memory that a function takes besides its name, bytes.
const FUNCTION: usize = 240;

/// A program or library and its functions.
#[derive(Debug)]
pub struct FileFunctions {
    /// The file.
    pub path: PathBuf,
    /// The identity of the file, whatever its name.
    pub id: FileId,
    /// Its processor.
    pub arch: Arch,
    /// The functions by address, one for each address.
    pub list: Vec<Function>,
    /// Whether it was built by Go, and by which Go.
    pub go: Option<Go>,
    /// Names that stand for one of several functions, chosen when a program starts: none of them is in `list` by that name.
    pub chosen: Vec<String>,
    /// Addresses of data among the code, if symbols mark it (arm64).
    pub data: Vec<u64>,
    /// The address where the program begins.
    pub start: u64,
    /// The file that was read, whatever has its name by now.
    pub file: File,
    /// Limits for reading the file.
    pub(super) limits: ReadLimits,
    segments: Vec<Range>,
    sections: Vec<Range>,
}

/// The Go version of a program that Go built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// By Go 1.18 or later.
    Recent,
    /// By an older one, or the version is unknown.
    Old,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// Other symbols of it.
    pub aliases: Vec<String>,
    /// Its address, as `nm` shows it.
    pub address: u64,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Its length by its symbol; 0 if the symbol has none.
    pub size: u64,
    /// Bytes up to the next function or the end of its section.
    pub room: u64,
    /// Code that the compiler moved elsewhere because it seldom runs: address, offset, length.
    pub parts: Vec<(u64, u64, u64)>,
}

/// Code at its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineCode {
    /// Address of the first byte.
    pub address: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A symbol that may be a function, the best one so far at its address.
#[derive(Debug)]
struct FunctionCandidate {
    name: String,
    aliases: Vec<String>,
    size: u64,
    /// Global before weak before local.
    rank: u8,
}

impl FunctionCandidate {
    /// Adds another name of the same function: the better of the two becomes its name.
    fn join(&mut self, mut other: Self) {
        let order = |candidate: &Self| (candidate.rank, candidate.name.len());
        let size = self.size.max(other.size);
        if (order(&other), &other.name) < (order(self), &self.name) {
            std::mem::swap(self, &mut other);
        }
        self.size = size;
        self.aliases.append(&mut other.aliases);
        if other.name != self.name {
            self.aliases.push(other.name);
        }
    }
}

/// Reads the functions of a program or library, named as for a probe. Symbols of data, undefined symbols, and symbols of another
/// file, or that stand for one of several functions at run time, are left out; of several names of one function, one is chosen.
pub fn functions(binary: &str) -> Result<FileFunctions, Missing> {
    let functions = read(Binary::open(Path::new("/proc"), &Root::Host, binary)?)?;
    if functions.list.is_empty() {
        return Err(missing(
            format!("`{}` is stripped: it has no symbols of functions", functions.path.display()),
            "install its debug symbols, or build it without `strip`".to_owned(),
        ));
    }
    Ok(functions)
}

/// Reads the functions of an open file, which may have no symbols at all.
pub fn read(binary: Binary) -> Result<FileFunctions, Missing> {
    let Binary { place: path, id, file, limits, .. } = binary;
    let shown = path.display().to_string();
    let budget = Budget::new(limits);
    let image = parse(&file, &budget, &shown)?;
    let arch = match image.machine {
        image::X86_64 if image.is_wide() => Arch::X86_64,
        image::AARCH64 if image.is_wide() => Arch::Aarch64,
        other => {
            return Err(missing(
                format!("`{shown}` is for the processor {other} of ELF's list"),
                "programs for x86-64 and arm64 of 64 bits can be followed".to_owned(),
            ));
        }
    };
    let found = SymbolIndex::of(&image, &budget).map_err(|why| unread(&shown, &why))?;
    if let Some(why) = &found.lacking {
        tracing::warn!(path = shown, "not all functions of the file are known: {why}");
    }
    let go = go(&image, &found).map_err(|why| unread(&shown, &why))?;
    let (segments, sections, start) = (code_segments(&image), code_sections(&image), image.entry);
    let (list, data, chosen) = found.list(&segments, &sections);
    Ok(FileFunctions { path, id, arch, list, go, chosen, data, start, file, limits, segments, sections })
}

/// The parts of a file that are mapped as executable.
pub(super) fn code_segments(image: &Image<'_>) -> Vec<Range> {
    let range =
        |segment: &Segment| Range { address: segment.address, offset: segment.offset, length: segment.size };
    image.segments.iter().filter(|segment| segment.is_code()).map(range).collect()
}

/// The sections of a file that hold code.
pub(super) fn code_sections(image: &Image<'_>) -> Vec<Range> {
    let range =
        |section: &Section| Range { address: section.address, offset: section.offset, length: section.size };
    image.sections.iter().filter(|section| section.is_code()).map(range).collect()
}

/// Reads Go's build information: `src/debug/buildinfo/buildinfo.go`. Since 1.18 the version is in the section, not behind
/// a pointer, and a flag marks that.
fn go(image: &Image<'_>, found: &SymbolIndex) -> Result<Option<Go>, Unread> {
    let Some(info) = image.section_named(".go.buildinfo")? else {
        let runtime = ["runtime.goexit", "runtime.goexit.abi0"];
        let is_go = found.symbols.values().any(|symbol| runtime.contains(&symbol.name.as_str()));
        return Ok(is_go.then_some(Go::Old));
    };
    let flags = if info.is_in_file() && info.size >= 16 { image.bytes(info.offset, 16).ok() } else { None };
    Ok(Some(match flags.as_deref() {
        Some([0xff, b' ', b'G', b'o', b' ', .., flags]) if flags & 2 != 0 => Go::Recent,
        _ => Go::Old,
    }))
}

/// A part of a file: its address in memory, its offset, and its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Range {
    /// The offset in the file of an address in it.
    pub(super) fn place(&self, address: u64) -> u64 {
        address.wrapping_sub(self.address).wrapping_add(self.offset)
    }

    pub(super) fn of(ranges: &[Self], address: u64) -> Option<Self> {
        ranges
            .iter()
            .copied()
            .find(|range| address.checked_sub(range.address).is_some_and(|from| from < range.length))
    }
}

/// What the symbols of a file say about functions.
#[derive(Debug, Default)]
pub(super) struct SymbolIndex {
    symbols: BTreeMap<u64, FunctionCandidate>,
    /// Split-off parts by the name of their function; address and length.
    parts: HashMap<String, Vec<(u64, u64)>>,
    data: Vec<u64>,
    chosen: Vec<String>,
    /// Why some functions of the file are missing.
    lacking: Option<Unread>,
}

impl SymbolIndex {
    /// Reads them from the symbols of a file and, if it lacks some, from its separate debug file, from packed symbols, and from
    /// the table of Go's runtime.
    pub(super) fn of(image: &Image<'_>, budget: &Budget) -> Result<Self, Unread> {
        let mut found = Self::default();
        found.take(image, budget)?;
        let mut has_all = image.has_all_symbols();
        if let Some(debug) = image.build_id()?.and_then(|id| debug_file(&id))
            && let Ok(debug) = Image::read(&debug, budget)
        {
            has_all |= debug.has_all_symbols();
            found.take(&debug, budget)?;
        }
        if has_all {
            return Ok(found);
        }
        let mut lacking = None;
        let packed = found.take_packed(image, budget);
        or_lacking(packed, &mut lacking)?;
        let go = found.take_go(image, budget);
        or_lacking(go, &mut lacking)?;
        found.lacking = lacking;
        Ok(found)
    }

    fn take_packed(&mut self, image: &Image<'_>, budget: &Budget) -> Result<(), Unread> {
        let Some(bytes) = packed::unpacked(image, budget)? else { return Ok(()) };
        let bytes = bytes.as_slice();
        self.take(&Image::read(&bytes, budget)?, budget)
    }

    fn take_go(&mut self, image: &Image<'_>, budget: &Budget) -> Result<(), Unread> {
        let Some(table) = GoTable::find(image, budget)? else { return Ok(()) };
        let names = table.names(image);
        table.visit(image, budget, |function| {
            let Some(name) = names.get(function.name)?.filter(|name| !name.is_empty()) else { return Ok(()) };
            budget.keep(FUNCTION + name.len())?;
            self.insert(
                function.address,
                FunctionCandidate { name, aliases: Vec::new(), size: function.size, rank: LOCAL },
            );
            Ok(())
        })
    }

    fn insert(&mut self, address: u64, candidate: FunctionCandidate) {
        match self.symbols.entry(address) {
            Entry::Vacant(entry) => drop(entry.insert(candidate)),
            Entry::Occupied(mut entry) => entry.get_mut().join(candidate),
        }
    }

    fn take(&mut self, image: &Image<'_>, budget: &Budget) -> Result<(), Unread> {
        for table in image.tables() {
            let names = image.names_of(&table);
            image.symbols(&table, |symbol| {
                let is_function = symbol.is_definition() && symbol.is_function();
                let is_chosen = symbol.chooses() && !symbol.is_undefined();
                if !is_function && !is_chosen && !symbol.may_mark() {
                    return Ok(());
                }
                let Some(name) = names.get(symbol.name)? else { return Ok(()) };
                if is_chosen {
                    budget.keep(size_of::<String>() + name.len())?;
                    self.chosen.push(name);
                    return Ok(());
                }
                if !is_function {
                    if name == "$d" || name.starts_with("$d.") {
                        budget.keep(size_of::<u64>())?;
                        self.data.push(symbol.address);
                    }
                    return Ok(());
                }
                if name.is_empty() {
                    return Ok(());
                }
                budget.keep(FUNCTION + name.len())?;
                if let Some((function, _)) = name.split_once(".cold") {
                    let parts = self.parts.entry(function.into()).or_default();
                    if parts.len() < MOST_PARTS {
                        parts.push((symbol.address, symbol.size));
                    }
                    return Ok(());
                }
                let candidate =
                    FunctionCandidate { name, aliases: Vec::new(), size: symbol.size, rank: symbol.rank() };
                self.insert(symbol.address, candidate);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The functions by address, addresses of data, and names that stand for one of several functions.
    pub(super) fn list(
        mut self,
        segments: &[Range],
        sections: &[Range],
    ) -> (Vec<Function>, Vec<u64>, Vec<String>) {
        self.chosen.sort_unstable();
        self.chosen.dedup();
        self.data.sort_unstable();
        self.data.dedup();
        let addresses: Vec<u64> = self.symbols.keys().copied().collect();
        let mut list = Vec::new();
        for (index, (address, mut symbol)) in self.symbols.into_iter().enumerate() {
            let Some(segment) = Range::of(segments, address) else { continue };
            let within = Range::of(sections, address).unwrap_or(segment);
            let end = within.address.saturating_add(within.length);
            let next = addresses.get(index + 1).copied().unwrap_or(u64::MAX).min(end);
            let mut parts: Vec<(u64, u64, u64)> = Vec::new();
            for (part, size) in self.parts.get(&symbol.name).into_iter().flatten() {
                // If two files have functions of one name, their parts have one name too: then it is unknown which part belongs
                // to which.
                let known = Range::of(segments, *part);
                if let Some(segment) = known {
                    parts.push((*part, segment.place(*part), *size));
                }
            }
            symbol.aliases.sort_unstable();
            symbol.aliases.dedup();
            list.push(Function {
                offset: segment.place(address),
                size: symbol.size.min(end - address),
                room: next - address,
                parts,
                aliases: symbol.aliases,
                name: symbol.name,
                address,
            });
        }
        // The name of a part identifies its function only if one function has that name.
        let mut names: HashMap<&str, bool> = HashMap::with_capacity(list.len());
        for function in &list {
            names.entry(&function.name).and_modify(|is_shared| *is_shared = true).or_insert(false);
        }
        let shared = |function: &Function| names.get(function.name.as_str()).copied().unwrap_or(false);
        let shared: Vec<bool> = list.iter().map(shared).collect();
        for (function, _) in list.iter_mut().zip(shared).filter(|(_, is_shared)| *is_shared) {
            function.parts.clear();
        }
        (list, self.data, self.chosen)
    }
}

impl FileFunctions {
    /// The function at an address, even if no symbol names it.
    pub fn at(&self, address: u64) -> Option<Function> {
        let next = self.list.partition_point(|function| function.address <= address);
        if let Some(known) = next.checked_sub(1).map(|index| &self.list[index])
            && known.address == address
        {
            return Some(known.clone());
        }
        let segment = Range::of(&self.segments, address)?;
        let within = Range::of(&self.sections, address).unwrap_or(segment);
        let end = within.address.saturating_add(within.length);
        let next = self.list.get(next).map_or(u64::MAX, |function| function.address).min(end);
        Some(Function {
            name: format!("{address:#x}"),
            aliases: Vec::new(),
            address,
            offset: segment.place(address),
            size: 0,
            room: next - address,
            parts: Vec::new(),
        })
    }

    /// How much code may be decoded for one question.
    pub fn most_code(&self) -> u64 {
        self.limits.code
    }

    /// Where a function ends. `left` is the amount of code that may still be decoded.
    pub fn exits(&self, function: &Function, left: &mut u64) -> Result<Exits, UnknownExits> {
        let code = self.code(function, left).ok_or(UnknownExits::NoCode)?;
        let has_data = code.iter().any(|part| {
            let end = part.address.saturating_add(u64::try_from(part.bytes.len()).unwrap_or(u64::MAX));
            let next = self.data.partition_point(|data| *data < part.address);
            self.data.get(next).is_some_and(|data| *data < end)
        });
        if has_data {
            return Err(UnknownExits::NotCode);
        }
        exits(self.arch, &code, function.size > 0)
    }

    /// The code of a function: its own, then its parts. If its length is unknown, all the code up to the next function.
    pub fn code(&self, function: &Function, left: &mut u64) -> Option<Vec<MachineCode>> {
        let size = if function.size == 0 { function.room } else { function.size };
        let own = (function.address, function.offset, size);
        let length = self.file.metadata().ok()?.len();
        std::iter::once(own)
            .chain(function.parts.iter().copied())
            .map(|(address, offset, size)| {
                if size > LONGEST || offset.checked_add(size)? > length {
                    return None;
                }
                *left = left.checked_sub(size)?;
                let mut bytes = vec![0; usize::try_from(size).ok()?];
                self.file.read_exact_at(&mut bytes, offset).ok()?;
                Some(MachineCode { address, offset, bytes })
            })
            .collect()
    }
}
