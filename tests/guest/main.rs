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

mod durations;
mod image;
mod kernel;
mod machine;
mod matrix;
mod queries;
mod scenario;
#[path = "../support/mod.rs"]
mod support;
mod trace;

use std::path::Path;
use support::cases::{Cases, Skip};

/// Items of a list in the environment; all of them where there is none.
fn wanted(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |list| list.is_empty() || list.split(',').any(|item| item == name))
}

#[test]
fn arrays_in_guests() {
    let mut cases = Cases::new("guest");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let work = tempfile::tempdir().unwrap();
    let base = machine::base(Path::new(env!("CARGO_BIN_EXE_tapster")), work.path());
    let newest = kernel::SERIES.last().expect("there are kernels");
    for series in kernel::SERIES.into_iter().filter(|series| wanted("TAPSTER_GUEST_KERNELS", series.name)) {
        let ready = base.as_ref().map_err(|Skip(why)| Skip(why.clone())).and_then(|base| {
            let kernel = kernel::get(series, &cache)?;
            let modules = machine::modules(&kernel, work.path())?;
            Ok((base, kernel, modules))
        });
        let (base, kernel, modules) = match ready {
            Ok(ready) => ready,
            Err(skip) => {
                cases.run(&format!("Linux {}", series.name), || Err(skip));
                continue;
            }
        };
        for scenario in
            scenario::ALL.iter().filter(|scenario| wanted("TAPSTER_GUEST_SCENARIOS", scenario.name))
        {
            cases.run(&format!("Linux {}: {}", kernel.release, scenario.name), || {
                let machine = machine::Machine {
                    kernel: &kernel,
                    base,
                    modules: &modules,
                    disks: scenario.disks,
                    memory_mib: scenario.memory_mib,
                    port: None,
                    arguments: &[],
                };
                let results = machine.run(scenario.script)?;
                results.assert_no_failures();
                let figures = (scenario.check)(&kernel, &results);
                Ok(format!("{figures} ({:.1} s)", results.took.as_secs_f64()))
            });
        }
        if series.name == newest.name && wanted("TAPSTER_GUEST_SCENARIOS", "queries") {
            cases.run(&format!("Linux {}: queries", kernel.release), || {
                queries::answered(&kernel, base, &modules)
            });
        }
        if series.name == newest.name && wanted("TAPSTER_GUEST_SCENARIOS", "detection") {
            cases.run(&format!("Linux {}: detection", kernel.release), || {
                matrix::part(&kernel, base, &modules)
            });
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
