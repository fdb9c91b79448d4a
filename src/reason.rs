//! Why tasks sleep: a table of functions in which tasks sleep, and the reason of each (`config/reasons/linux.yaml`), with a
//! site's own entries before it.

use crate::symbol::LOST;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};
use tapster_ebpf::{
    declaration,
    diagnostic::{Diagnostic, SourceFile},
    glob::Glob,
    probe::{Reason, ReasonPattern},
};

/// The shipped table.
const SHIPPED: &str = include_str!("../config/reasons/linux.yaml");
/// The reason of sleeps whose stack was not taken, because they were short.
pub(crate) const SHORT: &str = "short";
/// The reason of stacks without any function of the table.
pub(crate) const UNKNOWN: &str = "unknown";

/// A pattern of function names, and its reason.
#[derive(Clone, Debug)]
struct RankedPattern {
    glob: Glob,
    /// A pattern of the function that must have called it, if any.
    caller: Option<Glob>,
    /// The highest wins: first by priority, then a site's own over a shipped one.
    rank: (u32, bool),
    /// Whether it must match the innermost function, which sleeps.
    innermost: bool,
    reason: String,
}

/// A table of reasons.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    patterns: Vec<RankedPattern>,
    /// A sentence for each reason.
    sentences: HashMap<String, String>,
}

/// The entries of the shipped table, and its errors; a test checks that there are none.
pub fn shipped() -> (Vec<Reason>, Vec<Diagnostic>) {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("library/reasons.yaml", SHIPPED));
    (file.reasons, diagnostics)
}

/// The table of an exporter: the entries of its configuration before the shipped ones. It is built at the first use.
#[derive(Debug, Default)]
pub struct ReasonTable {
    site: Vec<Reason>,
    made: OnceLock<Arc<Reasons>>,
}

impl ReasonTable {
    /// Makes it with these entries of the configuration.
    pub fn new(site: Vec<Reason>) -> Self {
        Self { site, made: OnceLock::new() }
    }

    /// Whether the entries of the configuration equal these.
    pub fn is_of(&self, site: &[Reason]) -> bool {
        self.site.len() == site.len() && self.site.iter().zip(site).all(|(own, other)| own.means(other))
    }

    /// Whether another table is equal.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_of(&other.site)
    }

    /// The table.
    pub fn reasons(&self) -> &Arc<Reasons> {
        self.made.get_or_init(|| Arc::new(Reasons::new(&self.site, &shipped().0)))
    }
}

impl Reasons {
    /// The shipped table.
    pub fn shipped() -> Self {
        Self::new(&[], &shipped().0)
    }

    /// Builds a table from a site's entries and the shipped ones. At equal priority, a site's own wins.
    pub fn new(site: &[Reason], shipped: &[Reason]) -> Self {
        let (mut patterns, mut sentences) = (Vec::new(), HashMap::new());
        let own = site.iter().map(|entry| (entry, true));
        for (entry, is_own) in own.chain(shipped.iter().map(|entry| (entry, false))) {
            let reason = &entry.reason.value;
            if let Some(text) = &entry.text {
                sentences.entry(reason.clone()).or_insert_with(|| text.value.clone());
            }
            patterns.extend(entry.patterns.iter().map(|pattern| RankedPattern {
                glob: Glob::new(pattern.function()),
                caller: pattern.caller().map(Glob::new),
                rank: (entry.priority, is_own),
                innermost: pattern.innermost,
                reason: reason.clone(),
            }));
        }
        // The first pattern that matches a function is then the one that wins.
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.rank));
        Self { patterns, sentences }
    }

    /// The sentence of a reason, also for those that are in no table: `short`, `unknown` and `~lost`.
    pub fn sentence(&self, reason: &str) -> Option<&str> {
        match reason {
            SHORT => Some("Short sleeps, whose stack was not taken"),
            UNKNOWN => Some("Not known: no function of the stack is in the table of reasons"),
            LOST => Some("Not known: the stack could not be kept"),
            _ => self.sentences.get(reason).map(String::as_str),
        }
    }

    /// The reason of a stack, given innermost first: of all matches the one with the highest priority, and of equal ones the
    /// innermost, which is closest to the actual wait.
    pub fn of<'f>(&self, functions: impl Iterator<Item = &'f str>) -> Option<&str> {
        let mut best: Option<&RankedPattern> = None;
        let mut functions = functions.map(plain).peekable();
        let mut innermost = true;
        while let Some(function) = functions.next() {
            let caller = functions.peek().copied();
            let better = |pattern: &&RankedPattern| best.is_none_or(|best| pattern.rank > best.rank);
            let fits = |pattern: &&RankedPattern| {
                (innermost || !pattern.innermost)
                    && pattern.glob.matches(function)
                    && pattern.caller.as_ref().is_none_or(|glob| caller.is_some_and(|by| glob.matches(by)))
            };
            if let Some(found) = self.patterns.iter().take_while(better).find(fits) {
                best = Some(found);
            }
            innermost = false;
        }
        best.map(|pattern| pattern.reason.as_str())
    }
}

