//! Variables of the kernel are what `/proc` shows of them: the load, the time of each processor. Words of programs are those that they
//! were started with.

use crate::{kernel::Kernel, machine::Results, support::metrics::whole};

/// The examples that the script runs.
pub(crate) const EXAMPLES: [(&str, &str); 3] = [
    ("load_average.yaml", include_str!("../../../examples/cpu/load_average.yaml")),
    ("bpf_jit.yaml", include_str!("../../../examples/kernel/bpf_jit.yaml")),
    ("execs.yaml", include_str!("../../../examples/process/execs.yaml")),
];

/// The first numbers of `/proc/loadavg`.
fn loads(results: &Results, name: &str) -> Vec<f64> {
    results.text(name).split(' ').take(3).map(|load| load.parse().unwrap()).collect()
}

/// Seconds of programs on a processor, by `/proc/stat`, which counts in hundredths.
fn user_seconds(results: &Results, name: &str, cpu: &str) -> f64 {
    let begin = format!("cpu{cpu} ");
    let line = results.text(name).lines().find_map(|line| line.strip_prefix(&begin)).unwrap();
    line.split(' ').next().unwrap().parse::<f64>().unwrap() / 100.0
}

/// What each processor has in variables of its own.
fn processors(results: &Results) -> String {
    let scrape = results.metrics("time.prom");
    for cpu in ["0", "1"] {
        let [before, after] =
            ["before", "after"].map(|side| user_seconds(results, &format!("time-{side}"), cpu));
        let own = scrape.sum("tapster_user_seconds", &[("cpu", cpu)]);
        let of_each = scrape.sum(&format!("tapster_user_of_{cpu}_seconds"), &[]);
        for counted in [own, of_each] {
            // A gauge is as old as a tick of its timer, or as the time that its processor slept.
            assert!(counted <= after + 0.02 && counted >= before - 0.5, "{counted} of {before} to {after} s");
        }
    }
    let busy = scrape.sum("tapster_user_of_1_seconds", &[]);
    assert!(busy >= 1.0, "{busy} s of a processor that was busy for some");
    assert!(scrape.sum("tapster_running", &[("cpu", "1")]) >= 1.0, "a program ran on processor 1");
    format!("{busy:.2} s of programs on processor 1")
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let mut figures = Vec::new();
    // The load changes each five seconds, and the gauge is at most one second old.
    let rounds = ["1", "2", "3", "4", "5"].into_iter().filter_map(|round| {
        let [before, after] = ["before", "after"].map(|side| loads(results, &format!("load-{round}-{side}")));
        (before == after).then_some((round, before))
    });
    let mut compared = 0;
    for (round, shown) in rounds {
        let scrape = results.metrics(&format!("load-{round}.prom"));
        for (family, shown) in ["1m", "5m", "15m"].into_iter().zip(&shown) {
            let counted = scrape.sum(&format!("tapster_load_average_{family}"), &[]);
            assert!((counted - shown).abs() <= 0.006, "{family}: {counted}, and {shown} in /proc/loadavg");
            compared += usize::from(*shown > 0.0);
        }
    }
    assert!(compared > 0, "no load in any round");
    figures.push(format!("{compared} loads"));
    if !kernel.release.starts_with("5.10.") {
        figures.push(processors(results));
    }
    let memory = ["one", "two", "one-again"]
        .map(|name| whole(results.metrics(&format!("{name}.prom")).sum("tapster_bpf_jit_memory_bytes", &[])));
    assert!(memory[0] > 0 && memory[1] > memory[0] && memory[2] == memory[0], "{memory:?}");
    figures.push(format!("{} bytes of compiled programs, {} with others", memory[0], memory[1]));
    let starts = results.metrics("execs.prom");
    let count = |words: &str| whole(starts.sum("tapster_starts_of_programs_total", &[("words", words)]));
    assert_eq!(count("/bin/busybox true one two words  three"), 5);
    assert_eq!(count("/bin/busybox true"), 3);
    let long =
        format!("/bin/busybox true {}", (1..=60).map(|word| word.to_string()).collect::<Vec<_>>().join(" "));
    assert_eq!(count(&long[..127]), 2);
    figures.push("10 programs by their words".into());
    figures.join(", ")
}
