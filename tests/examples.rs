//! The files in `examples`: well formed, named in `docs/compare.md`, compiled for the kernels of `tests/fixtures/examples` and for the
//! running one, and what they count compared with what happened.
//!
//! `tests/examples/needs.txt` has what a kernel lacks for an example. Everything else has to compile, and an entry that is not
//! needed fails too. Excerpts are made as for `tests/kernels.rs`. After a row of `docs/compare.md` has changed:
//! `TAPSTER_ACCEPT=1 cargo test --test examples`.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

#[path = "examples/counts.rs"]
mod counts;

use tapster_testing as support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
};
use support::{
    cases::{Cases, Outcome},
    examples::{self, Example},
    excerpt::{self, Collection},
    exporter::binary,
    fixture,
};

/// The collections, with the number of their asks, as `docs/compare.md` has them.
const COLLECTIONS: [(&str, usize); 3] = [("bpftrace", 39), ("ebpf_exporter", 43), ("operators", 35)];

/// What a comment says before the asks that its file answers.
const ASKS: &str = "Asks: ";

/// The asks that an example says it answers, each with its collection.
fn asks(example: &Example) -> BTreeSet<(String, String)> {
    let comment = example.comment();
    let line = comment.last().and_then(|line| line.strip_prefix(ASKS));
    let line =
        line.unwrap_or_else(|| panic!("{}: the last line of the comment is no `# {ASKS}`", example.name));
    assert!((2..=4).contains(&comment.len()), "{}: a comment of {} lines", example.name, comment.len());
    let mut found = BTreeSet::new();
    for part in line.split("; ") {
        let (collection, names) = part.split_once(' ').unwrap();
        assert!(COLLECTIONS.iter().any(|(name, _)| *name == collection), "{}: {collection}", example.name);
        found.extend(names.split(", ").map(|name| (collection.to_owned(), name.to_owned())));
    }
    found
}

#[test]
fn examples_share_no_names() {
    let mut taken = BTreeMap::<String, String>::new();
    let mut take = |name: &str, file: &str| {
        if let Some(other) = taken.insert(name.to_owned(), file.to_owned()).filter(|other| other != file) {
            panic!("`{name}` is in {other} and in {file}");
        }
    };
    for probe in tapster::config::library().unwrap() {
        for (name, _) in probe.families() {
            take(&name.value, &probe.file.name);
        }
    }
    for example in examples::all() {
        for probe in &example.probes {
            take(&format!("probe {}", probe.name.value), &example.name);
            assert!(!probe.help.is_empty(), "{}: `{}` has no help", example.name, probe.name.value);
            for (name, _) in probe.families() {
                take(&name.value, &example.name);
            }
        }
    }
}

/// A row of a table in `docs/compare.md`.
struct Row {
    collection: &'static str,
    ask: String,
    /// Below `examples`, if there is one.
    file: Option<String>,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Whole,
    InPart,
    NotAtAll,
}

fn rows(page: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut collection = None;
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            collection =
                COLLECTIONS.iter().map(|(name, _)| *name).find(|name| title.to_lowercase() == **name);
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let (Some(collection), [ask, _, here, answer]) = (collection, cells.as_slice()) else { continue };
        if ["tool", "example", "number"].contains(ask) || ask.starts_with("---") {
            continue;
        }
        let file = here.split_once("](../examples/").and_then(|(_, rest)| rest.split_once(')'));
        let verdict = match answer.split_once(": ") {
            None if *answer == "whole" => Verdict::Whole,
            Some(("in part", _)) => Verdict::InPart,
            Some(("not at all", _)) => Verdict::NotAtAll,
            _ => panic!("{ask}: `{answer}`"),
        };
        let file = file.map(|(file, _)| file.to_owned());
        assert_eq!(file.is_none(), verdict == Verdict::NotAtAll, "{ask}");
        rows.push(Row { collection, ask: ask.trim_matches('`').to_owned(), file, verdict });
    }
    rows
}

/// How many of each collection are answered how, as a table.
fn figures(rows: &[Row]) -> String {
    let mut text =
        String::from("| collection | asks | whole | in part | not at all |\n|---|---|---|---|---|\n");
    let mut line = |name: &str, rows: &[&Row]| {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        let (whole, part, none) = (count(Verdict::Whole), count(Verdict::InPart), count(Verdict::NotAtAll));
        writeln!(text, "| {name} | {} | {whole} | {part} | {none} |", rows.len()).unwrap();
    };
    for (collection, asks) in COLLECTIONS {
        let own: Vec<&Row> = rows.iter().filter(|row| row.collection == collection).collect();
        assert_eq!(own.len(), asks, "asks of {collection}");
        line(collection, &own);
    }
    line("all", &rows.iter().collect::<Vec<_>>());
    text
}

