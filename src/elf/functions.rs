//! All functions of a program or library, where each begins and ends, and its code.

use super::{
    Binary, Bytes, Missing, debug_file,
    exits::{Exits, Unclear, exits},
    missing, open, parse,
};
use object::{
    Architecture, Object, ObjectSection, ObjectSegment, ObjectSymbol, ReadCache, SectionKind, SegmentFlags,
    SymbolFlags, SymbolKind, elf,
};
use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use tapster_ebpf::{attach::Arch, probe::Root};

/// Longest function whose code is looked at.
const LONGEST: u64 = 4 << 20;

/// A program or library and its functions.
#[derive(Debug)]
pub struct Functions {
    /// The file.
    pub path: PathBuf,
    /// Its processor.
    pub arch: Arch,
    /// By address, one for each.
    pub list: Vec<Function>,
    /// Whether it was built by Go, and how old that was.
    pub go: Option<Go>,
    /// Addresses of data among the code, where symbols say so (arm64).
    pub data: Vec<u64>,
    /// Where the program begins.
    pub start: u64,
    /// The file as it was read, whatever has its name by now.
    pub file: File,
    segments: Vec<Range>,
    sections: Vec<Range>,
}

/// What is known of a program that Go has built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// By Go 1.18 or later.
    Recent,
    /// By an older one, or it is not told.
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
    /// Its length as the symbol tells it; 0 if that does not.
    pub size: u64,
    /// Bytes up to the next function or the end of its section.
    pub room: u64,
    /// Code that the compiler moved elsewhere because it is seldom run: address, offset, length.
    pub parts: Vec<(u64, u64, u64)>,
}

/// Code at its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Address of the first byte.
    pub address: u64,
    /// Where it is in the file.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A symbol that may be a function, as good as others with its address.
#[derive(Debug)]
struct Candidate {
    name: String,
    aliases: Vec<String>,
    size: u64,
    /// Global before weak before local.
    rank: u8,
}

impl Candidate {
    /// Another name of the same function: the better of both is its name.
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
        self.aliases.sort_unstable();
        self.aliases.dedup();
    }
}

/// Reads the functions of a program or library, given as for a probe. Symbols that are data, undefined, of another
/// file, or chosen among several at run time, are none; of several names of one function, one is taken.
pub fn functions(binary: &str) -> Result<Functions, Missing> {
    let functions = read(Binary::open(Path::new("/proc"), &Root::Host, binary)?)?;
    if functions.list.is_empty() {
        return Err(missing(
            format!("`{}` is stripped: it has no symbols of functions", functions.path.display()),
            "install its debug symbols, or build it without `strip`".to_owned(),
        ));
    }
    Ok(functions)
}

/// The same of a file that is open, which may have no symbols at all.
pub fn read(binary: Binary) -> Result<Functions, Missing> {
    let Binary { place: path, file, .. } = binary;
    let shown = path.display().to_string();
    let bytes = ReadCache::new(file);
    let elf = parse(&bytes, &shown)?;
    let arch = match elf.architecture() {
        Architecture::X86_64 if elf.is_64() => Arch::X86_64,
        Architecture::Aarch64 if elf.is_64() => Arch::Aarch64,
        other => {
            return Err(missing(
                format!("`{shown}` is for the processor {other:?}"),
                "programs for x86-64 and arm64 can be followed".to_owned(),
            ));
        }
    };
    let mut found = Found::of(&elf);
    let segments = code_segments(&elf);
    let sections = code_sections(&elf);
    let go = go(&elf, &found);
    let list = found.list(&segments, &sections);
    let start = elf.entry();
    Ok(Functions {
        path,
        arch,
        list,
        go,
        data: found.data,
        start,
        file: bytes.into_inner(),
        segments,
        sections,
    })
}

/// The parts of a file that are mapped to be executed.
pub(super) fn code_segments<'b>(elf: &object::File<'b, &'b Bytes>) -> Vec<Range> {
    elf.segments()
        .filter(
            |segment| matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & elf::PF_X.0 != 0),
        )
        .map(|segment| {
            let (offset, length) = segment.file_range();
            Range { address: segment.address(), offset, length }
        })
        .collect()
}

/// Those of a file's sections that hold code.
pub(super) fn code_sections<'b>(elf: &object::File<'b, &'b Bytes>) -> Vec<Range> {
    elf.sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .filter_map(|section| {
            let (offset, length) = section.file_range()?;
            Some(Range { address: section.address(), offset, length })
        })
        .collect()
}

/// Reads what Go says of itself: `src/debug/buildinfo/buildinfo.go`. Since 1.18 the version is in the section, not behind
/// a pointer, and a flag says so.
fn go<'b>(elf: &object::File<'b, &'b Bytes>, found: &Found) -> Option<Go> {
    let info = elf.section_by_name(".go.buildinfo");
    let flags = info.as_ref().and_then(|section| section.data_range(section.address(), 16).ok().flatten());
    match (info, flags) {
        (Some(_), Some([0xff, b' ', b'G', b'o', b' ', .., flags])) if flags & 2 != 0 => Some(Go::Recent),
        (Some(_), _) => Some(Go::Old),
        (None, _) => {
            let runtime = ["runtime.goexit", "runtime.goexit.abi0"];
            found.symbols.values().any(|symbol| runtime.contains(&symbol.name.as_str())).then_some(Go::Old)
        }
    }
}

