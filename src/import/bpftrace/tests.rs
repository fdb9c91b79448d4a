//! Scripts that do several things at one event, or only under conditions: what they become does the same, or is left out.

use super::super::{ForeignFormat, ImportHints, import};
use tapster_ebpf::{declaration, diagnostic::SourceFile};

/// What a script becomes on one line, behind what is said of it.
fn made(script: &str) -> String {
    let file = SourceFile::new("made.bt", script);
    let made = import(&file, ForeignFormat::Bpftrace, &ImportHints::default()).unwrap();
    let (_, diagnostics) = declaration::parse(&SourceFile::new("made.yaml", &made.text));
    let wrong: String = diagnostics.iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{wrong}{}", made.text);
    let said = made.remarks.iter().map(|remark| remark.told(&file).to_string());
    let lines = made.text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let all: Vec<String> = said.chain(lines.map(str::to_owned)).collect();
    all.iter().flat_map(|line| line.split_whitespace()).collect::<Vec<_>>().join(" ")
}

/// Asserts that a script becomes something with these parts.
fn becomes(script: &str, parts: &[&str]) {
    let made = made(script);
    for part in parts {
        assert!(made.contains(part), "`{part}` is missing: {script}\n{made}");
    }
}

/// Asserts that a script becomes no probe, and that it is said why and where.
fn is_left_out(script: &str, place: &str, why: &str) {
    let made = made(script);
    let said = format!("made.bt:{place}: left out: {why}");
    assert!(made.contains(&said) && !made.contains("- name:"), "`{said}`: {script}\n{made}");
}

const ENTER: &str = "tracepoint:syscalls:sys_enter_write";
const EXIT: &str = "tracepoint:syscalls:sys_exit_write";
const READ: &str = "tracepoint:syscalls:sys_enter_read";
const IN_ORDER: &str =
    "this changes what another condition of the same event uses: which comes first is open";

#[test]
fn an_event_changes_what_it_reads_under_one_condition() {
    let several =
        "what an event reads is changed under several conditions: it has one for all that it changes";
    is_left_out(
        &format!("{ENTER} {{ @n[tid]++; if (@n[tid] > 3) {{ @c = count(); delete(@n[tid]); }} }}"),
        "1:83",
        several,
    );
    is_left_out(
        &format!("{ENTER} {{ @n[tid]++; if (args.fd > 3) {{ @c[@n[tid]] = count(); delete(@n[tid]); }} }}"),
        "1:92",
        several,
    );
    // What it reads is told apart by what another condition of it changes.
    is_left_out(
        &format!("{ENTER} {{ if (@n[tid] > 3) {{ @c = count(); delete(@n[tid]); }} else {{ @n[tid]++; }} }}"),
        "1:98",
        "this changes what an event at the same place reads under other conditions: which comes first is open",
    );
    // One condition of changes is that of the event, and what else is asked is asked of the metric.
    becomes(
        &format!("{ENTER} {{ @n[tid]++; if (@n[tid] > 3) {{ @c = count(); }} }}"),
        &["add: { \"n\": \"1\" } metrics:", "where: state.n + 1 > 3 }"],
    );
    becomes(
        &format!("{ENTER} /args.fd == 1/ {{ @n[tid]++; if (args.count > 9) {{ @c[@n[tid]] = count(); }} }}"),
        &["add: { \"n\": \"1\" } where: args.fd == 1 labels:", "of made.bt.\", where: args.count > 9 }"],
    );
}

