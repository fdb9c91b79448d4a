//! Checks whether a file accepts a write.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// Whether a write of some bytes (4096 to a pipe) would return at once, even if it fails. Waits at most `patience` for that, in
/// whole milliseconds.
pub fn is_writable(file: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the one entry is valid for reads and writes during the call.
    match unsafe { libc::poll(&raw mut asked, 1, patience) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::fd::AsFd};

    #[test]
    fn a_full_pipe_takes_nothing_and_a_broken_one_fails_at_once() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut written = 0;
        while is_writable(writer.as_fd(), Duration::ZERO).unwrap() {
            writer.write_all(&[0; 4096]).unwrap();
            written += 1;
        }
        assert!(written > 0);
        drop(reader);
        assert!(is_writable(writer.as_fd(), Duration::ZERO).unwrap());
        assert!(writer.write_all(&[0]).is_err());
    }
}
