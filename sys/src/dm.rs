//! Device mapper: reads the tables of devices by the `ioctl`s of its control device, as in `include/uapi/linux/dm-ioctl.h`.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

/// The oldest version of the interface; all kernels of one major version accept it.
const VERSION: [u32; 3] = [4, 0, 0];
/// `_IOWR(0xfd, 12, struct dm_ioctl)`
#[allow(
    clippy::cast_lossless,
    clippy::cast_possible_wrap,
    reason = "what the number's type is depends on the C library"
)]
const DM_TABLE_STATUS: libc::Ioctl = 0xc138_fd0c_u32 as libc::Ioctl;
/// Requests the table instead of the status.
const DM_STATUS_TABLE_FLAG: u32 = 1 << 4;
/// Set by the kernel if the answer did not fit.
const DM_BUFFER_FULL_FLAG: u32 = 1 << 8;
/// Keeps the request from making a target flush its data (thin pools would).
const DM_NOFLUSH_FLAG: u32 = 1 << 11;

/// Bytes of `struct dm_ioctl`.
const HEADER: usize = 0x138;
/// Bytes of `struct dm_target_spec`.
const SPEC: usize = 40;
/// Bytes of the first buffer, and of the largest.
const SMALL: usize = 16 << 10;
const LARGE: usize = 1 << 20;

/// One target of a device's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmTarget {
    /// The target's type: `striped`, `raid`, …
    pub kind: String,
    /// Its line in the table or status.
    pub parameters: String,
}

/// The control device. Several threads may use it at a time: a device that does not answer holds up no other.
#[derive(Debug)]
pub struct DmControl {
    fd: OwnedFd,
}

impl DmControl {
    /// Opens the control device, usually `/dev/mapper/control`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", path.display())))?;
        Ok(Self { fd: file.into() })
    }

    /// The targets of a device (`major << 20 | minor`), each with its status; `ENXIO` if there is no such device.
    pub fn status(&self, device: u64) -> io::Result<Vec<DmTarget>> {
        self.targets(device, 0)
    }

    /// The targets of a device, each with its table line.
    pub fn table(&self, device: u64) -> io::Result<Vec<DmTarget>> {
        self.targets(device, DM_STATUS_TABLE_FLAG)
    }

    fn targets(&self, device: u64, flags: u32) -> io::Result<Vec<DmTarget>> {
        // Words, because of the alignment that the kernel uses.
        let mut buffer = vec![0_u64; SMALL / 8];
        loop {
            let answer = self.ask(&mut buffer, device, flags | DM_NOFLUSH_FLAG)?;
            let is_full = word(answer, 28).is_none_or(|flags| flags & DM_BUFFER_FULL_FLAG != 0);
            if !is_full {
                return targets(answer).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "the device mapper's answer makes no sense")
                });
            }
            let size = buffer.len() * 8;
            if size >= LARGE {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a table of more than {LARGE} bytes"),
                ));
            }
            buffer = vec![0; size * 4 / 8];
        }
    }

    /// Requests the targets; the answer has the length that the kernel reports, within the buffer.
    fn ask<'b>(&self, buffer: &'b mut [u64], device: u64, flags: u32) -> io::Result<&'b [u8]> {
        let size = buffer.len() * 8;
        let size_word = u32::try_from(size).map_err(io::Error::other)?;
        let header = u32::try_from(HEADER).map_err(io::Error::other)?;
        // `version`, `data_size`, `data_start`, `target_count`, `open_count`, `flags`, `event_nr`, padding, `dev`.
        let words = [VERSION[0], VERSION[1], VERSION[2], size_word, header, 0, 0, flags, 0, 0];
        for (place, pair) in buffer.iter_mut().zip(words.chunks_exact(2)) {
            *place = u64::from(pair[0]) | u64::from(pair[1]) << 32;
        }
        buffer[words.len() / 2] = encode(device);
        // SAFETY: the buffer is `data_size` bytes that nobody else refers to, and the kernel writes no more than that.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), DM_TABLE_STATUS, buffer.as_mut_ptr()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: any bytes are valid for `u8`, and they are those of the buffer, borrowed as long.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), size) };
        let end = word(bytes, 12).and_then(|end| usize::try_from(end).ok()).unwrap_or(0).min(size);
        Ok(&bytes[..end])
    }
}

