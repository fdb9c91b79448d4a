//! What is lacking is said where a person looks, and nothing goes out that only those should know who have the right.

use super::{
    host,
    rights::{Nobody, has_links},
    support::{
        cases::{Cases, Outcome, Skip},
        command::output,
        exporter::{Tapster, binary},
        http,
        metrics::Metrics,
    },
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// What a user without rights needs for tracepoints.
const LEAST: &str = "bpf,perfmon,dac_read_search";
/// Functions by address, stacks of the kernel, and what stacks say, at events that there always are.
const NAMES: &str = r"
library: [sched_off_cpu]
probes:
  - name: timers
    at: tracepoint:timer:hrtimer_start
    labels: { by: { value: args.function, as: ksym } }
    metrics: [{ counter: timers_total, help: Timers. }]
  - name: wakeups
    at: rawtracepoint:sched:sched_waking
    labels: { stack: kstack(8) }
    metrics: [{ counter: wakeups_total, help: Wake-ups. }]
";

/// What looks like an address of the kernel in a text, if anything does.
fn address(text: &str) -> Option<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    words.map(|word| word.trim_start_matches("0x")).find(|word| {
        word.len() == 16 && word.starts_with("ffff") && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A counter of this name is above zero for some label that holds.
fn counts(metrics: &Metrics, name: &str, label: &str, holds: impl Fn(&str) -> bool) -> bool {
    let samples = metrics.0.iter().filter(|sample| sample.name == name && sample.value > 0.0);
    samples.into_iter().any(|sample| holds(&sample.labels[label]))
}

/// A way to start it.
type Start<'a> = &'a dyn Fn() -> Result<Tapster, Skip>;

fn names_of_functions() -> Outcome {
    let nobody = Nobody::new();
    let file = nobody.directory().join("names.yaml");
    fs::write(&file, NAMES).unwrap();
    let file = file.to_str().unwrap();
    // With the sandbox and without, and by root who gives the right up at the start.
    let starts: [(&str, Start<'_>); 3] = [
        ("nobody", &|| nobody.start(LEAST, &["-c", file])),
        ("nobody without a sandbox", &|| nobody.start(LEAST, &["-c", file, "--sandbox=off"])),
        ("root who keeps none", &|| Ok(Tapster::start(&["-c", file, "--capabilities.keep=none"]))),
    ];
    let probes = ["sched_off_cpu", "timers", "wakeups"];
    for (who, start) in starts {
        let tapster = start()?;
        let body = tapster.get("/metrics");
        let metrics = Metrics::parse(body.text());
        for probe in probes {
            let labels = [("probe", probe), ("reason", "symbols")];
            assert_eq!(metrics.find("tapster_probe_up", &labels), Some(1.0), "{who}: {probe}");
        }
        assert!(counts(&metrics, "tapster_timers_total", "by", |by| by == "[unknown]"), "{who}");
        assert!(
            counts(&metrics, "tapster_wakeups_total", "stack", |stack| stack.contains("[unknown]")),
            "{who}"
        );
        let (page, said) = (tapster.get("/"), tapster.log().join("\n"));
        for (place, text) in [("/metrics", body.text()), ("/", page.text()), ("log", &said)] {
            assert_eq!(address(text), None, "{who}: {place}");
        }
        for (place, text) in [("/", page.text()), ("log", &said)] {
            assert!(text.contains("CAP_SYSLOG") && text.contains("`short`"), "{who}: {place}: {text}");
        }
    }
    let checked = output(nobody.command(LEAST)?.args(["check", file]));
    let checked = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.contains("every reason but `short` is `unknown`: functions of the kernel have no names"),
        "{checked}"
    );
    // Whoever has the right has the names, and nothing to be told.
    let tapster = Tapster::start(&["-c", file]);
    let body = tapster.get("/metrics");
    let metrics = Metrics::parse(body.text());
    let named = counts(&metrics, "tapster_timers_total", "by", |by| !by.starts_with('['));
    if !named && Path::new("/proc/sys/kernel/kptr_restrict").exists() {
        let restrict = fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap();
        assert_eq!(restrict.trim(), "2", "root has names: {}", body.text());
        return Err(Skip("addresses are hidden from root, too".into()));
    }
    for probe in probes {
        assert_eq!(
            metrics.find("tapster_probe_up", &[("probe", probe), ("reason", "")]),
            Some(1.0),
            "{probe}"
        );
    }
    assert_eq!(address(body.text()), None);
    Ok("without CAP_SYSLOG no name and no address, said by metrics, page, log and check".into())
}

const FORKS: &str = "probes:\n  - name: forks\n    at: tracepoint:sched:sched_process_fork\n    metrics: [{counter: forks_total, help: Forks.}]\n";
/// Somebody without rights.
const NOBODY: u32 = 65_534;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What is said about files that somebody else may write, at the start, by `check`, and when they are read again.
fn files_of_others() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let probes = directory.path().join("probes.d");
    fs::create_dir(&probes).unwrap();
    let file = probes.join("forks.yaml");
    fs::write(&file, FORKS).unwrap();
    let good = || {
        for (path, bits) in [(&probes, 0o755), (&file, 0o644)] {
            chown(path, Some(0), Some(0)).unwrap();
            mode(path, bits);
        }
    };
    let attacks: [(&str, &dyn Fn()); 4] = [
        ("forks.yaml` has the mode 0666: every user may write to it", &|| mode(&file, 0o666)),
        ("probes.d` has the mode 0757: every user may write to it", &|| mode(&probes, 0o757)),
        ("forks.yaml` belongs to user 65534 and not to root", &|| chown(&file, Some(NOBODY), None).unwrap()),
        ("has the mode 0664: group 65534", &|| {
            chown(&file, None, Some(NOBODY)).unwrap();
            mode(&file, 0o664);
        }),
    ];
    for path in [&probes, &file] {
        let path = path.to_str().unwrap();
        for sandbox in ["on", "off"] {
            let arguments = ["-c", path, "--sandbox", sandbox, "--web.enable-lifecycle"];
            for (says, attack) in &attacks {
                good();
                let tapster = Tapster::start(&arguments);
                attack();
                let answer = http::request(tapster.address, "POST", "/-/reload", "").unwrap();
                assert_eq!(answer.status, 500, "{says}: {}", answer.text());
                assert!(
                    answer.text().contains(says) && answer.text().contains("hint: `ch"),
                    "{}",
                    answer.text()
                );
                let metrics = tapster.scrape();
                assert_eq!(metrics.find("tapster_config_last_reload_successful", &[]), Some(0.0), "{says}");
                assert_eq!(
                    metrics.find("tapster_probe_up", &[("probe", "forks")]),
                    Some(1.0),
                    "{says}: it goes on"
                );
                drop(tapster);
                let refused = Tapster::start_at("127.0.0.1:0", &arguments).expect_err("it is not taken");
                assert_eq!(refused.status.code(), Some(2), "{says}");
                let said = refused.log.join("\n");
                assert!(said.contains(says) && !said.contains("panicked"), "{says}: {said}");
                let checked = output(binary().args(["check", path]));
                let said = String::from_utf8_lossy(&checked.stderr);
                assert!(checked.status.success(), "who checks is only told: {said}");
                assert!(
                    said.contains("`tapster run` would not take this file") && said.contains(says),
                    "{said}"
                );
            }
        }
    }
    // Who may be trusted is for who starts it to say.
    good();
    chown(&file, Some(NOBODY), None).unwrap();
    drop(Tapster::start(&["-c", file.to_str().unwrap(), "--config.owner", "65534"]));
    // Not the lines of a file that is not taken: whoever put the link there may not read it.
    good();
    let secret = directory.path().join("secret");
    fs::write(&secret, "root:secret\n").unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&secret, &file).unwrap();
    chown(&probes, Some(NOBODY), None).unwrap();
    let refused =
        Tapster::start_at("127.0.0.1:0", &["-c", file.to_str().unwrap()]).expect_err("it is not taken");
    assert!(!refused.log.join("\n").contains("root:secret"), "{:?}", refused.log);
    Ok("4 kinds of files of others, by file and directory, with the sandbox and without".into())
}

/// A `ConfigMap` is mounted with a directory that everybody may write to, but for the mount being read only.
fn a_config_map() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o mode=0777 none \"$1\" && cd \"$1\" && mkdir ..1 && cat >..1/forks.yaml && ln -s ..1 ..data \
        && ln -s ..data/forks.yaml forks.yaml && cd / && { [ \"$2\" = rw ] || mount -o remount,ro \"$1\"; } && \"$3\" check \"$1\"";
    let check = |access: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(directory.path()).arg(access);
        command.arg(binary().get_program());
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), FORKS.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    assert!(check("rw").contains("has the mode 0777"), "{}", check("rw"));
    assert_eq!(check("ro"), "");
    // `ProtectSystem=strict` lets a service see all of the host so, and the host's users write to it all the same.
    let file = directory.path().join("forks.yaml");
    fs::write(&file, FORKS).unwrap();
    mode(&file, 0o666);
    if file.metadata().unwrap().dev() != Path::new("/").metadata().unwrap().dev() {
        return Ok("taken when it is mounted read only; no file of the root's file system was tried".into());
    }
    let mut strict = Command::new("unshare");
    strict.args(["--mount", "sh", "-c", "mount -o remount,bind,ro / && \"$0\" check \"$1\""]);
    let checked = output(strict.arg(binary().get_program()).arg(&file));
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.contains("has the mode 0666"), "{checked:?}");
    Ok("taken when it is mounted read only, and not where a service alone sees it so".into())
}