#[test]
fn what_is_done_in_any_case_is_done_once() {
    let reader = format!("{READ} /@a[tid] > 3/ {{ @c[@b[tid], @d[tid]] = count(); }}");
    let writer = |one: &str, other: &str| {
        format!(
            "{ENTER} {{ @a[tid]++; if ({one}) {{ @b[tid] = @a[tid]; }} {other} {{ @d[tid] = @a[tid]; }} }}"
        )
    };
    is_left_out(
        &format!("{reader}\n{}", writer("args.fd == 1", "if (args.count > 4)")),
        "2:113",
        "this and another condition of the same event may both hold, and both have to do what is done in any case: it would be done twice",
    );
    // Where only one of them can hold, each does it.
    let notes = [
        "where: \"args.fd != 1 && !(args.fd != 1 && args.count > 4)\" add: { a: \"1\" }",
        "where: args.fd == 1 set: { b: state.a + 1 } add: { a: \"1\" }",
        "where: \"args.fd != 1 && args.count > 4\" set: { d: state.a + 1 } add: { a: \"1\" }",
    ];
    becomes(&format!("{reader}\n{}", writer("args.fd == 1", "else if (args.count > 4)")), &notes);
    // What none of the others uses is an event of its own.
    becomes(
        &format!(
            "{READ} {{ @c[@a[tid], @b[tid], @d[tid]] = count(); }}\n{ENTER} {{ @a[tid] = 1; if (args.fd == 1) {{ @b[tid] = 2; }} if (args.count > 4) {{ @d[tid] = 3; }} }}"
        ),
        &[
            "sys_enter_write\", set: { a: \"1\" } }",
            "where: args.fd == 1, set: { b: \"2\" } }",
            "where: args.count > 4, set: { d: \"3\" } }",
        ],
    );
    // The wide one deletes what both ask for: whichever comes first, the other does not happen.
    becomes(
        &format!(
            "{READ} {{ @c[@d[tid]] = count(); }}\n{ENTER} {{ @a[tid] = args.fd; }}\n{EXIT} /@a[tid]/ {{ if (@a[tid] > 4) {{ @d[tid] = @a[tid]; }} delete(@a[tid]); }}"
        ),
        &[
            "where: \"state.a && state.a > 4\" set: { d: state.a } clear: a",
            "where: \"state.a && state.a <= 4\", clear: a }",
        ],
    );
    is_left_out(
        &format!(
            "{READ} /@a[tid]/ {{ @c[@b[tid]] = count(); }}\n{ENTER} {{ @a[tid]++; if (args.fd == 1) {{ @b[tid] = @a[tid]; }} if (args.count > 4) {{ delete(@b[tid]); }} }}"
        ),
        "2:113",
        IN_ORDER,
    );
}

#[test]
fn each_write_of_an_action_is_a_start() {
    let end = format!("{EXIT} /@t[tid]/ {{ @us = hist(nsecs - @t[tid]); delete(@t[tid]); }}");
    let of_key = format!("{EXIT} /@k[tid]/ {{ @c[@k[tid]] = count(); delete(@k[tid]); }}");
    becomes(
        &format!(
            "{ENTER} {{ if (args.fd == 1) {{ @t[tid] = nsecs; }} if (args.fd == 2) {{ @t[tid] = nsecs; }} }}\n{end}"
        ),
        &["key: tid, where: args.fd == 1 }", "key: tid, where: args.fd == 2 }", "value: duration"],
    );
    becomes(
        &format!("{ENTER} {{ if (args.fd == 1) {{ @k[tid] = 1; }} else {{ @k[tid] = 2; }} }}\n{of_key}"),
        &["where: args.fd == 1, save: { k: \"1\" } }", "where: \"args.fd != 1\", save: { k: \"2\" } }"],
    );
    // Two starts at one event would be kept in an order that is open: it is state, which tells them apart.
    becomes(
        &format!("{ENTER} {{ @k[tid] = 1; if (args.fd == 1) {{ @k[tid] = 2; }} }}\n{of_key}"),
        &[
            "where: \"args.fd != 1\", set: { k: \"1\" } }",
            "where: args.fd == 1, set: { k: \"2\" } }",
            "clear: k where: state.k",
        ],
    );
    becomes(
        &format!("{ENTER} {{ @t[pid] = nsecs; @t[tid] = nsecs; }}\n{end}"),
        &["set: { \"t[pid]\": nsecs, \"t[tid]\": nsecs }", "clear: \"t[tid]\" where: \"state.t[tid]\""],
    );
    // A value that the script keeps more seldom than the time is not of the start.
    becomes(
        &format!(
            "{ENTER} {{ @t[tid] = nsecs; if (args.fd == 1) {{ @k[tid] = 2; }} }}\n{EXIT} /@t[tid]/ {{ @us[@k[tid]] = hist(nsecs - @t[tid]); delete(@t[tid]); delete(@k[tid]); }}"
        ),
        &["set: { t: nsecs } }", "where: args.fd == 1, set: { k: \"2\" } }", "clear: [t, k] where: state.t"],
    );
}

