//! The dynamic linker's list of libraries, `/etc/ld.so.cache` as `ldconfig` of glibc writes it.

use crate::sys::ForeignError;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Beginning of the list; a list in the form before glibc 2.2 may precede it.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Bytes before the entries, and of one entry.
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// Longest list that is read, and most entries of it; a host has some thousands.
const LONGEST: u64 = 4 << 20;
const ENTRIES: usize = 1 << 16;
/// Longest name or path, and most libraries of a name.
const TEXT: usize = 4096;
const NAMED: usize = 64;
/// The flags of the entry of a library for 64-bit programs of this machine.
const FLAGS: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };

/// Paths of the libraries with a name, with or without a version, in the order of the linker, which is that of versions.
pub(super) fn cached(open: impl Fn(&Path) -> Result<File, ForeignError>, name: &str) -> Vec<PathBuf> {
    let mut bytes = Vec::new();
    let read = open(Path::new("/etc/ld.so.cache"))
        .and_then(|file| Ok(file.take(LONGEST).read_to_end(&mut bytes)?));
    match read {
        Ok(_) => named(&bytes, name).unwrap_or_default(),
        // Other C libraries have no such list.
        Err(_) => Vec::new(),
    }
}

/// Paths of the libraries in the bytes of a list; `None` if they are no list.
pub fn named(bytes: &[u8], name: &str) -> Option<Vec<PathBuf>> {
    let start = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let list = bytes.get(start..)?;
    let word = |at: usize| Some(u32::from_le_bytes(list.get(at..at + 4)?.try_into().ok()?));
    let text = |at: u32| {
        let rest = list.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().take(TEXT).position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    let count = usize::try_from(word(MAGIC.len())?).ok()?.min(list.len() / ENTRY).min(ENTRIES);
    let entries = (0..count).filter_map(|index| {
        let at = HEADER + index * ENTRY;
        let (flags, key, path) = (word(at)?, text(word(at + 4)?)?, text(word(at + 8)?)?);
        let rest = key.strip_prefix(name)?;
        let fits = rest.is_empty()
            || rest.strip_prefix(".so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        (fits && flags == FLAGS).then(|| PathBuf::from(path))
    });
    Some(entries.take(NAMED).collect())
}

/// The numbers in a file's name, by which versions are compared.
pub(super) fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut texts = Vec::new();
        let mut list = Vec::new();
        let after = HEADER + entries.len() * ENTRY;
        for (flags, key, path) in entries {
            list.extend(flags.to_le_bytes());
            for text in [key, path] {
                list.extend(u32::try_from(after + texts.len()).unwrap().to_le_bytes());
                texts.extend(text.bytes().chain([0]));
            }
            list.extend([0; 12]);
        }
        let mut bytes = b"ld.so-1.7.0\0of old".to_vec();
        bytes.extend(MAGIC);
        bytes.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
        bytes.resize(18 + HEADER + 1, 0);
        bytes.truncate(18 + HEADER + 1);
        // `HEADER` counts from the magic.
        bytes.truncate(19 + HEADER - 1);
        bytes.extend(list);
        bytes.extend(texts);
        bytes
    }

    #[test]
    fn entries_are_found_by_name() {
        let other = FLAGS ^ 0x0900;
        let bytes = cache(&[
            (FLAGS, "libssl.so.3", "/lib/3"),
            (FLAGS, "libssl.so.1.1", "/lib/1.1"),
            (other, "libssl.so.3", "/lib32/3"),
            (FLAGS, "libssl3.so", "/lib/nss"),
            (FLAGS, "libsslx.so", "/lib/x"),
        ]);
        let found = |name: &str| {
            let paths = named(&bytes, name).unwrap();
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("libssl"), ["/lib/3", "/lib/1.1"]);
        assert_eq!(found("libssl.so.1.1"), ["/lib/1.1"]);
        assert_eq!(found("libss"), Vec::<String>::new());
        for length in 0..bytes.len() {
            // Cut anywhere: nothing but what is there.
            let paths = named(&bytes[..length], "libssl").unwrap_or_default();
            assert!(paths.len() <= 2);
        }
    }

    #[test]
    fn versions_are_numbers() {
        assert!(version("libx.so.10.1") > version("libx.so.9"));
        assert!(version("libx.so.1.2") > version("libx.so.1"));
    }
}
