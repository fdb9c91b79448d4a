//! What probes are attached to comes, goes and is exchanged while they run, and what is counted is what happened: docs/objects.md has
//! the table. Modules of the kernel and processors that are taken off are in the guests (`objects`), files that are replaced in
//! `tests/binaries.rs`.
//!
//! User probes are attached to programs that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, text, tool},
    exporter::{Tapster, binary, within},
    metrics::whole,
};

/// How long the exporter may take to see a change.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a program or library of this source.
fn build(path: &Path, source: &str, flags: &[&str]) -> Result<(), Skip> {
    let file = path.with_extension("c");
    fs::write(&file, source).unwrap();
    // A library counts for what stands before it, where the linker takes only what is needed.
    text(tool("cc")?.arg("-O0").arg("-o").arg(path).arg(&file).args(flags));
    Ok(())
}

fn start(directory: &Path, probes: &str, arguments: &[&str]) -> Tapster {
    let file = directory.join("probes.yaml");
    fs::write(&file, probes).unwrap();
    Tapster::start(&[&["-c", file.to_str().unwrap()], arguments].concat())
}

fn counted(tapster: &Tapster) -> u64 {
    whole(tapster.scrape().sum("tapster_calls_total", &[]))
}

fn reattached(tapster: &Tapster, object: &str) -> u64 {
    whole(tapster.scrape().sum("tapster_probe_reattached_total", &[("object", object)]))
}

