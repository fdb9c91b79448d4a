//! Files of programs that come and go, and that are other containers': what is counted is what the programs say that they
//! did, whichever file they ran.
//!
//! Probes are attached to programs that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    cgroup::Cgroup,
    command::{sdt_header, text, tool},
    exporter::{Tapster, binary, within},
    metrics::{Metrics, whole},
};

/// How long the exporter may take to see a change.
const PATIENCE: Duration = Duration::from_secs(30);

/// Orders by USDT and by symbol; `%` is where the binary is.
const PROBES: &str = r#"
probes:
  - name: order
    %start: { at: "usdt:PROGRAM:shop:order__start", key: [pid, tid], save: { price: arg2 } }
    end: { at: "usdt:PROGRAM:shop:order__done", key: [pid, tid] }
    metrics:
      - { histogram: order_duration_seconds, help: x, value: duration }
      - { counter: order_price_total, help: x, value: start.price }
  - name: orders
    %function: "PROGRAM:orders"
    where: (s64)retval >= 0
    metrics: [{ counter: orders_total, help: x }]
"#;

fn build(program: &Path, how: &[&str]) -> Result<(), Skip> {
    if !sdt_header() {
        return Err(Skip("`sys/sdt.h` is not installed (systemtap-sdt-dev)".into()));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/shop.c");
    text(tool("cc")?.args(how).arg("-DSEMAPHORES").arg("-o").arg(program).arg(source));
    Ok(())
}

fn probes(directory: &Path, program: &str, place: &str) -> PathBuf {
    let file = directory.join("probes.yaml");
    let place = if place.is_empty() { String::new() } else { format!("{place}\n    ") };
    fs::write(&file, PROBES.replace("PROGRAM", program).replace('%', &place)).unwrap();
    file
}

/// A program that works again and again from when a file appears until it is gone.
struct Worker {
    child: Child,
    signal: PathBuf,
}

impl Worker {
    fn new(command: &mut Command, signal: &Path) -> Self {
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        Self { child, signal: signal.to_owned() }
    }

    fn begin(&self) {
        fs::write(&self.signal, "").unwrap();
    }

    /// Ends it; how many orders it did.
    fn end(mut self) -> u64 {
        fs::remove_file(&self.signal).unwrap();
        assert!(self.child.wait().unwrap().success());
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        output.lines().find_map(|line| line.strip_prefix("done ")?.parse().ok()).unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why each probe is down, if it is.
fn reasons(metrics: &Metrics) -> Vec<String> {
    let mut reasons = metrics.values("tapster_probe_up", &[], "reason");
    reasons.sort();
    reasons.dedup();
    reasons
}

fn wait_for(tapster: &Tapster, reason: &str) {
    let found = within(PATIENCE, || reasons(&tapster.scrape()) == [reason]);
    assert!(
        found.is_some(),
        "`{reason}` is waited for: {:?}\n{}",
        reasons(&tapster.scrape()),
        tapster.log().join("\n")
    );
}

/// Waits for as many lines of the log that tell of an attachment.
fn wait_for_attached(tapster: &Tapster, lines: usize) {
    let count = || {
        tapster.log().iter().filter(|line| line.contains("attached to the files that are there now")).count()
    };
    assert!(within(PATIENCE, || count() >= lines).is_some(), "{lines} of\n{}", tapster.log().join("\n"));
}

fn orders(metrics: &Metrics) -> u64 {
    let orders = metrics.histogram("tapster_order_duration_seconds", &[]).count();
    assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[])), 0, "dropped");
    orders
}

