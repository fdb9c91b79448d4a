//! Limits of this process.

use std::io;

/// A raised limit of open files, restored when this is dropped: children inherit the limit, so drop it before starting one.
#[derive(Debug)]
pub struct FileLimit {
    before: libc::rlimit,
    /// The present limit.
    pub files: u64,
}

/// The present limit of open files of this process.
pub fn file_limit() -> io::Result<u64> {
    get().map(|limit| limit.rlim_cur)
}

fn get() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for the write.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit of open files as far as the kernel allows.
pub fn raise_file_limit() -> io::Result<FileLimit> {
    let before = get()?;
    set(libc::rlimit { rlim_cur: before.rlim_max, ..before })?;
    Ok(FileLimit { before, files: before.rlim_max })
}

fn set(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the limit outlives the call, which only reads it.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Drop for FileLimit {
    fn drop(&mut self) {
        // Files beyond it stay open, and lowering a limit is always allowed.
        let _ = set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_only_meanwhile() {
        let soft = || file_limit().unwrap();
        let before = soft();
        let raised = raise_file_limit().unwrap();
        assert_eq!(soft(), raised.files);
        drop(raised);
        assert_eq!(soft(), before);
    }
}
