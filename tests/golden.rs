//! The code that is made of a few small probes, for reading: `tests/golden/NAME.yaml` and `NAME.asm`.
//!
//! The kernel is the one of `tests/fixtures/host` without types, so that listings are the same everywhere. After
//! a change of the generated code: `TAPSTER_ACCEPT=1 cargo test --test golden`, and read the diff like code.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

mod support;

use support::{exporter::binary, fixture, golden::Golden};

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
