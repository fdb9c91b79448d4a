//! A pattern as an automaton: a table by which a program decides in one pass over a name, without going back, whether it matches.
//!
//! The table begins with the class of each byte, [`CLASSES`] of them, one byte each. Rows follow, one for each state: for each class
//! the next state, two bytes, little endian. Both numbers are powers of two, so that a program keeps within the table by a mask.
//! State 0 is that no continuation matches; state 1, which only the NUL behind a name leads to, that the name matches.

use super::{Glob, GlobStep};
use std::collections::{BTreeSet, HashMap};

/// Bytes at the beginning of a table.
pub const CLASSES: u32 = 256;
/// The state from which nothing matches.
pub const DEAD: u16 = 0;
/// The state behind a name that matches.
pub const ACCEPTED: u16 = 1;
/// Most bytes of a table.
const MOST_BYTES: usize = 64 << 10;
/// Most steps of all patterns, and of one alternative of a pattern: no name has more bytes.
const MOST_STEPS: usize = 2048;
const LONGEST: usize = 255;

/// Patterns of names, and the table that decides about all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// The table.
    pub table: Vec<u8>,
    /// The state in which a name begins, for each pattern.
    pub starts: Vec<u16>,
    /// Logarithm of the number of classes in a row, base 2.
    pub class_bits: u32,
    /// Logarithm of the number of rows, base 2.
    pub row_bits: u32,
}

/// One step, on bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
enum ByteStep {
    Any,
    /// One of the bytes for which this is true.
    One(Vec<bool>),
}

/// A place in an alternative of a pattern.
type GlobPlace = (usize, usize);

impl Automaton {
    /// Makes the table of patterns, which are compared with bytes: `?` is one byte. `None` if it takes too much memory.
    pub fn new(patterns: &[Glob]) -> Option<Self> {
        let patterns: Vec<Vec<Vec<ByteStep>>> = patterns.iter().map(byte_steps).collect();
        let length = |steps: &Vec<ByteStep>| steps.iter().filter(|step| **step != ByteStep::Any).count();
        if patterns.iter().flatten().any(|steps| length(steps) > LONGEST)
            || patterns.iter().flatten().map(Vec::len).sum::<usize>() > MOST_STEPS
        {
            return None;
        }
        let (classes, members) = classes(patterns.iter().flatten().flatten());
        let class_bits = members.len().next_power_of_two().ilog2();
        let stride = 1_usize << class_bits;
        // The rows of the two states that are the same for all.
        let mut rows: Vec<Vec<u16>> = vec![vec![DEAD; stride]; 2];
        let mut starts = Vec::new();
        for alternatives in &patterns {
            let begin = closed(alternatives, (0..alternatives.len()).map(|index| (index, 0)));
            starts.push(add_pattern(alternatives, begin, &members, stride, &mut rows)?);
        }
        let row_bits = rows.len().next_power_of_two().ilog2();
        rows.resize(1 << row_bits, vec![DEAD; stride]);
        let mut table = classes;
        table.extend(rows.iter().flatten().flat_map(|next| next.to_le_bytes()));
        (table.len() <= MOST_BYTES).then_some(Self { table, starts, class_bits, row_bits })
    }

    /// Whether a name matches the pattern of this number.
    pub fn matches(&self, pattern: usize, name: &[u8]) -> bool {
        let mut state = self.starts[pattern];
        for byte in name.iter().copied().take_while(|byte| *byte != 0).chain([0]) {
            let class = usize::from(self.table[usize::from(byte)]);
            let row = usize::from(state) << self.class_bits;
            let at = usize::from(u8::MAX) + 1 + 2 * (row + class);
            state = u16::from_le_bytes([self.table[at], self.table[at + 1]]);
        }
        state == ACCEPTED
    }
}

/// The alternatives of a pattern in steps on bytes.
fn byte_steps(pattern: &Glob) -> Vec<Vec<ByteStep>> {
    // The NUL is the end of a name, and in none.
    let one = |takes: &dyn Fn(u8) -> bool| {
        ByteStep::One((0..=u8::MAX).map(|byte| byte != 0 && takes(byte)).collect())
    };
    let steps = |step: &GlobStep| match step {
        GlobStep::Any => vec![ByteStep::Any],
        GlobStep::Literal(c) => {
            c.to_string().into_bytes().into_iter().map(|own| one(&|byte| byte == own)).collect()
        }
        step => vec![one(&|byte| step.takes(char::from(byte)))],
    };
    pattern.alternatives.iter().map(|alternative| alternative.iter().flat_map(steps).collect()).collect()
}

/// The class of each byte, and a byte of each class: no step tells the bytes of a class apart.
fn classes<'s>(steps: impl Iterator<Item = &'s ByteStep>) -> (Vec<u8>, Vec<u8>) {
    let sets: BTreeSet<&Vec<bool>> =
        steps.filter_map(|step| if let ByteStep::One(set) = step { Some(set) } else { None }).collect();
    let mut known: HashMap<Vec<bool>, u8> = HashMap::new();
    let (mut classes, mut members) = (Vec::new(), Vec::new());
    for byte in 0..=u8::MAX {
        let in_sets = sets.iter().map(|set| set[usize::from(byte)]);
        let told_apart: Vec<bool> = std::iter::once(byte == 0).chain(in_sets).collect();
        let next = u8::try_from(members.len()).unwrap_or(u8::MAX);
        let class = *known.entry(told_apart).or_insert(next);
        if class == next && members.len() == usize::from(next) {
            members.push(byte);
        }
        classes.push(class);
    }
    (classes, members)
}

