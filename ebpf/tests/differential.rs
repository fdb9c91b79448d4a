//! Compiled expressions against the evaluator and, for arithmetic, against paper.
//!
//! The way in is the real one: YAML, checker, lowering; the virtual machine runs what comes out.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use support::{
    case::{Case, Frame, compile, compile_all, context, walk_head},
    expression::{Grammar, INTEGERS, OPERATORS},
    random::Random,
    world::{World, memory},
};
use tapster_ebpf::{probe::KernelVersion, vm::Environment};

const KERNEL: u64 = 0xffff_8880_0010_0000;
const KERNEL_BAD: u64 = 0xffff_8880_dead_0000;
const USER: u64 = 0x7f00_0010_0000;
const USER_BAD: u64 = 0x18;

fn width(name: &str) -> (u32, bool) {
    (name[1..].parse().unwrap(), name.starts_with('s'))
}

/// A word as a C compiler would read it in a type.
fn in_type(word: u64, name: &str) -> i128 {
    let (bits, signed) = width(name);
    let cut = i128::from(word) & ((1 << bits) - 1);
    if signed && cut >> (bits - 1) != 0 { cut - (1 << bits) } else { cut }
}

/// The operator on paper, cut to 64 bits at the end.
fn paper(operator: &str, left: (u64, &str), right: (u64, &str)) -> u64 {
    let (a, b) = (in_type(left.0, left.1), in_type(right.0, right.1));
    let shift = operator == "<<" || operator == ">>";
    let unsigned = left.1 == "u64" || right.1 == "u64" && !shift;
    // Meeting a `u64`, a negative number is the `u64` of the same bits.
    let as_operand = |value: i128| if unsigned { value & i128::from(u64::MAX) } else { value };
    let (a, b) = (as_operand(a), as_operand(b));
    let cut = |value: i128| u64::try_from(value & i128::from(u64::MAX)).unwrap();
    let by = u32::try_from(b & 63).unwrap();
    cut(match operator {
        "+" => a + b,
        "-" => a - b,
        "*" => return cut(a).wrapping_mul(cut(b)),
        "/" => a.checked_div(b).unwrap_or(0),
        "%" => a.checked_rem(b).unwrap_or(a),
        "<<" => return cut(a) << by,
        ">>" => a >> by,
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        "==" => i128::from(a == b),
        "!=" => i128::from(a != b),
        "<" => i128::from(a < b),
        "<=" => i128::from(a <= b),
        ">" => i128::from(a > b),
        ">=" => i128::from(a >= b),
        "&&" => i128::from(a != 0 && b != 0),
        "||" => i128::from(a != 0 || b != 0),
        other => panic!("no operator {other}"),
    })
}

/// Values around every border of every width.
fn borders() -> Vec<u64> {
    let mut values: Vec<u64> = [0, 1, 2, 3, 5, 100].into();
    for bits in [7, 8, 15, 16, 31, 32, 63] {
        let border = 1_u64 << bits;
        values.extend([border - 1, border, border + 1, border.wrapping_neg(), border.wrapping_neg() - 1]);
    }
    values.extend([
        6,
        62,
        64,
        65,
        0_u64.wrapping_sub(1),
        0_u64.wrapping_sub(2),
        0_u64.wrapping_sub(7),
        0x1234_5678_9abc_def0,
    ]);
    values
}

fn agree(case: &Case, environment: &Environment, arguments: &[u64], step_ns: u64) -> usize {
    let context = context(arguments);
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, step_ns);
    let (got, expected) = (case.rows(&vm), case.expected(environment, &context, step_ns));
    // Without labels there is a row even if nothing was counted.
    if expected.is_empty() && case.typed.labels.is_empty() {
        return 0;
    }
    let keys = |rows: &support::case::Rows| rows.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&got), keys(&expected), "rows for {arguments:x?}\n{}", case.yaml);
    let mut compared = 0;
    for ((_, got), (key, expected)) in got.iter().zip(&expected) {
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            compared += 1;
            assert_eq!(
                got,
                expected,
                "the program gives {got:#x}, the language {expected:#x}\n{}\narguments {arguments:x?}, row {key:x?}\n{}\n{:?}",
                case.expressions[index],
                case.yaml.split("metrics:").next().unwrap_or(""),
                case.typed.events.last().map(|event| &event.metrics[index]),
            );
        }
    }
    compared
}

