//! Random probes in a guest, whose kernel has functions to attach to, and a verifier of its own.

use super::{image::Image, kernel::Kernel, machine::Machine};
use crate::support::{
    cases::{Outcome, Skip},
    command::tool,
};
use std::{fs, path::Path, time::Duration};

/// Ten thousand probes take some minutes there.
const LIMIT: Duration = Duration::from_hours(1);

/// Runs `tests/verifier.rs`, an executable that `cargo test --test verifier --no-run` names, with so many probes, of which the first has
/// this number.
pub(crate) fn followed(
    kernel: &Kernel,
    program: &Path,
    (probes, first): (u64, u64),
    modules: &Path,
    directory: &Path,
) -> Outcome {
    let mut image = Image::default();
    image.system(directory)?;
    image.program(program)?;
    let base = directory.join("verifier.cpio");
    fs::write(&base, image.finish()).unwrap();
    tool("qemu-system-x86_64")?;
    let name =
        program.file_name().and_then(|name| name.to_str()).ok_or_else(|| Skip("it has no name".into()))?;
    let machine = Machine {
        kernel,
        base: &base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 3072,
        port: None,
        arguments: &[name.to_owned(), probes.to_string(), first.to_string()],
    };
    let results = machine.boot(include_str!("scenarios/verifier.sh"))?.finish(LIMIT)?;
    let said = results.text("verifier");
    // What was refused, and why, is there.
    assert!(!results.console.contains("@@ failed"), "{said}");
    // The harness says the name of the test before it, in the same line.
    let begin = format!(" {probes} probes loaded of ");
    let line = said.lines().find_map(|line| Some(&line[line.find(&begin)? + 1..]));
    let loaded = line.unwrap_or_else(|| panic!("{said}"));
    Ok(format!("{loaded}; {:.0} s", results.took.as_secs_f64()))
}
