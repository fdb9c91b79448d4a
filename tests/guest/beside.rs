//! Calls of kernel functions as bpftrace counts them, in the same guest at the same time.

use super::{image::Image, kernel::Kernel, machine::Machine};
use crate::support::cases::Outcome;
use std::{fs, path::Path, time::Duration};

/// bpftrace takes long to start on an emulated processor.
const LIMIT: Duration = Duration::from_mins(10);

/// What bpftrace says of a map at its end: `@read[dd]: 1005`.
fn said(output: &str, map: &str) -> u64 {
    let value = output.lines().find_map(|line| line.strip_prefix(map)?.strip_prefix(": "));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no `{map}` in\n{output}"))
}

pub(crate) fn counted(kernel: &Kernel, exporter: &Path, modules: &Path, directory: &Path) -> Outcome {
    let mut image = Image::default();
    image.system(directory)?;
    image.tools(&["bpftrace", "fio", "mdadm"])?;
    image.program(exporter)?;
    let base = directory.join("beside.cpio");
    fs::write(&base, image.finish()).unwrap();
    let machine = Machine {
        kernel,
        base: &base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 3072,
        port: None,
        arguments: &[],
    };
    let results = machine.boot(include_str!("scenarios/beside.sh"))?.finish(LIMIT)?;
    results.assert_no_failures();
    let (before, after) = (results.metrics("before.prom"), results.metrics("after.prom"));
    let bpftrace = results.text("bpftrace");
    let mut figures = Vec::new();
    for (probe, map, least) in [
        ("read", "@read[dd]", 1256),
        ("probed", "@read[dd]", 1256),
        // Of each read of the outer layer the inner one is a part.
        ("layer", "@layer[dd]", 512),
        ("stripe", "@stripe", 128),
    ] {
        let labels: &[_] = if probe == "stripe" { &[] } else { &[("comm", "dd")] };
        let ours =
            after.histogram_since(&before, &format!("tapster_{probe}_duration_seconds"), labels).count();
        assert!(ours >= least, "{probe}: {ours} calls");
        assert_eq!(ours, said(bpftrace, map), "{probe}: ours and bpftrace's\n{bpftrace}");
        figures.push(format!("{probe} {ours}"));
    }
    Ok(figures.join(", "))
}
