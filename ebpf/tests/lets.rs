//! Named expressions are computed once each, however often others name them.
#![allow(clippy::unwrap_used, clippy::format_collect, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use std::fmt::Write;
use support::{
    case::{Case, Frame, compile, context},
    random::Random,
    world::{World, memory},
};
use tapster_ebpf::vm::Environment;

/// `let`s from `l0` on, each made of the one before by the expression with `#` in its place.
fn chain(length: usize, from: &str, step: &str) -> String {
    let mut text = format!("    let:\n      l0: '{from}'\n");
    for index in 1..length {
        let last = format!("l{}", index - 1);
        writeln!(text, "      l{index}: '{}'", step.replace('#', &last)).unwrap();
    }
    text
}

fn compiled(head: &str, expressions: &[&str]) -> Result<Case, String> {
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    compile(&Frame { head: head.into() }, &expressions, &World::new().target(2))
}

fn values(case: &Case, arguments: &[u64]) -> Vec<u64> {
    let (environment, context) = (Environment::default(), context(arguments));
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &context, 10), "{}", case.yaml);
    rows[0].1.clone()
}

#[test]
fn sixty_that_are_each_twice_the_last() {
    let at = "    at: \"rawtracepoint:test:untyped\"\n";
    let sum = chain(60, "(u64)arg0", "# + #");
    let case =
        compiled(&format!("{at}{sum}    labels: {{ a: arg1, c: comm }}\n"), &["l59", "l59 + l59"]).unwrap();
    assert_eq!(values(&case, &[3, 1]), [3 << 59, 3 << 60]);
    // Each is there once: a load and an addition or two.
    let instructions = case.program.codes[0].assembled.insns.len();
    assert!(instructions < 500, "{instructions} instructions\n{}", case.program.codes[0].assembled.listing());

    // Through conditions, in the filter, at the end of a pair, and over a list.
    let choice = chain(60, "(u64)arg0", "# > 1000 ? # - 1000 : # + (# & 1)");
    let model = (1..60).fold(10_007_u64, |last, _| if last > 1000 { last - 1000 } else { last + (last & 1) });
    let case = compiled(&format!("{at}{choice}    where: 'l59 != 5'\n"), &["l59", "l58 == 0"]).unwrap();
    assert_eq!(values(&case, &[10_007]), [model, 0]);
    let late = chain(60, "duration", "# + #");
    let pair = "    start: { at: \"rawtracepoint:test:untyped\", key: [arg11] }\n    end: { at: \"rawtracepoint:test:stop\", key: [arg11], where: 'l59 > 0' }\n";
    let case = compiled(&format!("{late}{pair}"), &["l59"]).unwrap();
    assert_eq!(values(&case, &[0; 12]), [10 << 59]);
}

/// What is wrong with the first is wrong with all, and is said once.
#[test]
fn what_is_wrong_is_said_once() {
    for (from, step) in
        [("args.nothing", "# + #"), ("(u64)nothing", "# > 1 ? # : # * #"), ("comm", "#.a ?? #.b")]
    {
        let head = format!("    at: \"rawtracepoint:test:typed\"\n{}", chain(60, from, step));
        let error = compiled(&head, &["l59 + l59"]).unwrap_err();
        assert!(error.lines().count() <= 3, "{}", &error[..error.len().min(2000)]);
    }
}