#[test]
fn every_operator_on_every_pair_of_types() {
    let world = World::new();
    let mut plan = Vec::new();
    for operator in OPERATORS {
        for left in INTEGERS {
            for right in INTEGERS {
                plan.push((format!("({left})arg0 {operator} ({right})arg1"), operator, left, right));
            }
        }
    }
    let expressions: Vec<String> = plan.iter().map(|(text, ..)| text.clone()).collect();
    let (cases, refused) = compile_all(&Frame::at("test:untyped"), &expressions, &world.target(2));
    assert_eq!(refused, 0);
    let values = borders();
    let mut compared = 0;
    let mut plan = plan.iter();
    for case in cases {
        let plan: Vec<_> = plan.by_ref().take(case.expressions.len()).collect();
        let mut vm = case.machine(Environment::default());
        for a in &values {
            for b in &values {
                case.run(&mut vm, &context(&[*a, *b]), 0);
                let rows = case.rows(&vm);
                for (got, (text, operator, left, right)) in rows[0].1.iter().zip(&plan) {
                    let expected = paper(operator, (*a, left), (*b, right));
                    assert_eq!(
                        *got, expected,
                        "{text} of {a:#x} and {b:#x}: {got:#x}, on paper {expected:#x}"
                    );
                    compared += 1;
                }
            }
        }
        // The evaluator knows the same arithmetic.
        for a in &values {
            compared += agree(&case, &Environment::default(), &[*a, values[7]], 0);
        }
    }
    println!("{} expressions, {compared} results compared", expressions.len());
}

#[test]
fn every_operator_with_a_constant() {
    let world = World::new();
    let mut plan = Vec::new();
    for operator in OPERATORS {
        for left in INTEGERS {
            for constant in borders() {
                // A constant is an `s64` where it fits; it is written as either.
                let kind = if constant.cast_signed() < 0 { "u64" } else { "s64" };
                plan.push((format!("({left})arg0 {operator} {constant}"), operator, left, (constant, kind)));
                if constant.cast_signed() < 0 && constant != 1 << 63 {
                    plan.push((
                        format!("({left})arg0 {operator} {}", constant.cast_signed()),
                        operator,
                        left,
                        (constant, "s64"),
                    ));
                }
            }
        }
    }
    let expressions: Vec<String> = plan.iter().map(|(text, ..)| text.clone()).collect();
    let (cases, refused) = compile_all(&Frame::at("test:untyped"), &expressions, &world.target(2));
    let mut compared = 0;
    for case in &cases {
        let mut vm = case.machine(Environment::default());
        for a in borders() {
            case.run(&mut vm, &context(&[a]), 0);
            for (got, text) in case.rows(&vm)[0].1.iter().zip(&case.expressions) {
                let (_, operator, left, right) = plan.iter().find(|(found, ..)| found == text).unwrap();
                let expected = paper(operator, (a, left), *right);
                assert_eq!(*got, expected, "{text} of {a:#x}: {got:#x}, on paper {expected:#x}");
                compared += 1;
            }
        }
    }
    assert!(refused > 0, "comparisons that are always the same are refused");
    println!("{} expressions, {refused} refused, {compared} results compared", expressions.len());
}

/// More operands wait than there are registers, with and without a helper call on the way.
#[test]
fn deep_nesting() {
    let world = World::new();
    let mut random = Random(5);
    let mut expressions = Vec::new();
    for depth in 2..=12 {
        for call in 0..=depth {
            let mut text = "(s16)arg4".to_owned();
            for level in 0..depth {
                let operator = random.pick(&["-", "-", "/", "%", "^", "<<", "<", "==", "&&"]);
                let leaf = if level + 1 == call {
                    random.pick(&["tid", "(comm == \"test\")", "((struct node *)arg5).sb"]).to_owned()
                } else {
                    format!("({})arg{}", random.pick(&INTEGERS), random.below(5))
                };
                text = if random.one_in(5) {
                    format!("({text} {operator} {leaf})")
                } else {
                    format!("({leaf} {operator} {text})")
                };
            }
            expressions.push(text);
        }
    }
    let (cases, refused) = compile_all(&Frame::at("test:untyped"), &expressions, &world.target(2));
    assert_eq!(refused, 0);
    let mut compared = 0;
    for case in &cases {
        for _ in 0..50 {
            let (environment, arguments) = machine(&mut random);
            compared += agree(case, &environment, &arguments, 0);
        }
    }
    println!("{} expressions, {compared} results compared", expressions.len());
}

