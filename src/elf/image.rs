//! An ELF file: its sections, segments, symbols and notes, read piece by piece, as far as a budget allows.
//!
//! Sizes that the file claims are never allocated: tables are read a window at a time, names one by one. So the cost of reading
//! does not depend on the claims.

use super::budget::{Budget, ReadLimits, Unread};
use std::{cell::RefCell, fs::File, io, os::unix::fs::FileExt};

/// Most sections and segments; programs have some dozens.
const SECTIONS: u64 = 4096;
const SEGMENTS: u64 = 1024;
/// Bytes of a table of symbols that are read at a time.
const WINDOW: usize = 64 << 10;
/// Bytes of a table of names that are read at a time, and the longest name; bytes that are read for one name.
const NAMES: usize = 4096;
const NAME: usize = 256;
/// A name no further than this behind the window's beginning is read together with the names that follow it.
const NEAR: u64 = 8192;
/// Longest section of notes in which a build id is looked for, and longest build id.
const NOTES: u64 = 1 << 20;
const BUILD_ID: usize = 64;

/// Machines on which programs can be probed: `EM_X86_64`, `EM_AARCH64`.
pub(super) const X86_64: u16 = 62;
pub(super) const AARCH64: u16 = 183;
/// `SHT_PROGBITS`, `SHT_SYMTAB`, `SHT_RELA`, `SHT_NOTE`, `SHT_NOBITS`, `SHT_DYNSYM`
const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const RELA: u32 = 4;
const NOTE: u32 = 7;
const NOBITS: u32 = 8;
const DYNSYM: u32 = 11;
/// `SHF_ALLOC` and `SHF_EXECINSTR`
const CODE: u64 = 2 | 4;
/// `PT_LOAD`, `PT_NOTE`, `PF_X`
const LOAD: u32 = 1;
const NOTE_SEGMENT: u32 = 4;
const EXECUTED: u32 = 1;
/// `SHN_LORESERVE`, `SHN_XINDEX`
const RESERVED: u16 = 0xff00;
const ELSEWHERE: u16 = 0xffff;
/// `NT_GNU_BUILD_ID`
const GNU_BUILD_ID: u32 = 3;
/// `R_X86_64_RELATIVE` and `R_AARCH64_RELATIVE`, and bytes of a relocation of 64 bits.
const RELATIVE: [u64; 2] = [8, 1027];
const RELOCATION: usize = 24;
/// `STT_OBJECT`, `STT_FUNC`, `STT_GNU_IFUNC`
const OBJECT: u8 = 1;
const FUNC: u8 = 2;
const IFUNC: u8 = 10;

/// Bytes that may be read at any place.
pub trait ByteSource {
    /// Their number.
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer from this offset on.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ByteSource for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ByteSource for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.len()).unwrap_or(u64::MAX))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let found = from.and_then(|from| self.get(from..from.checked_add(buffer.len())?));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    link: u32,
    align: u64,
}

impl Section {
    /// Whether it holds code.
    pub(super) fn is_code(&self) -> bool {
        self.kind == PROGBITS && self.flags & CODE == CODE
    }

    /// Whether it has bytes in the file.
    pub(super) fn is_in_file(&self) -> bool {
        self.kind != NOBITS
    }
}

/// A part of the file that is loaded, or its notes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    kind: u32,
    flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    /// Bytes in the file.
    pub(super) size: u64,
    align: u64,
}

impl Segment {
    pub(super) fn is_loaded(&self) -> bool {
        self.kind == LOAD
    }

    pub(super) fn is_code(&self) -> bool {
        self.is_loaded() && self.flags & EXECUTED != 0
    }
}

/// A symbol.
#[derive(Clone, Copy, Debug)]
pub(super) struct ElfSymbol {
    pub(super) address: u64,
    pub(super) size: u64,
    /// Offset of its name in the names of its table.
    pub(super) name: u32,
    info: u8,
    section: u16,
}

