//! The numbers that md gives to members, which only `/proc/mdstat` contains.

use crate::name;
use std::{collections::HashMap, fs, path::Path};

/// Reads the file, with control characters escaped for terminals; empty if there is none.
pub fn mdstat(proc: &Path) -> String {
    fs::read(proc.join("mdstat")).map(|bytes| name::escape(&bytes)).unwrap_or_default()
}

/// Numbers by array and member, both by the kernel's names.
pub(super) fn numbers(mdstat: &str) -> HashMap<(&str, &str), u64> {
    // `md0 : active raid1 sdb1[1](F) sda1[0]`
    let lines = mdstat.lines().filter_map(|line| line.split_once(" : "));
    lines
        .flat_map(|(array, rest)| {
            rest.split_whitespace().filter_map(move |word| {
                let (member, rest) = word.split_once('[')?;
                let number = rest.split_once(']')?.0.parse().ok()?;
                Some(((array, member), number))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_members() {
        let text = "Personalities : [raid0] [raid1]\nmd1 : active raid1 cciss/c0d0p1[2](W) sda1[0](F)\n      \
                    1000 blocks super 1.2 [2/1] [U_]\n\nmd0 : inactive dm-0[7](S) x[y] [3] z[\nunused devices: <none>\n";
        let mut found: Vec<_> = numbers(text).into_iter().collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [(("md0", ""), 3), (("md0", "dm-0"), 7), (("md1", "cciss/c0d0p1"), 2), (("md1", "sda1"), 0)]
        );
    }
}
