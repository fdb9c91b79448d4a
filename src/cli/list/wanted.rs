//! The names that a word of the command line matches.

use tapster_ebpf::glob::{Glob, is_pattern};

/// A pattern as in probes, which must match a whole name, or a text that may be anywhere in it.
#[derive(Debug)]
pub(super) enum NameFilter<'w> {
    Pattern(Glob),
    Text(&'w str),
}

impl<'w> NameFilter<'w> {
    pub(super) fn new(word: &'w str) -> Self {
        if is_pattern(word) { Self::Pattern(Glob::new(word)) } else { Self::Text(word) }
    }

    pub(super) fn means(&self, name: &str) -> bool {
        match self {
            Self::Pattern(glob) => glob.matches(name),
            Self::Text(text) => name.contains(text),
        }
    }

    pub(super) fn is_pattern(&self) -> bool {
        matches!(self, Self::Pattern(_))
    }
}

#[cfg(test)]
mod tests {
    use super::NameFilter;

    #[test]
    fn patterns() {
        for (word, name, expected) in [
            ("block", "tracepoint:block:block_rq_issue", true),
            ("tracepoint:block:*", "tracepoint:block:block_rq_issue", true),
            ("tracepoint:block:*", "rawtracepoint:block:block_rq_issue", false),
            ("*:block_rq_*e", "tracepoint:block:block_rq_issue", true),
            ("*:block_rq_*t", "tracepoint:block:block_rq_issue", false),
            ("a*b*a", "aba", true),
            ("a*a", "a", false),
            ("vfs_rea?", "vfs_read", true),
            ("vfs_rea?", "vfs_readv", false),
            ("vfs_[rw]*", "vfs_write", true),
            ("vfs_[!rw]*", "vfs_write", false),
        ] {
            assert_eq!(NameFilter::new(word).means(name), expected, "{word} {name}");
        }
    }
}
