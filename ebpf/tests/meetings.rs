//! Starts and ends of one probe that meet in one event of the kernel: which of their programs runs first is a matter of chance,
//! so they are refused unless only one of them can be meant.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{case::parse, world::World};
use tapster_ebpf::compile;

const START_AND_END: &str = "a start and an end with the same key meet in one event";
const STARTS: &str = "two starts with the same key meet in one event";
const ENDS: &str = "two ends with the same key meet in one event";

/// What is wrong with a pair, if anything is.
fn wrong(lets: &str, starts: &[&str], ends: &[&str]) -> Option<String> {
    let list =
        |events: &[&str]| events.iter().flat_map(|event| ["      - { ", event, " }\n"]).collect::<String>();
    let yaml = format!(
        "probes:\n  - name: pair\n{lets}    start:\n{}    end:\n{}    metrics: [{{ histogram: pair_seconds, value: duration }}]\n",
        list(starts),
        list(ends)
    );
    let world = World::new();
    let found = parse(&yaml).and_then(|probe| compile(&probe, &world.target(2)));
    found.err().map(|diagnostics| diagnostics.iter().map(ToString::to_string).collect())
}

fn refused(what: &str, starts: &[&str], ends: &[&str]) {
    let found = wrong("", starts, ends).unwrap_or_else(|| panic!("{starts:?} {ends:?} is taken"));
    assert!(found.contains(what), "{starts:?} {ends:?}: {found}");
}

fn taken(starts: &[&str], ends: &[&str]) {
    if let Some(why) = wrong("", starts, ends) {
        panic!("{starts:?} {ends:?}: {why}");
    }
}

#[test]
fn one_event_that_is_both() {
    let at = "at: 'rawtracepoint:test:untyped', key: tid";
    refused(START_AND_END, &[at], &[at]);
    // By whatever name.
    let other = "at: 'tracepoint:test:untyped', key: tid";
    refused(START_AND_END, &[at], &[other]);
    refused(
        START_AND_END,
        &["at: 'rawtracepoint:typed', key: tid"],
        &["at: 'rawtracepoint:test:typed', key: tid"],
    );
    refused(
        START_AND_END,
        &["at: 'fentry:bpf_session_cookie', key: tid"],
        &["at: 'kprobe:bpf_session_cookie', key: tid"],
    );
    refused(
        START_AND_END,
        &["at: 'software:page-faults:1', key: cpu"],
        &["at: 'software:page-faults:10', key: cpu"],
    );
    refused(START_AND_END, &["at: 'uprobe:/bin/x:f', key: tid"], &["at: 'uprobe:/bin/x:f', key: tid"]);
    refused(START_AND_END, &["at: 'usdt:/bin/x:a:b', key: tid"], &["at: 'usdt:/bin/x:a:b', key: tid"]);
    // Names of one function of the kernel, of one file, and of one place in it.
    refused(
        START_AND_END,
        &["at: 'kprobe:one_function_a', key: tid"],
        &["at: 'kprobe:one_function_b', key: tid"],
    );
    refused(START_AND_END, &["at: 'uprobe:/bin/x:f', key: tid"], &["at: 'uprobe:/bin/x.link:f', key: tid"]);
    refused(START_AND_END, &["at: 'usdt:/bin/x:a:b', key: tid"], &["at: 'usdt:/bin/x.link:a:b', key: tid"]);
    taken(&["at: 'uprobe:/bin/x:f', key: tid"], &["at: 'uprobe:/bin/y:f', key: tid"]);
    // One of several, and the alternative that there is.
    refused(START_AND_END, &["at: 'rawtracepoint:test:typed', key: tid", at], &[at]);
    refused(
        START_AND_END,
        &["at: { one_of: ['tracepoint:test:nothing', 'rawtracepoint:test:untyped'] }, key: tid"],
        &[at],
    );
    // By patterns.
    refused(START_AND_END, &["at: 'kprobe:vfs_*', key: tid"], &["at: 'kprobe:vfs_first', key: tid"]);
    // A condition on the pair comes too late.
    refused(START_AND_END, &[at], &[&format!("{at}, where: duration > 1ms")]);
}

