//! BTF in what it comes in: as it is, in a kernel's ELF file or boot image, packed by xz or gzip, in an archive of tar.
//!
//! These files are somebody else's: what is unpacked, and how deep, is bounded.

use super::archive;
use crate::elf;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use memchr::memmem;
use std::io::{ErrorKind, Read};
use tapster_ebpf::{attach::Arch, btf::Btf};

/// Most bytes of BTF: those of kernels are 4 to 10 MB.
pub(super) const MOST_TYPES: u64 = 64 << 20;
/// Most bytes of what is unpacked: a kernel without debug information is 60 MB.
pub(super) const MOST: u64 = 256 << 20;
/// Most memory for unpacking, KiB.
const MEMORY: u32 = 128 << 10;
/// A kernel in an archive, packed, and its image packed again.
const DEPTH: u32 = 4;

/// The types of a kernel, and what its file says besides.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelTypes {
    /// The name of the file in an archive.
    pub(super) name: Option<String>,
    pub(super) bytes: Vec<u8>,
    pub(super) arch: Option<Arch>,
    /// What follows `Linux version` in the kernel.
    pub(super) release: Option<String>,
}

/// Why no types are taken from a file: what is wrong, and what to do.
pub(super) type FileRefusal = (String, Option<String>);

fn refuse<T>(message: impl Into<String>, hint: &str) -> Result<T, FileRefusal> {
    Err((message.into(), (!hint.is_empty()).then(|| hint.into())))
}

const UNPACK: &str = "unpack it with `extract-vmlinux`, which is in the kernel's `scripts`";

/// Whether a file begins like one that may have types.
pub(super) fn is_known(begin: &[u8]) -> bool {
    begin.starts_with(&[0x9f, 0xeb])
        || begin.starts_with(b"\x7fELF")
        || begin.starts_with(XZ)
        || begin.starts_with(GZIP)
        || archive::is_one(begin)
        || is_boot_image(begin)
        || is_arm_image(begin)
}

const XZ: &[u8] = b"\xfd7zXZ\0";
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// `Documentation/arch/x86/boot.rst`
fn is_boot_image(bytes: &[u8]) -> bool {
    bytes.get(0x202..0x206) == Some(b"HdrS")
}

/// `Documentation/arch/arm64/booting.rst`
fn is_arm_image(bytes: &[u8]) -> bool {
    bytes.get(56..60) == Some(b"ARM\x64")
}

/// The machine of an ELF file.
pub(super) fn arch(machine: u16) -> Option<Arch> {
    match machine {
        elf::X86_64 => Some(Arch::X86_64),
        elf::AARCH64 => Some(Arch::Aarch64),
        _ => None,
    }
}

/// The types in a file, or of each kernel in an archive.
pub(super) fn types(bytes: Vec<u8>) -> Result<Vec<KernelTypes>, FileRefusal> {
    within(bytes, DEPTH)
}

fn within(bytes: Vec<u8>, depth: u32) -> Result<Vec<KernelTypes>, FileRefusal> {
    let Some(depth) = depth.checked_sub(1) else { return refuse("it is packed again and again", "") };
    if bytes.starts_with(&[0x9f, 0xeb]) {
        return Ok(vec![KernelTypes { bytes, ..KernelTypes::default() }]);
    }
    if bytes.starts_with(&[0xeb, 0x9f]) {
        return refuse("it is BTF in another byte order than this machine's", "");
    }
    if bytes.starts_with(b"\x7fELF") {
        let (machine, found) = match elf::section(&bytes.as_slice(), ".BTF", MOST_TYPES) {
            Ok(found) => found,
            Err(why) => return refuse(format!("its ELF cannot be read: {why}"), ""),
        };
        return of_elf(machine, found, release(&bytes)).map(|types| vec![types]);
    }
    if bytes.starts_with(XZ) {
        return within(unpack(XzReader::new_mem_limit(bytes.as_slice(), true, MEMORY))?, depth);
    }
    if bytes.starts_with(GZIP) {
        return within(unpack(MultiGzDecoder::new(bytes.as_slice()))?, depth);
    }
    if bytes.starts_with(ZSTD) {
        return refuse("it is packed by zstd, which is not unpacked here", "unpack it: zstd -d");
    }
    if is_boot_image(&bytes) {
        return within(boot_image(&bytes)?, depth);
    }
    if is_arm_image(&bytes) {
        return carved(&bytes).map(|types| vec![types]);
    }
    if archive::is_one(&bytes) {
        let mut all = Vec::new();
        for (name, content) in archive::files(&bytes)? {
            if is_known(content) {
                let found = within(content.to_vec(), depth)?;
                all.extend(
                    found.into_iter().map(|types| KernelTypes {
                        name: types.name.or_else(|| Some(name.clone())),
                        ..types
                    }),
                );
            }
        }
        if all.is_empty() {
            return refuse("there is no BTF in the archive", "");
        }
        return Ok(all);
    }
    refuse(
        "it is neither BTF nor a kernel nor an archive of them",
        "give a copy of /sys/kernel/btf/vmlinux, a vmlinux, or a file of BTFHub",
    )
}

