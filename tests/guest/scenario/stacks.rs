//! Stacks: of functions whose callers are known, as often as they were called.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::metrics::{Metrics, whole},
};

/// Stacks of a counter with how often each was counted.
fn stacks(metrics: &Metrics, name: &str, label: &str) -> Vec<(String, u64)> {
    metrics
        .0
        .iter()
        .filter(|sample| sample.name == name)
        .map(|sample| {
            let stack = sample.labels.get(label).cloned().unwrap_or_default();
            (stack, whole(sample.value))
        })
        .collect()
}

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let metrics = results.metrics("after.prom");
    let counted = |name: &str, label: &str, wanted: &dyn Fn(&str) -> bool| -> u64 {
        let all = stacks(&metrics, &format!("tapster_{name}_total"), label);
        assert!(!all.is_empty(), "{name}: nothing\n{}", results.text("after.prom"));
        all.iter().filter(|(stack, _)| wanted(stack)).map(|(_, count)| count).sum()
    };
    let every = |name: &str, label: &str, wanted: &dyn Fn(&str) -> bool| -> u64 {
        for (stack, count) in stacks(&metrics, &format!("tapster_{name}_total"), label) {
            assert!(wanted(&stack), "{name}: {count} of `{stack}`");
        }
        counted(name, label, wanted)
    };
    let check = results.text("check");
    let mut probes = check.lines().filter(|line| line.contains(" instructions, ")).peekable();
    assert!(probes.peek().is_some() && probes.all(|line| line.contains(" ok ")), "{check}");
    assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[])), 0, "{}", results.text("after.prom"));
    // The program's own calls, and its callers' in the order that the source has.
    let calls = |end: &str| counted("calls", "user", &|stack| stack.ends_with(end));
    assert_eq!(calls(";probed"), 101);
    // Before 6.12 the kernel leaves out the caller of a function that was just entered.
    let direct = calls("main;first;probed") + calls("main;probed");
    let through = calls("main;second;third;probed") + calls("main;second;probed");
    assert_eq!((direct, through), (50, 50), "{:?}", stacks(&metrics, "tapster_calls_total", "user"));
    let leaf = counted("samples", "user", &|stack| {
        let stack = stack.trim_end_matches(";clock_gettime").trim_end_matches(";[unknown]");
        stack.contains("main;outer;middle;leaf") || stack.contains("main;library_enter;library_inner;leaf")
    });
    let samples = counted("samples", "user", &|_| true);
    // An emulated timer ticks as often as it can; the same without stacks says how often.
    let ticks = whole(metrics.sum("tapster_ticks_total", &[]));
    let all = stacks(&metrics, "tapster_samples_total", "user");
    assert!(samples.abs_diff(ticks) <= 5 + ticks / 10, "time: {samples} samples, {ticks} ticks");
    // The others are from the program's start.
    assert!(leaf >= 5 && leaf + 15 >= samples * 9 / 10, "time: {leaf} of {samples} in the leaf: {all:#?}");
    let mut figures = vec![format!("{leaf} of {samples} samples in the leaf, {ticks} ticks without stacks")];
    // On 7.3 the stack at `fentry` and `fexit` begins with the function's caller.
    for name in ["traced", "probed"] {
        let reads = every(name, "kernel", &|stack| {
            stack.ends_with(";vfs_read") || name == "traced" && stack.ends_with(";ksys_read")
        });
        let known = counted(name, "kernel", &|stack| stack.contains(";ksys_read"));
        assert!(reads >= 1000 && known >= 1000, "{name}: {known} of {reads}");
        figures.push(format!("{name} {known}"));
    }
    let limited = every("limited", "kernel", &|stack| stack.split(';').count() <= 2);
    let known = counted("limited", "kernel", &|stack| {
        ["ksys_read;vfs_read", "do_syscall_64;ksys_read"].contains(&stack)
    });
    assert!(known >= 1000, "{known} of {limited}");
    figures.push(format!("limited {limited}"));
    let stripes = every("stripe", "kernel", &|stack| stack.ends_with(";raid0_make_request"));
    figures.push(format!("raid0_make_request {stripes}"));
    for name in ["tracepoint", "raw"] {
        let sleeps = counted(name, "kernel", &|stack| {
            stack.contains("hrtimer_nanosleep") && stack.ends_with("schedule") && !stack.contains("bpf_")
        });
        assert!(sleeps >= 5, "{name}: {:?}", stacks(&metrics, &format!("tapster_{name}_total"), "kernel"));
        figures.push(format!("{name} {sleeps}"));
    }
    let sleeps = counted("sleeper", "sleeping", &|stack| stack.contains("hrtimer_nanosleep"));
    assert!(sleeps >= 5, "{:?}", stacks(&metrics, "tapster_sleeper_total", "sleeping"));
    figures.push(format!("woken {sleeps}"));
    figures.join(", ")
}
