//! Which kernels files and directories describe: one after the other, so that only one kernel's types are in memory.

use super::packed::{self, FileRefusal, KernelTypes, MOST, MOST_TYPES};
use crate::elf;
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use tapster_ebpf::{attach::Arch, probe::KernelVersion};

/// How deep directories are searched, and most files that are found.
const DEPTH: u32 = 8;
const FILES: usize = 20_000;
/// Most modules of a kernel.
const MODULES: usize = 4096;
/// Where a copy of a host's files has the kernel's types.
const SYSFS: &str = "sys/kernel/btf";
/// Bytes by which a file is known.
const BEGIN: usize = 0x210;

/// A place with a description of a kernel, or of several in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// BTF, a kernel, or an archive.
    File(PathBuf),
    /// A directory with the kernel's types in `vmlinux` and those of modules beside it.
    Types(PathBuf),
    /// A directory with `sys` and `proc`, as copied from a host.
    Host(PathBuf),
}

impl KernelSource {
    pub(super) fn path(&self) -> &Path {
        let (Self::File(path) | Self::Types(path) | Self::Host(path)) = self;
        path
    }
}

fn failed(error: &io::Error) -> FileRefusal {
    (format!("it cannot be read: {error}"), None)
}

/// The places that a file or directory means.
pub(super) fn places(path: &Path) -> Result<Vec<KernelSource>, FileRefusal> {
    if !fs::metadata(path).map_err(|error| failed(&error))?.is_dir() {
        return Ok(vec![KernelSource::File(path.into())]);
    }
    let mut found = Vec::new();
    search(path, DEPTH, &mut found)?;
    if found.is_empty() {
        let hint = "give a copy of /sys/kernel/btf/vmlinux, a vmlinux, or a file of BTFHub";
        return Err(("there is no BTF in the directory".into(), Some(hint.into())));
    }
    Ok(found)
}

fn search(directory: &Path, depth: u32, found: &mut Vec<KernelSource>) -> Result<(), FileRefusal> {
    if directory.join(SYSFS).join("vmlinux").is_file() {
        found.push(KernelSource::Host(directory.into()));
        return Ok(());
    }
    let entries = fs::read_dir(directory).map_err(|error| failed(&error))?;
    let mut paths: Vec<PathBuf> = entries.take(FILES + 1).flatten().map(|entry| entry.path()).collect();
    // Names of modules have no point; beside other kernels it is one of several.
    let is_of_kernel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains('.') || name.starts_with("vmlinuz")
    };
    if directory.join("vmlinux").is_file() && !paths.iter().any(is_of_kernel) {
        found.push(KernelSource::Types(directory.into()));
        return Ok(());
    }
    paths.sort_by_cached_key(|path| numbered(&path.file_name().unwrap_or_default().to_string_lossy()));
    for path in paths {
        // Links are followed to files only, so there are no circles.
        if path.is_dir() {
            if !path.is_symlink() && depth > 0 {
                search(&path, depth - 1, found)?;
            }
        } else if path.is_file() && begin(&path).is_ok_and(|begin| packed::is_known(&begin)) {
            found.push(KernelSource::File(path));
        }
        if found.len() > FILES {
            return Err((format!("there are more than {FILES} files in the directory"), None));
        }
    }
    Ok(())
}

/// A name in parts, text and number, so that 5.10 comes behind 5.4.
fn numbered(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let end = rest[word..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| word + end);
        parts.push((rest[..word].to_owned(), rest[word..end].parse().unwrap_or(u64::MAX)));
        rest = &rest[end..];
    }
    parts
}

fn begin(path: &Path) -> io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    File::open(path)?.take(BEGIN as u64).read_to_end(&mut begin)?;
    Ok(begin)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileRefusal> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(&error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        return Err((format!("it is larger than {} MiB", most >> 20), None));
    }
    Ok(bytes)
}