fn appears_later() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("late");
    let file = probes(directory.path(), program.to_str().unwrap(), "");
    let tapster = Tapster::start(&["-c", file.to_str().unwrap()]);
    assert_eq!(reasons(&tapster.scrape()), ["waiting"]);
    let page = tapster.get("/");
    let shown = format!("there is no `{}`; it is attached to when it appears", program.display());
    assert!(page.text().contains(&shown), "{}", page.text());
    // Something else first: not a program.
    fs::write(&program, "#!/bin/sh\n").unwrap();
    wait_for(&tapster, "compile");
    build(&program, &["-O1"])?;
    wait_for(&tapster, "");
    text(Command::new(&program).args(["50", "0"]));
    let metrics = tapster.scrape();
    assert_eq!(orders(&metrics), 50);
    assert_eq!(whole(metrics.sum("tapster_orders_total", &[])), 1);
    // Strictly, there is nothing to wait for.
    fs::remove_file(&program).unwrap();
    wait_for(&tapster, "waiting");
    assert_eq!(orders(&tapster.scrape()), 50, "what was counted stays");
    let strict = binary()
        .args(["run", "--strict", "--web.listen-address", "127.0.0.1:0", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(strict.status.code(), Some(2));
    let check = binary().args(["check", "-c"]).arg(&file).output().unwrap();
    assert_eq!(check.status.code(), Some(2));
    Ok("50 orders of a program that came after the exporter".into())
}

fn replaced() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let program = path("program");
    // Another compiler setting: other places, other operands.
    build(&program, &["-O0"])?;
    build(&path("next"), &["-O2"])?;
    let file = probes(directory.path(), program.to_str().unwrap(), "");
    let work = |signal: &Path| Worker::new(Command::new(&program).args(["10", "1"]).arg(signal), signal);
    let tapster = Tapster::start(&["--strict", "--run-stats", "-c", file.to_str().unwrap()]);
    let old = work(&path("old.signal"));
    old.begin();
    assert!(within(PATIENCE, || orders(&tapster.scrape()) > 0).is_some(), "the old file is counted");
    fs::rename(path("next"), &program).unwrap();
    let new = work(&path("new.signal"));
    wait_for_attached(&tapster, 2);
    new.begin();
    let before = orders(&tapster.scrape());
    assert!(within(PATIENCE, || orders(&tapster.scrape()) > before + 100).is_some(), "both are counted");
    assert_eq!(reasons(&tapster.scrape()), [""]);
    let (new, old) = (new.end(), old.end());
    let metrics = tapster.scrape();
    assert!(new > 0 && old > 0, "{new} {old}");
    assert_eq!(orders(&metrics), new + old, "orders of the new file {new}, of the old one {old}");
    assert_eq!(whole(metrics.sum("tapster_orders_total", &[])), (new + old) / 10);
    let points = metrics.values("tapster_probe_runs_total", &[("probe", "order")], "attach_point");
    assert_eq!(points.len(), 2, "one series for each attach point: {points:?}");
    let runs = whole(metrics.sum("tapster_probe_runs_total", &[("probe", "order")]));
    // Two programs for each file, and no process runs the old one any more.
    let programs = tapster.programs().len();
    assert!(tapster.wait_for("no process runs the replaced file any more").is_some());
    assert!(
        within(PATIENCE, || tapster.programs().len() == programs - 4).is_some(),
        "of {programs}: {:?}",
        tapster.programs()
    );
    let metrics = tapster.scrape();
    assert_eq!(
        whole(metrics.sum("tapster_probe_runs_total", &[("probe", "order")])),
        runs,
        "runs do not go down"
    );
    text(Command::new(&program).args(["5", "0"]));
    assert_eq!(orders(&tapster.scrape()), new + old + 5);
    Ok(format!("{old} orders of the file that was, {new} of the one that is"))
}

/// The same file with other contents: what was attached would be in the middle of instructions.
fn written_over() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    let next = directory.path().join("next");
    build(&program, &["-O0"])?;
    build(&next, &["-O2"])?;
    let file = probes(directory.path(), program.to_str().unwrap(), "");
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    text(Command::new(&program).args(["7", "0"]));
    let programs = tapster.programs().len();
    fs::write(&program, fs::read(&next).unwrap()).unwrap();
    wait_for_attached(&tapster, 2);
    text(Command::new(&program).args(["8", "0"]));
    assert_eq!(orders(&tapster.scrape()), 15);
    assert_eq!(tapster.programs().len(), programs, "the old programs are gone");
    Ok("7 orders before, 8 after".into())
}

/// Starts a program under a root of its own, made of layers like a container's: the same file in all of them.
fn contained(directory: &Path, name: &str, cgroup: Option<&Path>) -> Result<Worker, Skip> {
    let own = directory.join(name);
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(own.join(part)).unwrap();
    }
    let signals = directory.join("signals");
    fs::create_dir_all(&signals).unwrap();
    let join =
        cgroup.map_or_else(String::new, |cgroup| format!("echo $$ > {}/cgroup.procs; ", cgroup.display()));
    let script = format!(
        "set -e; {join}mount -t overlay overlay -o lowerdir={lower},upperdir={own}/upper,workdir={own}/work {own}/root; \
         cd {own}/root; mkdir old signals; mount --bind {signals} signals; pivot_root . old; exec /bin/shop 10 1 /signals/{name}",
        lower = directory.join("lower").display(),
        own = own.display(),
        signals = signals.display(),
    );
    Ok(Worker::new(tool("unshare")?.args(["-m", "sh", "-c", &script]), &signals.join(name)))
}

/// The program at `/bin/shop` behind a link that leads to another place here than there.
fn layer(directory: &Path) -> Result<(), Skip> {
    let lower = directory.join("lower");
    fs::create_dir_all(lower.join("bin")).unwrap();
    build(&lower.join("bin/shop"), &["-O2", "-static"])?;
    std::os::unix::fs::symlink("/bin/shop", lower.join("link")).unwrap();
    Ok(())
}