const GETENV: &str = "probes:\n  - name: getenv\n    at: uprobe:libc:getenv\n    metrics: [{counter: getenv_total, help: Calls.}]\n";

/// One place of a program needs no more than many do, where the kernel has links for them.
fn one_place_of_a_program() -> Outcome {
    let nobody = Nobody::new();
    let file = nobody.directory().join("getenv.yaml");
    fs::write(&file, GETENV).unwrap();
    let tapster = nobody.start(LEAST, &["-c", file.to_str().unwrap()])?;
    let metrics = tapster.scrape();
    let up = metrics.find("tapster_probe_up", &[("probe", "getenv"), ("reason", "")]);
    if !has_links() {
        let said = tapster.log().join("\n");
        assert!(up == Some(1.0) || said.contains("CAP_SYS_ADMIN"), "{said}");
        return Err(Skip("this kernel has no links for places of programs".into()));
    }
    assert_eq!(up, Some(1.0), "{:?}", tapster.log());
    let count = |metrics: &Metrics| metrics.sum("tapster_getenv_total", &[]);
    let before = count(&tapster.scrape());
    assert!(Command::new("sh").args(["-c", "true"]).env("LC_ALL", "C").status().unwrap().success());
    assert!(Command::new("ls").arg("/").output().unwrap().status.success());
    let after = count(&tapster.scrape());
    assert!(after > before, "{before} calls, then {after}");
    Ok("uprobe:libc:getenv is up with three capabilities, and counts".into())
}