#[test]
fn an_end_takes_its_start_where_the_script_deletes_it() {
    let start = format!("{ENTER} {{ @t[tid] = nsecs; }}");
    let (hist, delete) = ("@us = hist(nsecs - @t[tid]);", "delete(@t[tid]);");
    let end = |filter: &str, body: &str| format!("{start}\n{EXIT} {filter} {{ {body} }}");
    let (plain, of_metric) =
        ("end: { at: \"tracepoint:syscalls:sys_exit_write\", key: tid } metrics:", "where: args.ret > 0");
    for script in [
        end("/@t[tid]/", &format!("if (args.ret > 0) {{ {hist} }} {delete}")),
        end("/@t[tid]/", &format!("if (args.ret > 0) {{ {hist} {delete} }} else {{ {delete} }}")),
        end("/@t[tid]/", &format!("if (args.ret <= 0) {{ {delete} return; }} {hist} {delete}")),
        end("", &format!("if (args.ret > 0 && @t[tid]) {{ {hist} }} {delete}")),
    ] {
        becomes(&script, &[plain, &format!("value: duration {of_metric}")]);
    }
    // What is deleted under conditions waits else, for the next end.
    becomes(
        &end("/@t[tid]/", &format!("if (args.ret > 0) {{ {hist} {delete} }}")),
        &["key: tid, where: args.ret > 0 } metrics:", "value: duration }"],
    );
    is_left_out(
        &end("/@t[tid]/", &format!("{hist} if (args.ret > 0) {{ {delete} }}")),
        "2:97",
        "what a start kept is deleted under other conditions than it is measured",
    );
    // An end takes its start whatever the time: here it waits.
    becomes(
        &end("/@t[tid]/", &format!("if (nsecs - @t[tid] > 1000) {{ {hist} {delete} }}")),
        &["set: { t: nsecs }", "clear: t where: \"state.t && nsecs - state.t > 1000\""],
    );
    // Another event deletes it as well.
    becomes(
        &format!("{}\n{READ} {{ {delete} }}", end("/@t[tid]/", &format!("{hist} {delete}"))),
        &["{ at: \"tracepoint:syscalls:sys_enter_read\", clear: t }", "clear: t where: state.t"],
    );
}

#[test]
fn a_value_of_a_start_that_may_be_0_is_compared() {
    let pair = |value: &str, condition: &str| {
        made(&format!(
            "{ENTER} {{ @v[tid] = {value}; }}\n{EXIT} /{condition}/ {{ @c[comm] = count(); delete(@v[tid]); }}"
        ))
    };
    for (value, condition, wanted) in [
        ("args.fd", "@v[tid]", Some("start.v")),
        ("args.fd", "@v[tid] > 0", Some("start.v > 0")),
        ("args.fd", "@v[tid] != 0", Some("\"start.v != 0\"")),
        ("args.fd", "has_key(@v, tid)", None),
        ("pid", "@v[tid]", Some("start.v")),
        ("1", "@v[tid]", None),
        ("comm", "@v[tid]", None),
        ("str(args.buf)", "@v[tid]", Some("\"start.v != \\\"\\\"\"")),
        ("str(args.buf)", "!@v[tid]", Some("\"start.v == \\\"\\\"\"")),
        ("kstack", "@v[tid]", None),
    ] {
        let made = pair(value, condition);
        let condition = wanted.map_or_else(String::new, |wanted| format!(", where: {wanted}"));
        let end =
            format!("end: {{ at: \"tracepoint:syscalls:sys_exit_write\", key: tid{condition} }} labels:");
        assert!(made.contains(&end), "{end}\n{made}");
    }
    // A start of 0 that waits is none to `!@v[tid]`, and one to `has_key`.
    let first = |condition: &str, value: &str| {
        made(&format!(
            "{ENTER} {{ if ({condition}) {{ @v[tid] = {value}; }} }}\n{EXIT} {{ @c[@v[tid]] = count(); delete(@v[tid]); }}"
        ))
    };
    assert!(first("!has_key(@v, tid)", "args.fd").contains("first: true"));
    assert!(first("!@v[tid]", "comm").contains("first: true"));
    let compared = first("!@v[tid]", "args.fd");
    assert!(!compared.contains("first: true") && compared.contains("where: \"!state.v\""), "{compared}");
}