/// The types of each kernel in a file.
pub(super) fn types(path: &Path) -> Result<Vec<KernelTypes>, FileRefusal> {
    let begin = begin(path).map_err(|error| failed(&error))?;
    if begin.starts_with(&[0x9f, 0xeb]) {
        return packed::types(read(path, MOST_TYPES)?);
    }
    if !begin.starts_with(b"\x7fELF") {
        return packed::types(read(path, MOST)?);
    }
    // With debug information it is as large as a gigabyte, of which only the section is read.
    let file = File::open(path).map_err(|error| failed(&error))?;
    let (machine, section) = elf::section(&file, ".BTF", MOST_TYPES)
        .map_err(|why| (format!("its ELF cannot be read: {why}"), None))?;
    packed::of_elf(machine, section, banner(&file)).map(|types| vec![types])
}

/// The kernel's banner in the first part of a large file, where its data is.
fn banner(file: &File) -> Option<String> {
    let length = file.metadata().ok()?.len().min(MOST);
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    packed::release(&bytes)
}

/// The types of modules beside those of the kernel.
pub(super) fn modules(directory: &Path) -> Result<Vec<Vec<u8>>, FileRefusal> {
    let entries = fs::read_dir(directory).map_err(|error| failed(&error))?;
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| !path.ends_with("vmlinux"));
    let is_types = |path: &PathBuf| begin(path).is_ok_and(|begin| begin.starts_with(&[0x9f, 0xeb]));
    paths.filter(is_types).take(MODULES).map(|path| read(&path, MOST_TYPES)).collect()
}

/// The beginning of a name that says nothing of the version.
const PREFIXES: [&str; 4] = ["vmlinux-", "vmlinuz-", "btf-", "linux-"];
const SUFFIXES: [&str; 6] = [".xz", ".gz", ".tar", ".btf", ".elf", ".vmlinux"];

/// A file's name without what says of which form it is.
pub(super) fn plain(name: &str) -> &str {
    let mut name = name.rsplit('/').next().unwrap_or(name);
    while let Some(less) = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        name = less;
    }
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// The version in a name: at its beginning, or the only one in it.
pub(super) fn version(name: &str) -> Option<KernelVersion> {
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return name.contains('.').then(|| KernelVersion::parse(name)).flatten();
    }
    let is_version = |part: &&str| {
        let numbers: Vec<&str> = part.split('.').collect();
        let is_number =
            |number: &&str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        (2..=3).contains(&numbers.len()) && numbers.iter().all(is_number)
    };
    let mut versions = name.split(['-', '_', '+']).filter(is_version);
    let first = versions.next()?;
    versions.all(|other| other == first).then(|| KernelVersion::parse(first)).flatten()
}

/// The processor in a path, by the names that distributions have for it.
pub(super) fn arch(path: &str) -> Option<Arch> {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut found = words.filter_map(|word| match word {
        "x86_64" | "amd64" => Some(Arch::X86_64),
        "aarch64" | "arm64" => Some(Arch::Aarch64),
        _ => None,
    });
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_names() {
        for (name, expected) in [
            ("5.4.0-1001-aws.btf.tar.xz", Some((5, 4, 0))),
            ("vmlinux-6.1.0-18-amd64", Some((6, 1, 0))),
            ("3.10.0-1160.2.1.el7.x86_64.btf", Some((3, 10, 0))),
            ("web-tier_6.12.57.btf", Some((6, 12, 57))),
            ("7.3.4+deb13-amd64.btf", Some((7, 3, 4))),
            // Which of them is the kernel's is not known.
            ("ubuntu-22.04-5.15.0-91-generic.btf", None),
            ("vmlinux", None),
            ("20240101", None),
            ("6", None),
            ("a-6.x-b", None),
        ] {
            let expected = expected.map(|(a, b, c)| KernelVersion(a, b, c));
            assert_eq!(version(plain(name)), expected, "{name}");
        }
    }

    #[test]
    fn processors_in_paths() {
        assert_eq!(arch("debian/12/x86_64/6.1.0-9.btf"), Some(Arch::X86_64));
        assert_eq!(arch("6.1.0-18-arm64.btf"), Some(Arch::Aarch64));
        assert_eq!((arch("a/6.1.btf"), arch("arm64/6.1.0-amd64.btf")), (None, None));
    }

    #[test]
    fn names_by_their_numbers() {
        let mut names = ["5.10", "6.1", "5.4", "vmlinux-6.12", "vmlinux-6.2"];
        names.sort_by_cached_key(|name| numbered(name));
        assert_eq!(names, ["5.4", "5.10", "6.1", "vmlinux-6.2", "vmlinux-6.12"]);
    }
}
