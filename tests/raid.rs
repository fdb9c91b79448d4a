//! Arrays on hosts that are made of files: `tapster raid`, and the exporter with decoders of arrays. Real arrays are in
//! the guests (`tests/guest`).
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{FileExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::root,
    device::{LoopDevice, filled_file, wait_quiet},
    exporter::{Tapster, binary},
    fixture, queries,
};
use tempfile::TempDir;

/// A host that has `md0`, a stripe of two devices, and whatever else of this machine is asked for.
struct Machine {
    directory: TempDir,
}

impl Machine {
    /// The number of the array, then names and numbers of its members.
    fn new(array: &str, members: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let md = directory.path().join("sys/block/md0/md");
        fs::create_dir_all(&md).unwrap();
        fs::write(md.with_file_name("dev"), format!("{array}\n")).unwrap();
        for (name, text) in [("level", "raid0"), ("raid_disks", "2"), ("array_state", "clean")] {
            fs::write(md.join(name), format!("{text}\n")).unwrap();
        }
        for (slot, (name, numbers)) in members.iter().enumerate() {
            let device = directory.path().join("sys/block").join(name);
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("dev"), format!("{numbers}\n")).unwrap();
            let member = md.join(format!("dev-{name}"));
            fs::create_dir(&member).unwrap();
            symlink(&device, member.join("block")).unwrap();
            fs::write(member.join("slot"), format!("{slot}\n")).unwrap();
            fs::write(member.join("state"), "in_sync\n").unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The kernel below is this machine's.
    fn on_this_kernel(self) -> Self {
        for name in ["kernel", "devices", "dev"] {
            symlink(Path::new("/sys").join(name), self.path("sys").join(name)).unwrap();
        }
        symlink("/proc", self.path("proc")).unwrap();
        self
    }

    fn flags(&self) -> Vec<String> {
        [("procfs", "proc"), ("sysfs", "sys"), ("devfs", "dev")]
            .into_iter()
            .flat_map(|(flag, name)| [format!("--path.{flag}"), self.path(name).display().to_string()])
            .collect()
    }

    fn raid(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.arg("raid").args(arguments).args(self.flags());
        command
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

const LISTING: &str = "\
md0: raid0 of 2 devices, clean
  Number  Major  Minor  RaidDevice  State        Device
       4      1      0           0  active sync  /dev/ram0
       -      8     17           1  active sync  /dev/sdb1

";

#[test]
fn a_host_without_arrays() {
    let kernel = fixture::Kernel::new();
    for (arguments, expected) in
        [(&["raid"][..], "this host has no arrays\n"), (&["raid", "--json"], "{\"arrays\":[]}\n")]
    {
        let output = kernel.tapster(Path::new("/"), arguments);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(texts(&output), (expected.to_owned(), String::new()));
    }
    let output = kernel.tapster(Path::new("/"), &["raid", "md0"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(texts(&output).1, "error: there is no array `md0`\n");
}

#[test]
fn without_a_kernel_the_arrays_are_still_shown() {
    let machine = Machine::new("9:0", &[("ram0", "1:0"), ("sdb1", "8:17")]);
    fs::create_dir(machine.path("proc")).unwrap();
    fs::write(machine.path("proc/mdstat"), "md0 : active raid0 ram0[4]\n").unwrap();
    for names in [&[][..], &["md0"], &[machine.path("dev/md0").to_str().unwrap()]] {
        let output = machine.raid(names).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), LISTING), "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
    // The name that udev gave it.
    fs::create_dir_all(machine.path("dev/md")).unwrap();
    fs::write(machine.path("dev/md0"), "").unwrap();
    symlink("../md0", machine.path("dev/md/home")).unwrap();
    let home = machine.path("dev/md/home");
    let output = machine.raid(&[home.to_str().unwrap()]).output().unwrap();
    assert_eq!(texts(&output).0, LISTING.replacen("md0:", "md0 (home):", 1));
    let output = machine.raid(&["md00"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(texts(&output).1, "error: there is no array `md00`; did you mean `md0`?\n");
    for (flag, value) in [("--for", "10x"), ("--floor", "x"), ("--ratio", "0.5"), ("--min-count", "-1")] {
        assert_eq!(machine.raid(&[flag, value]).output().unwrap().status.code(), Some(2), "{flag} {value}");
    }
}

/// The rules for Prometheus say the same of a member as the command does.
#[test]
fn thresholds_are_those_of_the_rules() {
    let threshold = |name: &str| queries::threshold(&format!("raid_slow_{name}"));
    let help = binary().args(["raid", "--help"]).output().unwrap();
    // A line of it may break within what it says of a default.
    let help = texts(&help).0.split_whitespace().collect::<Vec<_>>().join(" ");
    let default = |flag: &str| {
        let (_, rest) = help.split_once(&format!("--{flag} <")).unwrap();
        let (_, rest) = rest.split_once("[default: ").unwrap();
        rest.split_once(']').unwrap().0.to_owned()
    };
    assert_eq!(default("ratio"), threshold("ratio").to_string());
    assert_eq!(default("floor"), format!("{}ms", threshold("excess_seconds") * 1e3));
    assert_eq!(default("min-count"), threshold("ios").to_string());
    assert_eq!(default("critical-ratio"), threshold("critical_ratio").to_string());
}

/// An attribute of the array that nobody answers: a pipe that is never written.
fn silent(machine: &Machine) {
    let level = machine.path("sys/block/md0/md/level");
    fs::remove_file(&level).unwrap();
    let made = Command::new("mkfifo").arg(&level).status().unwrap();
    assert!(made.success());
}

/// An array of which nothing can be read is not one that is not there.
#[test]
fn an_array_that_never_answers() {
    let machine = Machine::new("9:0", &[("ram0", "1:0"), ("sdb1", "8:17")]);
    fs::create_dir(machine.path("proc")).unwrap();
    silent(&machine);
    let sentence =
        "md0: the array does not answer: it could not be read within a second, so a disk of it may hang";
    for names in [&[][..], &["md0"], &[machine.path("dev/md0").to_str().unwrap()]] {
        let output = machine.raid(names).output().unwrap();
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout), (Some(1), format!("{sentence}\n")), "{stderr}");
    }
    let output = machine.raid(&["--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_str(&texts(&output).0).unwrap();
    assert_eq!(found, serde_json::json!({ "arrays": [], "unanswered": ["md0"] }));
    let output = machine.raid(&["--check"]).output().unwrap();
    assert_eq!((output.status.code(), texts(&output).0), (Some(2), format!("RAID CRITICAL - {sentence}\n")));
}

/// Whatever is wrong, a check says it in its line and by a status that its caller knows.
#[test]
fn checks_that_cannot_be_made() {
    let kernel = fixture::Kernel::new();
    for (arguments, line) in [
        (&["raid", "--check"][..], "RAID UNKNOWN - this host has no arrays\n"),
        (&["raid", "--check", "md7"], "RAID UNKNOWN - there is no array `md7`\n"),
        (&["raid", "--check", "--for", "x"], "RAID UNKNOWN - invalid value 'x' for '--for <TIME>'"),
        (
            &["raid", "--check", "--json"],
            "RAID UNKNOWN - the argument '--check' cannot be used with '--json'",
        ),
    ] {
        let output = kernel.tapster(Path::new("/"), arguments);
        let (stdout, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stdout}{stderr}");
        assert!(stdout.starts_with(line) && stdout.lines().count() == 1, "{arguments:?}: {stdout}");
    }
    // What the array says of itself is told also where nothing can be watched.
    let machine = Machine::new("9:0", &[("ram0", "1:0"), ("sdb1", "8:17")]);
    fs::create_dir(machine.path("proc")).unwrap();
    let output = machine.raid(&["--check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(texts(&output).0.starts_with("RAID UNKNOWN - members cannot be watched: "), "{output:?}");
    fs::write(machine.path("sys/block/md0/md/array_state"), "inactive\n").unwrap();
    let output = machine.raid(&["--check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = "RAID CRITICAL - md0 is inactive, members cannot be watched: ";
    assert!(texts(&output).0.starts_with(expected), "{output:?}");
    // A stripe bears no loss, however well the kernel says it is.
    fs::write(machine.path("sys/block/md0/md/array_state"), "clean\n").unwrap();
    fs::write(machine.path("sys/block/md0/md/dev-sdb1/state"), "faulty\n").unwrap();
    let output = machine.raid(&["--check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected =
        "RAID CRITICAL - md0 has lost more members than it bears: 1 missing, md0: `sdb1` is faulty, ";
    assert!(texts(&output).0.starts_with(expected), "{output:?}");
}

fn privileged() -> Result<(), Skip> {
    root()?;
    for path in ["/sys/kernel/btf/vmlinux", "/sys/kernel/tracing/available_events"] {
        fs::File::open(path).map_err(|error| Skip(format!("{path}: {error}")))?;
    }
    Ok(())
}

/// Ctrl-C ends the watching early, and what was seen is printed.
fn interrupted() -> Outcome {
    privileged()?;
    // No device of this machine has these numbers.
    let machine = Machine::new("9:1000", &[("ram0", "1:1000"), ("sdb1", "8:1017")]).on_this_kernel();
    let mut child = machine
        .raid(&["--for", "10m", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = stderr.next().unwrap().unwrap();
    assert_eq!(line, "watching for 600 s; Ctrl-C ends it early");
    // The handler is there once the clock runs.
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    // SAFETY: it reads no memory of ours, and the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) }, 0);
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(found["seconds"].as_f64().unwrap() < 20.0);
    let array = &found["arrays"][0];
    assert_eq!(array["members"][1]["member"], "sdb1");
    assert_eq!(array["members"][1]["operations"], serde_json::json!([]));
    let summary = array["summary"][0].as_str().unwrap();
    assert!(summary.starts_with("md0: too little I/O to compare"), "{summary}");
    Ok("printed what it had".into())
}

/// On this kernel a check of an array without I/O ends well.
fn check() -> Outcome {
    privileged()?;
    let machine = Machine::new("9:1000", &[("ram0", "1:1000"), ("sdb1", "8:1017")]).on_this_kernel();
    let output = machine.raid(&["--check", "--for", "0.2"]).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.starts_with("RAID OK - md0: too little I/O to compare"), "{stdout}");
    Ok(stdout.trim_end().to_owned())
}

/// Rows are joined to the array and its member by their numbers; others stay in the map and out of the scrape.
fn decoders() -> Outcome {
    const READS: u64 = 37;
    privileged()?;
    let files = tempfile::tempdir_in("/dev/shm").map_err(|error| Skip(format!("/dev/shm: {error}")))?;
    let file = filled_file(&files.path().join("disk"), 1 << 20);
    let device = LoopDevice::over(&file, &["--direct-io=off"])?;
    let name = device.name();
    wait_quiet(&name);
    let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_owned();
    // The kernel has no arrays, but a device reads of which are counted: for the files it is the array and a member.
    let machine = Machine::new(&numbers, &[(&name, &numbers), ("sdb1", "8:1017")]).on_this_kernel();
    let probe = machine.path("probe.yaml");
    fs::write(
        &probe,
        "probes:
  - name: reads
    at: \"rawtracepoint:block:block_bio_queue\"
    let:
      disk: args.bio.bi_bdev.bd_disk ?? args.bio.bi_disk
      device: disk.major << 20 | disk.first_minor
    where: (args.bio.bi_opf & 0xff) == 0
    labels:
      array: { value: device, as: raid_array }
      level: { value: device, as: raid_level }
      slot: { value: device << 32 | device, as: raid_slot }
      comm: comm
    metrics: [{ counter: reads_total }]
",
    )
    .unwrap();
    let other = LoopDevice::over(&filled_file(&files.path().join("other"), 1 << 20), &["--direct-io=off"])?;
    wait_quiet(&other.name());
    let flags = machine.flags();
    let mut arguments = vec!["-c", probe.to_str().unwrap(), "--strict"];
    arguments.extend(flags.iter().map(String::as_str));
    let tapster = Tapster::start(&arguments);
    for path in [&device.path, &other.path] {
        let file = fs::File::open(path).unwrap();
        for index in 0..READS {
            // SAFETY: it only tells the kernel what is not needed.
            unsafe {
                libc::posix_fadvise(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, libc::POSIX_FADV_RANDOM)
            };
            file.read_exact_at(&mut [0; 512], index * 4096).unwrap();
        }
    }
    let metrics = tapster.scrape();
    let rows: Vec<_> = metrics.0.iter().filter(|sample| sample.name == "tapster_reads_total").collect();
    let ours = metrics.sum("tapster_reads_total", &[("array", "md0"), ("level", "raid0"), ("slot", "0")]);
    assert!(ours >= 37.0, "{rows:?}");
    assert!(rows.iter().all(|row| row.labels["array"] == "md0"), "{rows:?}");
    let series = metrics.sum("tapster_probe_series", &[("probe", "reads")]);
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let shown = rows.len() as f64;
    assert!(series > shown, "{series} series, {shown} shown");
    let info = [("array", "md0"), ("member", name.as_str()), ("slot", "0"), ("state", "in_sync")];
    assert_eq!(metrics.find("tapster_raid_member_info", &info).map(f64::to_bits), Some(1_f64.to_bits()));
    // The array is stopped while the exporter runs.
    fs::remove_dir_all(machine.path("sys/block/md0")).unwrap();
    let metrics = tapster.scrape();
    assert_eq!(metrics.find("tapster_reads_total", &[]), None);
    assert_eq!(metrics.find("tapster_raid_array_info", &[]), None);
    assert!(metrics.sum("tapster_probe_series", &[("probe", "reads")]) >= series);
    Ok(format!("{ours} reads, {series} series"))
}

#[test]
fn arrays_that_are_files_on_this_kernel() {
    let mut cases = Cases::new("raid");
    cases.run("interrupted", interrupted);
    cases.run("check", check);
    cases.run("decoders", decoders);
    cases.finish();
}