/// A device's number in the form of this interface (`new_encode_dev`): the low 8 bits of the minor number, 12 bits of the
/// major, the rest of the minor.
fn encode(device: u64) -> u64 {
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// The number at an offset.
fn word(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

/// Parses the targets of an answer; `None` if an offset leads out of it.
fn targets(answer: &[u8]) -> Option<Vec<DmTarget>> {
    let start = usize::try_from(word(answer, 16)?).ok()?;
    let count = usize::try_from(word(answer, 20)?).ok()?;
    if count == 0 {
        return Some(Vec::new());
    }
    let data = answer.get(start..)?;
    let mut targets = Vec::new();
    let mut at = 0;
    // An answer has no room for more, whatever its header says.
    if count > data.len() / SPEC {
        return None;
    }
    for _ in 0..count {
        let spec = data.get(at..)?;
        // `sector_start`, `length`, `status`; then the offset of the next target from the first.
        let next = usize::try_from(word(spec, 20)?).ok()?;
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        targets.push(DmTarget { kind: text(spec.get(24..SPEC)?), parameters: text(spec.get(SPEC..)?) });
        at = next;
    }
    Some(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(targets: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = vec![0_u8; HEADER];
        bytes[16..20].copy_from_slice(&u32::try_from(HEADER).unwrap().to_ne_bytes());
        bytes[20..24].copy_from_slice(&u32::try_from(targets.len()).unwrap().to_ne_bytes());
        for (kind, line) in targets {
            let start = bytes.len();
            bytes.extend([0; SPEC]);
            bytes[start + 24..start + 24 + kind.len()].copy_from_slice(kind.as_bytes());
            bytes.extend(line.as_bytes());
            bytes.push(0);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let next = u32::try_from(bytes.len() - HEADER).unwrap();
            bytes[start + 20..start + 24].copy_from_slice(&next.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_targets_of_an_answer() {
        let pairs = [
            ("striped", "2 128 8:0 0 8:16 0"),
            ("linear", "8:32 0"),
            ("error", ""),
            ("sixteen_letters_", "x"),
        ];
        let found = targets(&answer(&pairs)).unwrap();
        let found: Vec<_> =
            found.iter().map(|target| (target.kind.as_str(), target.parameters.as_str())).collect();
        assert_eq!(found, pairs);
        assert_eq!(targets(&answer(&[])), Some(Vec::new()));
    }

    #[test]
    fn an_answer_that_lies() {
        let good = answer(&[("striped", "2 128 8:0 0 8:16 0"), ("linear", "8:32 0")]);
        for end in 0..good.len() {
            targets(&good[..end]);
        }
        for place in [16, 20, HEADER + 20] {
            for number in [u32::MAX, 0x7fff_ffff, 313, 3] {
                let mut bad = good.clone();
                bad[place..place + 4].copy_from_slice(&number.to_ne_bytes());
                targets(&bad);
            }
        }
    }

    #[test]
    fn numbers_of_devices() {
        for (major, minor, expected) in
            [(253, 0, 0xfd00), (253, 255, 0xfdff), (253, 256, 0x0010_fd00), (8, 0xf_ffff, 0xfff0_08ff)]
        {
            assert_eq!(encode(major << 20 | minor), expected);
        }
    }

    #[test]
    fn no_control_device() {
        let error = DmControl::open(Path::new("/nonexistent/control")).unwrap_err().to_string();
        assert!(error.starts_with("open /nonexistent/control: "), "{error}");
        // Another device does not support the call.
        let error = DmControl::open(Path::new("/dev/null")).unwrap().status(0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
