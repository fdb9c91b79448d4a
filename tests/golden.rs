//! The code that is made of a few small probes, for reading: `tests/golden/NAME.yaml` and `NAME.asm`.
//!
//! The kernel is the one of `tests/fixtures/host` without types, so that listings are the same everywhere. After
//! a change of the generated code: `TAPSTER_ACCEPT=1 cargo test --test golden`, and read the diff like code.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{fmt::Write, path::Path};
use support::{exporter::binary, fixture, golden::Golden};
use tapster::{
    config::{self, ProbeSelection},
    host::Host,
    kernel::Kernel,
};
use tapster_ebpf::attach::{Arch, Target};

#[test]
fn listings_are_as_they_were() {
    let mut golden = Golden::new("golden");
    let host = fixture::file("fixtures/host");
    for path in fixture::yaml_files("golden") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let output = binary()
            .current_dir(fixture::file("golden"))
            .args(["compile", &format!("{name}.yaml"), "--emit", "asm"])
            .arg("--path.procfs")
            .arg(host.join("proc"))
            .arg("--path.sysfs")
            .arg(host.join("sys"))
            .output()
            .unwrap();
        if !output.status.success() {
            golden.fail(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
            continue;
        }
        golden.compare(&format!("golden/{name}.asm"), &String::from_utf8(output.stdout).unwrap());
    }
    golden.finish();
}

/// The listings of a file's probes on arm64, in the form of `tapster compile --emit asm`.
fn for_arm64(file: &Path, target: &Target<'_>) -> Result<String, String> {
    let selection = ProbeSelection { files: vec![file.to_owned()], ..ProbeSelection::default() };
    let config = config::survey(&selection).map_err(|error| error.to_string())?;
    let mut text = String::new();
    for probe in &config.probes {
        let program = tapster_ebpf::compile(probe, target).map_err(|mistakes| format!("{mistakes:?}"))?;
        for code in &program.codes {
            let (at, mechanism) = (&code.at, code.mechanism.name);
            writeln!(text, "{at} ({mechanism}):\n{}", code.assembled.listing()).unwrap();
        }
    }
    Ok(text)
}

/// Which registers are read differs by processor, and how a start is taken out of its table; no machine of arm64 is needed for
/// that.
#[test]
fn listings_for_arm64_are_as_they_were() {
    let mut golden = Golden::new("golden");
    let host = fixture::file("fixtures/host");
    let kernel = Kernel::detect(&Host { proc: host.join("proc"), sys: host.join("sys"), ..Host::default() });
    let target = Target { arch: Arch::Aarch64, ..kernel.target() };
    for name in ["arm64/registers", "glob", "pair", "stacks"] {
        match for_arm64(&fixture::file(format!("golden/{name}.yaml")), &target) {
            Ok(text) => {
                let listing = name.trim_start_matches("arm64/");
                golden.compare(&format!("golden/arm64/{listing}.asm"), &text);
            }
            Err(why) => golden.fail(format!("{name}: {why}")),
        }
    }
    golden.finish();
}
