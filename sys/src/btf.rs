//! The bytes of a BTF file, mapped rather than copied if the kernel supports that.

use memmap2::{Mmap, MmapOptions};
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::AsRawFd,
    path::Path,
};

/// Bytes of a BTF file.
pub struct BtfBytes(BtfMemory);

enum BtfMemory {
    Mapped(Mmap),
    Copied(Vec<u8>),
}

impl BtfBytes {
    /// Whether they are mapped pages of the kernel, which cost this process no memory.
    pub fn is_mapped(&self) -> bool {
        matches!(self.0, BtfMemory::Mapped(_))
    }
}

impl AsRef<[u8]> for BtfBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            BtfMemory::Mapped(bytes) => bytes,
            BtfMemory::Copied(bytes) => bytes,
        }
    }
}

impl fmt::Debug for BtfBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.as_ref().len();
        f.debug_struct("BtfBytes").field("len", &length).field("mapped", &self.is_mapped()).finish()
    }
}

/// Reads a BTF file. `/sys/kernel/btf/vmlinux` is mapped since 6.16; otherwise the bytes are copied.
pub fn read_btf(path: &Path) -> io::Result<BtfBytes> {
    let context =
        |error: io::Error| io::Error::new(error.kind(), format!("read {}: {error}", path.display()));
    let mut file = File::open(path).map_err(context)?;
    if on_sysfs(&file) {
        // The kernel refuses a shared mapping even when it is read-only, hence the private one.
        // SAFETY: nobody can write or truncate the file: it is a part of the kernel's read-only data.
        if let Ok(mapped) = unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            return Ok(BtfBytes(BtfMemory::Mapped(mapped)));
        }
    }
    let size = file.metadata().map_err(context)?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(size).expect("a usize has 64 bits") + 1);
    file.read_to_end(&mut bytes).map_err(context)?;
    Ok(BtfBytes(BtfMemory::Copied(bytes)))
}

fn on_sysfs(file: &File) -> bool {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open and the structure is valid for the write.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) };
    // SAFETY: zeroes are a value of this structure of numbers, whether or not the call filled it.
    let found = unsafe { found.assume_init() };
    result == 0 && found.f_type == libc::SYSFS_MAGIC
}
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_ordinary_file_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("btf");
        fs::write(&path, b"\x9f\xeb\x01").unwrap();
        let bytes = read_btf(&path).unwrap();
        assert_eq!(bytes.as_ref(), b"\x9f\xeb\x01");
        assert!(!bytes.is_mapped());
        let error = read_btf(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("none: "), "{error}");
    }

    #[test]
    fn the_kernels_own_is_the_same_mapped_and_copied() {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let Ok(copied) = fs::read(path) else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        let bytes = read_btf(path).unwrap();
        println!("mapped: {}", bytes.is_mapped());
        assert!(bytes.as_ref() == copied, "mapped and copied bytes differ");
    }
}
