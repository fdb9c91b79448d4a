//! Limits of this process, and signals to one that it started.

use std::io;

/// How many files this process may have open, raised for as long as this lives: children inherit the limit, so it
/// should not live when one is started.
#[derive(Debug)]
pub struct FileLimit {
    before: libc::rlimit,
    /// The limit now.
    pub files: u64,
}

/// Raises the limit of open files as far as the kernel lets this process.
pub fn raise_file_limit() -> io::Result<FileLimit> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for the write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
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

/// Sends a signal to a process that this one started and has not waited for yet, so that its number is its own.
pub fn send_signal(child: &std::process::Child, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: it takes numbers.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reaches_the_child() {
        use std::os::unix::process::ExitStatusExt;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        send_signal(&child, libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
