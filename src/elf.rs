//! Programs and libraries: where a function is in its file, because a uprobe attaches to a place in a file.
//!
//! Symbols come from the file's own tables (`.symtab`, `.dynsym`), from the separate debug file that its build id names, from
//! symbols packed in the file (`.gnu_debugdata`), and from the table of Go's runtime. Files come from outside: reading them may
//! fail, never panics, and costs no more than its budget.

#[cfg(test)]
mod attacks;
mod binary;
mod budget;
mod choice;
mod entry;
mod exits;
mod functions;
mod go;
mod image;
mod library;
mod name;
mod packed;
mod served;
mod symbols;
mod usdt;

pub use binary::{Binary, FileWord, file_id};

pub use choice::{choose, near_beginning};
pub use exits::{Exits, UnknownExits, exits};
pub use functions::{FileFunctions, Function, Go, MachineCode, functions, read};
pub use name::{Name, Pattern, short};
pub use usdt::{probe as usdt_probe, probes as usdt_probes};

pub use budget::{ReadLimits, Unread};
pub use image::{ByteSource, build_id};
pub use library::named as libraries_named;
pub use symbols::FileSymbols;

use crate::sys::{Foreign, open_foreign};
use budget::Budget;
use image::Image;
use std::{
    fmt::Write,
    fs::File,
    path::{Path, PathBuf},
};
use tapster_ebpf::attach::Missing;

/// Where distributions put separate debug files.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

fn missing(message: String, hint: impl Into<Option<String>>) -> Missing {
    Missing { message, hint: hint.into() }
}

/// A file that is larger than its budget, or damaged.
fn unread(shown: &str, why: &Unread) -> Missing {
    missing(format!("the functions of `{shown}` cannot be read: {why}"), None)
}

fn parse<'f>(file: &'f dyn ByteSource, budget: &'f Budget, shown: &str) -> Result<Image<'f>, Missing> {
    Image::read(file, budget).map_err(|error| {
        missing(
            format!("`{shown}` is not a program or library: {error}"),
            "a script has no functions of its own: give its interpreter".to_owned(),
        )
    })
}

/// The separate debug file of a build id.
fn debug_file(build_id: &[u8]) -> Option<File> {
    let (first, rest) = build_id.split_first()?;
    let mut name = String::new();
    for byte in rest {
        write!(name, "{byte:02x}").ok()?;
    }
    let path: PathBuf = Path::new(DEBUG_FILES).join(format!("{first:02x}")).join(name + ".debug");
    open_foreign(Foreign::Named(&path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object as _, ObjectSymbol as _};
    use std::{env, fs, io::Write as _};
    use tapster_ebpf::{
        attach::{Place, SiteRequest},
        probe::Root,
    };

    /// This test's own program has symbols, and a function that is known to be in it.
    #[inline(never)]
    fn tapster_elf_test_function() {}
    static TAPSTER_ELF_TEST_DATA: u32 = 7;

    const FUNCTION: &str = concat!(module_path!(), "::tapster_elf_test_function");

    /// How the compiler calls what the source calls so, by another reader of symbols.
    fn symbol(name: &str) -> String {
        let bytes = fs::read(env::current_exe().unwrap()).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let mut names = file.symbols().filter_map(|symbol| symbol.name().ok());
        names.find(|symbol| symbol.contains(name)).unwrap().to_owned()
    }

    /// Where a function is in its file.
    fn locate(binary: &str, function: &str) -> Result<(PathBuf, u64), Missing> {
        let wanted = SiteRequest { function, at_return: false, whole: false, most: 10, stacks: false };
        let file = read(Binary::open(Path::new("/proc"), &Root::Host, binary)?)?;
        let mut found = choose(&file, &wanted)?;
        let Some(Place::File { entry, .. }) = found.sites.pop().map(|site| site.place) else {
            panic!("`{function}` is in no file")
        };
        Ok((found.file, entry))
    }

    fn own() -> String {
        std::hint::black_box((tapster_elf_test_function as fn(), &TAPSTER_ELF_TEST_DATA));
        env::current_exe().unwrap().display().to_string()
    }

    #[test]
    fn a_function_is_found_where_it_is_mapped() {
        let located = locate(&own(), FUNCTION).unwrap();
        // The kernel's own view: which part of the file is at the address of the function in this process.
        let address = tapster_elf_test_function as fn() as usize as u64;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let expected = maps.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
            let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            (from..to).contains(&address).then(|| address - from + offset)
        });
        assert_eq!(Some(located.1), expected);
        assert_eq!(located.0, env::current_exe().unwrap());
    }

    #[test]
    fn what_is_not_there_is_told() {
        let own = own();
        let message = |binary: &str, function: &str| {
            let Missing { message, hint } = locate(binary, function).unwrap_err();
            format!("{message}; {}", hint.unwrap_or_default())
        };
        let misspelled = FUNCTION.replace("test_function", "test_funktion");
        assert!(message(&own, &misspelled).contains(&format!("`{FUNCTION}`")));
        assert!(message(&own, &symbol("TAPSTER_ELF_TEST_DATA")).contains("is not a function"));
        assert!(message(&own, "0xffffffffffff").contains("no part"));
        assert!(message(&own, "0xgg").contains("not an address"));
        assert!(message("/nonexistent/program", "main").contains("no `/nonexistent/program`"));
        assert!(message("/proc/self", "main").contains("not a file"));
        assert!(message("no-such-program-anywhere", "main").contains("no program or library"));
        assert!(locate("libc.so.6", "malloc").is_ok(), "a library by its name");
        assert!(message("libc.so.6", "maloc").contains("`malloc`"));
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = fs::read(env::current_exe().unwrap()).unwrap();
        for length in [0, 3, 16, 63, 64, 100, 1000, bytes.len() / 2] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes[..length]).unwrap();
            let path = file.path().display().to_string();
            assert!(locate(&path, FUNCTION).is_err(), "cut to {length} bytes");
        }
        let mut script = tempfile::NamedTempFile::new().unwrap();
        script.write_all(b"#!/bin/sh\nexit\n").unwrap();
        let error = locate(&script.path().display().to_string(), "main").unwrap_err();
        assert!(error.message.contains("not a program"), "{}", error.message);
    }
}