/// A directory with links to all that is in another, except for what is on the way to one file.
fn linked(from: &Path, to: &Path, way: &[&str]) {
    fs::create_dir_all(to).unwrap();
    let (first, rest) = way.split_first().unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        if entry.file_name() != *first {
            symlink(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    if !rest.is_empty() {
        linked(&from.join(first), &to.join(first), rest);
    }
}

/// Processors of which sysfs says that they came and went.
fn processors() -> Outcome {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    if !online.starts_with("0-") {
        return Err(Skip(format!("only the processors {} are online", online.trim())));
    }
    let directory = tempfile::tempdir().unwrap();
    let sys = directory.path().join("sys");
    linked(Path::new("/sys"), &sys, &["devices", "system", "cpu", "online"]);
    let list = sys.join("devices/system/cpu/online");
    fs::write(&list, "0\n").unwrap();
    let probes = "
probes:
  - name: samples
    at: profile:hz:100
    labels: { cpu: cpu }
    metrics: [{ counter: calls_total, help: x }]
  - name: ticks
    at: interval:ms:20
    labels: { cpu: cpu }
    metrics: [{ counter: ticks_total, help: x }]
";
    let tapster = start(directory.path(), probes, &["--strict", "--path.sysfs", sys.to_str().unwrap()]);
    let samples = |cpu: &str| whole(tapster.scrape().sum("tapster_calls_total", &[("cpu", cpu)]));
    assert!(within(PATIENCE, || samples("0") > 20).is_some());
    assert_eq!((samples("1"), reattached(&tapster, "cpu")), (0, 0));
    fs::write(&list, "0-1\n").unwrap();
    assert!(within(PATIENCE, || samples("1") > 20).is_some(), "{:#?}", tapster.log());
    assert_eq!(reattached(&tapster, "cpu"), 1, "the interval is where it was");
    // The interval goes to another one when its own goes.
    fs::write(&list, "1\n").unwrap();
    let ticks = |cpu: &str| whole(tapster.scrape().sum("tapster_ticks_total", &[("cpu", cpu)]));
    assert!(within(PATIENCE, || ticks("1") > 20).is_some(), "{:#?}", tapster.log());
    assert_eq!(reattached(&tapster, "cpu"), 2);
    let before = samples("0");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(samples("0"), before, "nothing is left there");
    assert!(tapster.scrape().sum("tapster_probe_up", &[]) > 1.5, "both are up");
    Ok(format!("{} samples of processor 1, {} ticks there", samples("1"), ticks("1")))
}

/// A program that has begun something and not ended it.
struct Begun(Child);

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

const BEGINS: &str = "
#include <stdio.h>
#include <unistd.h>
void begins(void) { __asm__ volatile(\"\"); }
void ends(void) { __asm__ volatile(\"\"); }
int main(void) { begins(); puts(\"begun\"); fflush(stdout); pause(); ends(); return 0; }
";

/// An exporter whose own monotonic clock is a day ahead of the kernel's.
fn another_clock() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("begins");
    build(&program, BEGINS, &[])?;
    let place = program.display();
    let file = directory.path().join("probes.yaml");
    let probes = format!(
        "probes:\n  - name: waits\n    start: {{ at: 'uprobe:{place}:begins', key: pid }}\n    end: {{ at: 'uprobe:{place}:ends', key: pid }}\n    \
         metrics: [{{ in_flight: waits_in_flight, help: x }}, {{ oldest: waits_oldest_seconds, help: x }}]\n"
    );
    fs::write(&file, probes).unwrap();
    let mut command = tool("unshare")?;
    command.args(["--time", "--monotonic", "86400", "--boottime", "86400", "--fork", "--kill-child"]);
    let probe = output(Command::new(command.get_program()).args(command.get_args()).arg("true"));
    if !probe.status.success() {
        return Err(Skip("time namespaces cannot be made here".into()));
    }
    command.arg(binary().get_program());
    let flags = ["--strict", "-c", file.to_str().unwrap()];
    let tapster = Tapster::start_by(command, "127.0.0.1:0", &flags)
        .unwrap_or_else(|ended| panic!("{:?} {:#?}", ended.status, ended.log));
    let mut child = Command::new(&program).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _begun = Begun(child);
    let waits = || whole(tapster.scrape().sum("tapster_waits_in_flight", &[])) == 1;
    assert!(within(PATIENCE, waits).is_some());
    let oldest = tapster.scrape().sum("tapster_waits_oldest_seconds", &[]);
    assert!((0.0..600.0).contains(&oldest), "it waits for {oldest} s");
    Ok(format!("{oldest} s by the kernel's clock"))
}

/// A file system of layers; taken off at the end.
struct Layers(PathBuf);

impl Layers {
    fn new(directory: &Path) -> Result<Self, Skip> {
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let merged = directory.join("merged");
        let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", directory.display());
        let mounted = output(tool("mount")?.args(["-t", "overlay", "overlay", "-o", &options]).arg(&merged));
        if mounted.status.success() {
            Ok(Self(merged))
        } else {
            Err(Skip(format!("overlayfs: {}", String::from_utf8_lossy(&mounted.stderr))))
        }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const CALLS: &str = "
void called(void) { __asm__ volatile(\"\"); }
int main(void) { for (int i = 0; i < 10; i++) called(); return 0; }
";

/// Rights of a file in a lower layer change: from then on there is a copy in the upper one, by the same name, number and times.
fn layers() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let layers = Layers::new(directory.path())?;
    build(&directory.path().join("lower/calls"), CALLS, &[])?;
    let program = layers.0.join("calls");
    let probes = format!(
        "probes:\n  - name: calls\n    at: 'uprobe:{}:called'\n    metrics: [{{ counter: calls_total, help: x }}]\n",
        program.display()
    );
    let tapster = start(directory.path(), &probes, &["--strict"]);
    text(&mut Command::new(&program));
    assert_eq!(counted(&tapster), 10);
    fs::set_permissions(&program, Permissions::from_mode(0o711)).unwrap();
    assert!(within(PATIENCE, || reattached(&tapster, "file") == 1).is_some(), "{:#?}", tapster.log());
    text(&mut Command::new(&program));
    assert_eq!(counted(&tapster), 20, "{:#?}", tapster.log());
    drop(tapster);
    Ok("10 calls before the copy, 10 of it".into())
}

/// A library by a link that leads to the next version.
fn versions_of_a_library() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let source = "void called(void) { __asm__ volatile(\"\"); }";
    let soname = "-Wl,-soname,libcalled.so";
    build(&path("libcalled.so.1"), source, &["-shared", "-fPIC", soname])?;
    build(
        &path("libcalled.so.2"),
        &format!("int more(int a) {{ return a * 3; }}\n{source}"),
        &["-shared", "-fPIC", soname],
    )?;
    symlink("libcalled.so.1", path("libcalled.so")).unwrap();
    let rpath = format!("-Wl,-rpath,{}", directory.path().display());
    let library = path("libcalled.so");
    let program = path("calls");
    build(
        &program,
        "void called(void);\nint main(void) { for (int i = 0; i < 10; i++) called(); return 0; }",
        &[library.to_str().unwrap(), &rpath],
    )?;
    let probes = format!(
        "probes:\n  - name: calls\n    at: 'uprobe:{}:called'\n    metrics: [{{ counter: calls_total, help: x }}]\n",
        library.display()
    );
    let tapster = start(directory.path(), &probes, &["--strict"]);
    text(&mut Command::new(&program));
    assert_eq!(counted(&tapster), 10);
    symlink("libcalled.so.2", path("next")).unwrap();
    fs::rename(path("next"), &library).unwrap();
    assert!(within(PATIENCE, || reattached(&tapster, "file") == 1).is_some(), "{:#?}", tapster.log());
    text(&mut Command::new(&program));
    assert_eq!(counted(&tapster), 20);
    Ok("10 calls of one version, 10 of the next".into())
}

/// One name, two functions: programs that were linked long ago call the first.
fn versions_of_a_symbol() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("versions"), "V1 { global: called; local: *; };\nV2 { } V1;\n").unwrap();
    let script = format!("-Wl,--version-script={}", path("versions").display());
    let source = "
void called_old(void) { __asm__ volatile(\"nop\"); }
void called_new(void) { __asm__ volatile(\"\"); }
__asm__(\".symver called_old,called@V1\");
__asm__(\".symver called_new,called@@V2\");
";
    let library = path("libcalled.so");
    build(&library, source, &["-shared", "-fPIC", "-Wl,-soname,libcalled.so", &script])?;
    let rpath = format!("-Wl,-rpath,{}", directory.path().display());
    let main = "void called(void);\nint main(void) { for (int i = 0; i < 10; i++) called(); return 0; }";
    let flags = [library.to_str().unwrap(), &rpath];
    build(&path("new"), main, &flags)?;
    build(&path("old"), &format!("__asm__(\".symver called,called@V1\");\n{main}"), &flags)?;
    let probes = format!(
        "probes:\n  - name: calls\n    at: 'uprobe:{}:called'\n    metrics: [{{ counter: calls_total, help: x }}]\n",
        library.display()
    );
    let tapster = start(directory.path(), &probes, &["--strict"]);
    text(&mut Command::new(path("new")));
    assert_eq!(counted(&tapster), 10);
    text(&mut Command::new(path("old")));
    assert_eq!(counted(&tapster), 20, "the older version is one as well");
    Ok("10 calls of each version".into())
}

/// A name that means one of two functions, which is chosen when a program starts.
fn chosen_functions() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("libchosen.so");
    let source = "
int works_fast(void) { return 1; }
int works_slowly(void) { return 2; }
static int (*choose(void))(void) { return works_fast; }
int works(void) __attribute__((ifunc(\"choose\")));
";
    build(&library, source, &["-shared", "-fPIC"])?;
    let check = |function: &str| {
        let file = directory.path().join("probes.yaml");
        let probes = format!(
            "probes:\n  - name: calls\n    at: 'uprobe:{}:{function}'\n    metrics: [{{ counter: calls_total, help: x }}]\n",
            library.display()
        );
        fs::write(&file, probes).unwrap();
        let done = output(binary().args(["check", "-c"]).arg(&file));
        (done.status.code(), [done.stdout, done.stderr].concat())
    };
    let (status, said) = check("works");
    let said = String::from_utf8(said).unwrap();
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("is chosen among several functions when a program starts"), "{said}");
    let (status, said) = check("works*");
    let said = String::from_utf8(said).unwrap();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("2 functions"), "{said}");
    assert!(
        said.contains("left out 1 that are chosen among several as a program starts (`works`)"),
        "{said}"
    );
    let (status, said) = check("work[s]");
    let said = String::from_utf8(said).unwrap();
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("is chosen among several functions when a program starts"), "{said}");
    Ok("said for a name and for patterns".into())
}

#[test]
fn objects_of_probes() {
    let Some(mut cases) = Cases::as_root("objects") else {
        return;
    };
    cases.run("processors that come and go", processors);
    cases.run("a namespace with another clock", another_clock);
    cases.run("a file that is copied to the upper layer", layers);
    cases.run("versions of a library", versions_of_a_library);
    cases.run("versions of a symbol", versions_of_a_symbol);
    cases.run("functions that are chosen", chosen_functions);
    cases.finish();
}
