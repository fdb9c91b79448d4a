//! What one read and one change of a state costs: per CPU, per task and by key, which is a look-up in a hash.
//!
//! Needs root. Each kind is a probe of its own at a system call that this program makes, once with one state and once with
//! eight: the eighth part of the difference, as the kernel counts the runs (`bpf_stats`), is the cost of one, without what the kernel's
//! measuring and the rest of the program take.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::format_collect,
    reason = "a benchmark stops where something is wrong"
)]

use std::fmt::Write;
use tapster::{
    exporter::{Exporter, StartOptions},
    host::Host,
    kernel::Kernel,
    source::Source,
};
use tapster_ebpf::{declaration, diagnostic::SourceFile};

const CALLS: u64 = 300_000;
const ROUNDS: u32 = 6;
const SCOPES: [(&str, &str); 3] =
    [("per CPU", "per: cpu"), ("per task", "per: task"), ("by key", "per: key, timeout: 1h")];
const ACTIONS: [&str; 5] = ["read", "read what was not set", "set", "add", "clear and set"];

/// A probe that does it to this many states at `getppid`; `getpgid` sets them, or reads them.
fn probe(action: &str, scope: &str, states: usize) -> String {
    let keyed = scope.contains("key");
    let name = |index: usize| if keyed { format!("s{index}[tid]") } else { format!("s{index}") };
    let each = |form: &dyn Fn(usize) -> String, between: &str| {
        (0..states).map(form).collect::<Vec<_>>().join(between)
    };
    let declared: String = (0..states).map(|index| format!("s{index}: {{ {scope} }}, ")).collect();
    let sum = each(&|index| format!("state.{}", name(index)), " + ");
    let set = format!("set: {{ {} }}", each(&|index| format!("'{}': pid", name(index)), ", "));
    let add = format!("add: {{ {} }}", each(&|index| format!("'{}': pid", name(index)), ", "));
    let clear = format!("clear: [{}]", each(&|index| format!("'{}'", name(index)), ", "));
    let (often, seldom) = ("tracepoint:syscalls:sys_enter_getppid", "tracepoint:syscalls:sys_enter_getpgid");
    let (noted, counted, change) = match action {
        "read" => (seldom, often, set),
        "read what was not set" => ("tracepoint:syscalls:sys_enter_acct", often, set),
        "set" => (often, seldom, set),
        "add" => (often, seldom, add),
        // In one event a state is set and then cleared.
        _ => (often, seldom, format!("{set}, {clear}")),
    };
    format!(
        "probes:\n  - name: cost\n    state: {{ {declared} }}\n    note: {{ at: '{noted}', {change} }}\n    at: '{counted}'\n    metrics: [{{ counter: cost_total, value: '{sum}' }}]\n"
    )
}

/// Nanoseconds of one run of the program at `getppid`.
fn run_ns(yaml: &str, kernel: &Kernel) -> f64 {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("bench", yaml));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let options = StartOptions { run_stats: true, attach: true, command: false };
    let (exporter, ..) = Exporter::start(&file.probes, kernel, &Host::default(), Vec::new(), options);
    // SAFETY: it takes and returns a number.
    unsafe { libc::getpgid(0) };
    for _ in 0..CALLS {
        // SAFETY: it takes nothing and returns a number.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    let status = exporter.status().remove(0);
    assert!(status.down.is_none(), "{:?}", status.down);
    let program = status.programs.iter().max_by_key(|program| program.runs).unwrap();
    assert!(program.runs >= CALLS / 1000 * 999, "{} runs", program.runs);
    program.run_ns as f64 / program.runs as f64
}

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let kernel = Kernel::detect(&Host::default());
    if kernel.requirements().is_err() {
        println!("skipped: needs the capabilities to load programs");
        return;
    }
    println!(
        "one access to a state, {CALLS} calls a round, {ROUNDS} rounds: ns by the kernel's count, least and mean"
    );
    println!("{:24}{:>16}{:>16}{:>16}", "", SCOPES[0].0, SCOPES[1].0, SCOPES[2].0);
    for action in ACTIONS {
        let mut line = format!("{action:24}");
        for (_, scope) in SCOPES {
            let mut costs = Vec::new();
            for _ in 0..ROUNDS {
                let [one, eight] = [1, 8].map(|states| run_ns(&probe(action, scope, states), &kernel));
                costs.push((eight - one) / 7.0);
            }
            let least = costs.iter().copied().fold(f64::MAX, f64::min);
            let mean = costs.iter().sum::<f64>() / f64::from(ROUNDS);
            let both = format!("{least:.1} {mean:.1}");
            write!(line, "{both:>16}").unwrap();
        }
        println!("{line}");
    }
}
