//! Opens files as another process sees them.

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// `struct open_how`
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `RESOLVE_IN_ROOT`: the directory is `/` at the beginning of the path and of every link on the way, and `..` does not leave
/// it.
const IN_ROOT: u64 = 0x10;

/// Opens a path below a directory, which links cannot leave, 5.6.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> io::Result<File> {
    let how =
        OpenHow { flags: u64::from((flags | libc::O_CLOEXEC).cast_unsigned()), mode: 0, resolve: IN_ROOT };
    // SAFETY: the kernel reads a string and the structure, whose size it is told; the call makes a descriptor.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) })),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct file_handle` of a kernfs file system, 5.5.
#[repr(C)]
struct KernfsHandle {
    bytes: u32,
    kind: i32,
    /// Two halves, because the structure has the alignment of its first fields.
    id: [u32; 2],
}

/// `FILEID_KERNFS`
const KERNFS: i32 = 0xfe;

/// Opens a directory by its id on the file system of `mount`, only to find its path (`O_PATH`). It needs `CAP_DAC_READ_SEARCH`;
/// `ESTALE` means that no directory has this id.
pub fn open_by_kernfs_id(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let halves = id.to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes([halves[at], halves[at + 1], halves[at + 2], halves[at + 3]]);
    let mut handle = KernfsHandle { bytes: 8, kind: KERNFS, id: [half(0), half(4)] };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the kernel reads the structure, whose `bytes` says how long its end is; the call makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, flags) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Read, os::fd::AsFd, os::unix::fs::symlink};

    #[test]
    fn links_stay_within_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib/file"), "inside").unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("/../../etc/passwd", root.join("out")).unwrap();
        let opened = File::open(root).unwrap();
        let read = |path: &CStr| {
            let mut text = String::new();
            open_in(opened.as_fd(), path, libc::O_RDONLY)?.read_to_string(&mut text)?;
            io::Result::Ok(text)
        };
        assert_eq!(read(c"/lib/file").unwrap(), "inside");
        assert_eq!(read(c"../../usr/lib/file").unwrap(), "inside");
        assert_eq!(read(c"/out").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