#[test]
fn what_a_return_within_excludes_holds_behind_the_branch() {
    let counted = |body: &str, parts: &[&str]| becomes(&format!("{ENTER} {{ {body} @b = count(); }}"), parts);
    let leave = "if (args.count > 9) { return; }";
    counted(
        &format!("if (args.fd == 1) {{ {leave} }}"),
        &["where: \"(args.fd != 1 || args.count <= 9)\" metrics:"],
    );
    counted(
        &format!("if (args.fd == 1) {{ @a = count(); }} else {{ {leave} }}"),
        &["(args.fd == 1 || args.count <= 9)"],
    );
    counted(
        &format!("if (args.fd == 1) {{ {leave} }} else {{ if (args.count < 3) {{ return; }} }}"),
        &["where: \"(args.fd != 1 || args.count <= 9) && (args.fd == 1 || args.count >= 3)\" metrics:"],
    );
    // What one branch excludes where the other is left.
    counted(
        &format!("if (args.fd == 1) {{ return; }} else {{ {leave} }}"),
        &["where: \"args.fd != 1 && args.count <= 9\" metrics:"],
    );
    counted(
        &format!("if (args.fd == 1) {{ {leave} }} else {{ return; }}"),
        &["args.fd == 1 && args.count <= 9"],
    );
    counted(
        &format!("if (args.fd == 1) {{ if (pid == 7) {{ {leave} }} }}"),
        &["(args.fd != 1 || pid != 7 || args.count <= 9)"],
    );
    // Branches that do not leave exclude nothing.
    counted("if (args.fd == 1) { @a = count(); }", &["at: \"tracepoint:syscalls:sys_enter_write\" metrics:"]);
    let long = (0..40).map(|fd| format!("args.fd == {fd}")).collect::<Vec<_>>().join(" || ");
    is_left_out(
        &format!("{ENTER} {{ if (pid == 7) {{ if ({long}) {{ return; }} }} @b = count(); }}"),
        "1:39",
        "when this is left is too long a condition: what stands behind it is left out",
    );
}

#[test]
fn what_is_changed_behind_a_delete_stays() {
    let reader = format!("{READ} /@k[tid]/ {{ @c[@k[tid]] = count(); }}");
    let changes = |body: &str| format!("{ENTER} {{ {body} }}\n{reader}");
    becomes(&changes("delete(@k[tid]); @k[tid]++;"), &["set: { k: \"1\" } }", "where: state.k labels:"]);
    becomes(&changes("delete(@k[tid]); @k[tid] -= 2; @k[tid]++;"), &["-2 + 1"]);
    becomes(&changes("@k[tid]++; delete(@k[tid]);"), &["sys_enter_write\", clear: k }"]);
    becomes(&changes("delete(@k[tid]); @k[tid] = 5;"), &["set: { k: \"5\" } }"]);
    // What is read behind it is nothing.
    becomes(
        &format!(
            "{ENTER} {{ @k[tid]++; }}\n{READ} {{ delete(@k[tid]); @k[tid]++; @m[tid] = @k[tid]; }}\n{EXIT} {{ @c[@k[tid], @m[tid]] = count(); }}"
        ),
        &["set: { k: \"1\", m: \"1\" } }"],
    );
    // Keys that may be the same are changed in the order of the words, and not in that of the script.
    let of = |body: &str| format!("{ENTER} {{ {body} }}\n{READ} /@k[pid]/ {{ @c = count(); }}");
    is_left_out(
        &of("delete(@k[args.fd]); @k[pid]++;"),
        "1:60",
        "another key of `@k` is changed before, which may be the same",
    );
    becomes(&of("delete(@k[7]); @k[8]++;"), &["add: { \"k[8]\": \"1\" }, clear: \"k[7]\" }"]);
}

#[test]
fn a_pointer_that_a_start_keeps_may_be_0() {
    for value in ["arg0", "(struct sock *)arg0", "(uint64)arg0"] {
        becomes(
            &format!(
                "kprobe:f {{ @sk[tid] = {value}; }}\nkretprobe:f /@sk[tid]/ {{ @c = count(); delete(@sk[tid]); }}"
            ),
            &["end: { at: \"kretprobe:f\", key: tid, where: start.sk } metrics:"],
        );
    }
}
