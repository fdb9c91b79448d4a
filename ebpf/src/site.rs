//! Functions and tracepoints that a probe attaches to: one, or all that a pattern matches.

use crate::{missing::Missing, usdt::FileId};
use std::path::PathBuf;

/// A function or tracepoint to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its number in the probe, by which programs know it; assigned when the probe is checked.
    pub number: u32,
    /// Its name for people, as the label `func` or `tracepoint` shows it.
    pub name: String,
    /// Its place.
    pub place: Place,
}

/// The place of a function's probe, or a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A function of the kernel.
    Kernel {
        /// Its symbol.
        symbol: String,
        /// Its address, if the kernel shows addresses.
        address: Option<u64>,
    },
    /// A tracepoint.
    Tracepoint {
        /// Its category.
        category: String,
        /// Its name.
        name: String,
    },
    /// Places in a file.
    File {
        /// File offset at which the function begins, bytes; it identifies the function.
        entry: u64,
        /// File offsets of the places: the beginning, or behind a mark for jumps at the beginning, or the instructions with
        /// which the function returns.
        at: Vec<u64>,
    },
}

impl Site {
    /// Makes a function without a number.
    pub fn new(name: impl Into<String>, place: Place) -> Self {
        Self { number: 0, name: name.into(), place }
    }

    /// Makes a function of the kernel that is known by name only.
    pub fn kernel(symbol: &str) -> Self {
        Self::new(symbol, Place::Kernel { symbol: symbol.into(), address: None })
    }

    /// Whether both are the same function of one kernel or file, whatever their names, or the same tracepoint.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Kernel { symbol: a, address: at }, Place::Kernel { symbol: b, address: other }) => {
                a == b || at.is_some() && at == other
            }
            (Place::File { entry: a, .. }, Place::File { entry: b, .. }) => a == b,
            (Place::Tracepoint { .. }, Place::Tracepoint { .. }) => self.place == other.place,
            (Place::Kernel { .. } | Place::File { .. } | Place::Tracepoint { .. }, _) => false,
        }
    }
}

/// Functions or tracepoints that an event attaches to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// The program or library; `None` for the kernel.
    pub file: Option<PathBuf>,
    /// The identity of that file, whatever its name.
    pub id: Option<FileId>,
    /// The functions; empty for events that are not functions.
    pub list: Vec<Site>,
    /// Matches of a pattern that are left out, by reason, each as in "3 that cannot be traced (`a`, `b`, `c`)".
    pub left_out: Vec<String>,
}

/// A request for functions.
#[derive(Clone, Copy, Debug)]
pub struct SiteRequest<'a> {
    /// A name or a pattern.
    pub function: &'a str,
    /// Whether the places are the returns of the functions.
    pub at_return: bool,
    /// Whether functions are left out unless both their entry and their return can be probed.
    pub whole: bool,
    /// Most functions.
    pub most: u32,
    /// Whether the probe takes stacks of the program.
    pub stacks: bool,
}

impl SiteRequest<'_> {
    /// Returns an error if there are more functions than requested at most; `of` names the kernel or file.
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
    /// The path of the file.
    pub file: PathBuf,
    /// The identity of that file, whatever its name.
    pub id: FileId,
    /// Whether Go built it: calls belong to goroutines, and arguments are in registers of Go's own convention.
    pub go: bool,
    /// Functions with their entries, or with the instructions that return if these are known.
    pub sites: Vec<Site>,
    /// Functions whose returns only the kernel's return probes can see.
    pub by_return_probe: Vec<Site>,
    /// Matches that are left out, as in [`Sites`].
    pub left_out: Vec<String>,
}

/// The sentence about functions that are left out: their number, the reason, and the first of them.
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
