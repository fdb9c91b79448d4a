//! Names from the kernel and its files, as texts for labels.
//!
//! All code that names a device uses this, so that a device has the same name in every family.

use std::{
    ffi::OsStr,
    fmt::Write,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Bits of a kernel `dev_t` that hold the minor number (`MINORBITS`).
const MINOR_BITS: u32 = 20;

/// Keeps UTF-8 and writes each other byte as `\xNN`: unlike with a replacement character, names that differ only in such bytes
/// stay different. A fixed-size buffer may well cut a character in two.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes any text");
        }
    }
    text
}

/// The name of a block device by its file name in sysfs.
pub fn of_block_file(file: &OsStr) -> String {
    // The kernel writes `/` in a device name as `!`: `cciss!c0d0`.
    escape(file.as_bytes()).replace('!', "/")
}

/// The file name in sysfs of a block device with this name.
pub fn block_file(name: &str) -> String {
    name.replace('/', "!")
}

/// The link in sysfs for a block device's number.
pub fn block_link(sys: &Path, device: u64) -> PathBuf {
    sys.join("dev/block").join(numbers(device))
}

/// The name of a block device, or of a partition, by its number; `None` if there is no such device.
pub fn of_block_device(sys: &Path, device: u64) -> Option<String> {
    fs::read_link(block_link(sys, device)).ok()?.file_name().map(of_block_file)
}

/// `MAJOR:MINOR`
pub fn numbers(device: u64) -> String {
    let (major, minor) = parts(device);
    format!("{major}:{minor}")
}

/// Major and minor number.
pub fn parts(device: u64) -> (u64, u64) {
    (device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1))
}

/// Parses a number such as `8:17`; `None` if no device can have it.
pub fn parse_numbers(text: &str) -> Option<u64> {
    let (major, minor) = text.trim().split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    // 12 and 20 bits, as in the kernel's `dev_t`.
    (major < 1 << 12 && minor < 1 << MINOR_BITS).then_some(major << MINOR_BITS | minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices() {
        for (text, expected) in [
            ("8:17\n", Some(8 << 20 | 0x11)),
            ("0:0", Some(0)),
            ("4095:1048575", Some(u64::from(u32::MAX))),
            ("4096:0", None),
            ("0:1048576", None),
            ("8", None),
            ("8:", None),
            (":8", None),
            ("-1:0", None),
            ("8:1:2", None),
            ("", None),
        ] {
            assert_eq!(parse_numbers(text), expected, "{text}");
        }
        assert_eq!(numbers(8 << 20 | 0x11), "8:17");
    }

    #[test]
    fn names_of_files() {
        for (file, expected) in [
            (&b"sda1"[..], "sda1"),
            (b"cciss!c0d0p1", "cciss/c0d0p1"),
            ("md_gro\u{df} raid".as_bytes(), "md_gro\u{df} raid"),
            (b"md_\xff", "md_\\xff"),
        ] {
            assert_eq!(of_block_file(OsStr::from_bytes(file)), expected);
        }
    }
}
