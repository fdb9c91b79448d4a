//! Messages about a user's YAML: each has a place and a hint, and all are drawn in the same way.

use memchr::memmem;
use std::{collections::BTreeSet, fmt, ops::Range, sync::Arc};

/// A named text, which spans refer to.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path or other name, as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl SourceFile {
    /// A shared source text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// Line and column, both from 1, of a byte offset; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Bytes of a source file.
pub type Span = Range<usize>;

/// A value and its place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The place.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Joins a value and its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// The severity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// An error: the probe cannot be used.
    Error,
    /// A warning: the probe can be used, but is probably not what was meant.
    Warning,
}

/// One message about a place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its severity.
    pub severity: Severity,
    /// The mistake: lower case, names in backticks, no full stop.
    pub message: String,
    /// The file.
    pub file: Arc<SourceFile>,
    /// The place in the file.
    pub span: Span,
    /// The remedy, shown below the place.
    pub hint: Option<String>,
    /// Whether the message holds only because the kernel has no BTF: with its types the YAML may be right.
    pub lacks_types: bool,
}

impl Diagnostic {
    /// An error without a hint.
    pub fn error(file: &Arc<SourceFile>, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            file: file.clone(),
            span,
            hint: None,
            lacks_types: false,
        }
    }

    /// A warning without a hint.
    pub fn warning(file: &Arc<SourceFile>, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(file, span, message) }
    }

    /// Returns the message with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// Draws the message, its place, the line and a marker below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDEST: usize = 160;
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (line, column) = self.file.position(self.span.start);
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Both may repeat what stands in the file, and that must not drive a terminal.
        let plain = |text: &str| {
            text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect::<String>()
        };
        writeln!(f, "{severity}: {}", plain(&self.message))?;
        writeln!(f, "{margin}--> {}:{line}:{column}", self.file.name)?;
        let text = self.file.text.split('\n').nth(line - 1).unwrap_or("").trim_end_matches('\r');
        // A line that nobody would read (a 10 MB one, say) is cut around its marker.
        let skip = if column > WIDEST { column - WIDEST / 2 } else { 0 };
        let shown: String = text
            .chars()
            .skip(skip)
            .take(WIDEST)
            .map(|c| if c == '\t' || c.is_control() { ' ' } else { c })
            .collect();
        writeln!(f, "{number} | {}", shown.trim_end())?;
        let spanned = self.file.text.get(self.span.clone()).unwrap_or("");
        let width = spanned.split('\n').next().unwrap_or("").trim_end().chars().count();
        let room = shown.chars().count().saturating_sub(column - 1 - skip);
        write!(f, "{margin} | {}{}", " ".repeat(column - 1 - skip), "^".repeat(width.min(room).max(1)))?;
        match &self.hint {
            Some(hint) => writeln!(f, " {}", plain(hint)),
            None => writeln!(f),
        }
    }
}

/// The candidate nearest to `name`, if one is near enough for a probable misspelling.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    near(name, candidates, 1).into_iter().next()
}

/// Up to `most` candidates near `name`, the nearest first. There may be a hundred thousand of them, so whatever is farther than
/// those found already is passed over.
pub fn near<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    near_among(name, &mut candidates.into_iter(), most)
}

/// [`near`] without its type parameter, so that it is compiled once.
fn near_among<'a>(name: &str, candidates: &mut dyn Iterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let limit = (name.chars().count().max(2) + 1) / 3;
    let part = memmem::Finder::new(name);
    let sought = ComparedName::new(name);
    let mut found: BTreeSet<(usize, &str)> = BTreeSet::new();
    for candidate in candidates {
        if candidate.len().abs_diff(name.len()) > limit * 4 {
            continue;
        }
        let farthest = found.last().filter(|_| found.len() == most).map_or(limit, |(distance, _)| *distance);
        // A part of a longer name is a likely abbreviation: `rq_issue` for `block_rq_issue`.
        let contained = name.len() >= 4 && part.find(candidate.as_bytes()).is_some();
        let distance = if contained { Some(1) } else { sought.distance(candidate, farthest) };
        if let Some(distance) = distance {
            found.insert((distance, candidate));
            if found.len() > most {
                found.pop_last();
            }
        }
    }
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Counts of the characters of a name; characters that share five bits are counted together.
type LetterCounts = [i32; 32];

/// A name to which others are compared, few of which are near.
struct ComparedName {
    name: String,
    length: usize,
    letters: LetterCounts,
}

impl ComparedName {
    fn new(name: &str) -> Self {
        let (length, letters) = letters(name);
        Self { name: name.to_lowercase(), length, letters }
    }

    /// Number of edits (insert, delete, replace, swap of neighbours) from the name to the other, case ignored; `None` if it
    /// is above the limit.
    fn distance(&self, other: &str, limit: usize) -> Option<usize> {
        let (length, letters) = letters(other);
        // Each edit changes the length by one at the most, and how often there are two characters. So most names need no more.
        let differ: u32 = letters.iter().zip(&self.letters).map(|(a, b)| a.abs_diff(*b)).sum();
        let twice = u32::try_from(2 * limit).expect("a part of the length of a name");
        if length.abs_diff(self.length) > limit || differ > twice {
            return None;
        }
        Some(strsim::osa_distance(&self.name, &other.to_lowercase())).filter(|distance| *distance <= limit)
    }
}