/// These places, and those that are reached from them without a byte: a `*` may stand for nothing.
fn closed(
    alternatives: &[Vec<ByteStep>],
    places: impl IntoIterator<Item = GlobPlace>,
) -> BTreeSet<GlobPlace> {
    let mut all = BTreeSet::new();
    for (alternative, mut at) in places {
        all.insert((alternative, at));
        while alternatives[alternative].get(at) == Some(&ByteStep::Any) {
            at += 1;
            all.insert((alternative, at));
        }
    }
    all
}

/// Adds the states of a pattern; returns the one in which a name begins, `None` if there are too many.
fn add_pattern(
    alternatives: &[Vec<ByteStep>],
    begin: BTreeSet<GlobPlace>,
    members: &[u8],
    stride: usize,
    rows: &mut Vec<Vec<u16>>,
) -> Option<u16> {
    let first = u16::try_from(rows.len()).ok()?;
    let mut known = HashMap::from([(begin.clone(), first)]);
    let mut waiting = vec![(begin, first)];
    rows.push(vec![DEAD; stride]);
    while let Some((places, number)) = waiting.pop() {
        for (class, byte) in members.iter().enumerate() {
            let next = if *byte == 0 {
                let is_end = |(alternative, at): &GlobPlace| alternatives[*alternative].len() == *at;
                if places.iter().any(is_end) { ACCEPTED } else { DEAD }
            } else {
                let step = |(alternative, at): &GlobPlace| match alternatives[*alternative].get(*at)? {
                    ByteStep::Any => Some((*alternative, *at)),
                    ByteStep::One(set) => set[usize::from(*byte)].then_some((*alternative, at + 1)),
                };
                let after = closed(alternatives, places.iter().filter_map(step));
                if after.is_empty() {
                    DEAD
                } else if let Some(known) = known.get(&after) {
                    *known
                } else {
                    let new = u16::try_from(rows.len()).ok()?;
                    if rows.len() * stride * 2 > MOST_BYTES {
                        return None;
                    }
                    rows.push(vec![DEAD; stride]);
                    known.insert(after.clone(), new);
                    waiting.push((after, new));
                    new
                }
            };
            rows[usize::from(number)][class] = next;
        }
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of bytes as `Glob` takes it: a character for each.
    fn characters(name: &[u8]) -> String {
        name.iter().map(|byte| char::from(*byte)).collect()
    }

    #[test]
    fn the_same_as_by_going_back() {
        let patterns = [
            "",
            "*",
            "a",
            "ab",
            "a*",
            "*a",
            "a*b",
            "*ab*",
            "?",
            "a?",
            "*a?b",
            "[ab]*",
            "[!a]b",
            "{a,bb}",
            "a{,b}*a",
            "*{a,b}b",
            "pod*.slice",
            "docker-*.scope",
            "**",
            "a**b",
            "?*?",
            "[a-b]?[!b]",
        ];
        let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        let automaton = Automaton::new(&globs).unwrap();
        let mut names: Vec<Vec<u8>> = vec![Vec::new()];
        for length in 0..5 {
            let longer = names.iter().filter(|name| name.len() == length);
            let longer: Vec<Vec<u8>> =
                longer.flat_map(|name| b"ab\xff".map(|byte| [&name[..], &[byte]].concat())).collect();
            names.extend(longer);
        }
        for name in ["pod.slice", "pod1.slice", "pod1.slices", "docker-0123.scope", "docker.scope"] {
            names.push(name.as_bytes().to_vec());
        }
        let mut matched = 0;
        for (number, (pattern, glob)) in patterns.iter().zip(&globs).enumerate() {
            for name in &names {
                let expected = glob.matches(&characters(name));
                assert_eq!(automaton.matches(number, name), expected, "{pattern} {name:?}");
                matched += usize::from(expected);
            }
        }
        assert!(matched > 1000, "{matched}");
        assert_eq!(automaton.table.len(), 256 + (2 << (automaton.class_bits + automaton.row_bits)));
    }

    #[test]
    fn a_name_ends_at_its_nul() {
        let automaton = Automaton::new(&[Glob::new("a*")]).unwrap();
        assert!(automaton.matches(0, b"a\0b") && !automaton.matches(0, b"\0a"));
    }

    #[test]
    fn what_takes_too_much_is_refused() {
        assert!(Automaton::new(&[Glob::new(&format!("*a{}", "?".repeat(20)))]).is_none());
        let longest = Automaton::new(&[Glob::new(&format!("{}*", "abcdefghij".repeat(25)))]).unwrap();
        assert!(longest.table.len() < 20_000, "{}", longest.table.len());
        assert!(Automaton::new(&[Glob::new(&"a".repeat(256))]).is_none(), "no name is that long");
        assert!(Automaton::new(&vec![Glob::new(&"a".repeat(200)); 11]).is_none());
    }
}
