//! The number of CPUs that may ever come online, for each of which per-CPU maps have a value, and of those that are online.

use std::{fs, io, ops::RangeInclusive, path::Path};

/// The number of possible CPUs of the running kernel, which determines the layout of per-CPU maps.
///
/// This is a type of its own, because with a smaller number than the kernel's the kernel would write past a buffer. It never
/// changes while the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PossibleCpus(u32);

impl PossibleCpus {
    /// Reads it from the running kernel.
    pub fn of_host() -> io::Result<Self> {
        listed_cpus(Path::new("/sys/devices/system/cpu/possible")).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Most CPUs that are read from a list; kernels are built for at most 8192.
const MOST: u32 = 1 << 16;

/// The number of CPUs in a file such as `/sys/devices/system/cpu/possible` or `…/online`: `0-3` or `0-1,4-7`.
pub fn listed_cpus(path: &Path) -> io::Result<u32> {
    read(path, count)
}

/// The CPUs listed in such a file.
pub fn cpu_list(path: &Path) -> io::Result<Vec<u32>> {
    read(path, |list| {
        count(list).filter(|count| *count <= MOST)?;
        Some(ranges(list).flatten().flatten().collect())
    })
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", path.display())))?;
    parse(&text).ok_or_else(|| {
        let message = format!("`{}` in {} is not a list of CPUs", text.trim(), path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

/// The first and last CPU of each range; `None` for a malformed one.
fn ranges(list: &str) -> impl Iterator<Item = Option<RangeInclusive<u32>>> {
    list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    })
}

fn count(list: &str) -> Option<u32> {
    ranges(list).try_fold(0_u32, |total, range| {
        let range = range?;
        total.checked_add(range.end().checked_sub(*range.start())?.checked_add(1)?)
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
    fn cpus_of_a_list() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0-1,4,6-7\n").unwrap();
        assert_eq!(cpu_list(file.path()).unwrap(), [0, 1, 4, 6, 7]);
        fs::write(file.path(), "0-4294967294\n").unwrap();
        assert!(cpu_list(file.path()).is_err(), "more than any kernel has");
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
