//! Names of functions as people write them, and patterns of names.

use cpp_demangle::DemangleOptions;
use std::borrow::Cow;

/// Longest symbol that is demangled; longer ones are shown as they are.
const LONGEST: usize = 4096;

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

    /// Whether a pattern means it: in the form that is shown, without parameters, or as the symbol.
    pub fn matches(&self, pattern: &str) -> bool {
        std::iter::once(&self.shown).chain(&self.others).any(|form| matches(pattern, form))
    }
}

/// Whether a text is as a pattern says: `*` is any text, `?` one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // The last `*`, and where what it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(expected) if *expected == '?' || *expected == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((place, end)) = star else { return false };
                star = Some((place, end + 1));
                at = place + 1;
                from = end + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "main"),
            ("main", "main"),
            ("m*n", "main"),
            ("m*i*n", "main"),
            ("?ain", "main"),
            ("*a*a*", "banana"),
            ("a*", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("main", "main2"), ("?", ""), ("m*x", "main"), ("*b", "abc"), ("a?", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        // Many stars take no more than length times length.
        assert!(!matches(&"*a".repeat(200), &"b".repeat(2000)));
    }

    #[test]
    fn names_of_three_languages() {
        let c = Name::new("bdev_open");
        assert_eq!(c.shown, "bdev_open");
        let cpp = Name::new("_ZN5story6hasher4readEPKcj");
        assert_eq!(cpp.shown, "story::hasher::read(char const*, unsigned int)");
        assert!(cpp.matches("story::hasher::read") && cpp.matches("story::*") && cpp.matches("_ZN5story*"));
        assert!(cpp.matches("story::hasher::read(char const*, unsigned int)") && !cpp.matches("read"));
        let legacy = Name::new("_ZN5story4read17h0123456789abcdefE");
        assert_eq!(legacy.shown, "story::read");
        assert!(legacy.matches("story::read") && legacy.matches("*::h0123456789abcdef"));
        let v0 = Name::new("_RNvCskwGfYPst2Cb_3foo3bar");
        assert_eq!(v0.shown, "foo::bar");
        // What only looks like one.
        for symbol in ["_Z", "_ZN", "_R", "_ZN99999999999999999999x", &"_ZN1a".repeat(2000)] {
            assert_eq!(Name::new(symbol).shown, symbol);
        }
    }
}
