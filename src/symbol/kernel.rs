//! Names of kernel functions by address, from `/proc/kallsyms`.
//!
//! The table is read for the first address, and again when `/proc/modules` has changed. It is also read again, at most once a
//! scrape, when an address is in no known function: a program or trampoline may be newer.
//!
//! An address without a name is shown as `[MODULE]` if it is in a module, else as `[unknown]`. So is every address if the
//! kernel hides addresses from this process (`kptr_restrict`).

use super::UNKNOWN;
use crate::host::{Host, HostError, kallsyms, require};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// Most symbols that are read; kernels have about 200 000.
const SYMBOL_LIMIT: usize = 1 << 20;

/// Most addresses that are remembered as being in no function.
const UNKNOWN_LIMIT: usize = 4096;
/// Longest function, bytes. It only matters for the last function before a hole.
const FUNCTION_LIMIT: u64 = 1 << 20;

/// Functions by address.
#[derive(Debug)]
pub(crate) struct KernelSymbols {
    kallsyms: PathBuf,
    modules: PathBuf,
    table: Option<KernelSymbolTable>,
    unknown: HashSet<u64>,
    /// Whether the table was read in this scrape.
    fresh: bool,
}

impl KernelSymbols {
    pub(crate) fn new(host: &Host) -> Result<Self, HostError> {
        let kallsyms = host.kallsyms();
        require("ksym", &kallsyms)?;
        let modules = host.proc.join("modules");
        Ok(Self { kallsyms, modules, table: None, unknown: HashSet::new(), fresh: false })
    }

    /// Whether the table could be read; without it no address can be named yet.
    pub(crate) fn is_read(&self) -> bool {
        self.table.is_some()
    }

    /// Reads the table, unless this scrape has done so.
    fn read(&mut self) {
        if std::mem::replace(&mut self.fresh, true) {
            return;
        }
        // The modules are read first: a module that is loaded in between is then seen as a change.
        let modules = read_modules(&self.modules);
        let table = File::open(&self.kallsyms)
            .and_then(|file| KernelSymbolTable::read(BufReader::new(file), modules));
        match table {
            Ok(table) => {
                self.table = Some(table);
                self.unknown.clear();
            }
            Err(error) => tracing::warn!(%error, "cannot read `{}`", self.kallsyms.display()),
        }
    }

    /// Whether the kernel hides addresses, so that reading again is of no use.
    fn is_hidden(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.symbols.is_empty())
    }

    fn look_up(&self, address: u64) -> Option<String> {
        self.table.as_ref()?.look_up(address).map(str::to_owned)
    }

    /// The function around an address, if it is in one that the kernel shows.
    pub(crate) fn name(&mut self, address: u64) -> Option<String> {
        if self.table.is_none() {
            self.read();
        }
        if let Some(name) = self.look_up(address) {
            return Some(name);
        }
        if !self.is_hidden() && !self.unknown.contains(&address) {
            self.read();
            if let Some(name) = self.look_up(address) {
                return Some(name);
            }
            if self.unknown.len() >= UNKNOWN_LIMIT {
                self.unknown.clear();
            }
            self.unknown.insert(address);
        }
        None
    }

    /// The function around an address, or the text for one without a name.
    pub(crate) fn named(&mut self, address: u64) -> String {
        self.name(address).unwrap_or_else(|| self.nameless(address))
    }

    /// The text for an address in no function: its module, or `[unknown]`.
    pub(crate) fn nameless(&self, address: u64) -> String {
        let module = self.table.as_ref().and_then(|table| table.module(address));
        module.map_or_else(|| UNKNOWN.into(), |module| format!("[{}]", module.name))
    }

    /// Lets a changed table be read again; called at the beginning of each scrape.
    pub(crate) fn look_again(&mut self) {
        self.fresh = false;
        let changed = self.table.as_ref().is_some_and(|table| table.modules != read_modules(&self.modules));
        if changed {
            self.read();
        }
    }
}

/// Name and range of a loaded module; the reference count is left out, because it changes all the time.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    name: String,
    start: u64,
    end: u64,
}

/// Reads the list of modules; a kernel without modules has no such file.
fn read_modules(path: &Path) -> Vec<Module> {
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(parse_module).collect()
}

/// `name size references users state 0xaddress`
fn parse_module(line: &str) -> Option<Module> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    let size: u64 = fields.next()?.parse().ok()?;
    // The address is zero if the kernel hides addresses.
    let start =
        u64::from_str_radix(fields.nth(3)?.strip_prefix("0x")?, 16).ok().filter(|start| *start != 0)?;
    Some(Module { name, start, end: start.saturating_add(size) })
}

/// One line of kallsyms that starts or ends a function.
#[derive(Clone, Copy, Debug)]
struct FunctionBoundary {
    address: u64,
    /// Where the name starts in `KernelSymbolTable::names`.
    name: u32,
    /// Bytes of the name; 0 for a symbol that is no function.
    len: u16,
    /// 0 for a global symbol, which has the better name if several share an address.
    rank: u8,
}

/// Symbols sorted by address, their names in one string.
#[derive(Debug)]
struct KernelSymbolTable {
    symbols: Vec<FunctionBoundary>,
    names: String,
    modules: Vec<Module>,
}

impl KernelSymbolTable {
    fn read(mut source: impl BufRead, modules: Vec<Module>) -> io::Result<Self> {
        let mut symbols = Vec::new();
        let mut names = String::new();
        let mut line = Vec::new();
        while symbols.len() < SYMBOL_LIMIT && source.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            symbols.extend(parse_symbol(&text, &mut names));
            line.clear();
        }
        // The sort is stable: of equal symbols, the first in the file stays first.
        symbols.sort_by_key(|symbol| (symbol.address, symbol.rank));
        // Keeps one symbol per address, and only the first of a run of symbols that are no functions.
        symbols.dedup_by(|next, kept| next.address == kept.address || (next.len == 0 && kept.len == 0));
        symbols.shrink_to_fit();
        names.shrink_to_fit();
        Ok(Self { symbols, names, modules })
    }

    /// The module around an address.
    fn module(&self, address: u64) -> Option<&Module> {
        self.modules.iter().find(|module| (module.start..module.end).contains(&address))
    }

    /// The function around an address.
    fn look_up(&self, address: u64) -> Option<&str> {
        let next = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = self.symbols.get(next.checked_sub(1)?)?;
        let past_module = self.module(symbol.address).is_some_and(|module| address >= module.end);
        if symbol.len == 0 || past_module || address - symbol.address >= FUNCTION_LIMIT {
            return None;
        }
        let start = usize::try_from(symbol.name).ok()?;
        self.names.get(start..start + usize::from(symbol.len))
    }
}

/// Parses a line, and appends its name to `names`; `None` if the address is hidden or the line is malformed.
fn parse_symbol(line: &str, names: &mut String) -> Option<FunctionBoundary> {
    let kallsyms::KallsymsLine { address, kind, name, .. } = kallsyms::KallsymsLine::parse(line)?;
    let address = address?;
    let rank = match kind {
        "T" => 0,
        "W" => 1,
        "w" => 2,
        "t" => 3,
        // Not a function: it only ends the function before it, and loses against a function at the same address.
        _ => return Some(FunctionBoundary { address, name: 0, len: 0, rank: u8::MAX }),
    };
    let symbol = FunctionBoundary {
        address,
        name: u32::try_from(names.len()).ok()?,
        len: u16::try_from(name.len()).ok()?,
        rank,
    };
    names.push_str(name);
    Some(symbol)
}