/// A struct or an array has a name as any value; what is in it is read where the name is used.
#[test]
fn structs_and_arrays() {
    const KERNEL: u64 = 0xffff_8880_0010_0000;
    let (bytes, places) = memory(&mut Random(9), KERNEL, 0x18);
    let mut environment = Environment::default();
    environment.kernel.insert(KERNEL, bytes);
    let head = "    at: \"rawtracepoint:test:typed\"\n    let:\n      inside: args.node.inside\n      words: args.node.words\n      \
                next: \"*args.node.next\"\n      deeper: next.inside\n      table: args.node.table\n      second: table[1]\n      \
                either: args.node.nothing ?? args.node.inside\n";
    let pairs = [
        ("inside.a", "args.node.inside.a"),
        ("inside.f", "args.node.inside.f"),
        ("words[4]", "args.node.words[4]"),
        ("words[args.small & 3]", "args.node.words[args.small & 3]"),
        ("next.big", "args.node.next.big"),
        ("next.name == \"abcdefgh\"", "args.node.next.name == \"abcdefgh\""),
        ("deeper.c", "args.node.next.inside.c"),
        ("table[0].e", "args.node.table[0].e"),
        ("second.e", "args.node.table[1].e"),
        ("either.d", "args.node.inside.d"),
    ];
    let expressions: Vec<&str> = pairs.iter().flat_map(|(named, written)| [*named, *written]).collect();
    let case = compiled(head, &expressions).unwrap();
    for node in &places.nodes[..2] {
        let context = context(&[*node, places.inners[0], 2, 0, 0, 0, 0, 0, 0, 0]);
        let mut vm = case.machine(environment.clone());
        case.run(&mut vm, &context, 10);
        let rows = case.rows(&vm);
        assert_eq!(rows, case.expected(&environment, &context, 10), "{}", case.yaml);
        assert!(rows[0].1.iter().any(|value| *value != 0));
        for ((named, written), values) in pairs.iter().zip(rows[0].1.chunks(2)) {
            assert_eq!(values[0], values[1], "{named} and {written} of {node:#x}");
        }
    }
    // As bytes, and in the record of a tracepoint.
    compiled(&format!("{head}    labels: {{ raw: bytes(inside) }}\n"), &["inside.a"]).unwrap();
    let record = "    at: \"tracepoint:test:record\"\n    let: { many: args.many }\n";
    compiled(record, &["many[2]", "many[2] == args.many[2]"]).unwrap();
    // It is no value itself, and one that is used nowhere is no mistake.
    for (head, expression, says) in [
        (head, "inside + 1", "`struct inner` is not a value"),
        (head, "words", "is an array, not a value"),
        (head, "inside.nothing", "`struct inner` has no field `nothing`"),
        (record, "many", "an array is not a value"),
    ] {
        let error = compiled(head, &[expression]).unwrap_err();
        assert!(error.contains(says), "{expression}: {error}");
    }
}

#[test]
fn the_smaller_of_the_smaller_of_the_smaller() {
    let at = "    at: \"rawtracepoint:test:untyped\"\n";
    let nested = (1..60).fold("(u64)arg0".to_owned(), |inner, number| {
        let name = if number % 2 == 0 { "min" } else { "max" };
        format!("{name}({inner}, {number} * arg1)")
    });
    let case =
        compiled(at, &[&nested, "min(arg1, 5)", "max(-3, (s64)arg1)", "min(7, 9)", "max(7, 9)"]).unwrap();
    let model =
        (1..60).fold(
            1_u64,
            |last, number| if number % 2 == 0 { last.min(number * 4) } else { last.max(number * 4) },
        );
    assert_eq!(values(&case, &[1, 4]), [model, 4, 4, 7, 9]);
    assert_eq!(values(&case, &[1, 0_u64.wrapping_sub(4)])[1..3], [5, 0_u64.wrapping_sub(3)]);
}

/// What the event itself needs of each has to be kept, and there is an end to that.
#[test]
fn more_than_the_stack_holds_is_refused() {
    let all = (0..64).map(|index| format!("l{index}")).collect::<Vec<_>>().join(" ^ ");
    let head = format!("    at: \"rawtracepoint:test:untyped\"\n{}", chain(64, "arg0", "# + #"));
    let error = compiled(&head, &[&all]).unwrap_err();
    assert!(error.contains("bytes of stack, a program has 512"), "{error}");
    // As many as there is room for.
    let most = (4..60).map(|index| format!("l{index}")).collect::<Vec<_>>().join(" ^ ");
    let case = compiled(&head, &[&most]).unwrap();
    assert_eq!(values(&case, &[1]), [((1 << 60) - 1) ^ 0xf]);
}
