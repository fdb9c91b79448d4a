//! Why tasks sleep: a table of functions that sleep, and what for (`config/reasons/linux.yaml`).

use crate::label::stack::LOST;
use std::collections::HashMap;
use tapster_ebpf::{
    diagnostic::SourceFile,
    glob::Glob,
    yaml::{self, Data, Node},
};

/// The shipped table.
const SHIPPED: &str = include_str!("../config/reasons/linux.yaml");
/// Priority of reasons that have none.
const PRIORITY: u32 = 50;

/// A pattern of names of functions, and whose it is.
#[derive(Clone, Debug)]
struct Pattern {
    glob: Glob,
    /// Of the function that must have called it, if any: `CALLER;FUNCTION`, as stacks are written.
    caller: Option<Glob>,
    priority: u32,
    /// Whether it counts only for the function that sleeps itself.
    innermost: bool,
    reason: String,
}

/// A table of reasons.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    patterns: Vec<Pattern>,
    /// What each reason is, in a sentence.
    sentences: HashMap<String, String>,
}

/// Of sleeps whose stack was not taken, because they were short.
pub(crate) const SHORT: &str = "short";
/// Of stacks without any function that is in the table.
pub(crate) const UNKNOWN: &str = "unknown";

fn text(node: &Node) -> &str {
    if let Data::Scalar { text, .. } = &node.data { text } else { "" }
}

fn get<'n>(entry: &'n Node, key: &str) -> Option<&'n Node> {
    let Data::Mapping(pairs) = &entry.data else { return None };
    pairs.iter().find(|(name, _)| text(name) == key).map(|(_, value)| value)
}

fn items(node: Option<&Node>) -> &[Node] {
    if let Some(Data::Sequence(items)) = node.map(|node| &node.data) { items } else { &[] }
}

impl Reasons {
    /// The table that is in the program.
    pub fn shipped() -> Self {
        Self::read(SHIPPED)
    }

    /// Reads a table; entries that are none are left out. Only for tables that a test has looked at.
    pub fn read(yaml: &str) -> Self {
        let file = SourceFile::new("reasons.yaml", yaml);
        let Ok(Some(root)) = yaml::parse(&file) else { return Self::default() };
        let (mut patterns, mut sentences) = (Vec::new(), HashMap::new());
        for entry in items(get(&root, "reasons")) {
            let Some(reason) = get(entry, "reason").map(text) else { continue };
            let sentence = get(entry, "text").map(text).unwrap_or_default();
            sentences.entry(reason.to_owned()).or_insert_with(|| sentence.to_owned());
            let priority =
                get(entry, "priority").and_then(|node| text(node).parse().ok()).unwrap_or(PRIORITY);
            for (key, innermost) in [("functions", false), ("innermost", true)] {
                patterns.extend(items(get(entry, key)).iter().map(|function| {
                    let (caller, function) = match text(function).split_once(';') {
                        Some((caller, function)) => (Some(Glob::new(caller)), function),
                        None => (None, text(function)),
                    };
                    Pattern { glob: Glob::new(function), caller, priority, innermost, reason: reason.into() }
                }));
            }
        }
        // The first that matches a function is then the one that counts.
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.priority));
        Self { patterns, sentences }
    }

    /// What a reason is, in a sentence for people; also those that are no reasons of the table.
    pub fn sentence(&self, reason: &str) -> Option<&str> {
        match reason {
            SHORT => Some("Short sleeps, whose stack was not taken"),
            UNKNOWN => Some("Not known: no function of the stack is in the table of reasons"),
            LOST => Some("Not known: the stack could not be kept"),
            _ => self.sentences.get(reason).map(String::as_str),
        }
    }

    /// The reason of a stack, given innermost first: of all that match, what has the highest priority, and of equals the
    /// innermost, which is nearest to what is waited for.
    pub fn of<'f>(&self, functions: impl Iterator<Item = &'f str>) -> Option<&str> {
        let mut best: Option<&Pattern> = None;
        let mut functions = functions.map(plain).peekable();
        let mut innermost = true;
        while let Some(function) = functions.next() {
            let caller = functions.peek().copied();
            let better = |pattern: &&Pattern| best.is_none_or(|best| pattern.priority > best.priority);
            let fits = |pattern: &&Pattern| {
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

/// A function without what a compiler appends to the name of a part or a variant.
fn plain(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}
