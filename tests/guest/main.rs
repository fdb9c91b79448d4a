//! Real arrays on real kernels: Debian's, from 5.10 to the newest, booted under QEMU's software emulation, with the
//! release binary, `mdadm`, `dmsetup`, LVM and `fio`.
//!
//! ```text
//! cargo test --test guest                                               # what runs at each change
//! TAPSTER_LONG=1 cargo test --release --test guest                      # all scenarios on all kernels
//! TAPSTER_GUEST_KERNELS=5.10,7 TAPSTER_GUEST_SCENARIOS=story cargo test --test guest
//! ```
//!
//! Kernels are fetched once, 350 MB, and kept in the user's cache (`XDG_CACHE_HOME`). It needs Linux on x86-64 with apt and QEMU;
//! elsewhere it says so and is skipped.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

mod beside;
mod costs;
mod excerpts;
mod image;
mod kernel;
mod machine;
mod matrix;
mod names;
mod plan;
mod queries;
mod scenario;
use tapster_testing as support;
mod trace;
mod verifier;

use plan::Plan;
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::cases::{Cases, Skip};

/// Items of a list in the environment; all of them where there is none.
fn wanted(variable: &str, name: &str) -> bool {
    let list = std::env::var(variable).unwrap_or_default();
    list.is_empty() || list.split(',').any(|item| item == name)
}

/// A number of the environment; `or` where there is none.
fn number(variable: &str, or: u64) -> u64 {
    std::env::var(variable).map_or(or, |text| text.parse().expect("a number"))
}

/// Guests that run at the same time; most of their time they wait, for each other's processors or for a slow member.
const AT_ONCE: usize = 2;

/// A kernel that is ready to be booted, and its modules.
struct Ready {
    series: &'static str,
    kernel: kernel::Kernel,
    modules: PathBuf,
}

/// Fetches the kernels that the plan boots. One that cannot be had is a case that is skipped.
fn kernels(plan: &Plan, cases: &mut Cases, work: &Path) -> Vec<Ready> {
    let cache = kernel::cache();
    let mut kernels = Vec::new();
    for series in kernel::SERIES.into_iter().filter(|series| plan.boots(series.name)) {
        let ready = kernel::get(series, &cache).and_then(|kernel| {
            let modules = machine::modules(&kernel, work)?;
            Ok(Ready { series: series.name, kernel, modules })
        });
        match ready {
            Ok(ready) => kernels.push(ready),
            Err(skip) => cases.run(&format!("Linux {}", series.name), || Err(skip)),
        }
    }
    kernels
}

/// Runs these, so many at a time.
fn pool(cases: &mut Cases, base: &Path, jobs: &[(&Ready, &scenario::Scenario)], at_once: usize) {
    let (next, told) = (AtomicUsize::new(0), Mutex::new(cases));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((ready, scenario)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("Linux {}: {}", ready.kernel.release, scenario.name);
                    let outcome = catch_unwind(AssertUnwindSafe(|| plan::run(&name, ready, base, scenario)));
                    let mut cases = told.lock().unwrap();
                    cases.run(&name, || outcome.unwrap_or_else(|panic| resume_unwind(panic)));
                }
            });
        }
    });
}

#[test]
fn arrays_in_guests() {
    let mut cases = Cases::new("guest");
    let plan = Plan::from_environment();
    let work = tempfile::tempdir().unwrap();
    let base = match machine::base(Path::new(env!("CARGO_BIN_EXE_tapster")), work.path()) {
        Ok(base) => base,
        Err(skip) => {
            cases.run("image", || Err(skip));
            return cases.finish();
        }
    };
    let kernels = kernels(&plan, &mut cases, work.path());
    let jobs = |alone: bool| -> Vec<(&Ready, &scenario::Scenario)> {
        let of_kind = scenario::ALL.iter().filter(|scenario| scenario.alone == alone);
        of_kind
            .flat_map(|scenario| {
                kernels
                    .iter()
                    .filter(|ready| plan.runs(scenario, ready.series))
                    .map(move |ready| (ready, scenario))
            })
            .collect()
    };
    pool(&mut cases, &base, &jobs(false), AT_ONCE);
    pool(&mut cases, &base, &jobs(true), 1);
    // These two compare times, so they are alone.
    let newest = kernel::SERIES.last().expect("there are kernels").name;
    if let Some(Ready { kernel, modules, .. }) = kernels.iter().find(|ready| ready.series == newest) {
        if plan.runs_on_newest("queries") {
            for guest in &queries::GUESTS {
                let name = format!("Linux {}: queries of {}", kernel.release, guest.name);
                cases.run(&name, || {
                    plan::emulated(&name, || queries::answered(guest, kernel, &base, modules))
                });
            }
        }
        if plan.runs_on_newest("detection") {
            let name = format!("Linux {}: detection", kernel.release);
            cases.run(&name, || plan::emulated(&name, || matrix::part(kernel, &base, modules)));
        }
    }
    let count = cases.count();
    cases.finish();
    // A kernel or a scenario that nobody ran is no failure by itself. One that cannot be had is one case, which says so.
    let planned = kernel::SERIES.iter().filter(|series| plan.boots(series.name)).map(|series| {
        if kernels.iter().any(|ready| ready.series == series.name) { plan.cases(series.name) } else { 1 }
    });
    assert_eq!(count, planned.sum::<usize>(), "cases that ran or were skipped, and those of the plan");
}

