//! Chooses the functions to follow, and the places of probes.

use crate::elf::{self, Exits, FileFunctions, Go, Name, Pattern};
use std::{collections::HashSet, fs::File, path::PathBuf};
use tapster_ebpf::{
    attach::{Arch, Missing},
    callgraph::{RecordKind, Stacks},
    diagnostic::near,
};

/// A request to follow functions.
#[derive(Clone, Debug)]
pub struct GraphRequest {
    /// A program or library, and after a colon a pattern of its functions.
    pub what: String,
    /// Only show calls beneath functions with this name or pattern.
    pub trigger: Option<String>,
    /// Most functions that are followed.
    pub limit: usize,
}

/// A function that is followed.
#[derive(Clone, Debug)]
pub struct FollowedFunction {
    /// Its name as shown.
    pub name: String,
    /// Its address.
    pub address: u64,
    /// Its exits; `None` if its returns are not probed.
    pub exits: Option<Exits>,
    /// Whether its first instruction is its last: it returns, or jumps away.
    pub at_once: bool,
    /// Whether calls beneath it are shown.
    pub is_trigger: bool,
}

/// A place in the file for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// Its offset in the file, bytes.
    pub offset: u64,
    /// The first word of the records.
    pub word: u64,
    /// Index of the function.
    pub function: usize,
}

/// The functions and the places of probes.
#[derive(Debug)]
pub struct Plan {
    /// The path of the file.
    pub path: PathBuf,
    /// The file that was read, to which the places belong, whatever has its name by now.
    pub file: File,
    /// Its processor.
    pub arch: Arch,
    /// The functions, by address.
    pub functions: Vec<FollowedFunction>,
    /// The places where they begin.
    pub entries: Vec<FilePlace>,
    /// The places where they end.
    pub exits: Vec<FilePlace>,
    /// Whether only calls beneath a trigger are shown.
    pub triggered: bool,
    /// Whose stacks determine callers; unknown for programs built by an old Go.
    pub stacks: Option<Stacks>,
    /// Differences from the request, in sentences.
    pub notes: Vec<String>,
}

fn missing(message: String, hint: impl Into<Option<String>>) -> Missing {
    Missing { message, hint: hint.into() }
}

/// Finds the functions.
pub fn plan(request: &GraphRequest) -> Result<Plan, Missing> {
    let (file, what) = split(&request.what)?;
    let pattern = Pattern::new(&what);
    let trigger = request.trigger.as_deref().map(Pattern::new);
    let names: Vec<Name> = file.list.iter().map(|function| Name::new(&function.name)).collect();
    let shown = file.path.display();
    let is_trigger = |name: &Name| trigger.as_ref().is_some_and(|trigger| name.matches(trigger));
    let chosen: Vec<usize> = (0..file.list.len())
        .filter(|index| names[*index].matches(&pattern) || is_trigger(&names[*index]))
        .collect();
    for (pattern, text) in std::iter::once((&pattern, &what)).chain(trigger.iter().zip(&request.trigger)) {
        if !names.iter().any(|name| name.matches(pattern)) {
            let near = near(text, names.iter().map(|name| name.shown.as_str()), 3);
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            let hint = (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
            return Err(missing(format!("no function of `{shown}` is named `{text}`"), hint));
        }
    }
    if chosen.len() > request.limit {
        return Err(missing(
            format!(
                "{} functions of `{shown}` match `{what}`, and {} are followed at most",
                chosen.len(),
                request.limit
            ),
            "narrow it, as in BINARY:PREFIX*, or give a higher --limit".to_owned(),
        ));
    }
    let stacks = match file.go {
        None => Some(Stacks::Thread),
        Some(Go::Recent) => Some(Stacks::Goroutine),
        Some(Go::Old) => None,
    };
    let mut functions = Vec::new();
    let mut begins = Vec::new();
    let mut unclear: Vec<String> = Vec::new();
    let mut code = file.most_code();
    for index in chosen {
        let function = &file.list[index];
        let ends = if stacks.is_none() { Ok(None) } else { file.exits(function, &mut code).map(Some) };
        let exits = ends.unwrap_or_else(|error| {
            unclear.push(format!("`{}` ({error})", names[index].shown));
            None
        });
        begins.push(file.entry(function, exits.as_ref(), false));
        functions.push(FollowedFunction {
            name: names[index].shown.clone(),
            address: function.address,
            at_once: false,
            exits,
            is_trigger: is_trigger(&names[index]),
        });
    }
    let mut notes = Vec::new();
    if stacks.is_none() {
        notes.push(format!(
            "`{shown}` is built by a Go before 1.18, whose stacks are not known here: entries are shown, each by itself, and no returns"
        ));
    }
    if !unclear.is_empty() {
        let count = unclear.len();
        unclear.truncate(4);
        let more = if count > 4 { format!(" and {} more", count - 4) } else { String::new() };
        notes.push(format!("returns are not taken of {}{more}", unclear.join(", ")));
    }
    let mut plan = Plan {
        stacks,
        path: file.path,
        file: file.file,
        arch: file.arch,
        entries: Vec::new(),
        exits: Vec::new(),
        functions,
        triggered: request.trigger.is_some(),
        notes,
    };
    plan.place(&begins);
    Ok(plan)
}

/// Splits into file and pattern: names of both may contain colons, so the file is the shortest prefix that names one.
fn split(what: &str) -> Result<(FileFunctions, String), Missing> {
    let mut first = None;
    for (at, _) in what.match_indices(':').chain([(what.len(), "")]) {
        let (file, pattern) = (&what[..at], what[at..].strip_prefix(':').unwrap_or("*"));
        match elf::functions(file) {
            Ok(functions) => return Ok((functions, pattern.into())),
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| missing("no program is given".into(), None)))
}

impl Plan {
    /// Finds the places. `begins`: for each function, the offset of the probe for its entry.
    fn place(&mut self, begins: &[u64]) {
        // Functions whose returns are probed: a jump to one of them is no end, because its return ends both.
        let returning: HashSet<u64> = self
            .functions
            .iter()
            .filter(|function| function.exits.as_ref().is_some_and(|exits| !exits.returns.is_empty()))
            .map(|function| function.address)
            .collect();
        let mut taken = HashSet::new();
        for (index, (function, begin)) in self.functions.iter_mut().zip(begins.iter().copied()).enumerate() {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            self.entries.push(FilePlace {
                offset: begin,
                word: RecordKind::Entry.word(number),
                function: index,
            });
            let Some(exits) = &function.exits else { continue };
            let returns = exits.returns.iter().map(|offset| (*offset, RecordKind::Return));
            let jumps = exits
                .jumps
                .iter()
                .filter(|(_, to)| !returning.contains(to))
                .map(|(offset, _)| (*offset, RecordKind::Leave));
            for (offset, kind) in returns.chain(jumps) {
                if offset == begin {
                    function.at_once = true;
                } else if taken.insert(offset) {
                    self.exits.push(FilePlace { offset, word: kind.word(number), function: index });
                }
            }
        }
    }
}
