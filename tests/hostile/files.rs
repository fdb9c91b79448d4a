//! Files that others own, exchanged for what harms whoever opens it.

use super::asker::{self, Asleep, as_nobody, named, pipe};
use crate::support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::{Tapster, within},
    metrics::Metrics,
};
use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a test waits for what comes in a moment, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The sentence that the log says of a probe that is down.
fn said_of(tapster: &Tapster, probe: &str) -> String {
    let line = tapster.log().into_iter().find(|line| line.contains(&format!("\"{probe}\"")));
    line.unwrap_or_else(|| panic!("nothing is said of `{probe}`: {:#?}", tapster.log()))
}

/// The exporter with probes of functions beside one that has nothing to do with them.
fn start_with(directory: &Path, points: &[(&str, String)]) -> Tapster {
    let mut probes = String::from(
        "probes:\n  - name: beside\n    at: tracepoint:sched:sched_switch\n    metrics: [{ counter: beside_total, help: Switches. }]\n",
    );
    for (name, point) in points {
        probes.push_str("  - name: ");
        probes.push_str(
            &[name, "\n    ", point, "\n    metrics: [{ counter: ", name, "_total, help: Calls. }]\n"]
                .concat(),
        );
    }
    let file = directory.join("probes.yaml");
    fs::write(&file, probes).unwrap();
    Tapster::start(&["-c", file.to_str().unwrap()])
}

fn is_up(scrape: &Metrics, probe: &str) -> bool {
    scrape.sum("tapster_probe_up", &[("probe", probe)]) > 0.5
}

/// A user runs a program, and when it has ended a pipe has its name: what reads its symbols must not wait for a writer.
fn a_pipe_in_place_of_a_mapped_file() -> Outcome {
    let directory = asker::directory();
    let program = directory.path().join("asker-pipe");
    let other = directory.path().join("asker-other");
    asker::build(&program, &[])?;
    asker::build(&other, &[])?;
    let tapster = asker::start(directory.path(), None);
    // Nobody has asked for its functions while it ran.
    asker::run(as_nobody(&program)?);
    fs::remove_file(&program).unwrap();
    pipe(&program)?;
    let sleeper = Asleep::begin(as_nobody(&other)?);
    // With the pipe opened none of these ends.
    let begun = Instant::now();
    for _ in 0..10 {
        let scrape = tapster.scrape();
        assert!(is_up(&scrape, "asked") && is_up(&scrape, "beside"), "{:#?}", tapster.log());
        assert_eq!(named(&scrape, "asker-pipe"), (0, 5), "{:?}", asker::stacks(&scrape, "asker-pipe"));
    }
    let took = begun.elapsed();
    assert!(took < PATIENCE, "{took:?}");
    let others = || named(&tapster.scrape(), "asker-other") == (5, 5);
    assert!(within(PATIENCE, others).is_some(), "{:?}", asker::stacks(&tapster.scrape(), "asker-other"));
    let scrape = tapster.scrape();
    let unread = scrape.sum("tapster_symbols_unread_total", &[]);
    assert!(unread >= 1.0, "{unread}");
    drop(sleeper);
    Ok("10 scrapes beside it, another program named, the file counted".into())
}

