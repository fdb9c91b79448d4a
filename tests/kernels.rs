//! The shipped probes on kernels that do not run here: which compile, and by which mechanism and alternative each gets to its
//! events, as `tests/golden/kernels/SERIES.txt` has it. No root, no guest, no network.
//!
//! Kernels are excerpts in `tests/fixtures/kernels`. One of the kernel at hand is made by
//! `cargo test --test kernels -- --ignored excerpt_of_this_kernel`, those of guests by
//! `cargo test --release --test guest -- --ignored excerpts_of_kernels`. Those of `tests/fixtures/btf`, which have types and
//! nothing else, are made from kernels' files, such as boot images, by
//! `TAPSTER_BTF=FILE:FILE cargo test --test kernels -- --ignored excerpts_of_files`. After a change of a probe or of an excerpt:
//! `TAPSTER_ACCEPT=1 cargo test --test kernels`, and read the diff.
//!
//! Functions and probes of programs are left out: they are the same on every kernel.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{fmt::Write, fs, path::Path};
use support::{
    cases::{Cases, Outcome, Skip},
    command::root,
    excerpt::{self, Collection, Wanted, Whole},
    golden::Golden,
};
use tapster::{
    host::Host,
    kernel::{
        Kernel,
        offline::{self, KernelHints, OfflineKernel},
    },
};
use tapster_ebpf::{btf::Btf, check, probe::Probe, program::Program};

fn listing(kernel: &Kernel) -> String {
    let mut text = format!("Linux {}\n", kernel.version);
    for (name, result) in excerpt::compiled(kernel) {
        match result {
            Ok(program) => {
                // Their number tells which side of each `??` was taken.
                let count: usize = program.codes.iter().map(|code| code.assembled.insns.len()).sum();
                writeln!(text, "\n{name}: {count} instructions").unwrap();
                for code in &program.codes {
                    writeln!(text, "  {} by {}", code.at, code.mechanism.name).unwrap();
                }
            }
            Err(why) => writeln!(text, "\n{name}: not compiled: {why}").unwrap(),
        }
    }
    text
}

#[test]
fn shipped_probes_compile_on_every_kernel() {
    let mut golden = Golden::new("kernels");
    for (series, directory) in excerpt::all() {
        golden.compare(&format!("golden/kernels/{series}.txt"), &listing(&excerpt::kernel(&directory)));
    }
    golden.finish();
}

/// Takes a member that a shipped probe reads out of the newest kernel, as the kernel does now and then.
#[test]
fn a_type_that_is_missing_is_noticed() {
    let (_, directory) = excerpt::all().pop().unwrap();
    let found = |kernel: &Kernel| -> Vec<String> {
        let wrong =
            |(name, result): (String, Result<Program, String>)| Some(format!("{name}: {}", result.err()?));
        excerpt::compiled(kernel).into_iter().filter_map(wrong).collect()
    };
    let before = found(&excerpt::kernel(&directory));
    let types = fs::read(directory.join("sys/kernel/btf/vmlinux")).unwrap();
    let less = excerpt::cut(&Btf::parse(types).unwrap(), &Wanted::shipped(), &["gendisk"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), less).unwrap();
    let kernel = excerpt::described(&directory, Some(file.path()));
    let after: Vec<String> = found(&kernel).into_iter().filter(|wrong| !before.contains(wrong)).collect();
    assert!(
        after.iter().any(|wrong| wrong.starts_with("block_io: ") && wrong.contains("gendisk")),
        "{after:?}"
    );
}

/// What is cut out of a kernel makes the same programs as the whole of it.
fn enough(directory: &Path) -> Outcome {
    root()?;
    let host = Kernel::detect(&Host::default());
    if let Some(missing) = host.btf.as_ref().err().or(host.tracefs.as_ref().err()) {
        return Err(Skip(missing.message.clone()));
    }
    let wanted = Wanted::shipped();
    let whole = Whole::here(&wanted);
    let bytes = whole.cut(&wanted, directory);
    let (same, not) = excerpt::assert_same(&excerpt::shipped(), &host, &excerpt::kernel(directory));
    assert!(same > 0, "no probe compiles here");
    // So that all kernels together stay below what a repository should keep of what it can make again.
    assert!(bytes < 100_000, "{bytes} bytes of types");
    Ok(format!(
        "{same} probes alike, {not} that do not compile on either, {bytes} of {} bytes",
        whole.types.len()
    ))
}

#[test]
fn an_excerpt_is_enough() {
    let mut cases = Cases::new("kernels");
    let directory = tempfile::tempdir().unwrap();
    cases.run("an excerpt of this kernel", || enough(directory.path()));
    cases.finish();
}

#[test]
#[ignore = "writes to tests/fixtures/kernels and tests/fixtures/examples"]
fn excerpt_of_this_kernel() {
    for collection in [Collection::shipped(), Collection::examples()] {
        println!("{}", Whole::here(&collection.wanted).keep(&collection));
    }
}

/// What is said of each shipped probe on a kernel that only its types describe.
fn judged(kernel: &OfflineKernel) -> Vec<(String, Result<usize, Vec<String>>)> {
    let target = kernel.target();
    let (probes, diagnostics) = check::select(excerpt::shipped(), &target);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let judge = |probe: &Probe| {
        kernel.forget();
        let program = tapster_ebpf::compile(probe, &target);
        program
            .map(|program| program.codes.iter().map(|code| code.assembled.insns.len()).sum())
            .map_err(|errors| errors.into_iter().map(|error| error.message).collect())
    };
    probes.iter().map(|probe| (probe.name.value.clone(), judge(probe))).collect()
}

#[test]
#[ignore = "writes to tests/fixtures/btf"]
fn excerpts_of_files() {
    let files = std::env::var("TAPSTER_BTF").expect("TAPSTER_BTF names files of kernels");
    let wanted = Wanted::shipped().of_types_alone();
    let paths: Vec<&str> = files.split(':').collect();
    for place in offline::places(&paths).unwrap() {
        for whole in offline::read(&place, KernelHints::default()) {
            let whole = whole.unwrap();
            let bytes = excerpt::cut(whole.types(), &wanted, &[]);
            let path = support::fixture::file("fixtures/btf").join(format!("{}.btf", whole.name));
            let cut = offline::of_bytes(&path, bytes.clone(), KernelHints::default()).pop().unwrap().unwrap();
            assert_eq!(judged(&whole), judged(&cut), "{}", whole.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
            println!("{}: {} bytes", path.display(), bytes.len());
        }
    }
}
