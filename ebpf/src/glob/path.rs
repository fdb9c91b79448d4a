//! Patterns of paths: a pattern for each name of a path. What is below a path that matches, matches as well.

use super::{Automaton, Glob, alternatives};

/// Most names of a pattern.
const MOST_NAMES: usize = 16;

/// A pattern of paths from the root of a tree: `/kubepods/*` is everything in `/kubepods`, at any depth. Each `*` stays within one
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob {
    /// As it is written.
    text: String,
    names: Vec<Glob>,
    automaton: Automaton,
}

/// Why a text is no pattern of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathGlobError {
    /// It does not begin at the root.
    #[error("a path begins with `/`")]
    NoRoot,
    /// It is the root, below which everything is.
    #[error("everything is below `/`")]
    Root,
    /// A name has nothing in it.
    #[error("between two `/`, and behind the last one, there is a name")]
    NoName,
    /// `.` or `..`
    #[error("paths have no `.` and `..`")]
    Dots,
    /// `**`
    #[error("`*` stays within one name, and what is below a path that matches counts as well")]
    Stars,
    /// A brace has a `/` in it.
    #[error("braces have no `/` in them")]
    SlashInBraces,
    /// Not ASCII, or a control character.
    #[error("only ASCII can be matched")]
    NoAscii,
    /// Too many names.
    #[error("a pattern has at most {MOST_NAMES} names")]
    Deep,
    /// Its table would be too large.
    #[error("it is too complex, by a `*` before many `?`, many braces, or names of more than 255 bytes")]
    Complex,
}

impl PathGlobError {
    /// What to write instead.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::NoRoot => Some("/kubepods/*, /system.slice/*.service"),
            Self::Stars => Some("a `*` for each name: /kubepods/*, /kubepods.slice/*/kubepods-*-pod*"),
            Self::SlashInBraces => Some("one pattern for each, joined by ||"),
            _ => None,
        }
    }
}

impl PathGlob {
    /// Parses a pattern.
    pub fn new(text: &str) -> Result<Self, PathGlobError> {
        let names = text.strip_prefix('/').ok_or(PathGlobError::NoRoot)?;
        if names.is_empty() {
            return Err(PathGlobError::Root);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(PathGlobError::NoAscii);
        }
        let names: Vec<&str> = names.split('/').collect();
        let each = names.iter().fold(1_usize, |all, name| all.saturating_mul(alternatives(name).len()));
        if each != alternatives(text).len() {
            return Err(PathGlobError::SlashInBraces);
        }
        for name in &names {
            match *name {
                "" => return Err(PathGlobError::NoName),
                "." | ".." => return Err(PathGlobError::Dots),
                "**" => return Err(PathGlobError::Stars),
                _ => {}
            }
        }
        if names.len() > MOST_NAMES {
            return Err(PathGlobError::Deep);
        }
        let names: Vec<Glob> = names.into_iter().map(Glob::new).collect();
        let automaton = Automaton::new(&names).ok_or(PathGlobError::Complex)?;
        Ok(Self { text: text.to_owned(), names, automaton })
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of its names: a path that matches has as many, or more.
    pub fn depth(&self) -> usize {
        self.names.len()
    }

    /// Most bytes of what matches its name of this number; `None` if a `*` is in it.
    pub fn longest(&self, number: usize) -> Option<usize> {
        self.names.get(number)?.longest()
    }

    /// The table for all its names.
    pub fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    /// Whether a path matches, which consists of these names; `?` is one byte.
    pub fn matches(&self, path: &[impl AsRef<[u8]>]) -> bool {
        let is_name = |(glob, name): (&Glob, &[u8])| {
            let characters: String = name.iter().map(|byte| char::from(*byte)).collect();
            glob.matches(&characters)
        };
        path.len() >= self.names.len() && self.names.iter().zip(path.iter().map(AsRef::as_ref)).all(is_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_what_is_below_it() {
        for (pattern, path, expected) in [
            ("/kubepods/*", "kubepods", false),
            ("/kubepods/*", "kubepods/pod1", true),
            ("/kubepods/*", "kubepods/besteffort/pod1/a", true),
            ("/kubepods", "kubepods/pod1", true),
            ("/kubepods", "kubepods2", false),
            ("/kubepods", "a/kubepods", false),
            ("/{kubepods,system.slice}/*", "system.slice/a", true),
            ("/a*/b?", "axx/bb", true),
            ("/a*/b?", "a/x/bb", false),
            ("/*/*", "a", false),
        ] {
            let glob = PathGlob::new(pattern).unwrap();
            let names: Vec<&str> = path.split('/').collect();
            assert_eq!(glob.matches(&names), expected, "{pattern} {path}");
            assert_eq!(glob.text(), pattern);
        }
        let glob = PathGlob::new("/ab{,c}?/d*").unwrap();
        assert_eq!(
            (glob.depth(), glob.longest(0), glob.longest(1), glob.longest(2)),
            (2, Some(4), None, None)
        );
    }

    #[test]
    fn what_is_no_pattern_of_paths() {
        for (text, error) in [
            ("", PathGlobError::NoRoot),
            ("kubepods", PathGlobError::NoRoot),
            ("*", PathGlobError::NoRoot),
            ("/", PathGlobError::Root),
            ("//", PathGlobError::NoName),
            ("/a/", PathGlobError::NoName),
            ("/a/../b", PathGlobError::Dots),
            ("/a/**", PathGlobError::Stars),
            ("/{a,b/c}", PathGlobError::SlashInBraces),
            ("/é", PathGlobError::NoAscii),
            ("/a\n", PathGlobError::NoAscii),
            (&"/a".repeat(17), PathGlobError::Deep),
            ("/*a????????????????????", PathGlobError::Complex),
        ] {
            assert_eq!(PathGlob::new(text).unwrap_err(), error, "{text:?}");
        }
        assert!(PathGlob::new(&"/a".repeat(16)).is_ok());
    }
}
