//! Decoders that the compiler completes: tables, enumerations and flags with this kernel's numbers.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_ebpf::{probe::Decoder, typed::Type, vm::Environment};
use tapster_testing::compiler as support;

use support::{
    case::{Frame, compile, context},
    world::World,
};

/// The decoder of the label `a` after it was checked, or what is said.
fn decoder_of(body: &str) -> Result<Decoder, String> {
    let head = format!("    at: \"rawtracepoint:test:typed\"\n{body}");
    compile(&Frame { head }, &["1".to_owned()], &World::new().target(2))
        .map(|case| case.program.labels[0].decoder.clone())
}

fn label(value: &str, decoder: &str) -> Result<Decoder, String> {
    decoder_of(&format!("    labels: {{ a: {{ value: '{value}', as: {decoder} }} }}\n"))
}

fn table(rows: &[(i64, &str)], default: Option<&str>) -> Decoder {
    let rows = rows.iter().map(|(number, text)| (*number, (*text).to_owned())).collect();
    Decoder::Table { rows, named: Vec::new(), default: default.map(str::to_owned) }
}

fn flags(rows: &[(i64, &str)]) -> Decoder {
    let rows = rows.iter().map(|(number, text)| (*number, (*text).to_owned())).collect();
    Decoder::Flags { rows, named: Vec::new(), of: None }
}

const COLORS: [(i64, &str); 2] = [(-1, "RED"), (7, "GREEN")];

#[test]
fn an_enumeration_is_the_value_s_own() {
    for value in [
        "args.color",
        "args.node.col",
        "(enum color)args.big",
        "args.big ? args.color : args.node.col",
        "args.node.nothing ?? args.color",
    ] {
        assert_eq!(label(value, "enum"), Ok(table(&COLORS, None)), "{value}");
    }
    let named = "    let: { it: args.color }\n    labels: { a: { value: it, as: enum } }\n";
    assert_eq!(decoder_of(named), Ok(table(&COLORS, None)));
}

#[test]
fn an_enumeration_is_kept_from_a_start() {
    let head = "    start: { at: \"rawtracepoint:test:typed\", key: [tid], save: { color: args.color } }\n    end: { at: \"rawtracepoint:test:task\", key: [tid] }\n    labels: { a: { value: start.color, as: enum } }\n";
    let case = compile(&Frame { head: head.into() }, &["1".to_owned()], &World::new().target(2)).unwrap();
    assert_eq!(case.program.labels[0].decoder, table(&COLORS, None));
}

#[test]
fn an_enumeration_is_named_and_its_prefix_left_out() {
    assert_eq!(label("args.big", "{ enum: color }"), Ok(table(&COLORS, None)));
    assert_eq!(label("args.big", "{ enum: GREEN }"), Ok(table(&COLORS, None)));
    let stripped = table(&[(-1, "RED"), (7, "EEN")], Some("other"));
    assert_eq!(label("args.color", "{ strip: GR, default: other }"), Ok(stripped));
    // A whole name is no prefix: nothing would be left.
    assert_eq!(label("args.color", "{ strip: R }"), Ok(table(&[(-1, "ED"), (7, "GREEN")], None)));
}

#[test]
fn flags_are_a_table_or_an_enumeration() {
    assert_eq!(
        label("args.big", "{ flags: { 1: read, 0x2: write } }"),
        Ok(flags(&[(1, "read"), (2, "write")]))
    );
    assert_eq!(label("args.big", "{ flags: { GREEN: g, NO_SUCH: n } }"), Ok(flags(&[(7, "g")])));
    assert_eq!(label("args.big", "{ flags: color, strip: GR }"), Ok(flags(&[(-1, "RED"), (7, "EEN")])));
}

#[test]
fn addresses_are_bytes_or_numbers() {
    for value in [
        "args.size",
        "args.big",
        "bytes(args.node.inner, 4)",
        "bytes(args.node.inner, 16)",
        "bytes(args.node, 28)",
    ] {
        assert_eq!(label(value, "ip"), Ok(Decoder::Ip), "{value}");
    }
    assert_eq!(label("bytes(args.node.inner, 6)", "mac"), Ok(Decoder::Mac));
    assert_eq!(label("bytes(args.node.inner, 16)", "uuid"), Ok(Decoder::Uuid));
}