/// The tables of `docs/compare.md` and the comments of the examples say the same, and its figures are those of the tables.
#[test]
fn the_comparison_is_counted() {
    const BOUNDS: [&str; 2] = ["<!-- figures -->\n", "<!-- end of figures -->"];
    let path = fixture::repository().join("docs/compare.md");
    let page = fs::read_to_string(&path).unwrap();
    let rows = rows(&page);
    let examples = examples::all();
    let said: BTreeMap<&str, BTreeSet<(String, String)>> =
        examples.iter().map(|example| (example.name.as_str(), asks(example))).collect();
    let mut named = BTreeMap::<&str, BTreeSet<(String, String)>>::new();
    for row in &rows {
        if let Some(file) = &row.file {
            named.entry(file).or_default().insert((row.collection.to_owned(), row.ask.clone()));
        }
    }
    assert_eq!(said, named, "the comments of the examples, and the tables");
    let (before, rest) = page.split_once(BOUNDS[0]).unwrap();
    let (found, after) = rest.split_once(BOUNDS[1]).unwrap();
    let has_counts =
        |example: &&Example| include_str!("examples/counts.rs").contains(&format!("\"{}\"", example.name));
    let counted = format!(
        "{}\n{} files; what {} of them count is compared with what happened.\n",
        figures(&rows),
        examples.len(),
        examples.iter().filter(has_counts).count(),
    );
    if std::env::var_os("TAPSTER_ACCEPT").is_some() {
        fs::write(&path, [before, BOUNDS[0], &counted, BOUNDS[1], after].concat()).unwrap();
    } else {
        assert_eq!(found, counted, "docs/compare.md: TAPSTER_ACCEPT=1 writes the figures");
    }
}

/// What a kernel lacks for an example.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Need {
    probe: String,
    /// The series of the kernel.
    on: String,
    /// A part of the message.
    why: String,
}

fn needs() -> Vec<Need> {
    let text = fs::read_to_string(fixture::file("examples/needs.txt")).unwrap();
    let mut needs = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        let [probe, kernels, why] = words.as_slice() else { panic!("`{line}` is not PROBE  KERNELS  WHY") };
        needs.extend(kernels.split(' ').map(|on| Need {
            probe: (*probe).to_owned(),
            on: on.to_owned(),
            why: (*why).to_owned(),
        }));
    }
    needs
}

/// Each example compiles on each kernel, or lacks what the table says.
#[test]
fn examples_compile_on_every_kernel() {
    let collection = Collection::examples();
    let needs = needs();
    let names: BTreeSet<&str> = collection.probes.iter().map(|probe| probe.name.value.as_str()).collect();
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    let excerpts = collection.excerpts();
    assert!(excerpts.len() > 4, "{} kernels", excerpts.len());
    for (series, directory) in &excerpts {
        let kernel = excerpt::kernel(directory);
        let mut results: BTreeMap<String, String> =
            names.iter().map(|name| ((*name).to_owned(), "its `kernel` is another".to_owned())).collect();
        for (name, result) in excerpt::compile(collection.probes.clone(), &kernel) {
            match result {
                Ok(_) => results.remove(&name),
                Err(message) => results.insert(name, message),
            };
        }
        for (name, message) in results {
            match needs.iter().find(|need| need.probe == name && need.on == *series) {
                Some(need) if message.contains(&need.why) => {
                    used.insert(need);
                }
                Some(need) => wrong.push(format!("{name} on {series}: {message}, not {}", need.why)),
                None => wrong.push(format!("{name} on {series}: {message}")),
            }
        }
    }
    let is_of_kernel = |need: &&Need| excerpts.iter().any(|(series, _)| *series == need.on);
    let idle = needs.iter().filter(is_of_kernel).filter(|need| !used.contains(need));
    wrong.extend(idle.map(|need| format!("{} on {}: compiles, and is in the table", need.probe, need.on)));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a kernel or a host may be without, whatever the example: kprobes, probes of functions by `fentry`, counters of the
/// processor, and programs.
/// Alternatives are told one by one.
const REFUSALS: [&str; 5] = [
    "this kernel has no kprobes",
    "this kernel's BTF has no function",
    "could not be loaded: bpf(BPF_PROG_LOAD): Operation not permitted",
    "could not be attached: perf_event_open: No such file or directory",
    "error: there is no `",
];

/// Whether `tapster check` accepts all of a file on this kernel, whose verifier it asks. Each thing that it does not is in the table,
/// or one of [`REFUSALS`].
fn is_whole_here(example: &Example, needs: &[Need]) -> Result<bool, String> {
    let path = fixture::repository().join("examples").join(&example.name);
    let output = binary().arg("check").arg(path).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    if output.status.success() {
        return Ok(true);
    }
    let is_known = |line: &str| {
        let of_probe = |need: &Need| example.probes.iter().any(|probe| probe.name.value == need.probe);
        REFUSALS.iter().any(|refusal| line.contains(refusal))
            || needs.iter().any(|need| of_probe(need) && line.contains(&need.why))
    };
    let is_refusal = |line: &&str| line.starts_with("error: ") || line.contains("could not be ");
    let refusals: Vec<&str> = said.lines().filter(is_refusal).collect();
    let unknown: Vec<&str> = refusals.iter().copied().filter(|line| !is_known(line)).collect();
    if refusals.is_empty() || !unknown.is_empty() {
        return Err(format!("{}: {unknown:#?}\n{said}", example.name));
    }
    Ok(false)
}

fn verified() -> Outcome {
    let needs = needs();
    let all = examples::all();
    let results: Vec<_> = all.iter().map(|example| is_whole_here(example, &needs)).collect();
    let wrong: Vec<&str> =
        results.iter().filter_map(|result| result.as_ref().err()).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let whole = results.iter().filter(|result| **result == Ok(true)).count();
    assert!(whole > 0, "nothing compiles here");
    Ok(format!("{whole} of {} files whole on this kernel, the others lack what the table says", all.len()))
}

#[test]
fn examples_run() {
    let Some(mut cases) = Cases::as_root("examples") else { return };
    cases.run("verified by this kernel", verified);
    counts::all(&mut cases);
    cases.finish();
}
