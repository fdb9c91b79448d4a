//! What the choice of cgroups costs an event: of a cgroup whose answer is remembered, and of one whose path is read.
//!
//! Needs root, and the unified hierarchy to make cgroups in. A probe at a system call that this program makes asks once, and another
//! eight times with different patterns: the seventh part of the difference, as the kernel counts the runs (`bpf_stats`), is the cost of
//! one. Where the path is to be read each time, the map of answers is filled before.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark stops where something is wrong"
)]

use std::{fs, path::Path};
use tapster::{
    exporter::{Exporter, StartOptions},
    host::Host,
    kernel::Kernel,
    source::Source,
    sys::{Map, PossibleCpus},
};
use tapster_ebpf::{declaration, diagnostic::SourceFile, layout::CGROUPS};

const CALLS: u64 = 300_000;
const ROUNDS: u32 = 6;
const PATH: &str = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod11111111_2222_3333_4444_555555555555.slice";

/// A probe that asks about the current task's cgroup so often.
fn probe(question: &str, times: usize) -> String {
    let each: Vec<String> = (0..times).map(|index| question.replace("NUMBER", &index.to_string())).collect();
    let value = each.join(" + ");
    format!(
        "probes:\n  - name: cost\n    at: 'tracepoint:syscalls:sys_enter_getppid'\n    metrics: [{{ counter: cost_total, value: '{value}' }}]\n"
    )
}

/// Nanoseconds of one run of the program.
fn run_ns(yaml: &str, kernel: &Kernel, is_full: bool) -> f64 {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("bench", yaml));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let options = StartOptions { run_stats: true, attach: true, command: false };
    let (exporter, ..) = Exporter::start(&file.probes, kernel, &Host::default(), Vec::new(), options);
    let status = exporter.status().remove(0);
    assert!(status.down.is_none(), "{:?}", status.down);
    if is_full {
        let probes = exporter.probes();
        let attached = probes[0].reader().unwrap().attached();
        let index = attached.program.map_named(CGROUPS).unwrap();
        let map = Map::open(attached.map(index).unwrap(), PossibleCpus::of_host().unwrap()).unwrap();
        for number in 0..map.max_entries() as u64 {
            // Where another task's answer has taken the last place, there is no room either.
            let _ = map.update(&[(1 << 40 | number).to_le_bytes(), [0; 8]].concat(), &[0; 8]);
        }
    }
    for _ in 0..CALLS {
        // SAFETY: it takes nothing and returns a number.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    let status = exporter.status().remove(0);
    let program = status.programs.iter().max_by_key(|program| program.runs).unwrap();
    assert!(program.runs >= CALLS / 1000 * 999, "{} runs", program.runs);
    program.run_ns as f64 / program.runs as f64
}

fn enter(group: &Path) {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let kernel = Kernel::detect(&Host::default());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|line| line[2] == "cgroup2");
    let (Ok(()), Some(mount)) = (kernel.requirements(), mount) else {
        println!("skipped: needs the capabilities to load programs, and cgroups of version 2");
        return;
    };
    let (root, tree) = (Path::new(mount[1]), format!("tapster-bench-{}", std::process::id()));
    let group = root.join(&tree).join(PATH);
    fs::create_dir_all(&group).unwrap();
    enter(&group);
    // Different patterns that all match.
    let matching = format!("cgroup_matches(\"/{tree}/kubepods.slice/*.slice/kubepods-*pod*{{1,NUMBER}}*\")");
    println!(
        "one question about the current cgroup, {} names deep, {CALLS} calls a round, {ROUNDS} rounds: ns by the kernel's count, least and mean",
        1 + PATH.split('/').count()
    );
    for (what, question, is_full) in [
        ("cgroup(curtask)", "cgroup(curtask)".to_owned(), false),
        ("cgroup_matches, remembered, it matches", matching.clone(), false),
        (
            "cgroup_matches, remembered, it does not",
            "cgroup_matches(\"/system.sliceNUMBER/*\")".to_owned(),
            false,
        ),
        ("cgroup_matches, the path is read", matching.clone(), true),
    ] {
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            let [one, eight] = [1, 8].map(|times| run_ns(&probe(&question, times), &kernel, is_full));
            costs.push((eight - one) / 7.0);
        }
        let least = costs.iter().copied().fold(f64::MAX, f64::min);
        let mean = costs.iter().sum::<f64>() / f64::from(ROUNDS);
        println!("{what:44}{least:>10.1} {mean:.1}");
    }
    enter(root);
    for path in group.ancestors().take_while(|path| *path != root) {
        fs::remove_dir(path).unwrap();
    }
}