/// Types of a kernel's ELF file.
pub(super) fn of_elf(
    machine: u16,
    section: Option<Vec<u8>>,
    release: Option<String>,
) -> Result<KernelTypes, FileRefusal> {
    match section {
        Some(bytes) => Ok(KernelTypes { name: None, bytes, arch: arch(machine), release }),
        None => refuse(
            "the ELF file has no section `.BTF`",
            "it is in kernels built with CONFIG_DEBUG_INFO_BTF=y",
        ),
    }
}

fn unpack(mut packed: impl Read) -> Result<Vec<u8>, FileRefusal> {
    let mut bytes = Vec::new();
    match packed.by_ref().take(MOST + 1).read_to_end(&mut bytes) {
        Ok(_) if u64::try_from(bytes.len()).is_ok_and(|length| length <= MOST) => Ok(bytes),
        Ok(_) => refuse(format!("what is packed in it is larger than {} MiB", MOST >> 20), ""),
        Err(error) if error.kind() == ErrorKind::OutOfMemory => {
            refuse("what is packed in it takes more memory to unpack than it may", "")
        }
        Err(error) => refuse(format!("what is packed in it is not whole: {error}"), ""),
    }
}

/// The kernel in a boot image of x86.
fn boot_image(bytes: &[u8]) -> Result<Vec<u8>, FileRefusal> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(word.try_into().ok()?)).ok()
    };
    // Images of old kernels say 0 and mean 4.
    let sectors = bytes.get(0x1f1).map(|count| usize::from(if *count == 0 { 4 } else { *count }));
    let payload = sectors.zip(word(0x248)).zip(word(0x24c)).and_then(|((sectors, offset), length)| {
        let start = (sectors + 1).checked_mul(512)?.checked_add(offset)?;
        bytes.get(start..start.checked_add(length)?)
    });
    let Some(payload) = payload else { return refuse("the boot image is not whole", "") };
    if payload.starts_with(XZ) {
        // What follows is the size.
        return unpack(XzReader::new_mem_limit(payload, false, MEMORY));
    }
    if payload.starts_with(GZIP) {
        return unpack(flate2::read::GzDecoder::new(payload));
    }
    let by = if payload.starts_with(ZSTD) { "zstd" } else { "something else than xz and gzip" };
    refuse(format!("the kernel in the boot image is packed by {by}, which is not unpacked here"), UNPACK)
}

/// The BTF in an image without sections.
fn carved(bytes: &[u8]) -> Result<KernelTypes, FileRefusal> {
    // Version 1, no flags, a header of 24 bytes.
    const HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
    let found = memmem::find_iter(bytes, &HEADER).filter_map(|at| {
        let word = |index: usize| {
            let at = at + 8 + index * 4;
            let word = bytes.get(at..at + 4)?;
            usize::try_from(u32::from_le_bytes(word.try_into().ok()?)).ok()
        };
        let (types_at, types, names_at, names) = (word(0)?, word(1)?, word(2)?, word(3)?);
        let length = names_at.checked_add(names)?.checked_add(24)?;
        let is_plain = types_at == 0 && names_at == types && u64::try_from(length).ok()? <= MOST_TYPES;
        bytes.get(at..at.checked_add(length)?).filter(|_| is_plain)
    });
    // Modules that are built in have none of their own, so the largest is the kernel's.
    match found.max_by_key(|found| found.len()) {
        Some(found) if Btf::parse(found.to_vec()).is_ok() => Ok(KernelTypes {
            name: None,
            bytes: found.to_vec(),
            arch: Some(Arch::Aarch64),
            release: release(bytes),
        }),
        _ => refuse("there is no BTF in the image", "it is in kernels built with CONFIG_DEBUG_INFO_BTF=y"),
    }
}

/// The release that a kernel has in its banner.
pub(super) fn release(bytes: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    memmem::find_iter(bytes, BANNER).find_map(|at| {
        let rest = &bytes[at + BANNER.len()..];
        let word = &rest[..rest.iter().take(128).position(|byte| *byte == b' ')?];
        let word = std::str::from_utf8(word).ok()?;
        (word.starts_with(|first: char| first.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_graphic()))
        .then(|| word.to_owned())
    })
}
