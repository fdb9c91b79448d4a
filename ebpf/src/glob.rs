//! Patterns of names: `*` is any text, `?` one character, `[abc]`, `[a-z]` and `[!a]` one of those or none of them, `{a,b}` one
//! of these texts, which may be patterns themselves.

mod automaton;
mod path;

pub use automaton::{ACCEPTED, Automaton, CLASSES, DEAD};
pub use path::{PathGlob, PathGlobError};

/// Most texts that a pattern with braces stands for; one with more is taken as it is written.
const MOST_ALTERNATIVES: usize = 256;

/// Whether a text contains a character that makes it a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[']) || text.contains('{') && alternatives(text).len() > 1
}

/// The texts that one with braces stands for: `a{b,c}` for `ab` and `ac`; one without for itself. Braces without a comma stand
/// for themselves, and a comma within brackets of another kind separates nothing: names of C++ and Rust have such
/// (`{lambda(int, char)#1}`, `{{closure}}`).
pub fn alternatives(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.contains('{') && expand(&text.chars().collect::<Vec<_>>(), &mut found) {
        return found;
    }
    vec![text.to_owned()]
}

/// Adds what a text stands for; false if there is too much of it.
fn expand(text: &[char], found: &mut Vec<String>) -> bool {
    let mut at = 0;
    while let Some(c) = text.get(at) {
        match c {
            '[' => at += set(&text[at + 1..]).map_or(1, |(_, length)| length + 1),
            '{' => match group(&text[at..]) {
                Some((parts, length)) => {
                    return parts
                        .into_iter()
                        .all(|part| expand(&[&text[..at], part, &text[at + length..]].concat(), found));
                }
                None => at += 1,
            },
            _ => at += 1,
        }
    }
    found.push(text.iter().collect());
    found.len() <= MOST_ALTERNATIVES
}

/// Parses `{a,b}` at the beginning of a text: the parts, and the length of the whole. `None` if no comma separates any.
fn group(text: &[char]) -> Option<(Vec<&[char]>, usize)> {
    let (mut parts, mut begin, mut open) = (Vec::new(), 1, Vec::new());
    for (at, c) in text.iter().enumerate() {
        match c {
            '{' | '(' | '[' | '<' => open.push(*c),
            ',' if open.len() == 1 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            '}' | ')' | ']' | '>' => {
                let partner = match c {
                    '}' => '{',
                    ')' => '(',
                    ']' => '[',
                    _ => '<',
                };
                // A bracket without its partner, as in `operator->`, stands for itself.
                if let Some(last) = open.iter().rposition(|open| *open == partner) {
                    open.truncate(last);
                }
                if open.is_empty() {
                    parts.push(&text[begin..at]);
                    return (parts.len() > 1).then_some((parts, at + 1));
                }
            }
            _ => {}
        }
    }
    None
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
    /// The steps of each alternative.
    alternatives: Vec<Vec<GlobStep>>,
}

impl Glob {
    /// Parses a pattern. Every text is a valid one: a bracket without its partner stands for itself.
    pub fn new(pattern: &str) -> Self {
        Self { alternatives: alternatives(pattern).iter().map(|text| Self::steps(text)).collect() }
    }

    fn steps(pattern: &str) -> Vec<GlobStep> {
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
        steps
    }

    /// Whether the whole text matches the pattern.
    pub fn matches(&self, text: &str) -> bool {
        self.alternatives.iter().any(|steps| matches(steps, text))
    }

    /// Most bytes of a text that matches; `None` if a `*` is in the pattern. What takes one character takes one byte here.
    fn longest(&self) -> Option<usize> {
        let bytes = |step: &GlobStep| match step {
            GlobStep::Any => None,
            GlobStep::Literal(c) => Some(c.len_utf8()),
            GlobStep::One | GlobStep::Set { .. } => Some(1),
        };
        let lengths = self.alternatives.iter().map(|steps| steps.iter().map(bytes).sum::<Option<usize>>());
        lengths.collect::<Option<Vec<usize>>>()?.into_iter().max()
    }

    /// The prefix that every matching text has: `ext4_` for `ext4_*`.
    pub fn prefix(&self) -> String {
        let literal = |step: &GlobStep| if let GlobStep::Literal(c) = step { Some(*c) } else { None };
        let prefixes = self.alternatives.iter().map(|steps| steps.iter().map_while(literal).collect());
        prefixes
            .reduce(|all: String, one: String| {
                all.chars().zip(one.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
            })
            .unwrap_or_default()
    }
}

/// Whether the whole text is what these steps take.
fn matches(steps: &[GlobStep], text: &str) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    // What follows the last `*`, and what is left of the text behind what that stands for.
    let mut star: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        if steps.get(at) == Some(&GlobStep::Any) {
            at += 1;
            star = Some((at, rest.clone()));
            continue;
        }
        let mut next = rest.clone();
        match (next.next(), steps.get(at)) {
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
            ("sched_{switch,wakeup}", "sched_wakeup"),
            ("{vfs,ext[34]}_{read,write*}", "ext4_writev"),
            ("a{,b}", "a"),
            ("a{,b}", "ab"),
            ("{a,{b,c}d}", "cd"),
            ("{a{b,c", "{a{b,c"),
            ("{{closure}}", "{{closure}}"),
            ("{{a,b}}", "{b}"),
            ("f::{lambda(int, char)#1}", "f::{lambda(int, char)#1}"),
            ("{a<b, c>,d}", "a<b, c>"),
            ("{operator->,x}", "operator->"),
            ("[{,}]x", ",x"),
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
            ("sched_{switch,wakeup}", "sched_"),
            ("{a,b}", "a,b"),
            ("{a}", "a"),
        ] {
            assert!(!Glob::new(pattern).matches(text), "{pattern} {text}");
        }
        // Many stars take no more than length times length.
        assert!(!Glob::new(&"*a".repeat(200)).matches(&"b".repeat(2000)));
        // Nor do many braces: what stands for too much is as it is written.
        let many = "{a,b}".repeat(100);
        assert!(Glob::new(&many).matches(&many) && !Glob::new(&many).matches(&"a".repeat(100)));
        assert_eq!(alternatives(&"{a,b}".repeat(8)).len(), MOST_ALTERNATIVES);
    }

    #[test]
    fn what_is_a_pattern_and_how_it_begins() {
        assert!(is_pattern("vfs_*") && is_pattern("a?") && is_pattern("[ab]") && !is_pattern("vfs_read"));
        assert!(is_pattern("{a,b}") && !is_pattern("a,b") && !is_pattern("{{closure}}") && !is_pattern("{a"));
        for (pattern, prefix) in [
            ("ext4_*", "ext4_"),
            ("*", ""),
            ("ext[34]_*", "ext"),
            ("main", "main"),
            ("sched_{switch,swap}", "sched_sw"),
            ("{a,b}*", ""),
        ] {
            assert_eq!(Glob::new(pattern).prefix(), prefix);
        }
    }
}
