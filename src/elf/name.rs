//! Names of functions as people write them.

use cpp_demangle::DemangleOptions;
use std::{
    borrow::Cow,
    fmt::{self, Write},
};
use tapster_ebpf::glob::Glob;

/// Longest symbol that is demangled, and longest result; longer ones are shown as they are. A symbol can say
/// "the same twice", and again, so that each of its bytes doubles the name.
const LONGEST: usize = 4096;
const LONGEST_NAME: usize = 4 * LONGEST;

/// A text that refuses to grow beyond that length.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.0.len() + part.len() > LONGEST_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

fn rust(name: &rustc_demangle::Demangle<'_>, hash: bool) -> Option<String> {
    let mut text = Bounded(String::new());
    let written = if hash { write!(text, "{name}") } else { write!(text, "{name:#}") };
    written.ok().map(|()| text.0)
}

fn cpp(symbol: &cpp_demangle::BorrowedSymbol<'_>, options: DemangleOptions) -> Option<String> {
    let mut text = Bounded(String::new());
    symbol.structured_demangle(&mut text, &options).ok().map(|()| text.0)
}

/// A pattern of names, or a plain name: some names contain `*` and `[`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    glob: Glob,
}

impl Pattern {
    /// Reads a pattern or name.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), glob: Glob::new(text) }
    }
}

/// A function's name as in the source, without the types of its parameters.
pub fn short(symbol: &str) -> Cow<'_, str> {
    if symbol.len() <= LONGEST {
        if let Ok(name) = rustc_demangle::try_demangle(symbol) {
            return rust(&name, false).map_or(symbol.into(), Cow::from);
        }
        if symbol.starts_with("_Z")
            && let Ok(parsed) = cpp_demangle::BorrowedSymbol::new(symbol.as_bytes())
            && let Some(name) = cpp(&parsed, DemangleOptions::new().no_params())
        {
            return name.into();
        }
    }
    symbol.into()
}

/// A function's name: the form that is shown, and other forms that a pattern may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name as in the source.
    pub shown: String,
    others: Vec<String>,
}

impl Name {
    /// Reads a symbol of C, C++ or Rust.
    pub fn new(symbol: &str) -> Self {
        if symbol.len() <= LONGEST {
            if let Ok(name) = rustc_demangle::try_demangle(symbol)
                && let Some(shown) = rust(&name, false)
            {
                let others = [symbol.to_owned()].into_iter().chain(rust(&name, true)).collect();
                // The form without the hash at the end.
                return Self { shown, others };
            }
            if symbol.starts_with("_Z")
                && let Ok(parsed) = cpp_demangle::BorrowedSymbol::new(symbol.as_bytes())
                && let Some(shown) = cpp(&parsed, DemangleOptions::new())
            {
                let short = cpp(&parsed, DemangleOptions::new().no_params());
                return Self { shown, others: short.into_iter().chain([symbol.into()]).collect() };
            }
        }
        Self { shown: symbol.into(), others: Vec::new() }
    }

    /// Whether this is its name: the form that is shown, without parameters, or the symbol.
    pub fn is(&self, name: &str) -> bool {
        self.forms().any(|form| form == name)
    }

    /// Whether a pattern matches one of these forms.
    pub fn matches(&self, pattern: &Pattern) -> bool {
        self.is(&pattern.text) || self.forms().any(|form| pattern.glob.matches(form))
    }

    fn forms(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.shown).chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_three_languages() {
        let c = Name::new("bdev_open");
        assert_eq!(c.shown, "bdev_open");
        let cpp = Name::new("_ZN5story6hasher4readEPKcj");
        assert_eq!(cpp.shown, "story::hasher::read(char const*, unsigned int)");
        let matches = |name: &Name, pattern| name.matches(&Pattern::new(pattern));
        assert!(
            matches(&cpp, "story::hasher::read") && matches(&cpp, "story::*") && matches(&cpp, "_ZN5story*")
        );
        assert!(
            matches(&cpp, "story::hasher::read(char const*, unsigned int)")
                && !matches(&cpp, "read")
                && cpp.is("story::hasher::read")
        );
        let legacy = Name::new("_ZN5story4read17h0123456789abcdefE");
        assert_eq!(legacy.shown, "story::read");
        assert!(matches(&legacy, "story::read") && matches(&legacy, "*::h0123456789abcdef"));
        let v0 = Name::new("_RNvCskwGfYPst2Cb_3foo3bar");
        assert_eq!(v0.shown, "foo::bar");
        // Symbols that only look mangled.
        for symbol in ["_Z", "_ZN", "_R", "_ZN99999999999999999999x", &"_ZN1a".repeat(2000)] {
            assert_eq!(Name::new(symbol).shown, symbol);
        }
    }
}
