//! Real arrays on real kernels: Debian's, from 5.10 to the newest, booted under QEMU's software emulation, with the
//! release binary, `mdadm`, `dmsetup`, LVM and `fio`.
//!
//! ```text
//! cargo test --release --test guest                                     # all scenarios on all kernels
//! TAPSTER_GUEST_KERNELS=5.10,7 TAPSTER_GUEST_SCENARIOS=story cargo test --release --test guest
//! ```
//!
//! Kernels are fetched once, 350 MB, and kept below the target directory. It needs Linux on x86-64 with apt and QEMU;
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
mod queries;
mod scenario;
use tapster_testing as support;
mod trace;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::cases::{Cases, Outcome, Skip, say};

/// Items of a list in the environment; all of them where there is none.
fn wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |list| list.is_empty()) || named(variable, name)
}

/// Items of a list in the environment.
fn named(variable: &str, name: &str) -> bool {
    std::env::var(variable).is_ok_and(|list| list.split(',').any(|item| item == name))
}

/// Guests that run at the same time; most of their time they wait, for each other's processors or for a slow member.
const AT_ONCE: usize = 2;

/// A kernel that is ready to be booted, and its modules.
struct Ready {
    kernel: kernel::Kernel,
    modules: PathBuf,
}

/// Boots a kernel with a scenario and checks what comes back.
fn run(ready: &Ready, base: &Path, scenario: &scenario::Scenario) -> Outcome {
    let Ready { kernel, modules } = ready;
    let machine = machine::Machine {
        kernel,
        base,
        modules,
        disks: scenario.disks,
        memory_mib: scenario.memory_mib,
        port: None,
        arguments: &[],
    };
    let results = machine.run(scenario.script)?;
    results.assert_no_failures();
    let figures = (scenario.check)(kernel, &results);
    Ok(format!("{figures} ({:.1} s)", results.took.as_secs_f64()))
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let literal = || panic.downcast_ref::<&str>().copied();
    panic.downcast_ref::<String>().map(String::as_str).or_else(literal).unwrap_or("a panic without words")
}

/// Whether it was the emulation that failed. QEMU's processors, a thread each, now and then run half of what the kernel patches
/// into its own code under the other, and where the host stops a processor for long, the guest's clock does not come back.
fn is_of_emulation(said: &str) -> bool {
    ["Oops: int3", "self-detected stall on CPU"].iter().any(|sign| said.contains(sign))
}

/// Boots again, at the most three times, where the emulation failed.
fn emulated(name: &str, attempt: impl Fn() -> Outcome) -> Outcome {
    for _ in 0..3 {
        match catch_unwind(AssertUnwindSafe(&attempt)) {
            Ok(outcome) => return outcome,
            Err(panic) if is_of_emulation(said(&*panic)) => {
                say(format_args!("guest: {name}: the emulation failed, booted again"));
            }
            Err(panic) => resume_unwind(panic),
        }
    }
    attempt()
}

#[test]
fn arrays_in_guests() {
    let mut cases = Cases::new("guest");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let work = tempfile::tempdir().unwrap();
    let base = machine::base(Path::new(env!("CARGO_BIN_EXE_tapster")), work.path());
    let newest = kernel::SERIES.last().expect("there are kernels");
    let mut kernels: Vec<Ready> = Vec::new();
    let mut has_newest = false;
    for series in kernel::SERIES.into_iter().filter(|series| wanted("TAPSTER_GUEST_KERNELS", series.name)) {
        let ready = base.as_ref().map_err(|Skip(why)| Skip(why.clone())).and_then(|_| {
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            Ok(Ready { kernel, modules })
        });
        match ready {
            Ok(ready) => {
                has_newest = series.name == newest.name;
                kernels.push(ready);
            }
            Err(skip) => cases.run(&format!("Linux {}", series.name), || Err(skip)),
        }
    }
    let Ok(base) = base else { return cases.finish() };
    let jobs: Vec<(&Ready, &scenario::Scenario)> = kernels
        .iter()
        .flat_map(|ready| {
            let scenarios = scenario::ALL.iter();
            scenarios
                .filter(|scenario| wanted("TAPSTER_GUEST_SCENARIOS", scenario.name))
                .chain(
                    scenario::ON_REQUEST
                        .iter()
                        .filter(|scenario| named("TAPSTER_GUEST_SCENARIOS", scenario.name)),
                )
                .map(move |scenario| (ready, scenario))
        })
        .collect();
    let (next, told) = (AtomicUsize::new(0), Mutex::new(&mut cases));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((ready, scenario)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("Linux {}: {}", ready.kernel.release, scenario.name);
                    let attempt =
                        || catch_unwind(AssertUnwindSafe(|| emulated(&name, || run(ready, &base, scenario))));
                    // An emulated processor that its host stops for a while looks like a slow device. What fails twice
                    // is no accident.
                    let outcome = attempt().or_else(|panic| {
                        let line = said(&*panic).lines().next().unwrap_or_default();
                        say(format_args!("guest: {name}: failed, tried once more: {line}"));
                        attempt()
                    });
                    let mut cases = told.lock().unwrap();
                    cases.run(&name, || outcome.unwrap_or_else(|panic| resume_unwind(panic)));
                }
            });
        }
    });
    // These two compare times, so they are alone.
    if let Some(Ready { kernel, modules }) = kernels.last().filter(|_| has_newest) {
        if wanted("TAPSTER_GUEST_SCENARIOS", "queries") {
            for guest in &queries::GUESTS {
                let name = format!("Linux {}: queries of {}", kernel.release, guest.name);
                cases.run(&name, || emulated(&name, || queries::answered(guest, kernel, &base, modules)));
            }
        }
        if wanted("TAPSTER_GUEST_SCENARIOS", "detection") {
            let name = format!("Linux {}: detection", kernel.release);
            cases.run(&name, || emulated(&name, || matrix::part(kernel, &base, modules)));
        }
    }
    cases.finish();
}

/// The whole detection matrix, which takes a quarter of an hour: the figures of docs/detection.md.
#[test]
#[ignore = "takes a quarter of an hour"]
fn detection_matrix() {
    let mut cases = Cases::new("detection");
    let number =
        |variable: &str, or: u64| std::env::var(variable).map_or(or, |text| text.parse().expect("a number"));
    let factor = u32::try_from(number("TAPSTER_MATRIX_FACTOR", 10)).expect("a small number");
    let seconds = number("TAPSTER_MATRIX_SECONDS", 1800 / u64::from(factor));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
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
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
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

/// Calls of functions, nested ones too, as bpftrace counts them at the same time.
#[test]
#[ignore = "a quarter of a minute for each kernel, with bpftrace in the image"]
fn functions_beside_bpftrace() {
    let mut cases = Cases::new("beside bpftrace");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
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

/// What each kernel tells of itself, cut down to what the shipped probes ask for, for `tests/kernels.rs`.
#[test]
#[ignore = "a minute, to be run when a shipped probe asks for more or there is a newer kernel"]
fn excerpts_of_kernels() {
    let mut cases = Cases::new("excerpts");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
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
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
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