/// What the evaluator cannot tell, because the checker decides it: the value that is meant.
#[test]
fn known_answers() {
    let world = World::new();
    let (a, b, c) = (0xffff_ffff_ffff_ff80_u64, 0x1_0000_0007_u64, 0_u64);
    let known: &[(&str, u64)] = &[
        ("-arg1", b.wrapping_neg()),
        ("~arg2", u64::MAX),
        ("!arg0", 0),
        ("!arg2", 1),
        ("-(s8)arg0", 128),
        ("-(u8)arg0", 0_u64.wrapping_sub(128)),
        ("~(u8)arg0", !0x80),
        ("(u8)arg0", 0x80),
        ("(s8)arg0", a),
        ("(u16)(s8)arg0", 0xff80),
        ("(u64)(s32)arg0", a),
        ("(s8)(u8)arg0", a),
        ("(u64)(void *)(u32)arg1", 7),
        ("(u64)(void *)(s8)arg0", a),
        ("(u64)(void *)(u8)arg0", 0x80),
        ("(u64)(struct node *)(u16)arg0", 0xff80),
        ("(s8)arg0 < 1", 1),
        ("(s8)arg0 < arg2", 0),
        ("(u8)arg0 - 129", u64::MAX),
        ("(u8)arg0 - arg1 > 0 ? 1 : 2", 1),
        ("(u32)arg1 - 8 < 0 ? 1 : 2", 1),
        ("arg0 / arg2", 0),
        ("arg1 % arg2", b),
        ("(s64)arg1 % arg2", b),
        ("(s8)arg0 / 3", (-42_i64).cast_unsigned()),
        ("(s8)arg0 % 3", (-2_i64).cast_unsigned()),
        ("(s8)arg0 / -3", 42),
        ("(s8)arg0 >> 4", (-8_i64).cast_unsigned()),
        ("(s8)arg0 >> 68", (-8_i64).cast_unsigned()),
        ("arg1 << 64", b),
        ("arg1 << 65", b << 1),
        ("arg0 >> 63", 1),
        ("1 << 3 + 1", 16),
        ("10 - 2 - 3", 5),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 3", 3),
        ("arg1 ? (0 ? 1 : 2) : 3", 2),
        ("(0 && arg0) + (1 || arg0)", 1),
        ("(1 && arg1) + (0 || arg1)", 2),
        ("!!arg1", 1),
        ("min((s8)arg0, 5)", a),
        ("max((s8)arg0, 5)", 5),
        ("min(arg0, 5)", 5),
        ("major(arg1)", b >> 20),
        ("minor(arg1)", 7),
        ("ntohs(arg1)", 0x0700),
        ("ntohl(0x7f000001)", 0x0100_007f),
        ("ntohs((s8)arg0)", 0x80ff),
        ("bswap64(arg1)", b.swap_bytes()),
        ("ntohs(ntohs(arg1))", 7),
        ("bswap64(bswap64(arg0)) == arg0", 1),
        ("\"a\" == \"a\"", 1),
        ("\"a\" == \"abcdefgh\"", 0),
        ("\"abcdefgh\" != \"a\"", 1),
        ("comm == \"test\"", 1),
        ("comm == \"tes\"", 0),
        ("comm == \"testx\"", 0),
        ("\"test\" == comm", 1),
        ("(arg2 ? \"x\" : comm) == \"test\"", 1),
        ("RED", u64::MAX),
        ("GREEN", 7),
    ];
    for (text, expected) in known {
        let case = compile(&Frame::at("test:untyped"), &[(*text).to_owned()], &world.target(2))
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut vm = case.machine(Environment::default());
        case.run(&mut vm, &context(&[a, b, c]), 0);
        let got = case.rows(&vm)[0].1[0];
        assert_eq!(got, *expected, "{text} is {got:#x}, not {expected:#x}");
        agree(&case, &Environment::default(), &[a, b, c], 0);
    }
}

