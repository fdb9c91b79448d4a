//! Names of functions as people write them.

use cpp_demangle::DemangleOptions;
use std::borrow::Cow;
use tapster_ebpf::glob::Glob;

/// Longest symbol that is demangled; longer ones are shown as they are.
const LONGEST: usize = 4096;

/// A pattern of names, or a name: some have `*` and `[` in them.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    glob: Glob,
}

impl Pattern {
    /// Reads one.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), glob: Glob::new(text) }
    }
}

/// A function's name as the source has it, without the types of its parameters.
pub fn short(symbol: &str) -> Cow<'_, str> {
    if symbol.len() <= LONGEST {
        if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
            return format!("{rust:#}").into();
        }
        if symbol.starts_with("_Z")
            && let Ok(parsed) = cpp_demangle::BorrowedSymbol::new(symbol.as_bytes())
            && let Ok(name) = parsed.demangle_with_options(&DemangleOptions::new().no_params())
        {
            return name.into();
        }
    }
    symbol.into()
}

/// A function's name: what is shown, and other forms in which a pattern may mean it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As the source has it.
    pub shown: String,
    others: Vec<String>,
}

impl Name {
    /// Reads a symbol of C, C++ or Rust.
    pub fn new(symbol: &str) -> Self {
        if symbol.len() <= LONGEST {
            if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
                // Without the hash at the end.
                return Self { shown: format!("{rust:#}"), others: vec![symbol.into(), rust.to_string()] };
            }
            if symbol.starts_with("_Z")
                && let Ok(parsed) = cpp_demangle::BorrowedSymbol::new(symbol.as_bytes())
                && let Ok(shown) = parsed.demangle_with_options(&DemangleOptions::new())
            {
                let short = parsed.demangle_with_options(&DemangleOptions::new().no_params()).ok();
                return Self { shown, others: short.into_iter().chain([symbol.into()]).collect() };
            }
        }
        Self { shown: symbol.into(), others: Vec::new() }
    }

    /// Whether a name is it: in the form that is shown, without parameters, or as the symbol.
    pub fn is(&self, name: &str) -> bool {
        self.forms().any(|form| form == name)
    }

    /// Whether a pattern means it, in one of the same forms.
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
        // What only looks like one.
        for symbol in ["_Z", "_ZN", "_R", "_ZN99999999999999999999x", &"_ZN1a".repeat(2000)] {
            assert_eq!(Name::new(symbol).shown, symbol);
        }
    }
}
