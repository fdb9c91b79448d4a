//! The schema that editors read is the one that `tapster schema` prints.

use tapster_ebpf::declaration;

#[test]
fn the_checked_in_schema_is_up_to_date() {
    let checked_in = include_str!("../config/tapster.schema.json");
    let printed = format!("{:#}\n", declaration::schema());
    assert!(checked_in == printed, "run: cargo run -- schema > config/tapster.schema.json");
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