/// A path that a user may replace, and one of a container, with what is no file behind it.
fn probes_at_what_is_no_file() -> Outcome {
    let directory = asker::directory();
    let program = directory.path().join("asker-root");
    asker::build(&program, &["-static"])?;
    let at_pipe = pipe(&directory.path().join("program"))?;
    // A device that no driver serves: whoever opens it is told so.
    text(tool("mknod")?.arg(directory.path().join("device")).args(["c", "240", "0"]));
    let mut chroot = tool("chroot")?;
    chroot.arg("--userspec=65534:65534").arg(directory.path()).arg("/asker-root");
    let inside = Asleep::begin(chroot);
    let pid = inside.pid();
    let begun = Instant::now();
    let tapster = start_with(
        directory.path(),
        &[
            ("at_pipe", format!("at: \"uprobe:{}:main\"", at_pipe.display())),
            ("at_inner_pipe", format!("pid: {pid}\n    at: \"uprobe:/program:main\"")),
            ("at_device", format!("pid: {pid}\n    at: \"uprobe:/device:main\"")),
            ("at_program", format!("at: \"uprobe:{}:main\"", program.display())),
        ],
    );
    let took = begun.elapsed();
    let scrape = tapster.scrape();
    for probe in ["beside", "at_program"] {
        assert!(is_up(&scrape, probe), "{probe}: {:#?}", tapster.log());
    }
    for (probe, why) in [
        ("at_pipe", "it is a pipe, not a file"),
        ("at_inner_pipe", "it is a pipe, not a file"),
        ("at_device", "it is a device, not a file"),
    ] {
        assert!(!is_up(&scrape, probe), "{probe}");
        let said = said_of(&tapster, probe);
        assert!(said.contains(why), "{said}");
    }
    // A program in its place is attached to, while the pipes stay.
    fs::remove_file(&at_pipe).unwrap();
    fs::copy(&program, &at_pipe).unwrap();
    assert!(within(PATIENCE, || is_up(&tapster.scrape(), "at_pipe")).is_some(), "{:#?}", tapster.log());
    Ok(format!("three probes down with a sentence each, two up, after {} ms", took.as_millis()))
}

/// A file system that a program serves and that never answers.
struct Served {
    server: Child,
    point: std::path::PathBuf,
}