impl ElfSymbol {
    pub(super) fn is_undefined(&self) -> bool {
        self.section == 0
    }

    /// Whether it defines a function or data of this file.
    pub(super) fn is_definition(&self) -> bool {
        let is_special = self.section == 0 || self.section >= RESERVED && self.section != ELSEWHERE;
        !is_special && matches!(self.kind(), 0 | OBJECT | FUNC)
    }

    /// Whether it stands for a function.
    pub(super) fn is_function(&self) -> bool {
        self.kind() == FUNC
    }

    /// Whether its function chooses another one when a program starts.
    pub(super) fn chooses(&self) -> bool {
        self.kind() == IFUNC
    }

    /// Whether it may mark code or data, which only a symbol without a kind does.
    pub(super) fn may_mark(&self) -> bool {
        self.kind() == 0 && self.section != 0
    }

    /// Global before weak before local.
    pub(super) fn rank(&self) -> u8 {
        match self.info >> 4 {
            1 => 0,
            2 => 1,
            _ => 2,
        }
    }

    fn kind(&self) -> u8 {
        self.info & 0xf
    }
}

/// A table of symbols.
#[derive(Clone, Copy, Debug)]
pub(super) struct SymbolTable {
    offset: u64,
    size: u64,
    /// The section with its names.
    strings: Section,
}

/// An ELF file.
pub(super) struct Image<'s> {
    source: &'s dyn ByteSource,
    budget: &'s Budget,
    length: u64,
    is_wide: bool,
    is_big: bool,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) sections: Vec<Section>,
    pub(super) segments: Vec<Segment>,
    /// Section with the names of sections.
    names: usize,
}

impl std::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Reads numbers one after the other.
pub(super) struct NumberReader<'b> {
    bytes: &'b [u8],
    is_wide: bool,
    is_big: bool,
}

impl NumberReader<'_> {
    /// The next number of this size; 0 beyond the end.
    pub(super) fn number(&mut self, size: usize) -> u64 {
        let (number, rest) = self.bytes.split_at(size.min(self.bytes.len()));
        self.bytes = rest;
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.is_big { number.iter().fold(0, add) } else { number.iter().rev().fold(0, add) }
    }

    fn half(&mut self) -> u16 {
        u16::try_from(self.number(2)).unwrap_or(0)
    }

    fn word(&mut self) -> u32 {
        u32::try_from(self.number(4)).unwrap_or(0)
    }

    /// An address, an offset or a size.
    fn long(&mut self) -> u64 {
        self.number(if self.is_wide { 8 } else { 4 })
    }
}