/// An address of a program is kept with the process that runs at the event.
#[test]
fn an_address_has_its_process() {
    for (value, address) in [("args.big", 5_u64), ("args.node", 5), ("args.size", 5), ("args.big + 1", 6)] {
        let head = format!(
            "    at: \"rawtracepoint:test:typed\"\n    let: {{ it: {value} }}\n    labels: {{ a: {{ value: it, as: usym }}, b: pid }}\n"
        );
        let case = compile(&Frame { head }, &["1".to_owned()], &World::new().target(2)).unwrap();
        let label = &case.program.labels[0];
        assert_eq!((&label.decoder, &label.ty), (&Decoder::Usym, &Type::Bytes { size: 16 }), "{value}");
        let environment = Environment { pid_tgid: (1234 << 32) + 1235, ..Environment::default() };
        let mut vm = case.machine(environment.clone());
        let context = context(&[5; 10]);
        case.run(&mut vm, &context, 10);
        let rows = case.rows(&vm);
        assert_eq!(rows, case.expected(&environment, &context, 10), "{value}");
        let words = [address, 1234, 1234].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(rows[0].0, words, "{value}");
    }
}

#[test]
fn regular_expressions_are_a_list_or_a_table() {
    let rows = |rows: &[(&str, Option<&str>)], default: &str| Decoder::Regexp {
        rows: rows.iter().map(|(pattern, text)| ((*pattern).to_owned(), text.map(str::to_owned))).collect(),
        default: default.into(),
    };
    assert_eq!(
        label("comm", "{ regexp: [nginx, \"k.*\"] }"),
        Ok(rows(&[("nginx", None), ("k.*", None)], "~other"))
    );
    assert_eq!(
        label("str(args.text)", "{ regexp: { \"(a)(b)?\": $1$0 }, default: none }"),
        Ok(rows(&[("(a)(b)?", Some("$1$0"))], "none"))
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    for (value, decoder, says) in [
        ("args.big", "enum", "the value's type is no enumeration"),
        ("args.color + 1", "enum", "the value's type is no enumeration"),
        ("(u32)args.color", "enum", "the value's type is no enumeration"),
        ("args.big", "{ enum: colour }", "this kernel has no enumeration `colour`"),
        ("args.big", "{ enum: node }", "this kernel has no enumeration `node`"),
        ("args.color", "{ strip: BLUE_ }", "no name of the enumeration begins with `BLUE_`"),
        ("args.color", "{ strip: GR, defalut: x }", "the enumeration has no key `defalut`"),
        ("args.big", "flags", "`flags` needs the names of the bits"),
        ("args.big", "{ flags: {} }", "the table is empty"),
        ("args.big", "{ flags: { 1: a, default: b } }", "a table of flags has no `default`"),
        ("args.big", "{ flags: { 1: a }, strip: b }", "there is nothing to strip from the texts of a table"),
        ("args.big", "{ flags: [a] }", "`flags` must be text, found a list"),
        ("args.big", "{ regexp: [a] }", "this decoder does not take a number"),
        ("comm", "regexp", "`regexp` needs its expressions"),
        ("comm", "{ regexp: [] }", "there is no expression"),
        ("comm", "{ regexp: [\"a)\"] }", "`a)` is no regular expression"),
        ("comm", "{ regexp: [\"(?=a)\"] }", "`(?=a)` is no regular expression"),
        ("comm", "{ regexp: [\"((a{1000}){1000})\"] }", "is no regular expression"),
        ("comm", "{ regexp: { \"(a)\": $2 } }", "the expression has no group `2`"),
        ("comm", "{ regexp: { a: \"${name}\" } }", "the expression has no group `name`"),
        ("comm", "ip", "this decoder does not take a text"),
        ("bytes(args.node.tag)", "ip", "this decoder does not take so many bytes"),
        ("args.big", "mac", "this decoder does not take a number"),
        ("bytes(args.node.inner, 4)", "uuid", "this decoder does not take so many bytes"),
        ("comm", "usym", "this decoder does not take a text"),
        ("bytes(args.node.inner, 16)", "usym", "this decoder does not take bytes"),
        ("ustack", "usym", "this decoder does not take a stack"),
        ("comm", "user", "this decoder does not take a text"),
        ("comm", "ifname", "this decoder does not take a text"),
        ("bytes(args.node.inner, 4)", "pci_device", "this decoder does not take bytes"),
        ("args.big", "pci_vendr", "did you mean `pci_vendor`?"),
        ("ntohs(comm)", "unsigned", "what `ntohs` takes must be a number, found a text"),
        ("ntohs(0x10000)", "unsigned", "`ntohs` takes a number of 16 bits, and 0x10000 has more"),
        ("ntohs()", "unsigned", "`ntohs` takes one number, and not 0 arguments"),
        (
            "ntohs(args.half) == 70000",
            "unsigned",
            "comparing unsigned 16 bits with 70000 gives always the same",
        ),
        ("htons(args.half)", "unsigned", "did you mean `ntohs`?"),
    ] {
        let refused = label(value, decoder).unwrap_err();
        assert!(refused.contains(says), "{value} as {decoder}: {refused}");
    }
}