/// For each entry of a table, the patterns that match none of these functions.
pub fn unmatched<'e>(entries: &'e [Reason], functions: &[&str]) -> Vec<(&'e Reason, Vec<&'e ReasonPattern>)> {
    let mut names: Vec<&str> = functions.iter().map(|function| plain(function)).collect();
    names.sort_unstable();
    names.dedup();
    let matches = |pattern: &str| {
        let glob = Glob::new(pattern);
        let literal = pattern.split(['*', '?', '[']).next().unwrap_or_default();
        let first = names.partition_point(|name| *name < literal);
        names[first..].iter().take_while(|name| name.starts_with(literal)).any(|name| glob.matches(name))
    };
    entries
        .iter()
        .map(|entry| {
            let has =
                |pattern: &ReasonPattern| matches(pattern.function()) && pattern.caller().is_none_or(matches);
            let missing = entry.patterns.iter().filter(|pattern| !has(pattern));
            (entry, missing.collect())
        })
        .collect()
}

/// A function name without the suffix that a compiler appends for a part or a variant.
fn plain(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(yaml: &str) -> Vec<Reason> {
        let (file, diagnostics) = declaration::parse(&SourceFile::new("site.yaml", yaml));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        file.reasons
    }

    #[test]
    fn the_shipped_table_has_no_mistake() {
        let (entries, diagnostics) = shipped();
        assert!(
            diagnostics.is_empty(),
            "{}",
            diagnostics.iter().map(ToString::to_string).collect::<String>()
        );
        assert!(entries.len() > 100, "{} entries", entries.len());
        // Each reason has its sentence.
        let table = Reasons::shipped();
        for entry in &entries {
            assert!(table.sentence(&entry.reason.value).is_some_and(|text| !text.is_empty()), "{entry:?}");
        }
    }

    #[test]
    fn a_site_s_own_counts_where_priorities_are_equal() {
        let site = entries(
            "reasons:
  - { reason: grabber, text: Waiting for the frame grabber, functions: [grab_*] }
  - { reason: our_pipe, functions: [pipe_read] }
  - { reason: ioctl, functions: [our_ioctl;grab_wait], priority: 51 }
  - { reason: outer, functions: [grab_outer, vfs_read], priority: 51 }
  - { reason: weak, functions: [do_nanosleep], priority: 49 }
  - { reason: poll, text: Waiting for a file, innermost: [our_poll] }
",
        );
        let shipped = entries(
            "reasons:
  - { reason: sleep, text: Sleeping, functions: [do_nanosleep] }
  - { reason: pipe, text: Reading from a pipe, functions: [pipe_read, vfs_*] }
  - { reason: poll, text: Waiting for any of several files, priority: 60, functions: [do_sys_poll] }
",
        );
        let table = Reasons::new(&site, &shipped);
        let of = |stack: &str| table.of(stack.split(' ')).map(str::to_owned);
        for (stack, expected) in [
            ("grab_frame ioctl", Some("grabber")),
            // The shipped table has this function at the same priority, and another one on the stack as well.
            ("pipe_read vfs_something", Some("our_pipe")),
            ("do_nanosleep pipe_read", Some("our_pipe")),
            ("pipe_read do_nanosleep", Some("our_pipe")),
            ("pipe_read.isra.0", Some("our_pipe")),
            // Of two own entries, the innermost wins, unless the other has a higher priority.
            ("pipe_read grab_frame", Some("our_pipe")),
            ("grab_frame pipe_read", Some("grabber")),
            ("grab_frame grab_outer", Some("outer")),
            // A shipped entry with a higher priority wins.
            ("do_nanosleep", Some("sleep")),
            ("do_sys_poll pipe_read", Some("poll")),
            ("our_poll", Some("poll")),
            ("something our_poll", None),
            ("grab_wait our_ioctl", Some("ioctl")),
            ("our_ioctl grab_wait", Some("grabber")),
            ("nothing_known", None),
        ] {
            assert_eq!(of(stack).as_deref(), expected, "{stack}");
        }
        let sentence = |reason| table.sentence(reason);
        assert_eq!(sentence("grabber"), Some("Waiting for the frame grabber"));
        // An entry without a sentence; an entry with another sentence than the shipped one.
        assert_eq!((sentence("our_pipe"), sentence("poll")), (None, Some("Waiting for a file")));
        assert_eq!(sentence("sleep"), Some("Sleeping"));
        // With the shipped table of the program the result is the same.
        let table = ReasonTable::new(site);
        assert_eq!(table.reasons().of(["grab_frame"].into_iter()), Some("grabber"));
        assert!(table.reasons().sentence("wait_child").is_some());
    }
}
