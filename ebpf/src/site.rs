//! Functions that a probe is set on: one, or all that a pattern matches.

use crate::{missing::Missing, usdt::FileId};
use std::path::PathBuf;

/// A function to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its number in the probe, which programs know it by; given when the probe is checked.
    pub number: u32,
    /// As people write it: what the label `func` shows.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// Where a probe for a function goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a function of the kernel.
    Kernel {
        /// Its symbol.
        symbol: String,
        /// Its address, where the kernel tells addresses.
        address: Option<u64>,
    },
    /// To places in a file.
    File {
        /// Where the function begins, which tells it from others; bytes from the start of the file.
        entry: u64,
        /// The places: the same, or behind a mark for jumps that it begins with, or the instructions with which it returns.
        at: Vec<u64>,
    },
}

impl Site {
    /// A function without its number.
    pub fn new(name: impl Into<String>, place: Place) -> Self {
        Self { number: 0, name: name.into(), place }
    }

    /// A function of the kernel by its name alone.
    pub fn kernel(symbol: &str) -> Self {
        Self::new(symbol, Place::Kernel { symbol: symbol.into(), address: None })
    }

    /// Whether both are the same function of one kernel or file, by whatever name.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Kernel { symbol: a, address: at }, Place::Kernel { symbol: b, address: other }) => {
                a == b || at.is_some() && at == other
            }
            (Place::File { entry: a, .. }, Place::File { entry: b, .. }) => a == b,
            (Place::Kernel { .. }, Place::File { .. }) | (Place::File { .. }, Place::Kernel { .. }) => false,
        }
    }
}

/// Functions that an event attaches to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// Their program or library; `None` for the kernel.
    pub file: Option<PathBuf>,
    /// Which file that is, by whatever name.
    pub id: Option<FileId>,
    /// The functions; empty for events that are none's.
    pub list: Vec<Site>,
    /// What a pattern matches and is left out, and why: each as in "3 that cannot be traced (`a`, `b`, `c`)".
    pub left_out: Vec<String>,
}

/// Which functions are asked for.
#[derive(Clone, Copy, Debug)]
pub struct SiteRequest<'a> {
    /// A name or a pattern.
    pub function: &'a str,
    /// Whether where they return.
    pub at_return: bool,
    /// Whether only functions will do of which entry and return can be seen.
    pub whole: bool,
    /// Most functions.
    pub most: u32,
    /// Whether stacks of the program are taken at the probe.
    pub stacks: bool,
}

impl SiteRequest<'_> {
    /// Refuses more than are wanted at most; `of` is the kernel or file.
    pub fn check_count(&self, count: usize, of: &str) -> Result<(), Missing> {
        if u32::try_from(count).is_ok_and(|count| count <= self.most) {
            return Ok(());
        }
        let Self { function, most, .. } = self;
        Err(Missing {
            message: format!("{count} functions of {of} match `{function}`, and {most} are taken at most"),
            hint: Some(format!(
                "narrow the pattern, or set `max_functions: {count}` beside the probe's name"
            )),
        })
    }
}

/// Functions of a program or library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFunctions {
    /// The file.
    pub file: PathBuf,
    /// Which file that is, by whatever name.
    pub id: FileId,
    /// Whether Go built it, whose calls belong to goroutines and pass arguments in registers of their own.
    pub go: bool,
    /// Entries, or returns where the instructions that return are known.
    pub sites: Vec<Site>,
    /// Functions whose returns only the kernel's return probes see.
    pub by_return_probe: Vec<Site>,
    /// As in [`Sites`].
    pub left_out: Vec<String>,
}

/// The sentence about functions that are left out: how many, why, and the first of them.
pub fn left_out(why: &str, names: &[&str]) -> Option<String> {
    const SHOWN: usize = 3;
    if names.is_empty() {
        return None;
    }
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        shown.push("…".into());
    }
    Some(format!("{} {why} ({})", names.len(), shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_counted() {
        let wanted =
            SiteRequest { function: "f_*", at_return: false, whole: false, most: 1000, stacks: false };
        assert!(wanted.check_count(1000, "this kernel").is_ok());
        let refused = wanted.check_count(50_000, "`/bin/x`").unwrap_err();
        assert_eq!(refused.message, "50000 functions of `/bin/x` match `f_*`, and 1000 are taken at most");
        assert!(refused.hint.unwrap().contains("max_functions: 50000"));
    }

    #[test]
    fn what_is_left_out_is_named() {
        assert_eq!(left_out("that do not return", &[]), None);
        assert_eq!(left_out("that do not return", &["a"]).unwrap(), "1 that do not return (`a`)");
        assert_eq!(left_out("x", &["a", "b", "c", "d"]).unwrap(), "4 x (`a`, `b`, `c`, …)");
    }
}