/// The message names what is lacking, and does not blame the verifier.
fn capabilities_by_name() -> Outcome {
    let nobody = Nobody::new();
    let file = nobody.directory().join("forks.yaml");
    fs::write(&file, FORKS).unwrap();
    let path = file.to_str().unwrap();
    let run = |capabilities: &str| {
        let ended =
            Tapster::start_by(nobody.command(capabilities)?, "127.0.0.1:0", &["-c", path, "--strict"]);
        Ok::<_, Skip>(
            ended.map_or_else(|ended| (ended.status.code(), ended.log.join("\n")), |_| (None, String::new())),
        )
    };
    for (capabilities, status, says) in [
        ("bpf,dac_read_search", 1, "this process lacks CAP_PERFMON"),
        ("perfmon,dac_read_search", 1, "this process lacks CAP_BPF"),
        ("bpf,perfmon", 2, "tracefs at `/sys/kernel/tracing` cannot be read: Permission denied"),
    ] {
        let (code, said) = run(capabilities)?;
        assert!(said.contains(says) && !said.contains("verifier"), "{capabilities}: {said}");
        assert_eq!(code, Some(status), "{capabilities}: {said}");
    }
    Ok("CAP_PERFMON, CAP_BPF, and what reading tracefs needs".into())
}

/// A kernel without types is one line for all probes that need them, and not a mistake at each of their names.
fn no_types() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let link = |name: &str, to: &Path| std::os::unix::fs::symlink(to, directory.path().join(name)).unwrap();
    for entry in fs::read_dir("/sys").unwrap().flatten().filter(|entry| entry.file_name() != "kernel") {
        link(entry.file_name().to_str().unwrap(), &entry.path());
    }
    fs::create_dir(directory.path().join("kernel")).unwrap();
    link("kernel/tracing", Path::new("/sys/kernel/tracing"));
    let sysfs = directory.path().to_str().unwrap();
    let checked = output(binary().args(["check", "--path.sysfs", sysfs]));
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.lines().count() <= 3 && said.contains("this kernel has no BTF"), "{said}");
    let tapster = Tapster::start(&["--path.sysfs", sysfs]);
    assert_eq!(tapster.scrape().values("tapster_probe_up", &[], "reason")[0], "compile");
    let down: Vec<String> = tapster.log().into_iter().filter(|line| line.contains("probe is down")).collect();
    assert!(!down.is_empty());
    assert!(
        down.iter().all(|line| line.contains("has no BTF") && !line.contains("has no argument")),
        "{down:?}"
    );
    Ok(format!("{} lines", said.lines().count()))
}