fn runs(worker: &Worker) {
    let exe = PathBuf::from(format!("/proc/{}/exe", worker.child.id()));
    let there = within(PATIENCE, || fs::read_link(&exe).is_ok_and(|path| path.ends_with("bin/shop")));
    assert!(there.is_some(), "the program starts: {:?}", fs::read_link(&exe));
}

fn of_a_process() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    layer(directory.path())?;
    let worker = contained(directory.path(), "one", None)?;
    runs(&worker);
    let file = probes(directory.path(), "/link", &format!("pid: {}", worker.child.id()));
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    worker.begin();
    assert!(within(PATIENCE, || orders(&tapster.scrape()) >= 50).is_some());
    let pid = worker.child.id();
    let listed = text(binary().args(["list", "--pid", &pid.to_string(), "usdt:/link:shop:order*"]));
    assert!(listed.starts_with("usdt:/link:shop:order__done\n"), "{listed}");
    let done = worker.end();
    assert_eq!(orders(&tapster.scrape()), done);
    wait_for(&tapster, "waiting");
    assert!(tapster.get("/").text().contains(&format!("there is no process {pid}")));
    assert_eq!(orders(&tapster.scrape()), done, "what was counted stays");
    Ok(format!("{done} orders under another root"))
}

fn of_a_chroot() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    layer(directory.path())?;
    let lower = directory.path().join("lower");
    fs::create_dir(lower.join("signals")).unwrap();
    let signal = lower.join("signals/one");
    let worker =
        Worker::new(tool("chroot")?.arg(&lower).args(["/bin/shop", "10", "1", "/signals/one"]), &signal);
    runs(&worker);
    let file = probes(directory.path(), "/link", &format!("pid: {}", worker.child.id()));
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    worker.begin();
    assert!(within(PATIENCE, || orders(&tapster.scrape()) >= 50).is_some());
    let done = worker.end();
    assert_eq!(orders(&tapster.scrape()), done);
    Ok(format!("{done} orders under another root"))
}

/// A cgroup as container runtimes name theirs.
fn container(id: &str) -> Result<Cgroup, Skip> {
    Cgroup::make(&format!("docker-{id}.scope"))
}

fn id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    format!("{digits}{digits}")
}

fn of_a_container() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    layer(directory.path())?;
    let (first_id, second_id) = (id(), id());
    let (first_cgroup, second_cgroup) = (container(&first_id)?, container(&second_id)?);
    let file = probes(directory.path(), "/bin/shop", &format!("container: \"{}\"", &first_id[..12]));
    // Before the container is there.
    let tapster = Tapster::start(&["-c", file.to_str().unwrap()]);
    assert_eq!(reasons(&tapster.scrape()), ["waiting"]);
    let second = contained(directory.path(), "two", Some(&second_cgroup.0))?;
    runs(&second);
    second.begin();
    let first = contained(directory.path(), "one", Some(&first_cgroup.0))?;
    runs(&first);
    wait_for(&tapster, "");
    first.begin();
    assert!(within(PATIENCE, || orders(&tapster.scrape()) >= 50).is_some(), "{}", tapster.log().join("\n"));
    let first_done = first.end();
    // It runs again: a new mount namespace, the same file of the same layer.
    let again = {
        for part in ["one/upper", "one/work"] {
            fs::remove_dir_all(directory.path().join(part)).unwrap();
        }
        contained(directory.path(), "one", Some(&first_cgroup.0))?
    };
    runs(&again);
    let attached = tapster.log().iter().filter(|line| line.contains("attached to the files")).count();
    wait_for(&tapster, "");
    wait_for_attached(&tapster, attached.max(4));
    let before = orders(&tapster.scrape());
    assert_eq!(before, first_done, "only those of one container");
    again.begin();
    assert!(
        within(PATIENCE, || orders(&tapster.scrape()) >= before + 50).is_some(),
        "{}",
        tapster.log().join("\n")
    );
    let again_done = again.end();
    let second_done = second.end();
    assert_eq!(orders(&tapster.scrape()), first_done + again_done, "of two containers that run one file");
    assert!(second_done > 0);
    Ok(format!("{first_done} and {again_done} orders of one container, {second_done} of another not counted"))
}

#[test]
fn files_of_programs_come_and_go() {
    let Some(mut cases) = Cases::as_root("binaries") else {
        return;
    };
    cases.run("a file that appears later", appears_later);
    cases.run("a file that is replaced", replaced);
    cases.run("a file that is written over", written_over);
    cases.run("a process with a root of its own", of_a_process);
    cases.run("a process in a chroot", of_a_chroot);
    cases.run("a container", of_a_container);
    cases.finish();
}
