//! `tapster check --btf`: verdicts on kernels that do not run here, by a user without rights, and with nothing of this host.
//!
//! `tests/fixtures/btf` has the types of kernels of Debian, cut down; `tests/fixtures/kernels` copies of hosts' files, cut down
//! too. After a change: `TAPSTER_ACCEPT=1 cargo test --test btf`, and read the diff.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fmt::Write,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{root, text, tool},
    exporter::binary,
    fixture,
    golden::Golden,
};
use tempfile::TempDir;

/// Probes of each attach kind, and groups that are off by default.
const PROBES: [&str; 9] = [
    "block_io",
    "block_request",
    "raid_member",
    "filesystem",
    "ext4",
    "page_cache",
    "syscalls",
    "sched",
    "malloc",
];
/// A field that no kernel has, an event that none has itself, a probe for some, and patterns.
const SITE: &str = "probes:
  - name: moved
    at: rawtracepoint:block:block_rq_issue
    labels: { queue: args.rq.q.no_such_field }
    metrics: [{ counter: moved_total, help: Requests. }]
  - name: misspelt
    at: tracepoint:sched:sched_swich
    metrics: [{ counter: misspelt_total, help: Switches. }]
  - name: newer
    kernel: '>=6.6'
    at: rawtracepoint:sched:sched_switch
    metrics: [{ counter: newer_total, help: Switches. }]
  - name: pattern
    at: 'kprobe:vfs_*'
    labels: { func: func }
    metrics: [{ counter: pattern_total, help: Calls. }]
  - name: events
    at: 'tracepoint:sched:sched_{switch,wakeup}'
    labels: { event: tracepoint }
    metrics: [{ counter: events_total, help: Switches and wake-ups. }]
";

/// The program where everybody can run it.
struct Program {
    directory: TempDir,
}

