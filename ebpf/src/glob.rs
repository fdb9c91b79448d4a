//! Patterns of names: `*` is any text, `?` one character, `[abc]`, `[a-z]` and `[!a]` one of those or none of them.

/// Whether a text contains a character that makes it a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GlobStep {
    Any,
    One,
    Literal(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl GlobStep {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Literal(literal) => *literal == c,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated
            }
        }
    }
}

/// A pattern, parsed once to be compared with many names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    steps: Vec<GlobStep>,
}

impl Glob {
    /// Parses a pattern. Every text is a valid one: a bracket without its partner stands for itself.
    pub fn new(pattern: &str) -> Self {
        let characters: Vec<char> = pattern.chars().collect();
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(c) = characters.get(at) {
            at += 1;
            steps.push(match c {
                '*' => GlobStep::Any,
                '?' => GlobStep::One,
                '[' => match set(&characters[at..]) {
                    Some((step, length)) => {
                        at += length;
                        step
                    }
                    None => GlobStep::Literal('['),
                },
                c => GlobStep::Literal(*c),
            });
        }
        Self { steps }
    }

    /// Whether the whole text matches the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let (mut at, mut rest) = (0, text.chars());
        // What follows the last `*`, and what is left of the text behind what that stands for.
        let mut star: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.steps.get(at) == Some(&GlobStep::Any) {
                at += 1;
                star = Some((at, rest.clone()));
                continue;
            }
            let mut next = rest.clone();
            match (next.next(), self.steps.get(at)) {
                (None, None) => return true,
                (None, Some(_)) => return false,
                (Some(c), Some(step)) if step.takes(c) => {
                    at += 1;
                    rest = next;
                }
                (Some(_), _) => {
                    let Some((place, left)) = &mut star else { return false };
                    left.next();
                    at = *place;
                    rest = left.clone();
                }
            }
        }
    }

    /// The prefix that every matching text has: `ext4_` for `ext4_*`.
    pub fn prefix(&self) -> String {
        let literal = |step: &GlobStep| if let GlobStep::Literal(c) = step { Some(*c) } else { None };
        self.steps.iter().map_while(literal).collect()
    }
}

/// Parses the text after `[`, up to and including `]`.
fn set(rest: &[char]) -> Option<(GlobStep, usize)> {
    let negated = matches!(rest.first(), Some('!' | '^'));
    let first = usize::from(negated);
    // A bracket right at the beginning is one of the set.
    let end = rest.iter().skip(first + 1).position(|c| *c == ']')? + first + 1;
    let members = &rest[first..end];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < members.len() {
        if at + 2 < members.len() && members[at + 1] == '-' {
            ranges.push((members[at], members[at + 2]));
            at += 3;
        } else {
            ranges.push((members[at], members[at]));
            at += 1;
        }
    }
    Some((GlobStep::Set { negated, ranges }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "main"),
            ("", ""),
            ("main", "main"),
            ("m*n", "main"),
            ("m*i*n", "main"),
            ("?ain", "main"),
            ("*a*a*", "banana"),
            ("a*", "a"),
            ("a**b", "ab"),
            ("ext[234]_read", "ext4_read"),
            ("ext[2-4]_*", "ext3_sync"),
            ("ext[!2-3]_*", "ext4_sync"),
            ("[]x]", "]"),
            ("a[-b]", "a-"),
            ("operator[]", "operator[]"),
            ("*é", "café"),
        ] {
            assert!(Glob::new(pattern).matches(text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("main", "main2"),
            ("?", ""),
            ("m*x", "main"),
            ("*b", "abc"),
            ("a?", "a"),
            ("ext[234]_*", "ext5_read"),
            ("ext[!4]_*", "ext4_read"),
            ("[a-c]", "d"),
            ("[ab", "a"),
        ] {
            assert!(!Glob::new(pattern).matches(text), "{pattern} {text}");
        }
        // Many stars take no more than length times length.
        assert!(!Glob::new(&"*a".repeat(200)).matches(&"b".repeat(2000)));
    }

    #[test]
    fn what_is_a_pattern_and_how_it_begins() {
        assert!(is_pattern("vfs_*") && is_pattern("a?") && is_pattern("[ab]") && !is_pattern("vfs_read"));
        for (pattern, prefix) in [("ext4_*", "ext4_"), ("*", ""), ("ext[34]_*", "ext"), ("main", "main")] {
            assert_eq!(Glob::new(pattern).prefix(), prefix);
        }
    }
}