/// The whole detection matrix, which takes a quarter of an hour: the figures of docs/detection.md.
#[test]
#[ignore = "takes a quarter of an hour"]
fn detection_matrix() {
    let mut cases = Cases::new("detection");
    let factor = u32::try_from(number("TAPSTER_MATRIX_FACTOR", 10)).expect("a small number");
    let seconds = number("TAPSTER_MATRIX_SECONDS", 1800 / u64::from(factor));
    let cache = kernel::cache();
    let work = tempfile::tempdir().unwrap();
    let newest = *kernel::SERIES.last().expect("there are kernels");
    cases.run("matrix", || {
        let base = machine::base(Path::new(env!("CARGO_BIN_EXE_tapster")), work.path())?;
        let kernel = kernel::get(newest, &cache)?;
        let modules = machine::modules(&kernel, work.path())?;
        let loads: Vec<&str> = ["light", "mixed", "heavy"]
            .into_iter()
            .filter(|load| wanted("TAPSTER_MATRIX_LOADS", load))
            .collect();
        matrix::whole(&kernel, &base, &modules, &loads, seconds, factor)
    });
    cases.finish();
}

/// The figures of kernel functions in docs/performance.md:
///
/// ```text
/// cargo bench --bench functions --no-run       # says which executable it made
/// TAPSTER_BENCH=EXECUTABLE cargo test --release --test guest -- --ignored function_costs --nocapture
/// ```
#[test]
#[ignore = "takes a quarter of an hour, and needs the benchmark"]
fn function_costs() {
    let mut cases = Cases::new("costs");
    let cache = kernel::cache();
    let work = tempfile::tempdir().unwrap();
    for series in kernel::SERIES.into_iter().filter(|series| wanted("TAPSTER_GUEST_KERNELS", series.name)) {
        cases.run(&format!("Linux {}", series.name), || {
            let bench =
                std::env::var_os("TAPSTER_BENCH").ok_or_else(|| Skip("TAPSTER_BENCH is not set".into()))?;
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            costs::measured(&kernel, Path::new(&bench), &modules, work.path())
        });
    }
    cases.finish();
}

/// Random probes that the verifier of each kernel must accept:
///
/// ```text
/// cargo test --release --test verifier --no-run       # says which executable it made
/// TAPSTER_VERIFIER=EXECUTABLE TAPSTER_VERIFIER_PROBES=10000 cargo test --release --test guest -- --ignored random_probes --nocapture
/// ```
///
/// `TAPSTER_VERIFIER_SEED` says with which to begin.
#[test]
#[ignore = "minutes, and needs the test of the verifier as an executable"]
fn random_probes() {
    let mut cases = Cases::new("random probes");
    let cache = kernel::cache();
    let work = tempfile::tempdir().unwrap();
    for series in kernel::SERIES.into_iter().filter(|series| wanted("TAPSTER_GUEST_KERNELS", series.name)) {
        cases.run(&format!("Linux {}", series.name), || {
            let program = std::env::var_os("TAPSTER_VERIFIER")
                .ok_or_else(|| Skip("TAPSTER_VERIFIER is not set".into()))?;
            let probes = (number("TAPSTER_VERIFIER_PROBES", 1000), number("TAPSTER_VERIFIER_SEED", 1));
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            verifier::followed(&kernel, Path::new(&program), probes, &modules, work.path())
        });
    }
    cases.finish();
}

/// Calls of functions, nested ones too, as bpftrace counts them at the same time.
#[test]
#[ignore = "a quarter of a minute for each kernel, with bpftrace in the image"]
fn functions_beside_bpftrace() {
    let mut cases = Cases::new("beside bpftrace");
    let cache = kernel::cache();
    let work = tempfile::tempdir().unwrap();
    for series in kernel::SERIES.into_iter().filter(|series| wanted("TAPSTER_GUEST_KERNELS", series.name)) {
        cases.run(&format!("Linux {}", series.name), || {
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            beside::counted(&kernel, Path::new(env!("CARGO_BIN_EXE_tapster")), &modules, work.path())
        });
    }
    cases.finish();
}

/// What each kernel tells of itself, cut down to what the shipped probes and the examples ask for, for `tests/kernels.rs` and
/// `tests/examples.rs`.
#[test]
#[ignore = "a minute, to be run when a shipped probe asks for more or there is a newer kernel"]
fn excerpts_of_kernels() {
    let mut cases = Cases::new("excerpts");
    let cache = kernel::cache();
    let work = tempfile::tempdir().unwrap();
    for series in kernel::SERIES.into_iter().filter(|series| wanted("TAPSTER_GUEST_KERNELS", series.name)) {
        cases.run(&format!("Linux {}", series.name), || {
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            excerpts::of(&kernel, &modules, work.path())
        });
    }
    cases.finish();
}

/// Which function each pattern of the table of reasons matches on which kernels, these and the one that runs here, for
/// `tests/fixtures/reasons/functions.tsv`.
#[test]
#[ignore = "some minutes, to be run when the table of reasons has changed"]
fn functions_of_reasons() {
    let mut cases = Cases::new("reasons");
    let cache = kernel::cache();
    let work = tempfile::tempdir().unwrap();
    cases.run("functions of the table", || {
        let mut kernels = Vec::new();
        for series in kernel::SERIES {
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            kernels.push((series.name.to_owned(), names::of(&kernel, &modules, work.path())?));
        }
        kernels.push(names::here());
        Ok(names::record(&mut kernels))
    });
    cases.finish();
}
