//! What the documents show is so: probes are well formed, links lead somewhere. What can be typed is tried in `readme.rs`.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};
use tapster_ebpf::{declaration, diagnostic::SourceFile, probe::DECODERS};

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

/// The table of decoders in `docs/probes.md` is the compiler's.
#[test]
fn decoders_are_those_of_the_compiler() {
    let row = |row: &tapster_ebpf::probe::DecoderRow| {
        let names: Vec<String> = row.decoders.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("| {} | {} | {} |\n", names.join(", "), row.from, row.into)
    };
    let expected: String = DECODERS.iter().map(row).collect();
    let text = fs::read_to_string(root().join("docs/probes.md")).unwrap();
    let (_, behind) = text.split_once("| a table | a number |").expect("the table of decoders");
    let (_, behind) = behind.split_once('\n').expect("its rows");
    let (found, _) = behind.split_once("\n\n").expect("its end");
    assert_eq!(format!("{found}\n"), expected, "docs/probes.md");
}
