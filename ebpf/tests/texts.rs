//! Texts that are cut, and what they are compared with.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Frame, compile, context},
    world::World,
};
use tapster_ebpf::vm::Environment;

/// The values of expressions, where the current task has a name.
fn values(head: &str, comm: &str, expressions: &[&str]) -> Result<Vec<u64>, String> {
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    let head = format!("    at: \"tracepoint:test:record\"\n{head}");
    let case = compile(&Frame { head }, &expressions, &World::new().target(2))?;
    let environment = Environment { comm: comm.as_bytes().to_vec(), ..Environment::default() };
    // `name` stands at 40, `near` and `far` say where they are.
    let mut record = vec![0; 256];
    record[40..56].copy_from_slice(b"0123456789abcdef");
    for (word, place) in [(56, 128_u32), (60, 64)] {
        record[word..word + 4].copy_from_slice(&(10 << 16 | place).to_le_bytes());
    }
    record[128..138].copy_from_slice(b"beginning\0");
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &record, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &record, 10), "{}", case.yaml);
    Ok(rows[0].1.clone())
}

#[test]
fn a_text_is_cut_to_what_is_said() {
    let found = values(
        "    let: { short: 'str(comm, 7)', whole: comm }\n    labels: { a: short, b: 'str(comm, 3)', c: 'str(args.near, 6)' }\n",
        "kswapd0",
        &[
            "str(comm, 7) == \"kswapd\"",
            "str(comm, 8) == \"kswapd0\"",
            "str(comm, 16) == comm",
            "str(comm, 7) == comm",
            "short == \"kswapd\"",
            "str(short, 2) == \"k\"",
            "str(whole, 7) == \"kswapd\"",
            "str(args.name, 4) == \"012\"",
            "str(args.name, 9) == \"01234567\"",
            "args.name == \"0123456789abcde\"",
            "str(args.near, 6) == \"begin\"",
            "str(args.far, 9) == \"beginnin\"",
            "str(pid ? comm : args.name, 7) == \"kswapd\"",
            "str(pid ? \"kswapd0\" : comm, 7) == \"kswapd\"",
            "str(str(args.near, 8), 3) == \"be\"",
            "comm != \"x\\*\"",
        ],
    );
    assert_eq!(found.unwrap(), [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    // What is behind the end of a shorter name is no part of it.
    let shorter =
        values("", "ks", &["str(comm, 7) == \"ks\"", "str(comm, 2) == \"k\"", "str(comm, 7) == \"k\""]);
    assert_eq!(shorter.unwrap(), [1, 1, 0]);
}

#[test]
fn what_is_kept_from_a_start_is_cut_too() {
    let head = "    start: { at: \"rawtracepoint:test:untyped\", key: [arg0], save: { name: 'str(comm, 4)' } }\n    end: { at: \"rawtracepoint:test:stop\", key: [arg0] }\n";
    let run = |expression: &str| {
        let case = compile(&Frame { head: head.into() }, &[expression.to_owned()], &World::new().target(2))?;
        let (environment, context) = (Environment::default(), context(&[1, 2]));
        let mut vm = case.machine(environment.clone());
        case.run(&mut vm, &context, 10);
        assert_eq!(case.rows(&vm), case.expected(&environment, &context, 10), "{}", case.yaml);
        Ok::<_, String>(case.rows(&vm)[0].1[0])
    };
    assert_eq!(run("start.name == \"tes\""), Ok(1));
    assert!(run("start.name == \"test\"").unwrap_err().contains("a text of at most 3 bytes"));
}

#[test]
fn comparisons_that_have_one_result_are_refused() {
    for (expression, says) in [
        ("comm == \"0123456789abcdef\"", "a text of at most 15 bytes is compared with one of 16"),
        ("\"0123456789abcdef\" != comm", "a text of at most 15 bytes is compared with one of 16"),
        ("str(comm, 7) == \"kswapd0\"", "read as much of it as is compared: str(comm, 8)"),
        ("str(args.text, 4) == \"abcd\"", "read as much of it as is compared: str(args.text, 5)"),
        ("args.name == \"0123456789abcdef\"", "a text of at most 15 bytes is compared with one of 16"),
        ("(pid ? str(comm, 3) : str(comm, 5)) == \"kswap\"", "a text of at most 4 bytes"),
        ("comm == \"kswapd*\"", "str(comm, 7) == \\\"kswapd\\\""),
        ("comm != \"*d\"", "`*` is no pattern here"),
        ("300 == args.a", "comparing unsigned 8 bits with 300"),
        ("300 > args.a", "comparing unsigned 8 bits with 300"),
        ("args.a > 255", "comparing unsigned 8 bits with 255"),
        ("args.a <= 255", "comparing unsigned 8 bits with 255"),
        ("args.g >= 0", "say so: (s64)value"),
        ("0 <= args.g", "say so: (s64)value"),
        ("((struct node *)args.g).ua == 8", "comparing unsigned 3 bits with 8"),
    ] {
        let refused = values("", "test", &[expression]).unwrap_err();
        assert!(refused.contains(says), "{expression}: {refused}");
    }
    // At the edge they have two.
    for expression in [
        "comm == \"0123456789abcde\"",
        "str(comm, 8) == \"kswapd0\"",
        "comm == \"a*b\"",
        "args.a == 255",
        "args.a < 255",
        "(s64)args.g >= 0",
        "args.a >= (tracing ? 0 : 3)",
    ] {
        values("", "test", &[expression]).unwrap_or_else(|why| panic!("{expression}: {why}"));
    }
}