/// A cgroup that goes with the test.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Before a process is killed for it, it has said that its memory will not do.
fn too_little_memory() -> Outcome {
    let name = format!("tapster-little-{}", std::process::id());
    let made = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
    let made = made.into_iter().find_map(|(root, file)| {
        let cgroup = Cgroup(Path::new(root).join(&name));
        fs::create_dir(&cgroup.0).ok()?;
        fs::write(cgroup.0.join(file), (24 << 20).to_string()).ok()?;
        Some(cgroup)
    });
    let Some(cgroup) = made else { return Err(Skip("no cgroup with a limit of memory can be made".into())) };
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""])
        .arg(&cgroup.0)
        .arg(binary().get_program());
    let (log, how) = match Tapster::start_by(command, "127.0.0.1:0", &[]) {
        Ok(tapster) => (tapster.log(), "it ran".to_owned()),
        Err(ended) => (ended.log, ended.status.to_string()),
    };
    let said = log.iter().find(|line| line.contains("allows 24576 KiB"));
    assert!(said.is_some_and(|line| line.contains("the maps of the probes take up to ")), "{how}: {log:?}");
    Ok(format!("said with 24 MiB; then {how}"))
}

#[test]
fn what_is_lacking_is_said() {
    let Some(mut cases) = Cases::as_root("lacking") else { return };
    let _host = host();
    cases.run("names of functions", names_of_functions);
    cases.run("files of others", files_of_others);
    cases.run("a ConfigMap", a_config_map);
    cases.run("no types", no_types);
    cases.run("too little memory", too_little_memory);
    cases.run("one place of a program", one_place_of_a_program);
    cases.run("capabilities by name", capabilities_by_name);
    cases.finish();
}