#[test]
fn what_cannot_be_both_is_taken() {
    let at = "at: 'rawtracepoint:test:untyped'";
    let pair = |start: &str, end: &str| {
        taken(&[&format!("{at}, key: tid, where: '{start}'")], &[&format!("{at}, key: tid, where: '{end}'")]);
    };
    for (start, end) in [
        ("arg0 == 1", "arg0 == 2"),
        ("arg0 == 1", "arg0 != 1"),
        ("arg0 == 1 && arg1 == 3", "arg0 == 7"),
        ("arg0", "!arg0"),
        ("arg0", "arg0 == 0"),
        ("arg0 < 5", "arg0 >= 5"),
        ("arg0 < 5", "arg0 > 7 || arg0 == 6"),
        ("5 > arg0", "arg0 == 5"),
        ("arg0 == 1 && arg1 == 2", "!(arg0 == 1 && arg1 == 2)"),
        ("arg0 == 1 || arg0 == 2", "arg0 == 3 || arg0 == 4"),
        ("comm == \"a\"", "comm == \"b\""),
        ("comm == \"a\"", "comm != \"a\""),
    ] {
        pair(start, end);
        pair(end, start);
    }
    for (start, end) in [
        ("arg0 == 1", "arg1 == 2"),
        ("arg0 == 1", "arg0 < 2"),
        ("arg0 != 1", "arg0 != 2"),
        ("arg0 < 5", "arg0 > 3"),
        ("arg0 == 1 || arg1 == 1", "arg0 == 2 || arg0 == 1"),
        ("arg0 == 1 && arg1 == 2", "!(arg0 == 1 && arg1 == 3)"),
        ("comm == \"a\"", "comm != \"b\""),
    ] {
        let event = |condition| format!("{at}, key: tid, where: '{condition}'");
        refused(START_AND_END, &[&event(start)], &[&event(end)]);
        refused(START_AND_END, &[&event(end)], &[&event(start)]);
    }
    // Other keys, other functions, other ends of one.
    taken(&[&format!("{at}, key: arg0")], &[&format!("{at}, key: arg1")]);
    taken(&["at: 'kprobe:f', key: tid"], &["at: 'kprobe:g', key: tid"]);
    taken(&["at: 'kprobe:vfs_*', key: [func, frame]"], &["at: 'kretprobe:vfs_*', key: [func, frame]"]);
    taken(&["at: 'profile:hz:99', key: cpu"], &["at: 'profile:hz:49', key: cpu"]);
    // By the name of a condition.
    let lets = "    let: { opens: 'arg0 == 1', state: arg0 }\n";
    let event = |condition| format!("{at}, key: tid, where: '{condition}'");
    for (start, end) in
        [("opens", "!opens"), ("opens", "arg0 == 2"), ("state == 1", "arg0 == 2"), ("opens", "state != 1")]
    {
        if let Some(why) = wrong(lets, &[&event(start)], &[&event(end)]) {
            panic!("{start}, {end}: {why}");
        }
    }
}

#[test]
fn two_starts_or_two_ends() {
    let (start, end) =
        ("at: 'rawtracepoint:test:untyped', key: tid", "at: 'rawtracepoint:test:stop', key: tid");
    refused(STARTS, &[start, start], &[end]);
    refused(ENDS, &[start], &[end, end]);
    refused(
        STARTS,
        &["at: 'kprobe:vfs_*', key: [func, frame]", "at: 'kprobe:vfs_first', key: [func, frame]"],
        &["at: 'kretprobe:vfs_*', key: [func, frame]"],
    );
    // The function that both match is left out of one.
    taken(
        &[
            "at: 'kprobe:vfs_*', key: [tid, cpu], where: 'func != \"vfs_first\"'",
            "at: 'kprobe:vfs_first', key: [tid, cpu]",
        ],
        &["at: 'kretprobe:vfs_*', key: [tid, cpu]"],
    );
    taken(&[start], &[&format!("{end}, where: arg0 == 0"), &format!("{end}, where: arg0 != 0")]);
    // What is told of the start is known only once it is taken.
    let saving = format!("{start}, save: {{ kind: arg0 }}");
    refused(
        ENDS,
        &[&saving],
        &[&format!("{end}, where: start.kind == 1"), &format!("{end}, where: start.kind == 2")],
    );
}

/// Conditions that take long to compare are taken not to exclude each other, and soon: here each of so many is in one of so many
/// places, and no two of them in one.
#[test]
fn a_proof_has_an_end() {
    let pair = |count: u64, places: u64| {
        let all = |parts: Vec<String>, operator: &str| format!("({})", parts.join(operator));
        let somewhere =
            |one: u64| all((1..=places).map(|place| format!("arg{one} == {place}")).collect(), " || ");
        let alone = |place: u64| {
            let pairs = (0..count).flat_map(|one| (0..one).map(move |other| (one, other)));
            all(
                pairs.map(|(one, other)| format!("(arg{one} != {place} || arg{other} != {place})")).collect(),
                " && ",
            )
        };
        let event = |condition| format!("at: 'rawtracepoint:test:untyped', key: tid, where: '{condition}'");
        (
            event(all((0..count).map(somewhere).collect(), " && ")),
            event(all((1..=places).map(alone).collect(), " && ")),
        )
    };
    let (start, end) = pair(3, 2);
    taken(&[&start], &[&end]);
    let (start, end) = pair(7, 6);
    refused(START_AND_END, &[&start], &[&end]);
}

#[test]
fn frames_that_are_never_equal() {
    let found =
        wrong("", &["at: 'fentry:bpf_session_cookie', key: frame"], &["at: 'kretprobe:f', key: frame"])
            .unwrap();
    assert!(
        found.contains(
            "no end has the `frame` of `fentry:bpf_session_cookie`: `kretprobe:f` has other numbers"
        ),
        "{found}"
    );
    taken(&["at: 'fentry:bpf_session_cookie', key: frame"], &["at: 'fexit:bpf_session_cookie', key: frame"]);
    taken(
        &["at: 'fentry:bpf_session_cookie', key: frame", "at: 'kprobe:g', key: frame"],
        &["at: 'fexit:bpf_session_cookie', key: frame", "at: 'kretprobe:g', key: frame"],
    );
}