impl Program {
    fn new() -> Self {
        let all = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(all).tempdir().unwrap();
        fs::copy(binary().get_program(), directory.path().join("tapster")).unwrap();
        fs::write(directory.path().join("site.yaml"), SITE).unwrap();
        // So that messages have short paths, and nobody needs rights in this repository.
        for (name, from) in [("btf", "fixtures/btf"), ("hosts", "fixtures/kernels")] {
            copy(&fixture::file(from), &directory.path().join(name));
        }
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs it as a user who may do nothing, on a host that has no files.
    fn tapster(&self, arguments: &[&str]) -> Output {
        let program = self.path().join("tapster");
        let mut command = match (root(), tool("setpriv")) {
            (Ok(()), Ok(mut command)) => {
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
                command.arg(program);
                command
            }
            _ => Command::new(program),
        };
        command.current_dir(self.path()).args(arguments);
        command.args(["--path.procfs", "/nonexistent", "--path.sysfs", "/nonexistent"]).output().unwrap()
    }

    /// Both outputs and the exit status as one text.
    fn said(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.tapster(arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        format!("{}{}exit status {}\n", text(stderr), text(stdout), status.code().unwrap())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn probes_have_their_verdicts_on_each_kernel() {
    let program = Program::new();
    let mut golden = Golden::new("btf");
    let check = |arguments: &[&str]| program.said(&[&["check"], arguments].concat());
    golden.compare("golden/btf/default.txt", &check(&["--btf", "btf"]));
    golden.compare("golden/btf/types.txt", &check(&[&PROBES[..], &["--btf", "btf"]].concat()));
    golden.compare(
        "golden/btf/hosts.txt",
        &check(&[&PROBES[..], &["--btf", "hosts", "--arch", "x86_64"]].concat()),
    );
    golden.compare("golden/btf/site.txt", &check(&["site.yaml", "--btf", "btf"]));
    golden.compare("golden/btf/one.txt", &check(&["site.yaml", "--btf", "hosts/6.1", "--arch", "x86_64"]));
    golden.finish();
}

#[test]
fn what_describes_no_kernel_is_refused() {
    let program = Program::new();
    let btf = fs::read(program.path().join("btf/6.1.0-50-amd64.btf")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = program.path().join("bad").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("vmlinux.btf", &btf);
    write("6.1-cut.btf", &btf[..btf.len() / 2]);
    write("6.1-text.btf", b"no types");
    write("6.1-program.btf", &fs::read(program.path().join("tapster")).unwrap()[..4096]);
    fs::create_dir(program.path().join("empty")).unwrap();
    fs::create_dir(program.path().join("closed")).unwrap();
    fs::set_permissions(program.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut said = String::new();
    for arguments in [
        &["--btf", "no_such_file"][..],
        &["--btf", "bad/vmlinux.btf"],
        &["--btf", "bad/vmlinux.btf", "--kernel", "six"],
        &["--btf", "bad/vmlinux.btf", "--kernel", "6.1", "--arch", "arm64"],
        &["--btf", "bad/6.1-cut.btf"],
        &["--btf", "bad/6.1-text.btf"],
        &["--btf", "bad/6.1-program.btf"],
        &["--btf", "empty"],
        &["--btf", "btf", "--kernel", "6.1"],
        &["--kernel", "6.1"],
        // The others are checked all the same.
        &["--btf", "bad/6.1-text.btf", "--btf", "btf/6.1.0-50-amd64.btf"],
    ] {
        writeln!(said, "$ tapster check {}", arguments.join(" ")).unwrap();
        let output = program.said(&[&["check"], arguments].concat());
        assert!(output.ends_with("exit status 2\n"), "{output}");
        said += &output;
        said.push('\n');
    }
    let mut golden = Golden::new("btf");
    golden.compare("golden/btf/refused.txt", &said);
    golden.finish();
    if root().is_ok() {
        let closed = program.said(&["check", "--btf", "closed"]);
        assert!(closed.contains("`closed`: it cannot be read: Permission denied"), "{closed}");
    }
}

/// A directory that can be listed and not looked into hides no probes.
#[test]
fn a_file_that_cannot_be_looked_at_is_told() {
    let program = Program::new();
    let directory = program.path().join("probes.d");
    fs::create_dir(&directory).unwrap();
    fs::copy(program.path().join("site.yaml"), directory.join("site.yaml")).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o744)).unwrap();
    if let Err(Skip(why)) = root() {
        return say(format_args!("btf: a file that cannot be looked at: skipped: {why}"));
    }
    let said = program.said(&["check", "block_io", "-c", "probes.d", "--btf", "btf"]);
    assert!(said.contains("error: cannot read `probes.d/site.yaml`: Permission denied"), "{said}");
    assert!(said.ends_with("exit status 2\n"), "{said}");
}

/// The forms in which kernels come give the same verdicts.
fn archives(program: &Program) -> Outcome {
    let expected = program.said(&["check", "--btf", "btf/6.1.0-50-amd64.btf"]);
    let plain = program.path().join("packed");
    fs::create_dir_all(&plain).unwrap();
    let pack = |flag: &str, name: &str| -> Result<(), Skip> {
        let mut tar = tool("tar")?;
        text(tar.args([flag, name, "-C", "../btf", "6.1.0-50-amd64.btf"]).current_dir(&plain));
        Ok(())
    };
    tool("xz")?;
    pack("-cf", "6.1.0-50-amd64.btf.tar")?;
    pack("-cJf", "6.1.0-50-amd64.btf.tar.xz")?;
    pack("-czf", "6.1.0-50-amd64.btf.tar.gz")?;
    let mut same = 0;
    for entry in fs::read_dir(&plain).unwrap() {
        let path = format!("packed/{}", entry.unwrap().file_name().display());
        assert_eq!(program.said(&["check", "--btf", &path]), expected, "{path}");
        same += 1;
    }
    // Several in one archive, and the section of an ELF file.
    let mut tar = tool("tar")?;
    text(tar.args(["-cJf", "all.tar.xz", "-C", "..", "btf"]).current_dir(&plain));
    let all = program.said(&["check", "--btf", "packed/all.tar.xz"]);
    let directory = program.said(&["check", "--btf", "btf"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&all), sorted(&directory));
    let elf = plain.join("vmlinux-6.1.0-50-amd64");
    let mut objcopy = tool("objcopy")?;
    objcopy.args(["-I", "binary", "-O", "elf64-x86-64", "--rename-section", ".data=.BTF"]);
    text(objcopy.arg(program.path().join("btf/6.1.0-50-amd64.btf")).arg(&elf));
    assert_eq!(program.said(&["check", "--btf", "packed/vmlinux-6.1.0-50-amd64"]), expected);
    Ok(format!("{same} archives, one of several kernels, and an ELF file say the same"))
}

/// A copy of this host's own files leaves no doubt: it compiles what compiles here.
fn a_copy_of_this_host(program: &Program) -> Outcome {
    root()?;
    let copy = program.path().join("copy");
    let script = "
        mkdir -p $1/sys/kernel/btf $1/sys/kernel/tracing $1/proc/sys/kernel && cd $1 &&
        cp /sys/kernel/btf/vmlinux sys/kernel/btf/ && cp /proc/kallsyms proc/ &&
        cp /proc/sys/kernel/osrelease proc/sys/kernel/ &&
        to=$PWD/sys/kernel/tracing && cd /sys/kernel/tracing &&
        cp --parents available_events events/{block,filemap,raw_syscalls,sched}/*/format events/syscalls/*sync/format $to && cd $1 &&
        chmod -R a+rX .";
    text(Command::new("bash").args(["-ec", script, "bash"]).arg(&copy));
    let mut here = binary();
    here.args(["check", "--offline"]).args(PROBES).arg("syscall_duration");
    let compiled = |output: Output| {
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            (words.next()? == "compiled").then(|| name.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let mut expected = compiled(here.output().unwrap());
    let arguments = [&["check"], &PROBES[..], &["syscall_duration", "--btf", "copy"]].concat();
    let found = compiled(program.tapster(&arguments));
    // Programs are no part of a kernel.
    expected.retain(|name| name != "malloc");
    assert_eq!(found, expected);
    assert!(found.len() > 5, "{found:?}");
    Ok(format!("{} probes", found.len()))
}

#[test]
fn forms_of_kernels() {
    let program = Program::new();
    let mut cases = Cases::new("btf");
    cases.run("archives", || archives(&program));
    cases.run("a copy of this host", || a_copy_of_this_host(&program));
    cases.finish();
}
