//! What udev knows of a device, from its data base: `/run/udev/data/bMAJOR:MINOR`. In a container it is there only if it is
//! mounted; everything here is then unknown.

use super::{MAX_TEXT, label};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Most bytes of a file.
const MAX_BYTES: u64 = 1 << 16;

/// The properties of a device.
#[derive(Debug, Default)]
pub(super) struct Properties(Vec<u8>);

/// The file about a block device with this number, `MAJOR:MINOR`.
pub(super) fn file(udev: &Path, numbers: &str) -> PathBuf {
    udev.join(format!("b{numbers}"))
}

impl Properties {
    /// Reads a file; without one there are no properties.
    pub(super) fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        Self(if read.is_ok() { bytes } else { Vec::new() })
    }

    /// The value of the first of these properties that is there; empty if none is.
    pub(super) fn first(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.get(name)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    fn get(&self, name: &str) -> String {
        let line = self
            .0
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(b"E:")?.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        let value = line.unwrap_or_default();
        // `_ENC` properties have other characters than letters, digits and a few signs as `\x20`.
        if name.ends_with("_ENC") { label(&decoded(value), MAX_TEXT) } else { label(value, MAX_TEXT) }
    }
}

fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let code = match text {
            [b'\\', b'x', high, low, ..] => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        text = if code.is_some() { &text[4..] } else { rest };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_of_a_file() {
        let text = "S:disk/by-id/x\nI:123\nE:ID_MODEL=A_B\nE:ID_MODEL_ENC=A\\x20B\\x20\\x20\nE:ID_SERIAL=\nE:ID_SERIAL_SHORT=Z1\nE:ID_X\n";
        let properties = Properties(text.into());
        for (names, expected) in [
            (&["ID_MODEL_ENC", "ID_MODEL"][..], "A B"),
            (&["ID_MODEL"], "A_B"),
            (&["ID_SERIAL", "ID_SERIAL_SHORT"], "Z1"),
            (&["ID_X", "ID", "MODEL", "disk/by-id/x"], ""),
        ] {
            assert_eq!(properties.first(names), expected, "{names:?}");
        }
        assert_eq!(decoded(b"a\\x2gb\\x2\\"), b"a\\x2gb\\x2\\", "not written by udev");
        assert_eq!(Properties::read(Path::new("/nonexistent")).first(&["ID_MODEL"]), "");
    }
}
