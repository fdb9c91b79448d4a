//! Texts that are cut, and what they are compared with.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Frame, compile, context},
    world::World,
};
use tapster_ebpf::{insn::Insn, vm::Environment};

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
fn parts_of_texts() {
    let found = values(
        "    let: { short: 'str(comm, 4)', sought: '\"/0:\"' }\n    where: 'prefix(comm, \"kw\") && !contains(comm, \"kthread\")'\n",
        "kworker/0:1",
        &[
            "prefix(comm, \"kworker/\")",
            "prefix(comm, \"kworker/0:1\")",
            "prefix(comm, \"worker\")",
            "prefix(comm, \"k\")",
            "prefix(comm, \"kworker/0:10\")",
            "prefix(short, \"kwo\")",
            "prefix(args.name, \"01234567\")",
            "prefix(args.name, \"0123456789abcde\")",
            "prefix(args.near, \"begin\")",
            "prefix(args.far, \"begun\")",
            "contains(comm, sought)",
            "contains(comm, \"kworker/0:1\")",
            "contains(comm, \"0:10\")",
            "contains(comm, \"krow\")",
            "contains(short, \"wo\")",
            "contains(short, \"or\")",
            "contains(args.name, \"789abcde\")",
            "contains(args.name, \"23456789abcd\")",
            "contains(args.name, \"23456789abcx\")",
            "contains(args.far, \"ning\")",
            "contains(args.near, \"beginning\")",
            "contains(pid ? comm : args.name, \"work\")",
            "contains(\"abc\", \"b\")",
            "7 + contains(comm, \"w\") * 2",
            "comm != \"a\\?\\[b]\\{c,d}\"",
        ],
    );
    let expected = [1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 9, 1];
    assert_eq!(found.unwrap(), expected);
}

/// Each part of a text of two words is found where it is, and nothing else is.
#[test]
fn every_part_at_every_place() {
    let whole = "0123456789abcde";
    let mut plan = Vec::new();
    for begin in 0..whole.len() {
        for end in begin + 1..=whole.len() {
            let part = &whole[begin..end];
            plan.push((format!("contains(args.name, \"{part}\")"), 1));
            plan.push((format!("contains(args.name, \"{}!\")", &part[..part.len() - 1]), 0));
            plan.push((format!("prefix(args.name, \"{part}\")"), u64::from(begin == 0)));
        }
    }
    for plan in plan.chunks(60) {
        let expressions: Vec<&str> = plan.iter().map(|(text, _)| text.as_str()).collect();
        let expected: Vec<u64> = plan.iter().map(|(_, value)| *value).collect();
        assert_eq!(values("", "test", &expressions).unwrap(), expected, "{expressions:?}");
    }
}

/// The program for the longest text and part is no longer than the kernel's jumps reach, and has no more paths than a short one.
#[test]
fn a_long_text_is_searched_without_jumps() {
    let instructions = |size: &str| {
        let sought = "0123456789abcdef0123456789abcde";
        let expression = format!("contains(str(args.text, {size}), \"{sought}\")");
        let head = "    at: \"tracepoint:test:record\"\n".to_owned();
        let case = compile(&Frame { head }, &[expression], &World::new().target(2)).unwrap();
        let insns = &case.program.codes[0].assembled.insns;
        let jumps = insns.iter().filter(|insn| matches!(insn, Insn::JumpIf(..) | Insn::Jump(..))).count();
        (insns.len(), jumps)
    };
    let ((short, few), (long, many)) = (instructions("32"), instructions("256"));
    assert_eq!(few, many);
    assert!(short < 200 && long < 10_000, "{short} and {long} instructions");
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
        ("comm == \"kswapd*\"", "write prefix(comm, \\\"kswapd\\\")"),
        ("comm != \"*d\"", "write !contains(comm, \\\"d\\\")"),
        ("comm == \"*\"", "for the character itself write `\\\\*`"),
        ("prefix(comm, \"kswapd*\")", "write prefix(comm, \\\"kswapd\\\")"),
        ("prefix(comm)", "`prefix` takes a text, and what is looked for in it"),
        ("contains(comm, \"a\", 1)", "`contains` takes a text, and what is looked for in it"),
        ("contains(pid, \"a\")", "`contains` looks in a text, and this is none"),
        ("prefix(args.text, \"a\")", "read a text behind a pointer with str(pointer)"),
        ("contains(comm, comm)", "what `contains` looks for must be a text in quotes"),
        ("contains(comm, \"\")", "an empty text is in every text"),
        ("prefix(comm, \"0123456789abcdef\")", "at most 15 bytes is searched for one of 16"),
        ("contains(str(comm, 3), \"abc\")", "at most 2 bytes is searched for one of 3"),
        ("contains(str(args.text), \"0123456789abcdef0123456789abcdef0\")", "looks for at most 32 bytes"),
        ("strcontains(comm, \"a\")", "did you mean `contains`?"),
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
