//! Where a thread of a test runs.

use super::cases::Skip;

/// Keeps this thread to one processor.
pub fn pin(cpu: usize) -> Result<(), Skip> {
    // SAFETY: a set of processors is numbers, and zeros are one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: there are fewer processors than a set has room for.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as large as is said, and is only read.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(Skip(format!("there is no processor {cpu}"))) }
}