/// A machine with memory in both halves of the address space, and arguments that point into it.
fn machine(random: &mut Random) -> (Environment, Vec<u64>) {
    let (kernel, in_kernel) = memory(random, KERNEL, KERNEL_BAD);
    let (user, in_user) = memory(random, USER, USER_BAD);
    let mut environment = Environment {
        pid_tgid: random.word(),
        uid_gid: random.word(),
        cgroup_id: random.value(),
        comm: random.pick(&["test", "", "abcdefg", "abcdefgh", "fifteen letters"]).as_bytes().to_vec(),
        cpu: 1,
        ..Environment::default()
    };
    environment.kernel.insert(KERNEL, kernel);
    environment.user.insert(USER, user);
    let mut one = |choices: [&[u64]; 2]| {
        let from = choices[random.below(2)];
        from[random.below(from.len())]
    };
    let mut arguments = vec![0; 12];
    arguments[5] = one([&in_kernel.nodes, &in_user.nodes]);
    arguments[6] = one([&in_kernel.nodes, &[KERNEL_BAD, USER_BAD, 0]]);
    arguments[7] = one([&in_kernel.inners, &in_user.inners]);
    arguments[8] = one([&in_kernel.texts, &in_user.texts]);
    arguments[9] = one([&[0], &[USER_BAD]]);
    arguments[11] = 77;
    for index in [0, 1, 2, 3, 4, 10] {
        arguments[index] = random.value();
    }
    (environment, arguments)
}

/// The arguments of `test:typed`: pointers into the kernel only.
fn typed_arguments(random: &mut Random, arguments: &[u64]) -> Vec<u64> {
    let (_, places) = memory(&mut random.clone(), KERNEL, KERNEL_BAD);
    let node = if random.one_in(8) { 0 } else { places.nodes[random.below(3)] };
    let mut typed = vec![node, places.inners[random.below(2)], 0, 0, 0, 0, arguments[8], 0, 0, 0];
    for index in [2, 3, 4, 5, 7, 8, 9] {
        typed[index] = random.value();
    }
    typed
}

fn random_cases(
    seed: u64,
    grammar: fn(Random) -> Grammar,
    frame: impl Fn(&mut Grammar) -> Frame,
    typed: bool,
) {
    let world = World::new();
    let (mut expressions, mut refused_in_all, mut compared) = (0, 0, 0);
    for round in 0..40 {
        let mut grammar = grammar(Random(seed + round));
        let frame = frame(&mut grammar);
        let texts: Vec<String> = (0..BATCH_OF_ROUND).map(|index| grammar.number(1 + index % 5)).collect();
        let (cases, refused) = compile_all(&frame, &texts, &world.target_in_turn(2, round, NEWEST));
        expressions += texts.len();
        refused_in_all += refused;
        for case in &cases {
            for _ in 0..4 {
                let (environment, mut arguments) = machine(&mut grammar.random);
                if typed {
                    arguments = typed_arguments(&mut grammar.random, &arguments);
                }
                compared += agree(case, &environment, &arguments, 1000);
            }
        }
    }
    assert!(refused_in_all * 2 < expressions, "{refused_in_all} of {expressions} were refused");
    println!("{expressions} expressions, {refused_in_all} refused, {compared} results compared");
}

/// Newer than any.
const NEWEST: KernelVersion = KernelVersion(u16::MAX, 0, 0);
/// Expressions of one round.
const BATCH_OF_ROUND: usize = 60;

#[test]
fn random_expressions_over_words() {
    random_cases(1, Grammar::untyped, |_| Frame::at("test:untyped"), false);
}

#[test]
fn random_expressions_over_typed_arguments() {
    random_cases(10_000, Grammar::typed, |_| Frame::at("test:typed"), true);
}

#[test]
fn random_expressions_over_named_ones() {
    let frame = |grammar: &mut Grammar| {
        let mut head = Frame::at("test:untyped").head;
        head += "    let:\n";
        for index in 0..3 {
            head += &format!("      n{index}: '{}'\n", grammar.number(2));
            grammar.numbers.push(format!("n{index}"));
        }
        head += &format!("      t: '{}'\n      p: '{}'\n", grammar.text(1), grammar.node(1));
        grammar.texts.push("t".into());
        grammar.nodes.push("p".into());
        head += &format!("    where: '({}) || arg0 > 5'\n", grammar.number(1));
        Frame { head }
    };
    random_cases(20_000, Grammar::untyped, frame, false);
}

