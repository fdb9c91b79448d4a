//! Timers and counters, against a program's own account of its processor time and pages.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::{Tapster, binary},
    metrics::whole,
};

const PROBES: &str = "
probes:
  - name: samples
    at: profile:hz:500
    where: comm == 'tapster-busy'
    metrics: [{ counter: samples_total, help: x }]
  - name: ticks
    at: interval:ms:20
    metrics: [{ counter: ticks_total, help: x }]
  - name: faults
    at: software:page-faults:1
    where: comm == 'tapster-busy'
    metrics:
      - { counter: faults_total, help: x }
      - { counter: fault_periods_total, help: x, value: args.sample_period }
";
/// Pages that the program touches, and processor time that it takes.
const PAGES: u64 = 5000;
const BUSY_MS: u64 = 1000;

fn counters() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("tapster-busy");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/busy.c");
    text(tool("cc")?.arg("-O1").arg("-o").arg(&program).arg(source));
    let file = directory.path().join("probes.yaml");
    fs::write(&file, PROBES).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let (before, begun) = (tapster.scrape(), Instant::now());
    let own_ns: u64 =
        text(Command::new(&program).args([PAGES.to_string(), BUSY_MS.to_string()])).trim().parse().unwrap();
    let ran = begun.elapsed();
    let (after, until) = (tapster.scrape(), begun.elapsed());
    let faults = after.since(&before, "tapster_faults_total", &[]);
    // Beyond its own pages a program has those of its code, its stack and its libraries.
    assert!((PAGES..PAGES + 2000).contains(&faults), "{faults} faults, {PAGES} pages touched");
    assert_eq!(after.since(&before, "tapster_fault_periods_total", &[]), faults, "each fault is a sample");
    let samples = after.since(&before, "tapster_samples_total", &[]);
    let expected = own_ns / 2_000_000;
    // The host under this machine takes time that no timer sees.
    assert!(
        samples.abs_diff(expected) <= expected / 5,
        "{samples} samples, {expected} expected of {own_ns} ns"
    );
    let ticks = after.since(&before, "tapster_ticks_total", &[]);
    let per_tick = Duration::from_millis(20);
    let bounds = (ran.as_millis() / per_tick.as_millis(), until.as_millis() / per_tick.as_millis() + 2);
    // One before and one behind; what the host takes, as above, is missing at the other end.
    assert!(u128::from(ticks) <= bounds.1, "{ticks} ticks in {until:?}");
    assert!(u128::from(ticks) >= bounds.0 * 4 / 5, "{ticks} ticks in {ran:?}");
    assert_eq!(whole(after.sum("tapster_probe_dropped_total", &[])), 0, "dropped");
    Ok(format!(
        "{faults} faults of {PAGES} pages, {samples} samples of {expected}, {ticks} ticks in {until:?}"
    ))
}

/// Counters of processors, each of which few virtual machines have.
const COUNTERS: [&str; 3] = ["cpu-cycles", "cache-misses", "backend-stalls"];

/// `tapster check` of one file: status, what it prints, what it says is wrong.
fn check(file: &Path) -> (Option<i32>, String) {
    let output = binary().arg("check").arg(file).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// A counter that this processor does not have: `check` says so as `run` does, and the next alternative is used by both.
fn lacking_counters() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probes.yaml");
    let lacking = COUNTERS.into_iter().find(|counter| {
        let probe = format!(
            "probes: [{{ name: alone, at: \"hardware:{counter}:100000\", metrics: [{{ counter: alone_total }}] }}]\n"
        );
        fs::write(&file, probe).unwrap();
        check(&file).0 != Some(0)
    });
    let Some(counter) = lacking else { return Err(Skip("this processor has all counters".into())) };
    let (status, told) = check(&file);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("alone  attach") && told.contains("few virtual machines do"), "{told}");
    let point = format!("hardware:{counter}:100000");
    fs::write(
        &file,
        format!(
            "probes:\n  - name: sampled\n    at: {{ one_of: [\"{point}\", \"profile:hz:500\"] }}\n    metrics: [{{ counter: sampled_total }}]\n  \
             - name: neither\n    at: {{ one_of: [\"{point}\", \"hardware:{counter}:200000\"] }}\n    metrics: [{{ counter: neither_total }}]\n"
        ),
    )
    .unwrap();
    let (status, told) = check(&file);
    assert_eq!(status, Some(1), "{told}");
    let passed = format!("`{point}` is passed over for the next alternative: ");
    assert!(told.contains("sampled  ok") && told.contains("profile:hz:500 by perf_event"), "{told}");
    assert_eq!(told.matches(&passed).count(), 2, "{told}");
    assert!(
        told.contains("neither  attach") && told.contains(&format!("hardware:{counter}:200000")),
        "{told}"
    );
    let tapster = Tapster::start(&["-c", file.to_str().unwrap()]);
    let page = tapster.get("/");
    assert!(
        page.text().contains("<b>alternative</b>") && page.text().contains("is passed over"),
        "{}",
        page.text()
    );
    let log = tapster.log();
    assert!(log.iter().any(|line| line.contains("is passed over for the next alternative")), "{log:?}");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let metrics = tapster.scrape();
        assert_eq!(whole(metrics.sum("tapster_probe_up", &[("probe", "sampled")])), 1);
        assert_eq!(whole(metrics.sum("tapster_probe_up", &[("probe", "neither")])), 0);
        if whole(metrics.sum("tapster_sampled_total", &[])) > 0 {
            return Ok(format!("`{point}` is refused, and `profile` takes its place"));
        }
        assert!(Instant::now() < deadline, "no sample of the other alternative");
    }
}

#[test]
fn timers_and_counters() {
    let Some(mut cases) = Cases::as_root("perf") else {
        return;
    };
    cases.run("profile, interval, software", counters);
    cases.run("counters that are not there", lacking_counters);
    cases.finish();
}
