//! A program that others run while the exporter takes stacks of it.

use crate::support::{
    cases::Skip,
    command::{text, tool},
    exporter::{Tapster, binary},
    metrics::{Metrics, whole},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Who is not root.
pub(crate) const NOBODY: &str = "nobody";

/// A probe that takes the stack of each `getppid`, and one that has nothing to do with it.
const PROBES: &str = r"
probes:
  - name: asked
    at: tracepoint:syscalls:sys_enter_getppid
    labels: { who: comm, stack: ustack(4) }
    metrics: [{ counter: asked_total, help: Calls of getppid. }]
  - name: beside
    at: tracepoint:sched:sched_switch
    metrics: [{ counter: beside_total, help: Switches. }]
";

/// Builds the program under a name of at most 15 bytes.
pub(crate) fn build(path: &Path, extra: &[&str]) -> Result<(), Skip> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/asker.c");
    let mut compile = tool("cc")?;
    let name = path.file_name().unwrap().to_str().unwrap();
    compile.args(["-O1", "-fno-omit-frame-pointer", "-Wl,--build-id"]).arg(format!("-DWHO=\"{name}\""));
    text(compile.args(extra).arg("-o").arg(path).arg(source));
    Ok(())
}

/// A directory that everybody may reach; one where nobody but root can put something, if this host has it.
pub(crate) fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// The exporter with those probes, started by a command.
pub(crate) fn start(directory: &Path, by: Option<Command>) -> Tapster {
    let file = directory.join("probes.yaml");
    fs::write(&file, PROBES).unwrap();
    let arguments = ["--strict", "-c", file.to_str().unwrap()];
    match Tapster::start_by(by.unwrap_or_else(binary), "127.0.0.1:0", &arguments) {
        Ok(tapster) => tapster,
        Err(ended) => panic!("{ended:#?}"),
    }
}

/// A command as another user.
pub(crate) fn as_nobody(program: &Path) -> Result<Command, Skip> {
    let mut command = tool("setpriv")?;
    command.args(["--reuid", NOBODY, "--regid", "65534", "--clear-groups"]).arg(program);
    Ok(command)
}

/// Runs the program to its end.
pub(crate) fn run(mut command: Command) {
    text(command.arg("5"));
}

/// A program that has asked and sleeps.
#[derive(Debug)]
pub(crate) struct Asleep(Child);

impl Asleep {
    pub(crate) fn begin(mut command: Command) -> Self {
        let mut child = command.args(["5", "wait"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stacks of a program, with how often each was counted.
pub(crate) fn stacks(scrape: &Metrics, who: &str) -> Vec<(String, u64)> {
    let of = |sample: &&crate::support::metrics::Sample| {
        sample.name == "tapster_asked_total" && sample.labels.get("who").is_some_and(|name| name == who)
    };
    let stack = |sample: &crate::support::metrics::Sample| {
        (sample.labels.get("stack").cloned().unwrap_or_default(), whole(sample.value))
    };
    scrape.0.iter().filter(of).map(stack).collect()
}

/// How many calls of a program are told to be from `ask`, and of how many.
pub(crate) fn named(scrape: &Metrics, who: &str) -> (u64, u64) {
    let stacks = stacks(scrape, who);
    let count = |takes: &dyn Fn(&str) -> bool| {
        stacks.iter().filter(|(stack, _)| takes(stack)).map(|(_, count)| count).sum()
    };
    (count(&|stack| stack.split(';').any(|function| function == "ask")), count(&|_| true))
}

/// Makes a pipe that nobody writes to.
pub(crate) fn pipe(path: &Path) -> Result<PathBuf, Skip> {
    text(tool("mkfifo")?.arg(path));
    Ok(path.to_owned())
}
