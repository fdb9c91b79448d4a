//! Programs and libraries: where a function is in its file, which is what a uprobe attaches to.
//!
//! Symbols come from the file's own tables (`.symtab`, `.dynsym`), or from the separate debug file that its build id
//! names. Files come from outside: reading them may fail and never panics.

mod binary;
mod functions;
mod library;
mod usdt;

pub use binary::{Binary, file_id};
pub use usdt::{probe as usdt_probe, probes as usdt_probes};

pub use functions::{Code, Function, Functions, Go, functions};

use object::{Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};
use std::{
    fmt::Write,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};
use tapster_ebpf::{attach::Missing, diagnostic::near, probe::Root};

/// Where distributions put separate debug files.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

fn missing(message: String, hint: impl Into<Option<String>>) -> Missing {
    Missing { message, hint: hint.into() }
}

/// Where a function is in a program or library: by its symbol, or by its address (`0x…`, as `nm` shows it). Bytes from the
/// start of the file.
pub fn locate(binary: &Binary, function: &str) -> Result<u64, Missing> {
    let shown = binary.path.display().to_string();
    let file = binary.file.try_clone().map_err(|error| missing(format!("`{shown}`: {error}"), None))?;
    let bytes = ReadCache::new(file);
    let file = parse(&bytes, &shown)?;
    let address = match function.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| {
            missing(format!("`{function}` is not an address"), "write it as `nm` shows it: 0x1139".to_owned())
        })?,
        None => symbol(&file, function, &shown)?,
    };
    let segment = file.segments().find(|segment| {
        address.checked_sub(segment.address()).is_some_and(|distance| distance < segment.file_range().1)
    });
    let Some(segment) = segment else {
        return Err(missing(
            format!("`{function}` at {address:#x} is in no part of `{shown}` that is loaded"),
            None,
        ));
    };
    Ok(address - segment.address() + segment.file_range().0)
}

/// A file whose parts are read when they are asked for. It is not mapped: one that shrinks would end this process.
type Bytes = ReadCache<File>;

fn open(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(ReadCache::new(file))
}

fn parse<'b>(bytes: &'b Bytes, shown: &str) -> Result<object::File<'b, &'b Bytes>, Missing> {
    object::File::parse(bytes).map_err(|error| {
        missing(
            format!("`{shown}` is not a program or library: {error}"),
            "a script has no functions of its own: give its interpreter".to_owned(),
        )
    })
}

/// The file that a word of the configuration means, among those of this host.
fn find(binary: &str) -> Result<PathBuf, Missing> {
    let found = Binary::open(Path::new("/proc"), &Root::Host, binary)?;
    // Links of libraries change with updates; the file is what is attached to.
    fs::canonicalize(&found.path).map_err(|error| missing(format!("there is no `{binary}`: {error}"), None))
}

/// The address of a function by its symbol.
fn symbol<'b>(file: &object::File<'b, &'b Bytes>, function: &str, shown: &str) -> Result<u64, Missing> {
    let mut other = None;
    let mut names: Vec<String> = Vec::new();
    let mut look = |file: &object::File<'_, &Bytes>| -> Option<u64> {
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            let Ok(name) = symbol.name() else { continue };
            let is_function = symbol.is_definition() && symbol.kind() == SymbolKind::Text;
            if name == function {
                if is_function {
                    return Some(symbol.address());
                }
                other = Some((symbol.is_undefined(), symbol.kind()));
            } else if is_function && !name.is_empty() {
                names.push(name.to_owned());
            }
        }
        None
    };
    if let Some(address) = look(file) {
        return Ok(address);
    }
    let debug = file.build_id().ok().flatten().and_then(debug_file);
    if let Some(bytes) = debug.and_then(|path| open(&path).ok())
        && let Ok(debug) = object::File::parse(&bytes)
        && let Some(address) = look(&debug)
    {
        return Ok(address);
    }
    Err(match other {
        Some((true, _)) => missing(
            format!("`{shown}` only calls `{function}`, which is in a library of its"),
            format!("`ldd {shown}` shows them; attach there, as in uprobe:libc.so.6:{function}"),
        ),
        Some((false, _)) => missing(format!("`{function}` of `{shown}` is not a function"), None),
        None if names.is_empty() => missing(
            format!("`{shown}` is stripped: it has no symbols"),
            "install its debug symbols, or give an address: 0x…".to_owned(),
        ),
        None => {
            let near = near(function, names.iter().map(String::as_str), 3);
            let hint = (!near.is_empty()).then(|| {
                format!(
                    "did you mean {}?",
                    near.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
                )
            });
            missing(format!("`{shown}` has no function `{function}`"), hint)
        }
    })
}

/// The separate debug file of a build id.
fn debug_file(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let mut name = String::new();
    for byte in rest {
        write!(name, "{byte:02x}").ok()?;
    }
    Some(Path::new(DEBUG_FILES).join(format!("{first:02x}")).join(name + ".debug"))
        .filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, io::Write as _};

    fn locate(binary: &str, function: &str) -> Result<u64, Missing> {
        super::locate(&Binary::open(Path::new("/proc"), &Root::Host, binary)?, function)
    }

    /// This test's own program has symbols, and a function that is known to be in it.
    #[unsafe(no_mangle)]
    extern "C" fn tapster_elf_test_function() {}
    #[unsafe(no_mangle)]
    static TAPSTER_ELF_TEST_DATA: u32 = 7;

    fn own() -> String {
        std::hint::black_box((tapster_elf_test_function as extern "C" fn(), &TAPSTER_ELF_TEST_DATA));
        env::current_exe().unwrap().display().to_string()
    }

    #[test]
    fn a_function_is_found_where_it_is_mapped() {
        let offset = locate(&own(), "tapster_elf_test_function").unwrap();
        // The kernel's own view: which part of the file is at the address of the function in this process.
        let address = tapster_elf_test_function as extern "C" fn() as usize as u64;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let expected = maps.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
            let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            (from..to).contains(&address).then(|| address - from + offset)
        });
        assert_eq!(Some(offset), expected);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let own = own();
        let message = |binary: &str, function: &str| {
            let Missing { message, hint } = locate(binary, function).unwrap_err();
            format!("{message}; {}", hint.unwrap_or_default())
        };
        assert!(message(&own, "tapster_elf_test_funktion").contains("`tapster_elf_test_function`"));
        assert!(message(&own, "TAPSTER_ELF_TEST_DATA").contains("is not a function"));
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
            assert!(locate(&path, "tapster_elf_test_function").is_err(), "cut to {length} bytes");
        }
        let mut script = tempfile::NamedTempFile::new().unwrap();
        script.write_all(b"#!/bin/sh\nexit\n").unwrap();
        let error = locate(&script.path().display().to_string(), "main").unwrap_err();
        assert!(error.message.contains("not a program"), "{}", error.message);
    }
}
