//! Patterns of tracepoints: which programs they become, what those know of the tracepoint, and what is said of the others.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Case, Frame, compile, parse},
    world::World,
};
use tapster_ebpf::{
    compile as whole,
    insn::{Helper, Insn},
    probe::Decoder,
    program::Code,
    vm::Environment,
};

fn compiled(head: &str, expressions: &[&str]) -> Result<Case, String> {
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    compile(&Frame { head: head.into() }, &expressions, &World::new().target(2))
}

/// The names of the tracepoints of each program, and whether it asks for the number of its tracepoint.
fn programs(case: &Case) -> Vec<(Vec<&str>, bool)> {
    let one = |code: &'_ Code| code.assembled.insns.contains(&Insn::Call(Helper::AttachCookie));
    let codes = &case.program.codes;
    codes
        .iter()
        .map(|code| (code.sites.list.iter().map(|site| site.name.as_str()).collect(), one(code)))
        .collect()
}

#[test]
fn as_few_programs_as_there_are_places_of_what_is_used() {
    let at = "    at: 'tracepoint:alike:*'\n";
    // Nothing of the record: one program for all.
    assert_eq!(programs(&compiled(at, &["pid"]).unwrap()), [(vec!["one", "other", "two"], false)]);
    // A field that one has elsewhere.
    let case = compiled(at, &["args.number"]).unwrap();
    assert_eq!(programs(&case), [(vec!["one", "two"], false), (vec!["other"], false)]);
    // Which it is.
    let case = compiled(&format!("{at}    labels: {{ event: tracepoint }}\n"), &["pid"]).unwrap();
    assert_eq!(programs(&case), [(vec!["one", "other", "two"], true)]);
    let Decoder::Table { rows, .. } = &case.program.labels[0].decoder else { panic!("a table of names") };
    assert_eq!(rows.values().collect::<Vec<_>>(), ["one", "other", "two"]);
    // The number comes with the attachment.
    for number in 0..3 {
        let environment = Environment { cookie: number, ..Environment::default() };
        let mut vm = case.machine(environment.clone());
        case.run(&mut vm, &[0; 64], 10);
        assert_eq!(case.rows(&vm), case.expected(&environment, &[0; 64], 10));
        assert_eq!(case.rows(&vm)[0].0, number.to_le_bytes());
    }
    // Alternatives, in the category too; of several categories a name says its own.
    let case = compiled(
        "    at: 'tracepoint:{alike,test}:{two,typ*}'\n    labels: { event: tracepoint }\n",
        &["pid"],
    );
    assert_eq!(programs(&case.unwrap()), [(vec!["alike:two", "test:typed"], true)]);
    // One that is no pattern knows its name without asking.
    let case =
        compiled("    at: 'tracepoint:alike:two'\n    labels: { event: tracepoint }\n", &["pid"]).unwrap();
    assert_eq!(programs(&case), [(vec!["two"], false)]);
    // A pattern that matches one is as good.
    let case =
        compiled("    at: 'tracepoint:alike:tw?'\n    labels: { event: tracepoint }\n", &["pid"]).unwrap();
    assert_eq!(programs(&case), [(vec!["two"], false)]);
}

#[test]
fn conditions_on_which_it_is() {
    let case = compiled(
        "    at: 'tracepoint:alike:*'\n    where: 'tracepoint != \"two\"'\n",
        &["tracepoint == \"one\" ? 1 : 2"],
    )
    .unwrap();
    let [(names, asks)] = programs(&case).try_into().unwrap();
    assert!(asks && names == ["one", "other", "two"]);
    for (cookie, expected) in [(0, Some(1)), (1, Some(2)), (2, None)] {
        let environment = Environment { cookie, ..Environment::default() };
        let mut vm = case.machine(environment.clone());
        case.run(&mut vm, &[0; 64], 10);
        if let Some(expected) = expected {
            assert_eq!(case.rows(&vm)[0].1, [expected]);
            assert_eq!(case.rows(&vm), case.expected(&environment, &[0; 64], 10));
        } else {
            assert_eq!(case.rows(&vm)[0].1, [0], "it is not counted");
        }
    }
}

/// What is said of a probe that is refused, one line for each message.
fn refusal(probe: &str) -> Vec<String> {
    let yaml = format!("probes:\n  - name: p\n{probe}    metrics: [{{ counter: a_total, help: x }}]\n");
    let world = World::new();
    let found = parse(&yaml).and_then(|probe| whole(&probe, &world.target(2)));
    let told = |one: &tapster_ebpf::diagnostic::Diagnostic| {
        format!("{} / {}", one.message, one.hint.as_deref().unwrap_or_default())
    };
    found.unwrap_err().iter().map(told).collect()
}