impl Served {
    fn mount(point: &Path) -> Result<Self, Skip> {
        fs::create_dir(point).unwrap();
        let script = "exec 3<>/dev/fuse && mount -i -t fuse -o \
                      fd=3,rootmode=40000,user_id=65534,group_id=65534,allow_other served \"$0\" && echo mounted && exec sleep 600";
        let mut server =
            Command::new("sh").args(["-c", script]).arg(point).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let served = Self { server, point: point.to_owned() };
        if line == "mounted\n" { Ok(served) } else { Err(Skip("FUSE cannot be mounted here".into())) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Its end is the end of the connection: whoever waits has an error.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

/// A path below a directory whose server does not answer.
fn a_probe_in_a_file_system_that_does_not_answer() -> Outcome {
    let directory = asker::directory();
    let served = Served::mount(&directory.path().join("served"))?;
    let begun = Instant::now();
    let tapster = start_with(
        directory.path(),
        &[("at_served", format!("at: \"uprobe:{}:main\"", served.point.join("program").display()))],
    );
    let took = begun.elapsed();
    let scrape = tapster.scrape();
    assert!(is_up(&scrape, "beside") && !is_up(&scrape, "at_served"));
    let said = said_of(&tapster, "at_served");
    assert!(said.contains("does not answer"), "{said}");
    // Looked at each second, by no more threads.
    let threads = || fs::read_dir(format!("/proc/{}/task", tapster.pid())).unwrap().count();
    std::thread::sleep(Duration::from_secs(1));
    let before = threads();
    std::thread::sleep(Duration::from_secs(3));
    assert!(threads() <= before + 1, "{before} threads, then {}", threads());
    assert!(is_up(&tapster.scrape(), "beside"));
    Ok(format!("up after {} ms, with a sentence", took.as_millis()))
}

/// The kubelet's links to logs are on a disk that hangs: containers keep the names that they have, and nothing waits.
fn logs_of_containers_that_do_not_answer() -> Outcome {
    let directory = asker::directory();
    let (links, logs) = (directory.path().join("links"), directory.path().join("logs"));
    fs::create_dir(&logs).unwrap();
    symlink(&logs, &links).unwrap();
    let file = directory.path().join("probes.yaml");
    let probes = "probes:\n  - name: switches\n    at: tracepoint:sched:sched_switch\n    labels: { container: { value: cgroup, as: container } }\n    metrics: [{ counter: switches_total, help: Switches. }]\n";
    fs::write(&file, probes).unwrap();
    let tapster =
        Tapster::start(&["-c", file.to_str().unwrap(), "--path.containers", links.to_str().unwrap()]);
    let age = || tapster.scrape().sum("tapster_source_age_seconds", &[("source", "containers")]);
    assert!(is_up(&tapster.scrape(), "switches") && age() < 5.0, "{:#?}", tapster.log());
    let served = Served::mount(&directory.path().join("served"))?;
    fs::remove_file(&links).unwrap();
    symlink(&served.point, &links).unwrap();
    let begun = Instant::now();
    for _ in 0..20 {
        assert!(is_up(&tapster.scrape(), "switches"), "{:#?}", tapster.log());
    }
    let took = begun.elapsed();
    assert!(took < 20 * Duration::from_secs(1), "each waited: {took:?}");
    assert!(within(PATIENCE, || age() >= 2.0).is_some(), "{}", age());
    let told = || tapster.log().iter().filter(|line| line.contains("does not answer, so containers")).count();
    assert_eq!(told(), 1, "{:#?}", tapster.log());
    drop(served);
    assert!(within(PATIENCE, || age() < 2.0).is_some(), "{}", age());
    Ok(format!("20 scrapes in {} ms", took.as_millis()))
}

/// A user in another root runs a program without symbols. What has its path among the exporter's own files is the same with
/// symbols: one that root keeps to itself is not read for that user, one that everybody may read is.
fn a_file_of_root_is_not_read_for_others() -> Outcome {
    let directory = asker::directory();
    let root = directory.path().join("root");
    let inner = root.join(directory.path().strip_prefix("/").unwrap());
    fs::create_dir_all(&inner).unwrap();
    let mut figures = Vec::new();
    for (name, mode, may) in [("asker-secret", 0o600, false), ("asker-public", 0o755, true)] {
        let own = directory.path().join(name);
        // The same build id, without a section of symbols.
        asker::build(&own, &["-static"])?;
        let stripped = inner.join(name);
        text(tool("strip")?.arg("-o").arg(&stripped).arg(&own));
        chmod(&stripped, 0o755);
        chmod(&own, mode);
        let tapster = asker::start(directory.path(), None);
        let mut chroot = tool("chroot")?;
        chroot.arg("--userspec=65534:65534").arg(&root).arg(&own);
        asker::run(chroot);
        // What was mapped is gone with its root.
        fs::remove_file(&stripped).unwrap();
        let told = || {
            let (named, all) = named(&tapster.scrape(), name);
            assert_eq!(all, 5);
            named
        };
        if may {
            let is_of_root = directory.path().ancestors().all(|above| {
                use std::os::unix::fs::MetadataExt;
                let found = above.metadata().unwrap();
                found.uid() == 0 && found.mode() & 0o022 == 0
            });
            assert!(!is_of_root || within(PATIENCE, || told() == 5).is_some(), "{:#?}", tapster.log());
            figures.push(if is_of_root { "5 of 5 calls named from one for all" } else { "not root's here" });
        } else {
            for _ in 0..5 {
                assert_eq!(told(), 0, "{:?}", asker::stacks(&tapster.scrape(), name));
            }
            let private = tapster.scrape().sum("tapster_symbols_unread_total", &[("reason", "private")]);
            assert!(private >= 1.0, "{:#?}", tapster.log());
            figures.push("0 of 5 calls named from a file of mode 600");
        }
    }
    Ok(figures.join(", "))
}

#[test]
fn what_is_no_file_or_not_theirs_is_not_opened() {
    let Some(mut cases) = Cases::as_root("hostile files") else { return };
    cases.run("a pipe in place of a mapped file", a_pipe_in_place_of_a_mapped_file);
    cases.run("probes at what is no file", probes_at_what_is_no_file);
    cases.run("a file system that does not answer", a_probe_in_a_file_system_that_does_not_answer);
    cases.run("logs that do not answer", logs_of_containers_that_do_not_answer);
    cases.run("a file of root", a_file_of_root_is_not_read_for_others);
    cases.finish();
}
