//! Pointers to pointers keep the type of what is behind them.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    btf::Builder,
    case::{Frame, compile, context},
    random::Random,
    world::{World, memory},
};
use tapster_ebpf::{
    btf::Btf,
    insn::{Helper, Insn},
    probe::KernelVersion,
    target::Target,
    vm::Environment,
};

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

/// Which pointers, other than to structs, the verifier passes to a program that knows the types: `btf_ctx_access` in
/// `kernel/bpf/btf.c` of Linux 5.10, 5.17 (`is_int_ptr`), 6.4, of which 6.1.28 has that as well, and 6.16 (`is_void_or_int_ptr`). Where an
/// argument may not be passed, a raw tracepoint becomes a program without types; where it is not, a function says so.
#[test]
fn to_what_the_verifier_passes_none() {
    let mut b = Builder::new();
    let int = b.int("int", 4, true);
    let character = b.int("char", 1, true);
    let color = b.enumeration("color", &[("RED", 0)]);
    let (constant, alias, nothing) = (b.constant(int), b.alias("u32", int), b.constant(0));
    let text = b.constant(character);
    let kinds = [0, text, int, constant, alias, nothing, color].map(|of| b.pointer(of));
    let names = ["plain", "text", "number", "constant", "alias", "nothing", "color"];
    let parameters: Vec<(&str, u32)> = names.into_iter().zip(kinds).collect();
    b.tracepoint("pointed", &parameters);
    b.function("pointed", &parameters);
    let btf = Btf::parse(b.finish()).unwrap();
    let world = World::new();
    let first =
        [Some((5, 10)), Some((5, 10)), Some((5, 17)), Some((5, 17)), Some((6, 4)), Some((6, 16)), None];
    for (name, first) in names.into_iter().zip(first) {
        for (major, minor) in
            [(5, 10), (5, 16), (5, 17), (6, 0), (6, 1), (6, 3), (6, 4), (6, 15), (6, 16), (7, 3)]
        {
            let kernel = KernelVersion(major, minor, 0);
            let target = Target { btf: Some(&btf), kernel, ..world.target(1) };
            let at = |point: &str| Frame { head: format!("    at: '{point}'\n") };
            let expressions = [format!("(u64)args.{name}")];
            let passes = first.is_some_and(|first| (major, minor) >= first);
            let case = compile(&at("rawtracepoint:pointed"), &expressions, &target).unwrap();
            let mechanism = case.program.codes[0].mechanism.name;
            assert_eq!(mechanism, if passes { "tp_btf" } else { "raw_tp" }, "{name}, {kernel:?}");
            let function = compile(&at("fentry:pointed"), &expressions, &target);
            let may_pass = passes || name == "alias" && (major, minor) >= (6, 1);
            assert_eq!(function.is_ok(), may_pass, "{name}, {kernel:?}: {function:?}");
            let Err(error) = function else { continue };
            assert!(error.contains("this kernel's verifier does not pass a `"), "{error}");
        }
    }
}

/// Of what a struct has in an array, Linux 5.10 does not let a program load the beginning of an element whose type has another name; a
/// helper reads it.
#[test]
fn to_elements_with_another_name() {
    let mut b = Builder::new();
    let number = b.int("unsigned long", 8, false);
    let index = b.int("unsigned int", 4, false);
    let inner = b.structure("inner", 16, &[("first", number, 0, 0), ("second", number, 64, 0)]);
    let alias = b.alias("inner_t", inner);
    let (plain, named) = (b.array(inner, index, 2), b.array(alias, index, 2));
    let outer = b.structure("outer", 64, &[("plain", plain, 0, 0), ("named", named, 256, 0)]);
    let pointer = b.pointer(outer);
    b.tracepoint("pointed", &[("outer", pointer)]);
    let btf = Btf::parse(b.finish()).unwrap();
    let world = World::new();
    let target = Target { btf: Some(&btf), ..world.target(1) };
    for (field, by_helper) in [
        ("plain[1].first", false),
        ("named[1].first", true),
        ("named[1].second", false),
        ("plain[0].second", false),
    ] {
        let frame = Frame { head: "    at: 'rawtracepoint:pointed'\n".into() };
        let case = compile(&frame, &[format!("args.outer.{field}")], &target).unwrap();
        let code = &case.program.codes[0];
        assert_eq!(code.mechanism.name, "tp_btf");
        assert_eq!(code.assembled.insns.contains(&Insn::Call(Helper::ReadKernel)), by_helper, "{field}");
    }
}
