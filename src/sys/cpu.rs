//! How many CPUs the kernel may ever bring up, for each of which per-CPU maps have a value, and how many it runs on.

use std::{fs, io, path::Path};

/// The number of possible CPUs of the running kernel, as per-CPU maps are laid out by.
///
/// A type of its own, because a smaller number than the kernel's would let it write past a buffer. Never changes while the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PossibleCpus(u32);

impl PossibleCpus {
    /// Asks the running kernel.
    pub fn of_host() -> io::Result<Self> {
        listed_cpus(Path::new("/sys/devices/system/cpu/possible")).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The number of CPUs in a file such as `/sys/devices/system/cpu/possible` or `…/online`: `0-3` or `0-1,4-7`.
pub fn listed_cpus(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", path.display())))?;
    count(&text).ok_or_else(|| {
        let message = format!("`{}` in {} is not a list of CPUs", text.trim(), path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn count(list: &str) -> Option<u32> {
    list.trim().split(',').try_fold(0_u32, |total, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        total.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_ranges_and_single_numbers() {
        for (list, expected) in
            [("0\n", Some(1)), ("0-1,4-7\n", Some(6)), ("0-255", Some(256)), ("0,2,4", Some(3))]
        {
            assert_eq!(count(list), expected, "{list}");
        }
        for list in ["", "\n", "a", "3-1", "0-", "0-4294967295", "-1"] {
            assert_eq!(count(list), None, "{list}");
        }
    }

    #[test]
    fn an_error_names_the_file() {
        let error = listed_cpus(Path::new("/nonexistent/possible")).unwrap_err().to_string();
        assert!(error.starts_with("read /nonexistent/possible: "), "{error}");
    }

    #[test]
    fn the_host_has_a_cpu() {
        assert!(PossibleCpus::of_host().unwrap().get() >= 1);
    }
}
