//! What calls of kernel functions cost, in a guest, where there are kprobes and `fentry`: the benchmark of this package and
//! bpftrace, on an emulated processor. The ratio says something, the nanoseconds do not.

use super::{image::Image, kernel::Kernel, machine::Machine};
use crate::support::{
    cases::{Outcome, Skip, say},
    command::tool,
};
use std::{fs, path::Path, time::Duration};

/// bpftrace takes ten seconds to start there, and is started dozens of times.
const LIMIT: Duration = Duration::from_hours(1);

/// Runs the benchmark, an executable that `cargo bench --bench functions --no-run` names.
pub(crate) fn measured(kernel: &Kernel, bench: &Path, modules: &Path, directory: &Path) -> Outcome {
    let mut image = Image::default();
    image.system(directory)?;
    image.tools(&["bpftrace", "bpftool"])?;
    image.program(bench)?;
    let base = directory.join("costs.cpio");
    fs::write(&base, image.finish()).unwrap();
    tool("qemu-system-x86_64")?;
    let name =
        bench.file_name().and_then(|name| name.to_str()).ok_or_else(|| Skip("it has no name".into()))?;
    let machine = Machine {
        kernel,
        base: &base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 3072,
        port: None,
        arguments: &[name.to_owned(), "20000".into(), "4".into()],
    };
    let results = machine.boot(include_str!("scenarios/costs.sh"))?.finish(LIMIT)?;
    let costs = results.text("costs");
    say(costs);
    results.assert_no_failures();
    let figures =
        costs.lines().filter(|line| line.contains(", ") && line.contains(':') && !line.contains("skipped"));
    assert!(figures.count() >= 8, "{costs}");
    Ok(format!("{:.0} s", results.took.as_secs_f64()))
}