impl<'s> Image<'s> {
    /// Reads the headers and the tables of sections and segments.
    pub(super) fn read(source: &'s dyn ByteSource, budget: &'s Budget) -> Result<Self, Unread> {
        let length = source.length()?;
        let mut image = Self {
            source,
            budget,
            length,
            is_wide: true,
            is_big: false,
            machine: 0,
            entry: 0,
            sections: Vec::new(),
            segments: Vec::new(),
            names: 0,
        };
        let other = Unread::Damaged("it does not begin like one");
        if length < 52 {
            return Err(other);
        }
        let begin = image.bytes(0, 16)?;
        let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] = begin.as_slice() else {
            return Err(other);
        };
        (image.is_wide, image.is_big) = (*class == 2, *order == 2);
        let header = image.bytes(16, if image.is_wide { 48 } else { 36 })?;
        let mut fields = image.fields(&header);
        let _kind = fields.half();
        image.machine = fields.half();
        let _version = fields.word();
        image.entry = fields.long();
        let (segments, sections) = (fields.long(), fields.long());
        let _flags = fields.word();
        let (_size, segment_size, segment_count) = (fields.half(), fields.half(), fields.half());
        let (section_size, section_count, names) = (fields.half(), fields.half(), fields.half());
        image.read_sections(sections, section_size, section_count)?;
        // Numbers that do not fit into the header are in the first section's header.
        let first = image.sections.first().copied();
        image.names = match (names, first) {
            (ELSEWHERE, Some(first)) => usize::try_from(first.link).unwrap_or(usize::MAX),
            _ => names.into(),
        };
        image.read_segments(segments, segment_size, segment_count)?;
        Ok(image)
    }

    fn read_sections(&mut self, at: u64, size: u16, count: u16) -> Result<(), Unread> {
        if at == 0 {
            return Ok(());
        }
        if u64::from(size) < if self.is_wide { 64 } else { 40 } {
            return Err(Unread::Damaged("its sections have no form"));
        }
        let mut count = u64::from(count);
        if count == 0 {
            count = self.section(&self.bytes(at, size.into())?).size;
        }
        if count > SECTIONS {
            return Err(Unread::TooLarge("it has too many sections"));
        }
        let table = self.bytes(at, count * u64::from(size))?;
        self.sections = table.chunks_exact(size.into()).map(|entry| self.section(entry)).collect();
        Ok(())
    }

    fn section(&self, bytes: &[u8]) -> Section {
        let mut fields = self.fields(bytes);
        let (name, kind, flags) = (fields.word(), fields.word(), fields.long());
        let (address, offset, size) = (fields.long(), fields.long(), fields.long());
        let (link, _info, align) = (fields.word(), fields.word(), fields.long());
        Section { name, kind, flags, address, offset, size, link, align }
    }

    fn read_segments(&mut self, at: u64, size: u16, count: u16) -> Result<(), Unread> {
        if at == 0 || count == 0 {
            return Ok(());
        }
        if u64::from(size) < if self.is_wide { 56 } else { 32 } {
            return Err(Unread::Damaged("its segments have no form"));
        }
        if u64::from(count) > SEGMENTS {
            return Err(Unread::TooLarge("it has too many segments"));
        }
        let table = self.bytes(at, u64::from(count) * u64::from(size))?;
        self.segments = table.chunks_exact(size.into()).map(|entry| self.segment(entry)).collect();
        Ok(())
    }

    fn segment(&self, bytes: &[u8]) -> Segment {
        let mut fields = self.fields(bytes);
        let kind = fields.word();
        // Files of 32 bits have the flags in another place.
        let early = if self.is_wide { fields.word() } else { 0 };
        let (offset, address, _physical) = (fields.long(), fields.long(), fields.long());
        let (size, _memory) = (fields.long(), fields.long());
        let flags = if self.is_wide { early } else { fields.word() };
        Segment { kind, flags, offset, address, size, align: fields.long() }
    }

    /// Reads numbers in the file's byte order.
    pub(super) fn words<'b>(&self, bytes: &'b [u8]) -> NumberReader<'b> {
        self.fields(bytes)
    }

    /// The value that the loader fills in at an address when a program of 64 bits starts, before relocation.
    pub(super) fn relocation(&self, address: u64) -> Result<Option<u64>, Unread> {
        let mut window = vec![0; WINDOW - WINDOW % RELOCATION];
        for section in self.sections.iter().filter(|section| section.kind == RELA && self.is_wide) {
            let (mut at, mut left) = (section.offset, section.size);
            loop {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(window.len());
                let part = &mut window[..length - length % RELOCATION];
                if part.is_empty() {
                    break;
                }
                self.fill(part, at)?;
                for entry in part.chunks_exact(RELOCATION) {
                    let mut fields = self.fields(entry);
                    let (place, info, addend) = (fields.long(), fields.long(), fields.long());
                    if place == address && RELATIVE.contains(&(info & u64::from(u32::MAX))) {
                        return Ok(Some(addend));
                    }
                }
                let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
                left -= length;
                at = at.checked_add(length).ok_or(Unread::Damaged("it is shorter than it says"))?;
            }
        }
        Ok(None)
    }

    fn fields<'b>(&self, bytes: &'b [u8]) -> NumberReader<'b> {
        NumberReader { bytes, is_wide: self.is_wide, is_big: self.is_big }
    }

    /// Whether the file is of 64 bits.
    pub(super) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// Bytes of the file. The caller has made sure that they are few.
    pub(super) fn bytes(&self, offset: u64, size: u64) -> Result<Vec<u8>, Unread> {
        let short = Unread::Damaged("it is shorter than it says");
        if offset.checked_add(size).is_none_or(|end| end > self.length) {
            return Err(short);
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| short)?];
        self.fill(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), Unread> {
        self.budget.read(buffer.len())?;
        self.source.read(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Unread::Damaged("it is shorter than it says"),
            _ => Unread::Io(error),
        })
    }

    /// A section by its name.
    pub(super) fn section_named(&self, name: &str) -> Result<Option<Section>, Unread> {
        let Some(names) = self.sections.get(self.names) else { return Ok(None) };
        let names = self.names(*names);
        for section in &self.sections {
            if names.get(section.name)?.as_deref() == Some(name) {
                return Ok(Some(*section));
            }
        }
        Ok(None)
    }

    /// The tables of symbols: of all symbols, and of those that other files use.
    pub(super) fn tables(&self) -> Vec<SymbolTable> {
        let table = |kind: u32| {
            let table = self.sections.iter().find(|section| section.kind == kind)?;
            let strings = self.sections.get(usize::try_from(table.link).ok()?)?;
            Some(SymbolTable { offset: table.offset, size: table.size, strings: *strings })
        };
        [SYMTAB, DYNSYM].into_iter().filter_map(table).collect()
    }

    /// Whether it has a table of all symbols, not only of those that other files use.
    pub(super) fn has_all_symbols(&self) -> bool {
        self.sections.iter().any(|section| section.kind == SYMTAB)
    }

    /// Visits the symbols of a table, one after the other.
    pub(super) fn symbols(
        &self,
        table: &SymbolTable,
        mut visit: impl FnMut(ElfSymbol) -> Result<(), Unread>,
    ) -> Result<(), Unread> {
        let size = if self.is_wide { 24 } else { 16 };
        let mut window = vec![0; WINDOW - WINDOW % size];
        let (mut at, mut left) = (table.offset, table.size);
        loop {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(window.len());
            let length = length - length % size;
            if length == 0 {
                return Ok(());
            }
            let part = &mut window[..length];
            self.budget.look(length / size)?;
            self.fill(part, at)?;
            for entry in part.chunks_exact(size) {
                visit(self.symbol(entry))?;
            }
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            left -= length;
            at = at.checked_add(length).ok_or(Unread::Damaged("it is shorter than it says"))?;
        }
    }

    fn symbol(&self, bytes: &[u8]) -> ElfSymbol {
        let mut fields = self.fields(bytes);
        let name = fields.word();
        if self.is_wide {
            let info = u8::try_from(fields.number(1)).unwrap_or(0);
            let _visibility = fields.number(1);
            let section = fields.half();
            return ElfSymbol { name, info, section, address: fields.long(), size: fields.long() };
        }
        let (address, size) = (fields.long(), fields.long());
        let info = u8::try_from(fields.number(1)).unwrap_or(0);
        let _visibility = fields.number(1);
        ElfSymbol { name, info, section: fields.half(), address, size }
    }

    /// The names of a table's symbols.
    pub(super) fn names_of(&self, table: &SymbolTable) -> NameTable<'_, 's> {
        self.names(table.strings)
    }

    fn names(&self, section: Section) -> NameTable<'_, 's> {
        self.strings(section.offset, section.size)
    }

    /// Names in a part of the file.
    pub(super) fn strings(&self, offset: u64, size: u64) -> NameTable<'_, 's> {
        NameTable { image: self, offset, size, window: RefCell::default() }
    }

    /// The build id.
    pub(super) fn build_id(&self) -> Result<Option<Vec<u8>>, Unread> {
        let sections = self.sections.iter().filter(|section| section.kind == NOTE);
        let segments = self.segments.iter().filter(|segment| segment.kind == NOTE_SEGMENT);
        let places: Vec<(u64, u64, u64)> = if self.sections.is_empty() {
            segments.map(|segment| (segment.offset, segment.size, segment.align)).collect()
        } else {
            sections.map(|section| (section.offset, section.size, section.align)).collect()
        };
        for (offset, size, align) in places {
            if size > NOTES {
                continue;
            }
            let bytes = self.bytes(offset, size)?;
            if let Some(id) = self.build_id_in(&bytes, if align == 8 { 8 } else { 4 }) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn build_id_in(&self, mut notes: &[u8], align: usize) -> Option<Vec<u8>> {
        while notes.len() >= 12 {
            let mut fields = self.fields(notes);
            let [name, size, kind] = [fields.word(), fields.word(), fields.word()];
            let length = |size: u32| usize::try_from(size).ok();
            let begin = 12_usize.checked_add(length(name)?)?.checked_next_multiple_of(align)?;
            let end = begin.checked_add(length(size)?)?;
            let owner = notes.get(12..12 + length(name)?)?;
            let body = notes.get(begin..end)?;
            if kind == GNU_BUILD_ID && owner == b"GNU\0" {
                return (!body.is_empty() && body.len() <= BUILD_ID).then(|| body.to_vec());
            }
            notes = notes.get(end.checked_next_multiple_of(align)?..)?;
        }
        None
    }
}

/// Names in a table, with a window of it in memory.
pub(super) struct NameTable<'i, 's> {
    image: &'i Image<'s>,
    offset: u64,
    size: u64,
    /// The offset of the window in the table, and its bytes.
    window: RefCell<(u64, Vec<u8>)>,
}

impl NameTable<'_, '_> {
    /// The name at an offset; `None` if it is longer than any name, is no text, or is outside of the table.
    pub(super) fn get(&self, at: u32) -> Result<Option<String>, Unread> {
        let at = u64::from(at);
        let mut window = self.window.borrow_mut();
        let (begin, bytes) = &mut *window;
        let is_near = at.checked_sub(*begin).is_some_and(|from| from < NEAR);
        // The order of names differs from that of functions: otherwise most of a window would be read for nothing.
        for most in [if is_near { NAMES } else { NAME }, NAMES] {
            let rest = at.checked_sub(*begin).and_then(|from| bytes.get(usize::try_from(from).ok()?..));
            if let Some(rest) = rest
                && let Some(end) = rest.iter().position(|byte| *byte == 0)
            {
                return Ok(std::str::from_utf8(&rest[..end]).ok().map(str::to_owned));
            }
            self.move_to(at, most, begin, bytes)?;
        }
        let end = bytes.iter().position(|byte| *byte == 0);
        Ok(end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()).map(str::to_owned))
    }

    /// Reads the window from this offset on, at most this many bytes.
    fn move_to(&self, at: u64, most: usize, begin: &mut u64, bytes: &mut Vec<u8>) -> Result<(), Unread> {
        let left = self.size.saturating_sub(at);
        *begin = at;
        bytes.clear();
        let Some(place) = self.offset.checked_add(at).filter(|_| left > 0) else { return Ok(()) };
        bytes.resize(usize::try_from(left).unwrap_or(usize::MAX).min(most), 0);
        let filled = self.image.fill(bytes, place);
        if filled.is_err() {
            bytes.clear();
        }
        filled
    }
}

/// The build id of a file, if it has one.
pub fn build_id(source: &dyn ByteSource) -> Result<Option<Vec<u8>>, Unread> {
    let budget = Budget::new(ReadLimits::STACK);
    Image::read(source, &budget)?.build_id()
}