/// Each `let` from those before it, several times over, and of most only what others make of it is used.
#[test]
fn random_expressions_over_chains_of_lets() {
    let chain = |grammar: &mut Grammar| {
        let mut head = String::from("    let:\n");
        for index in 0..12 {
            let (number, name) = (grammar.number(2), format!("n{index}"));
            head += &format!("      {name}: '{number}'\n");
            // The last ones are named more often, so that long chains are common.
            grammar.numbers.extend([name.clone(), name.clone(), name]);
            if index % 4 == 3 {
                head += &format!("      t{index}: '{}'\n", grammar.text(1));
                grammar.texts.push(format!("t{index}"));
                grammar.numbers.drain(..grammar.numbers.len() / 2);
            }
        }
        head
    };
    let single = |grammar: &mut Grammar| {
        let mut head = "    at: \"rawtracepoint:test:untyped\"\n".to_owned() + &chain(grammar);
        head += &format!("    where: '({}) || arg0 > 5'\n", grammar.number(1));
        Frame { head }
    };
    random_cases(60_000, Grammar::untyped, single, false);
    let pair = |grammar: &mut Grammar| {
        let head = format!(
            "{}    start: {{ at: \"rawtracepoint:test:untyped\", key: [arg11], save: {{ n: '{}' }} }}\n    end: {{ at: \"rawtracepoint:test:stop\", key: [arg11] }}\n",
            chain(grammar),
            grammar.number(1)
        );
        grammar.numbers.extend(["start.n".into(), "duration".into()]);
        Frame { head }
    };
    random_cases(70_000, Grammar::untyped, pair, false);
}

#[test]
fn random_expressions_over_pairs() {
    let frame = |grammar: &mut Grammar| {
        let (number, text, pointer) = (grammar.number(2), grammar.text(1), grammar.node(1));
        let head = format!(
            "    start:\n      at: \"rawtracepoint:test:untyped\"\n      key: [arg11, comm]\n      save: {{ n: '{number}', t: '{text}', p: '{pointer}' }}\n    end:\n      at: \"rawtracepoint:test:stop\"\n      key: [arg11, comm]\n      where: 'duration > 10'\n    labels: {{ text: start.t, number: start.n, place: {{ value: start.p, as: usym }} }}\n"
        );
        grammar.numbers.extend(["start.n".into(), "duration".into()]);
        grammar.texts.push("start.t".into());
        grammar.nodes.push("start.p".into());
        Frame { head }
    };
    random_cases(30_000, Grammar::untyped, frame, false);
}

/// Events with named expressions, labels and values of their own; the second feeds one metric alone.
#[test]
fn random_expressions_over_several_events() {
    let frame = |grammar: &mut Grammar| {
        let (first, second) = (grammar.own_values(), grammar.own_values());
        let (filter, number) = (grammar.number(1), grammar.number(2));
        let head = format!(
            "    events:\n      - at: \"rawtracepoint:test:untyped\"\n        where: '({filter}) || arg0 > 5'\n{first}        labels: {{ which: '\"first\"' }}\n      - at: \"rawtracepoint:test:stop\"\n{second}        labels: {{ which: '\"the second of them\"' }}\n        values: {{ g0: '{number}' }}\n    let: {{ both: 'own + 1' }}\n    labels: {{ text: text, both: both }}\n"
        );
        grammar.numbers.extend(["own".into(), "both".into()]);
        grammar.texts.push("text".into());
        Frame { head }
    };
    random_cases(80_000, Grammar::untyped, frame, false);
}

#[test]
fn random_expressions_between_events() {
    let frame = |grammar: &mut Grammar| {
        // Texts of one size, as all events have to save them.
        let mut event = |at: &str, text: &str, filter: &str| {
            let (number, pointer) = (grammar.number(2), grammar.node(1));
            format!(
                "      - at: \"rawtracepoint:test:{at}\"\n        key: [arg11, comm]\n        save: {{ n: '({number}) + 0', t: '{text}', p: '{pointer}' }}\n{filter}"
            )
        };
        let events = [
            event("untyped", "comm", ""),
            event("stop", "str((char *)arg8, 16)", "        where: 'duration > 10'\n"),
        ];
        let events = events.concat();
        grammar.numbers.extend(["start.n".into(), "duration".into()]);
        grammar.texts.push("start.t".into());
        grammar.nodes.push("start.p".into());
        Frame { head: format!("    between:\n{events}    labels: {{ text: start.t, number: start.n }}\n") }
    };
    random_cases(90_000, Grammar::untyped, frame, false);
}

