//! Makers, devices and classes of PCI, by the host's `pci.ids`: the list of the PCI ID Repository, which `lspci` reads as well.
//!
//! The file has some forty thousand lines, of which a host needs a few. So it is read when a number is met for the first time, and
//! only the name of that number is kept.

use super::{Decode, Host, HostError, number::unsigned};
use crate::name::escape;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
};
use tapster_ebpf::probe::PciPart;

/// Most bytes of the file that are read; it has less than two million.
const MOST_BYTES: u64 = 16 << 20;
/// Most numbers that are looked up, each once; others are shown as numbers. No machine has so many devices.
const MOST_NAMES: usize = 1024;
/// Longest name that is shown, bytes.
const LONGEST_NAME: usize = 200;

/// Names by number.
#[derive(Debug)]
pub(super) struct PciDecoder {
    part: PciPart,
    /// `None` if the host has no such file.
    file: Option<PathBuf>,
    /// The text of each number that was looked up. It stays, because the counts of a series must not decrease.
    texts: HashMap<u64, String>,
}

impl PciDecoder {
    /// Finds the file. Fails if there is one that cannot be read; without one numbers are shown.
    pub(super) fn new(host: &Host, part: PciPart) -> Result<Self, HostError> {
        let made = |file| Self { part, file, texts: HashMap::new() };
        let mut refused = None;
        for path in host.pci_ids() {
            match File::open(&path) {
                Ok(_) => return Ok(made(Some(path))),
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => refused = Some((path, source)),
            }
        }
        let Some((path, source)) = refused else { return Ok(made(None)) };
        let decoder = match part {
            PciPart::Vendor => "pci_vendor",
            PciPart::Device => "pci_device",
            PciPart::Class => "pci_class",
            PciPart::Subclass => "pci_subclass",
        };
        Err(HostError::Unreadable { decoder, path, source })
    }

    fn look_up(&self, number: u64) -> Option<String> {
        let (heading, entry) = sought(self.part, number)?;
        let file = File::open(self.file.as_ref()?).ok()?;
        let lines = BufReader::new(file.take(MOST_BYTES));
        find(lines, &heading, entry.as_deref()).ok().flatten()
    }
}

impl Decode for PciDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let number = unsigned(raw);
        if let Some(text) = self.texts.get(&number) {
            return Some(text.clone());
        }
        let is_full = self.texts.len() >= MOST_NAMES;
        let found = if is_full { None } else { self.look_up(number) };
        let text = found.unwrap_or_else(|| digits(self.part, number));
        if !is_full {
            self.texts.insert(number, text.clone());
        }
        Some(text)
    }
}

/// A number without a name.
fn digits(part: PciPart, number: u64) -> String {
    match part {
        PciPart::Vendor => format!("{number:#06x}"),
        PciPart::Device => format!("{:04x}:{:04x}", number >> 16, number & 0xffff),
        PciPart::Class => format!("{:#04x}", number >> 16),
        PciPart::Subclass => format!("{:#06x}", number >> 8),
    }
}

/// How the line of a vendor or a wide class begins, and the line below it that has the name; `None` for what is no such number.
fn sought(part: PciPart, number: u64) -> Option<(String, Option<String>)> {
    let number = u32::try_from(number).ok()?;
    let lines = match part {
        PciPart::Vendor => (format!("{number:04x}"), None),
        PciPart::Device => (format!("{:04x}", number >> 16), Some(format!("\t{:04x}", number & 0xffff))),
        PciPart::Class => (format!("C {:02x}", number >> 16), None),
        PciPart::Subclass => {
            (format!("C {:02x}", number >> 16), Some(format!("\t{:02x}", number >> 8 & 0xff)))
        }
    };
    Some(lines)
}

/// Finds the name of an entry below a heading, or of the heading itself if there is no entry to look for.
fn find(mut lines: impl BufRead, heading: &str, entry: Option<&str>) -> io::Result<Option<String>> {
    let (mut line, mut is_below) = (Vec::new(), false);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_ascii_end();
        match (is_below, line.first()) {
            (_, None | Some(b'#')) | (false, Some(b'\t')) => {}
            (true, Some(b'\t')) => {
                if let Some(name) = entry.and_then(|entry| named(line, entry)) {
                    return Ok(Some(name));
                }
            }
            // Behind the end of what is below the heading.
            (true, Some(_)) => return Ok(None),
            (false, Some(_)) => {
                let name = named(line, heading);
                if entry.is_none() && name.is_some() {
                    return Ok(name);
                }
                is_below = name.is_some();
            }
        }
    }
}

/// The name in a line that begins so: two spaces are between them.
fn named(line: &[u8], begin: &str) -> Option<String> {
    let name = line.strip_prefix(begin.as_bytes())?.strip_prefix(b"  ")?.trim_ascii();
    if name.is_empty() {
        return None;
    }
    let mut name = escape(name);
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    Some(name)
}