#[test]
fn what_is_wrong() {
    for (probe, told) in [
        (
            "    at: 'tracepoint:alike:x*'\n",
            "this kernel has no tracepoint that `tracepoint:alike:x*` matches / `tapster list 'tracepoint:alike:x*'` shows what a pattern matches, `tapster list` what there is",
        ),
        (
            "    at: 'tracepoint:*:*'\n    max_functions: 5\n",
            "11 tracepoints match `tracepoint:*:*`, and 5 are taken at most / narrow the pattern, or set `max_functions: 11` beside the probe's name",
        ),
        // Said of one, with the number of the others.
        (
            "    at: 'tracepoint:alike:*'\n    labels: { x: args.nothing }\n",
            "`tracepoint:alike:one` has no argument `nothing` (and so at 2 other events) / it has number, text",
        ),
        (
            "    at: 'tracepoint:alike:*'\n    labels: { x: args.name }\n",
            "`tracepoint:alike:one` has no argument `name` (and so at another event) / it has number, text",
        ),
        (
            "    at: 'tracepoint:alike:*'\n    labels: { x: func }\n",
            "`func` is the function of an event, and `tracepoint:alike:one` is of none (and so at 2 other events) / write `tracepoint`",
        ),
        (
            "    at: 'rawtracepoint:test:typed'\n    labels: { x: tracepoint }\n",
            "`tracepoint` is the tracepoint of an event, and `rawtracepoint:test:typed` is of none / attach to it as `tracepoint:CATEGORY:NAME`",
        ),
        (
            "    at: 'kprobe:vfs_read'\n    labels: { x: tracepoint }\n",
            "`tracepoint` is the tracepoint of an event, and `kprobe:vfs_read` is of none / write `func`",
        ),
        (
            "    at: 'tracepoint:alike:*'\n    where: 'tracepoint == \"tow\"'\n",
            "none of the event's tracepoints is called `tow` / did you mean `two`?",
        ),
        (
            "    at: 'tracepoint:alike:*'\n    where: 'tracepoint == \"t*\"'\n",
            "none of the event's tracepoints is called `t*` / whole names are compared: a pattern belongs into the attach point",
        ),
        (
            "    at: 'rawtracepoint:test:*'\n",
            "`rawtracepoint:test:*` is a pattern, and a rawtracepoint takes one name / write tracepoint:test:*",
        ),
        (
            "    at: 'tracepoint:alike:two'\n    max_functions: 5\n",
            "`max_functions` limits what a pattern matches, and no attach point is one / leave it out",
        ),
    ] {
        assert_eq!(refusal(probe), [told], "{probe}");
    }
}

/// One mistake of a `let` that eight starts use is one message.
#[test]
fn one_mistake_at_many_events_is_said_once() {
    let starts: String = ["untyped", "typed", "stop", "task"]
        .map(|name| format!("      - {{ at: 'rawtracepoint:test:{name}', key: wrong }}\n"))
        .concat();
    let probe = format!(
        "    let: {{ wrong: args.wrong }}\n    start:\n{starts}    end: {{ at: 'tracepoint:alike:one', key: wrong }}\n"
    );
    let told = refusal(&probe);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("has no argument `wrong` (and so at 4 other events)"), "{told:#?}");
}

#[test]
fn events_that_meet_by_a_pattern() {
    let pair = |start: &str, end: &str| {
        let yaml = format!(
            "probes:\n  - name: p\n    start: {{ at: '{start}', key: tid }}\n    end: {{ at: '{end}', key: tid }}\n    metrics: [{{ histogram: a_seconds, value: duration }}]\n"
        );
        let world = World::new();
        let found = parse(&yaml).and_then(|probe| whole(&probe, &world.target(2)));
        found
            .map(drop)
            .map_err(|told| told.iter().map(|one| one.message.clone()).collect::<Vec<_>>().join("; "))
    };
    for (start, end) in [
        ("tracepoint:alike:*", "tracepoint:alike:two"),
        ("rawtracepoint:alike:two", "tracepoint:alike:{one,two}"),
        ("tracepoint:alike:*", "tracepoint:alike:*"),
    ] {
        let told = pair(start, end).unwrap_err();
        assert!(told.contains("a start and an end with the same key meet in one event"), "{told}");
    }
    pair("tracepoint:alike:o*", "tracepoint:alike:two").unwrap();
}
