//! What the documents show is so: probes are well formed, commands have the flags that they are shown with, links lead somewhere.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};
use tapster_ebpf::{declaration, diagnostic::SourceFile};

/// A document, by its path from the root of the repository.
struct Document {
    path: PathBuf,
    text: String,
}

/// A part of a document that is code.
struct Code<'a> {
    /// The word after the fence; `None` for code within a line.
    language: Option<&'a str>,
    text: String,
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents at the root, those in `docs` and below, and those of the chart.
fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for directory in ["", "docs", "docs/adr", "helm/tapster", "fuzz"] {
        let Ok(entries) = fs::read_dir(root().join(directory)) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                documents.push(Document { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    assert!(documents.len() > 20, "{} documents", documents.len());
    documents
}

impl Document {
    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// Its code, in blocks and within lines.
    fn code(&self) -> Vec<Code<'_>> {
        let (mut found, mut block) = (Vec::<Code>::new(), None::<Code>);
        for (line, text) in (1..).zip(self.text.lines()) {
            match (text.trim_start().strip_prefix("```"), &mut block) {
                (Some(_), Some(_)) => found.extend(block.take()),
                (Some(language), None) => {
                    block =
                        Some(Code { language: Some(language.trim()), text: String::new(), line: line + 1 });
                }
                (None, Some(block)) => {
                    block.text.push_str(text);
                    block.text.push('\n');
                }
                (None, None) => {
                    let spans = text.split('`').skip(1).step_by(2);
                    found.extend(spans.map(|span| Code { language: None, text: span.into(), line }));
                }
            }
        }
        assert!(block.is_none(), "{}: a block of code does not end", self.path.display());
        found
    }
}

/// What is outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// A file of probes, if a block shows one or a part of one.
fn probes(yaml: &str) -> Option<String> {
    let first = yaml.lines().find(|line| !line.trim_start().starts_with('#'))?;
    if yaml.lines().any(|line| line.starts_with("probes:")) {
        Some(yaml.to_owned())
    } else if first.trim_start().starts_with("- name:") {
        Some(format!("probes:\n{yaml}"))
    } else {
        None
    }
}

#[test]
fn probes_are_well_formed() {
    let mut count = 0;
    for document in documents() {
        // Decisions show what was at their time, and the chart's `probes` are values of the chart.
        let is_other = ["docs/adr", "helm"].iter().any(|directory| document.path.starts_with(directory));
        for code in document.code().iter().filter(|_| !is_other) {
            let Some(yaml) = probes(&code.text).filter(|_| code.language == Some("yaml")) else { continue };
            let (_, diagnostics) = declaration::parse(&SourceFile::new("shown", &yaml));
            let said: String = diagnostics.iter().map(ToString::to_string).collect();
            assert!(diagnostics.is_empty(), "{}: {said}", document.place(code.line));
            count += 1;
        }
    }
    assert!(count >= 8, "{count} blocks");
}

/// The arguments of a `tapster` in a line of shell, as far as they are its own.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim_start_matches(['$', '#', ' ']);
    let mut words = words(line).into_iter().skip_while(|word| {
        word == "sudo"
            || word
                .split_once('=')
                .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    });
    let program = words.next()?;
    let is_ours = ["tapster", "target/release/tapster", "./tapster"].contains(&program.as_str());
    is_ours.then(|| {
        words
            .take_while(|word| !["|", "&", "#", ">", "2>", "…", "&&", ";"].contains(&word.as_str()))
            .collect()
    })
}

/// Words as a shell has them, as far as the documents use that. A synopsis' brackets are no part of a word.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (character, quote) {
            (' ' | '[' | ']', None) => words.extend(word.take()),
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, Some(open)) if open == character => quote = None,
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[test]
fn commands_have_the_flags_that_they_are_shown_with() {
    let mut shown = BTreeMap::<Vec<String>, String>::new();
    for document in documents().into_iter().filter(|document| !document.path.starts_with("docs/adr")) {
        for code in document.code() {
            let is_shell = matches!(code.language, Some("sh" | "console") | None);
            for line in code.text.lines().filter(|_| is_shell) {
                // In a block of output a command follows a prompt.
                let is_command = code.language != Some("console") || line.starts_with('$');
                if let Some(arguments) = arguments(line).filter(|_| is_command) {
                    shown.entry(arguments).or_insert_with(|| document.place(code.line));
                }
            }
        }
    }
    assert!(shown.len() > 40, "{} commands", shown.len());
    let mut wrong = Vec::new();
    for (mut arguments, place) in shown {
        // Everything before it is parsed, and nothing is done.
        let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
        arguments.insert(end, "--help".into());
        for argument in &mut arguments {
            // Of a choice the first.
            argument.truncate(argument.find('|').unwrap_or(argument.len()));
        }
        let output = Command::new(env!("CARGO_BIN_EXE_tapster")).args(&arguments).output().unwrap();
        if !output.status.success() {
            wrong
                .push(format!("{place}: tapster {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let Some(heading) = line.strip_prefix('#') else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
        let anchor: String = heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = [anchor.clone()].into_iter().chain(again).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            _ => normal.push(component),
        }
    }
    normal
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        documents.iter().map(|document| (&*document.path, anchors(&document.text))).collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in &documents {
        for (line, text) in prose(&document.text) {
            let targets =
                text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
            for target in targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
                count += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if path.is_empty() {
                    document.path.clone()
                } else {
                    normal(&document.path.parent().unwrap().join(path))
                };
                let is_there = root().join(&path).exists();
                let is_anchor =
                    anchor.is_empty() || anchors.get(&*path).is_none_or(|there| there.contains(anchor));
                if !is_there || !is_anchor {
                    wrong.push(format!("{}: {target}", document.place(line)));
                }
            }
        }
    }
    assert!(count > 100, "{count} links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
