//! What a guest's kernel tells of itself, brought back for an excerpt.

use super::{image::Image, kernel::Kernel, machine::Machine};
use crate::support::{
    cases::Outcome,
    excerpt::{Collection, TRACING, Whole},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

/// Modules that have functions or tracepoints which probes name.
const MODULES: [&str; 5] = ["ext4", "xfs", "btrfs", "scsi_mod", "md_mod"];

/// The name of a result for a tracepoint.
fn result(event: &str) -> String {
    format!("format-{}", event.replace('/', "-"))
}

/// Cuts the kernel, for the shipped probes and for the examples, and puts the excerpts in place of those of the same series.
pub(crate) fn of(kernel: &Kernel, modules: &Path, directory: &Path) -> Outcome {
    let collections = [Collection::shipped(), Collection::examples()];
    let events: BTreeSet<&String> =
        collections.iter().flat_map(|collection| &collection.wanted.events).collect();
    let mut image = Image::default();
    image.system(directory)?;
    let base = directory.join("excerpts.cpio");
    fs::write(&base, image.finish()).unwrap();
    let mut script = String::new();
    for module in MODULES {
        writeln!(script, "run modprobe {module}").unwrap();
    }
    // Results are text.
    script += "run sh -c 'base64 /sys/kernel/btf/vmlinux >/results/types'\nrun cp /proc/kallsyms /results/symbols\n";
    let tracing = "/sys/kernel/tracing";
    for event in &events {
        writeln!(script, "cp {tracing}/events/{event}/format /results/{} 2>/dev/null", result(event))
            .unwrap();
    }
    for name in TRACING {
        writeln!(script, "[ -e {tracing}/{name} ] && echo >/results/{name}").unwrap();
    }
    script += "true\n";
    let machine = Machine {
        kernel,
        base: &base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        port: None,
        arguments: &[],
    };
    let results = machine.run(&script)?;
    results.assert_no_failures();
    let types: String = results.text("types").split_whitespace().collect();
    let types = STANDARD.decode(types).unwrap();
    let format = |event: &String| {
        let name = result(event);
        results.has(&name).then(|| (event.clone(), results.text(&name).to_owned()))
    };
    let keep = |collection: &Collection| {
        let whole = Whole {
            release: kernel.release.clone(),
            types: types.clone(),
            symbols: results.text("symbols").to_owned(),
            formats: collection.wanted.events.iter().filter_map(format).collect(),
            tracing: TRACING.iter().filter(|name| results.has(name)).map(|name| (*name).to_owned()).collect(),
        };
        whole.keep(collection)
    };
    Ok(collections.iter().map(keep).collect::<Vec<_>>().join("; "))
}
