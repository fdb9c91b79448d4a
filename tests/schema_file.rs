//! What is made from the table of keys is what is checked in: the schema that editors read, and the tables of the reference.
//! After a change of the table: `TAPSTER_ACCEPT=1 cargo test --test schema_file`.
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::fs;
use support::{fixture, golden::Golden};
use tapster_ebpf::declaration;

/// The reference with the tables of today between their marks, and the names of tables that have no marks there.
fn with_tables(reference: &str) -> (String, Vec<&'static str>) {
    const END: &str = "<!-- end of keys -->";
    let mut text = reference.to_owned();
    let mut missing = Vec::new();
    for (name, table) in declaration::tables() {
        let mark = format!("<!-- keys: {name} -->\n");
        match text.split_once(&mark).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1))) {
            Some((before, behind)) => text = format!("{before}{mark}{table}{END}{behind}"),
            None => missing.push(name),
        }
    }
    (text, missing)
}

#[test]
fn the_checked_in_schema_is_up_to_date() {
    let mut golden = Golden::new("schema_file");
    golden.compare("../config/tapster.schema.json", &format!("{:#}\n", declaration::schema()));
    golden.finish();
}

#[test]
fn the_tables_of_the_reference_are_up_to_date() {
    let mut golden = Golden::new("schema_file");
    let path = "../docs/probes.md";
    let (found, missing) = with_tables(&fs::read_to_string(fixture::file(path)).unwrap());
    for name in missing {
        golden.fail(format!("docs/probes.md has no `<!-- keys: {name} -->` and the end of it"));
    }
    golden.compare(path, &found);
    golden.finish();
}

#[test]
fn a_table_that_differs_is_noticed() {
    let (found, missing) = with_tables("<!-- keys: each -->\n| old |\n<!-- end of keys -->\nmore\n");
    assert!(found.contains("| `limit` |") && found.ends_with("<!-- end of keys -->\nmore\n"), "{found}");
    assert!(
        !found.contains("old") && !missing.contains(&"each") && missing.contains(&"probe"),
        "{missing:?}"
    );
}

/// The example has no mistakes of form; whether a kernel takes it is for `tapster check` to say.
#[test]
fn the_example_is_well_formed() {
    use tapster_ebpf::diagnostic::SourceFile;
    let file = SourceFile::new("config/tapster.yaml", include_str!("../config/tapster.yaml"));
    let (file, diagnostics) = declaration::parse(&file);
    assert!(diagnostics.is_empty(), "{}", diagnostics.iter().map(ToString::to_string).collect::<String>());
    assert_eq!(file.probes.len(), 2);
}