/// Number of characters of a name, case ignored, and the counts of its characters.
fn letters(name: &str) -> (usize, LetterCounts) {
    let (mut length, mut letters) = (0, LetterCounts::default());
    for letter in name.chars().flat_map(char::to_lowercase) {
        length += 1;
        letters[letter as usize % 32] += 1;
    }
    (length, letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_place_and_hint() {
        let file = SourceFile::new("p.yaml", "a: 1\nlet: args.rq.rq_dsk\n");
        let diagnostic = Diagnostic::error(&file, 13..19, "`struct request` has no field `rq_dsk`")
            .hint("did you mean `rq_disk`?");
        assert_eq!(
            diagnostic.to_string(),
            "error: `struct request` has no field `rq_dsk`\n --> p.yaml:2:9\n2 | let: args.rq.rq_dsk\n  |         \
             ^^^^^^ did you mean `rq_disk`?\n"
        );
    }

    #[test]
    fn survives_spans_outside_the_text() {
        let file = SourceFile::new("p", "ä");
        for span in [0..0, 1..2, 5..9] {
            assert!(Diagnostic::error(&file, span, "m").to_string().contains("p:1:"));
        }
    }

    #[test]
    fn cuts_very_long_lines() {
        let file = SourceFile::new("p", "x".repeat(1_000_000));
        let drawn = Diagnostic::error(&file, 999_000..999_010, "m").to_string();
        assert!(drawn.len() < 1000, "{}", drawn.len());
        assert!(drawn.contains("^^^^^^^^^^"));
    }

    #[test]
    fn finds_near_names() {
        let names = ["block_rq_issue", "block_rq_insert", "sched_switch"];
        assert_eq!(nearest("block_rq_isue", names), Some("block_rq_issue"));
        assert_eq!(nearest("sched_swtich", names), Some("sched_switch"));
        assert_eq!(nearest("rq_issue", names), Some("block_rq_issue"));
        assert_eq!(nearest("entirely_different_thing", names), None);
        assert_eq!(near("block_rq_is", names, 5).len(), 1 + 1);
    }

    #[test]
    fn the_nearest_are_found_in_any_order() {
        // Distances 3, 2, 2, 1 and 0; some names are there twice, as functions of the kernel are.
        let names =
            ["alphabetxyz", "alphabetxy", "alphabetxy", "alphabetyx", "alphabetx", "alphabet", "alphabet"];
        let nearest = ["alphabet", "alphabetx", "alphabetxy", "alphabetyx"];
        for turn in 0..names.len() {
            let turned = || names[turn..].iter().chain(&names[..turn]).copied();
            for most in 0..=nearest.len() {
                assert_eq!(near("ALPHABET", turned(), most), nearest[..most], "{turn}");
                assert_eq!(near("ALPHABET", turned().rev(), most), nearest[..most], "{turn}");
            }
        }
    }

    /// Computes the full table, without short cuts.
    fn distance(a: &str, b: &str) -> usize {
        let a: Vec<char> = a.to_lowercase().chars().collect();
        let b: Vec<char> = b.to_lowercase().chars().collect();
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                if i == 0 || j == 0 {
                    table[i][j] = i + j;
                    continue;
                }
                let replace = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                table[i][j] = replace.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    table[i][j] = table[i][j].min(table[i - 2][j - 2] + 1);
                }
            }
        }
        table[a.len()][b.len()]
    }

    #[test]
    fn distances_are_those_of_the_whole_table() {
        // Names of few letters, so that some are near; the second is the first with some edits, or another.
        let mut state: u64 = 1;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut near = 0;
        for round in 0..20_000 {
            let mut letter = || ['a', 'b', '_', 'Ä', 'é', 'x'][random(6)];
            let mut name: Vec<char> = Vec::new();
            for _ in 0..round % 24 {
                name.push(letter());
            }
            let mut other = name.clone();
            for _ in 0..random(8) {
                let at = random(other.len() + 1);
                match random(3) {
                    0 => other.insert(at, 'b'),
                    1 if at + 1 < other.len() => other.swap(at, at + 1),
                    _ if at < other.len() => drop(other.remove(at)),
                    _ => {}
                }
            }
            let (name, other): (String, String) = (name.into_iter().collect(), other.into_iter().collect());
            let limit = random(9);
            let whole = distance(&name, &other);
            let expected = (whole <= limit).then_some(whole);
            assert_eq!(
                ComparedName::new(&name).distance(&other, limit),
                expected,
                "{name:?}, {other:?}, {limit}"
            );
            near += usize::from(expected.is_some());
        }
        assert!(near > 5000, "{near}");
    }
}
