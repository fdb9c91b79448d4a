//! Pointers to pointers keep the type of what is behind them.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Frame, compile, context},
    random::Random,
    world::{World, memory},
};
use tapster_ebpf::vm::Environment;

const KERNEL: u64 = 0xffff_8880_0010_0000;

fn compiled(head: &str, expressions: &[&str]) -> Result<support::case::Case, String> {
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    compile(&Frame { head: head.into() }, &expressions, &World::new().target(2))
}

/// A node begins with the pointer to the next one, so that its address is that of a pointer to a node.
#[test]
fn one_behind_the_other() {
    let (bytes, places) = memory(&mut Random(4), KERNEL, 0x18);
    let mut environment = Environment::default();
    environment.kernel.insert(KERNEL, bytes);
    let expressions = [
        "((struct node *)arg0).next.big",
        "(*(struct node **)arg0).big",
        "((struct node **)arg0)[0].big",
        "((struct node *)(*(void **)arg0)).big",
        "(*(*(struct node ***)arg1)).big",
    ];
    let case = compiled("    at: \"rawtracepoint:test:untyped\"\n", &expressions[..4]).unwrap();
    let context = context(&[places.nodes[0]]);
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &context, 10), "{}", case.yaml);
    let values = &rows[0].1;
    assert!(values[0] != 0 && values.iter().all(|value| *value == values[0]), "{values:x?}");
    // This kernel has no type for three, and says how to do without.
    let error = compiled("    at: \"rawtracepoint:test:untyped\"\n", &expressions[4..]).unwrap_err();
    assert!(error.contains("go through one pointer at a time: (struct node **)*(u64 *)value"), "{error}");
}

/// Fields of records by their types in C.
#[test]
fn in_a_record() {
    let at = "    at: \"tracepoint:alike:other\"\n    labels: { first: 'str(args.list[0], 16)', second: 'str(args.list[1])' }\n";
    compiled(
        at,
        &["args.nodes[0].big", "(*args.nodes).next.big", "args.counts[3]", "*args.counts", "args.node.big"],
    )
    .unwrap();
    for (expression, says) in [
        ("args.nodes[0].nothing", "`struct node` has no field `nothing`"),
        ("*(args.nodes + 1)", "an address plus a number is a number: write (args.nodes)[1]"),
    ] {
        let error = compiled(at, &[expression]).unwrap_err();
        assert!(error.contains(says), "{expression}: {error}");
    }
}
