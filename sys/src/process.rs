//! Signals to other processes, and whether this one is in the terminal's foreground.

use std::{fs::File, io, os::fd::AsRawFd};

/// Sends a signal to one process.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    // 0 and negative numbers mean groups of processes.
    let pid = i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not the number of a process"))?;
    // SAFETY: it takes two numbers and reads no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to one thread of a process, as a program does to itself when it panics.
pub fn send_signal_to_thread(process: u32, thread: u32, signal: i32) -> io::Result<()> {
    // SAFETY: it takes numbers and reads no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Blocks a signal for this thread and those that it starts, or unblocks it.
pub fn hold_signal(signal: i32, hold: bool) -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: it writes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it was written above.
    let mut set = unsafe { set.assume_init() };
    // SAFETY: the set is ours and initialised.
    if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let how = if hold { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: the set is read, and no old one is asked for.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Ensures for good that no program that this thread starts gets more rights than it has.
pub fn no_new_privs() -> io::Result<()> {
    // SAFETY: it takes numbers and reads no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process is in the foreground group of its terminal, which gets Ctrl-C; false without a terminal.
pub fn is_in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    // SAFETY: the descriptor is open as long as `terminal` lives.
    let foreground = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    // SAFETY: it only returns a number, and cannot fail.
    foreground == unsafe { libc::getpgrp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_to_one_process() {
        send_signal(std::process::id(), 0).unwrap();
        for pid in [0, 1 << 31, u32::MAX] {
            assert_eq!(send_signal(pid, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let process = std::process::id();
        send_signal_to_thread(process, process, 0).unwrap();
        assert!(send_signal_to_thread(process, u32::MAX, 0).is_err());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        send_signal(child.id(), libc::SIGKILL).unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
            Some(libc::SIGKILL)
        );
    }
}