#[test]
fn random_expressions_over_lists() {
    for (seed, grammar, typed) in
        [(40_000, Grammar::untyped as fn(Random) -> Grammar, false), (50_000, Grammar::typed, true)]
    {
        let frame = |grammar: &mut Grammar| {
            let (at, from) =
                if typed { ("typed", "args.node") } else { ("untyped", "((struct node *)arg5)") };
            let filter = grammar.number(1);
            let head = walk_head(grammar, at, from, &filter);
            Frame { head }
        };
        random_cases(seed, grammar, frame, typed);
    }
}

#[test]
fn fields_of_a_record() {
    let world = World::new();
    let (environment, arguments) = machine(&mut Random(3));
    let mut record = vec![0xff; 80];
    record[9] = 0x80;
    record[13] = 0x7f;
    record[40..56].copy_from_slice(b"sixteen letters\0");
    record[64..72].copy_from_slice(&[1, 0, 0, 0x80, 3, 0, 0xff, 0xff]);
    record[72..80].copy_from_slice(&arguments[8].to_le_bytes());
    let long = "x".repeat(90) + "\0";
    let place = |at: usize, length: usize| {
        (u32::try_from(length).unwrap() << 16 | u32::try_from(at).unwrap()).to_le_bytes()
    };
    record[56..60].copy_from_slice(&place(80, long.len()));
    record[60..64].copy_from_slice(&place(80 + long.len() - 64, 5));
    record.extend(long.bytes().chain(*b"near\0"));
    record.resize(256, 0);
    let (sixty_three, sixty_four) = ("x".repeat(63), "x".repeat(64));
    let known = [
        ("args.a", 0xff),
        ("args.b", (-128_i64).cast_unsigned()),
        ("args.c", 0xffff),
        ("args.d", 0x7fff),
        ("args.e", 0xffff_ffff),
        ("args.f", u64::MAX),
        ("args.g", u64::MAX),
        ("args.h", u64::MAX),
        ("args.h < 0", 1),
        ("(u64)(void *)args.b", (-128_i64).cast_unsigned()),
        ("args.many[1]", (-32768_i64).cast_unsigned()),
        ("args.many[3]", u64::MAX),
        ("args.name == \"sixteen letters\"", 1),
        ("args.far == \"near\"", 1),
        (&*format!("args.near == \"{sixty_three}\""), 1),
        (&*format!("args.near == (args.a ? \"{sixty_four}\" : comm)"), 0),
        // The capacity is the text's own, whatever it shares a place with.
        (&*format!("(args.a ? args.near : \"{sixty_four}\") == \"{sixty_three}\""), 1),
    ];
    for (text, expected) in known {
        let frame = Frame { head: "    at: \"tracepoint:test:record\"\n".into() };
        let case = compile(&frame, &[text.to_owned()], &world.target(2))
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut vm = case.machine(environment.clone());
        case.run(&mut vm, &record, 0);
        let (got, evaluated) = (case.rows(&vm), case.expected(&environment, &record, 0));
        assert_eq!((got[0].1[0], evaluated[0].1[0]), (expected, expected), "{text}");
    }
}

#[test]
fn nothing_needs_the_start_before_it_is_found() {
    let world = World::new();
    for (key, each) in
        [("start.n", "tid"), ("n", "tid"), ("tid", "duration"), ("tid", "start.n"), ("tid", "n + 1")]
    {
        let head = format!(
            "    start: {{ at: \"rawtracepoint:test:untyped\", key: tid, save: {{ n: arg0 }} }}\n    let: {{ n: start.n }}\n    end:\n      at: \"rawtracepoint:test:typed\"\n      key: {key}\n      each: {{ name: item, from: args.node, next: item.next, limit: 2, size: {each}, within: 5 }}\n"
        );
        let error = compile(&Frame { head }, &["1".into()], &world.target(2)).unwrap_err();
        assert!(error.contains("are not known yet"), "{key} {each}: {error}");
    }
}