/// A part of a file: the address it gets, where it is, and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Range {
    fn of(ranges: &[Self], address: u64) -> Option<Self> {
        ranges
            .iter()
            .copied()
            .find(|range| address.checked_sub(range.address).is_some_and(|from| from < range.length))
    }
}

/// What symbols say of functions.
#[derive(Debug, Default)]
pub(super) struct Found {
    symbols: BTreeMap<u64, Candidate>,
    /// Parts by the name of their function; address and length.
    parts: HashMap<String, Vec<(u64, u64)>>,
    data: Vec<u64>,
}

impl Found {
    /// From the symbols of a file and of its separate debug file.
    pub(super) fn of<'b>(elf: &object::File<'b, &'b Bytes>) -> Self {
        let mut found = Self::default();
        found.take(elf);
        let debug = elf.build_id().ok().flatten().and_then(debug_file);
        if let Some(bytes) = debug.and_then(|path| open(&path).ok())
            && let Ok(debug) = object::File::parse(&bytes)
        {
            found.take(&debug);
        }
        found
    }

    fn take<'b>(&mut self, file: &object::File<'b, &'b Bytes>) {
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let Ok(name) = symbol.name() else { continue };
            if !symbol.is_definition() {
                continue;
            }
            if name == "$d" || name.starts_with("$d.") {
                self.data.push(symbol.address());
            }
            let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { continue };
            // An `IFUNC` only chooses the function that its name stands for.
            if symbol.kind() != SymbolKind::Text || st_info.st_type() == elf::STT_GNU_IFUNC || name.is_empty()
            {
                continue;
            }
            if let Some((function, _)) = name.split_once(".cold") {
                self.parts.entry(function.into()).or_default().push((symbol.address(), symbol.size()));
                continue;
            }
            let rank = match st_info.st_bind() {
                elf::STB_GLOBAL => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            let candidate = Candidate { name: name.into(), aliases: Vec::new(), size: symbol.size(), rank };
            match self.symbols.entry(symbol.address()) {
                Entry::Vacant(entry) => drop(entry.insert(candidate)),
                Entry::Occupied(mut entry) => entry.get_mut().join(candidate),
            }
        }
    }

    pub(super) fn list(&mut self, segments: &[Range], sections: &[Range]) -> Vec<Function> {
        self.data.sort_unstable();
        self.data.dedup();
        let addresses: Vec<u64> = self.symbols.keys().copied().collect();
        let mut list = Vec::new();
        for (index, (address, symbol)) in std::mem::take(&mut self.symbols).into_iter().enumerate() {
            let Some(segment) = Range::of(segments, address) else { continue };
            let within = Range::of(sections, address).unwrap_or(segment);
            let end = within.address.saturating_add(within.length);
            let next = addresses.get(index + 1).copied().unwrap_or(u64::MAX).min(end);
            let place = |address: u64| address - segment.address + segment.offset;
            let mut parts: Vec<(u64, u64, u64)> = Vec::new();
            for (part, size) in self.parts.get(&symbol.name).into_iter().flatten() {
                // Two functions of one name in different files have parts of one name: then none is known.
                let known = Range::of(segments, *part);
                if let Some(segment) = known {
                    parts.push((*part, part - segment.address + segment.offset, *size));
                }
            }
            list.push(Function {
                offset: place(address),
                size: symbol.size.min(end - address),
                room: next - address,
                parts,
                aliases: symbol.aliases,
                name: symbol.name,
                address,
            });
        }
        // The name of a part tells its function only if there is one of that name.
        let mut names: HashMap<String, u32> = HashMap::new();
        for function in &list {
            *names.entry(function.name.clone()).or_default() += 1;
        }
        for function in &mut list {
            if names.get(&function.name).is_some_and(|count| *count > 1) {
                function.parts.clear();
            }
        }
        list
    }
}

impl Functions {
    /// The function at an address, which may be one that no symbol names.
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
            offset: address - segment.address + segment.offset,
            size: 0,
            room: next - address,
            parts: Vec::new(),
        })
    }

    /// Where a function ends.
    pub fn exits(&self, function: &Function) -> Result<Exits, Unclear> {
        let code = self.code(function).ok_or(Unclear::NoCode)?;
        let has_data = code.iter().any(|part| {
            let end = part.address + u64::try_from(part.bytes.len()).unwrap_or(u64::MAX);
            self.data.iter().any(|data| (part.address..end).contains(data))
        });
        if has_data {
            return Err(Unclear::NotCode);
        }
        exits(self.arch, &code, function.size > 0)
    }

    /// The code of a function: its own, then its parts. Without a length of its own, all that there is room for.
    pub fn code(&self, function: &Function) -> Option<Vec<Code>> {
        let size = if function.size == 0 { function.room } else { function.size };
        let own = (function.address, function.offset, size);
        std::iter::once(own)
            .chain(function.parts.iter().copied())
            .map(|(address, offset, size)| {
                if size > LONGEST {
                    return None;
                }
                let mut bytes = vec![0; usize::try_from(size).ok()?];
                self.file.read_exact_at(&mut bytes, offset).ok()?;
                Some(Code { address, offset, bytes })
            })
            .collect()
    }
}
