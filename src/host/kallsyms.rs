//! Parses `/proc/kallsyms`, line by line. Callers keep different parts: names to attach to, and functions by address.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// Bytes in which an address occurs, if the kernel shows any: only the first few symbols, per-CPU variables, are at 0.
const BEGINNING: u64 = 64 << 10;

/// One symbol of the kernel or of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KallsymsLine<'t> {
    /// Its address; `None` if the kernel hides it.
    pub(crate) address: Option<u64>,
    /// Its type, the letter of `nm`.
    pub(crate) kind: &'t str,
    pub(crate) name: &'t str,
    /// Its module, `bpf` for programs; `None` for the kernel itself.
    pub(crate) module: Option<&'t str>,
}

impl<'t> KallsymsLine<'t> {
    /// Parses `ADDRESS TYPE NAME [MODULE]`; `None` for any other line.
    pub(crate) fn parse(line: &'t str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let (kind, name) = (words.next()?, words.next()?);
        let module = words.next().and_then(|module| module.strip_prefix('[')?.strip_suffix(']'));
        Some(Self { address: Some(address).filter(|address| *address != 0), kind, name, module })
    }

    /// Whether it is a function.
    pub(crate) fn is_function(&self) -> bool {
        matches!(self.kind, "t" | "T" | "w" | "W")
    }
}

/// Whether the kernel hides the addresses of symbols from this process.
pub(crate) fn are_hidden(path: &Path) -> io::Result<bool> {
    let mut lines = BufReader::new(File::open(path)?.take(BEGINNING)).split(b'\n');
    let is_shown =
        |line: &[u8]| line.iter().take_while(|byte| byte.is_ascii_hexdigit()).any(|byte| *byte != b'0');
    let shown = lines.try_fold(false, |shown, line| Ok::<_, io::Error>(shown || is_shown(&line?)))?;
    Ok(!shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines() {
        let symbol = |address, kind, name, module| Some(KallsymsLine { address, kind, name, module });
        for (line, expected) in [
            ("ffffffff81000010 T vfs_read", symbol(Some(0xffff_ffff_8100_0010), "T", "vfs_read", None)),
            ("0000000000000000 t ext4_sync\t[ext4]\n", symbol(None, "t", "ext4_sync", Some("ext4"))),
            (
                "ffffffffc0000000 t bpf_prog_1\t[bpf]",
                symbol(Some(0xffff_ffff_c000_0000), "t", "bpf_prog_1", Some("bpf")),
            ),
            ("ffffffff81000000 T", None),
            ("zz T x", None),
            ("\u{fffd}", None),
            ("", None),
        ] {
            assert_eq!(KallsymsLine::parse(line), expected, "{line}");
        }
        let is_function = |line| KallsymsLine::parse(line).unwrap().is_function();
        assert!(
            is_function("1 T a") && is_function("1 w a") && !is_function("1 D a") && !is_function("1 A a")
        );
    }

    #[test]
    fn hidden_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kallsyms");
        let percpu = "0000000000000000 A fixed_percpu_data\n0000000000001000 A cpu_debug_store\n";
        for (text, hidden) in [(percpu, false), (&percpu.replace('1', "0"), true), ("", true)] {
            fs::write(&path, text).unwrap();
            assert_eq!(are_hidden(&path).unwrap(), hidden, "{text}");
        }
        assert!(are_hidden(&directory.path().join("none")).is_err());
    }
}
