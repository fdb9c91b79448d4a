//! Who may write to a file, as far as its mode does not show it.

use std::{ffi::CString, io, mem::MaybeUninit, os::unix::ffi::OsStrExt, path::Path, ptr};

/// Whether a path is on a file system that is mounted read-only, as volumes of a `ConfigMap` are.
pub fn is_read_only(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path is a string, and the structure is valid for the write.
    let result = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it, and zeroes are a value of this structure of numbers.
    Ok(unsafe { found.assume_init() }.f_flag & libc::ST_RDONLY != 0)
}

/// Whether an access control list names more users and groups than the mode does: then the group bits of the mode are the most
/// that any of them may do.
pub fn has_access_list(path: &Path) -> io::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let name = c"system.posix_acl_access";
    // SAFETY: both are strings; without room for the value the kernel only says how long it is.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), ptr::null_mut(), 0) };
    if length >= 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODATA | libc::EOPNOTSUPP) => Ok(false),
        _ => Err(error),
    }
}

/// The effective user of this process.
pub fn effective_user() -> u32 {
    // SAFETY: it only returns a number.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_this_machine() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_read_only(file.path()).unwrap());
        assert!(!has_access_list(file.path()).unwrap());
        let none = Path::new("/nowhere/at/all");
        assert_eq!(is_read_only(none).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(has_access_list(none).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
