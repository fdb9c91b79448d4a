//! Functions of the kernel by name: those that exist, and those that can be traced. Read once, at the first request.

use crate::host::kallsyms::KallsymsLine;
use std::{collections::HashSet, fs, ops::Range, path::Path};

/// The functions in `kallsyms`, including those of modules. Addresses may be hidden, names are not.
#[derive(Debug)]
pub(super) struct FunctionSymbols {
    text: String,
    /// Sorted by name.
    list: Vec<FunctionSymbol>,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct FunctionSymbol {
    name: Range<usize>,
    /// Its address, if the kernel shows it.
    pub(super) address: Option<u64>,
}

impl FunctionSymbols {
    /// Reads the file; `None` if that fails.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut list = Vec::new();
        for symbol in text.lines().filter_map(KallsymsLine::parse) {
            // The tracer does not list names of eBPF programs.
            if symbol.is_function() && symbol.module != Some("bpf") {
                let begin = symbol.name.as_ptr().addr() - text.as_ptr().addr();
                list.push(FunctionSymbol { name: begin..begin + symbol.name.len(), address: symbol.address });
            }
        }
        list.sort_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
        Some(Self { text, list })
    }

    /// The symbols with this name, functions or not, of the kernel and of modules.
    pub(super) fn called<'s>(&'s self, name: &'s str) -> impl Iterator<Item = KallsymsLine<'s>> {
        // Most lines do not have the name in them, and need not be parsed.
        let places = self.text.match_indices(name).map(|(at, _)| at);
        let lines = places.filter_map(|at| {
            let begin = self.text[..at].rfind('\n').map_or(0, |before| before + 1);
            self.text[begin..].lines().next().and_then(KallsymsLine::parse)
        });
        lines.filter(move |symbol| symbol.name == name && symbol.module != Some("bpf"))
    }

    /// Names of what is no function.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let symbols = self.text.lines().filter_map(KallsymsLine::parse);
        symbols.filter(|symbol| !symbol.is_function()).map(|symbol| symbol.name)
    }

    fn name(&self, symbol: &FunctionSymbol) -> &str {
        &self.text[symbol.name.clone()]
    }

    /// All names, sorted; the name of several functions occurs that often.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|symbol| self.name(symbol))
    }

    /// Names with the address of the function and the number of functions with that name.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, Option<u64>, usize)> {
        self.list
            .chunk_by(|a, b| self.name(a) == self.name(b))
            .map(|same| (self.name(&same[0]), same[0].address, same.len()))
    }

    /// The module of a function; `None` for the kernel itself.
    pub(super) fn module(&self, symbol: &FunctionSymbol) -> Option<&str> {
        let rest = self.text.get(symbol.name.end..)?.lines().next()?;
        rest.trim().strip_prefix('[')?.strip_suffix(']')
    }

    /// The first function with a name.
    pub(super) fn find(&self, name: &str) -> Option<&FunctionSymbol> {
        let at = self.list.partition_point(|symbol| self.name(symbol) < name);
        self.list.get(at).filter(|symbol| self.name(symbol) == name)
    }
}

/// Functions at whose entries the kernel can stop, as tracefs lists them: `NAME` or `NAME [module]`. `None` if the list cannot
/// be read or is empty.
pub(super) fn traceable(path: &Path) -> Option<HashSet<String>> {
    let text = fs::read_to_string(path).ok()?;
    let names: HashSet<String> =
        text.lines().filter_map(|line| line.split_ascii_whitespace().next()).map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_kernel_and_modules() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kallsyms");
        let lines = "ffffffff81000010 T vfs_read\n0000000000000000 t ext4_sync\t[ext4]\n\
                     ffffffff81000020 D jiffies\nffffffffc0000000 t bpf_prog_1\t[bpf]\n\
                     ffffffff81000030 t init_once\nffffffff81000040 t init_once\nbroken\n";
        fs::write(&path, lines).unwrap();
        let symbols = FunctionSymbols::read(&path).unwrap();
        let functions: Vec<_> = symbols.functions().collect();
        assert_eq!(
            functions,
            [
                ("ext4_sync", None, 1),
                ("init_once", Some(0xffff_ffff_8100_0030), 2),
                ("vfs_read", Some(0xffff_ffff_8100_0010), 1)
            ]
        );
        assert_eq!(symbols.find("ext4_sync").unwrap().address, None);
        let module = |name: &str| symbols.module(symbols.find(name).unwrap());
        assert_eq!((module("ext4_sync"), module("vfs_read")), (Some("ext4"), None));
        assert!(symbols.find("jiffies").is_none() && symbols.find("vfs_rea").is_none());
        assert!(FunctionSymbols::read(&directory.path().join("none")).is_none());
        fs::write(&path, "vfs_read\next4_sync [ext4]\n").unwrap();
        assert!(traceable(&path).unwrap().contains("ext4_sync"));
        fs::write(&path, "").unwrap();
        assert!(traceable(&path).is_none());
    }
}
