//! Functions of the kernel by name: those that it has, and those that can be traced. Read once, when first asked for.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    ops::Range,
    path::Path,
};

/// Bytes of `kallsyms` in which there is an address, if any is shown: only the first few symbols, of a processor's own
/// variables, are at 0.
const BEGINNING: u64 = 64 << 10;

/// The functions in `kallsyms`, its modules' too. Addresses may be hidden, names are not.
#[derive(Debug)]
pub(super) struct Symbols {
    text: String,
    /// By name.
    list: Vec<Symbol>,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    name: Range<usize>,
    /// Where it begins, if that is told.
    pub(super) address: Option<u64>,
}

impl Symbols {
    /// `None` if the file cannot be read.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut list = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let at = start;
            start += line.len();
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            // What programs for eBPF are called is in no table of the tracer.
            if !matches!(kind, "t" | "T" | "w" | "W") || words.next() == Some("[bpf]") {
                continue;
            }
            let begin = at + address.len() + 1 + kind.len() + 1;
            if text.get(begin..begin + name.len()) == Some(name) {
                let address = u64::from_str_radix(address, 16).ok().filter(|address| *address != 0);
                list.push(Symbol { name: begin..begin + name.len(), address });
            }
        }
        list.sort_by(|a, b| text[a.name.clone()].cmp(&text[b.name.clone()]));
        Some(Self { text, list })
    }

    fn name(&self, symbol: &Symbol) -> &str {
        &self.text[symbol.name.clone()]
    }

    /// All names, in their order; of several functions of one name, that name as often.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|symbol| self.name(symbol))
    }

    /// Names with the address of the function and how many there are of that name.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, Option<u64>, usize)> {
        self.list
            .chunk_by(|a, b| self.name(a) == self.name(b))
            .map(|same| (self.name(&same[0]), same[0].address, same.len()))
    }

    /// The module that a function is in; `None` for those of the kernel itself.
    pub(super) fn module(&self, symbol: &Symbol) -> Option<&str> {
        let rest = self.text.get(symbol.name.end..)?.lines().next()?;
        rest.trim().strip_prefix('[')?.strip_suffix(']')
    }

    /// The first function of a name.
    pub(super) fn find(&self, name: &str) -> Option<&Symbol> {
        let at = self.list.partition_point(|symbol| self.name(symbol) < name);
        self.list.get(at).filter(|symbol| self.name(symbol) == name)
    }
}

/// Whether the kernel hides addresses of symbols from this process.
pub(super) fn are_hidden(path: &Path) -> io::Result<bool> {
    let mut lines = BufReader::new(File::open(path)?.take(BEGINNING)).split(b'\n');
    let is_shown =
        |line: &[u8]| line.iter().take_while(|byte| byte.is_ascii_hexdigit()).any(|byte| *byte != b'0');
    let shown = lines.try_fold(false, |shown, line| Ok::<_, io::Error>(shown || is_shown(&line?)))?;
    Ok(!shown)
}

/// Functions at whose entries the kernel can stop, as tracefs lists them: `NAME` or `NAME [module]`. `None` if that
/// cannot be read or is empty.
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
        let symbols = Symbols::read(&path).unwrap();
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
        assert!(Symbols::read(&directory.path().join("none")).is_none());
        assert!(!are_hidden(&path).unwrap());
        let percpu = "0000000000000000 A fixed_percpu_data\n0000000000001000 A cpu_debug_store\n";
        for (text, hidden) in [(percpu, false), (&percpu.replace('1', "0"), true), ("", true)] {
            fs::write(&path, text).unwrap();
            assert_eq!(are_hidden(&path).unwrap(), hidden, "{text}");
        }
        assert!(are_hidden(&directory.path().join("none")).is_err());
        fs::write(&path, "vfs_read\next4_sync [ext4]\n").unwrap();
        assert!(traceable(&path).unwrap().contains("ext4_sync"));
        fs::write(&path, "").unwrap();
        assert!(traceable(&path).is_none());
    }
}
