//! Memory of this process and of the kernel's objects.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Returns memory that start-up freed to the kernel, so that the resident size falls.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator locks itself; no memory in use is touched.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Lifts the limit of locked memory, to which kernels before 5.11 charge maps and programs; later ones charge the memory
/// cgroup. Needs `CAP_SYS_RESOURCE`.
pub fn lift_memlock() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit outlives the call, which only reads it.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Kernel memory of a map or program in bytes, as the kernel accounts it; for maps exact since 6.4.
pub fn map_memory(fd: BorrowedFd<'_>) -> Option<u64> {
    memlock(&fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?)
}

fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn reads_the_memlock_line() {
        assert_eq!(memlock("pos:\t0\nmap_type:\t1\nmemlock:\t81920\nfrozen:\t0\n"), Some(81920));
        assert_eq!(memlock("pos:\t0\n"), None);
    }

    #[test]
    fn a_file_that_is_no_map_has_none() {
        assert_eq!(map_memory(fs::File::open("/proc/self/status").unwrap().as_fd()), None);
    }

    #[test]
    fn memory_in_use_survives_a_release() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![1_u8; 1 << 22]);
        release_memory();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
