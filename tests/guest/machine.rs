//! QEMU: boots a kernel with a scenario, under software emulation, and brings back what the scenario left in `/results`.

use super::{image::Image, kernel::Kernel, scenario::variables};
use crate::support::{
    cases::Skip,
    command::{text, tool},
    metrics::Metrics,
    pods, waits,
};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// A scenario that hangs is ended after this.
const LIMIT: Duration = Duration::from_mins(10);
/// So long a kernel may take to its first process. Nothing of this project runs before.
const BOOT: Duration = Duration::from_secs(90);
/// What is said of one that takes longer.
pub(crate) const NOT_BOOTED: &str = "the kernel did not come to its first process";
/// Looks at a machine that come one after the other, so often. They are counted, and not their time: where this host itself is
/// stopped for long, no time passes here.
const LOOK: Duration = Duration::from_millis(20);
/// So many looks without a beat from its processors, of which there is one a second, and the machine does not run any more.
const SILENT_LOOKS: u32 = 3000;
/// What is said of one that does not run any more.
pub(crate) const STOPPED: &str = "a processor or the clock of the guest has stopped";
/// Room for results.
const RESULTS: u64 = 64 << 20;

/// Bytes of a disk that is given by an argument.
const HARDWARE: u64 = 64 << 20;

/// What a scenario runs on and with.
#[derive(Clone, Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    /// Programs, from [`base`].
    pub(crate) base: &'a Path,
    /// Modules, from [`modules`].
    pub(crate) modules: &'a Path,
    /// Empty disks of the kind virtio, bytes each; `vdb` and so on.
    pub(crate) disks: &'a [u64],
    /// More devices, as arguments of QEMU; those that end with `drive=` get an empty one.
    pub(crate) hardware: &'a [&'a str],
    pub(crate) memory_mib: u32,
    /// A port of this host's loopback that leads to the exporter's in the guest.
    pub(crate) port: Option<u16>,
    /// Words that the scenario finds in `$1`, `$2`, ….
    pub(crate) arguments: &'a [String],
}

/// The part of the image that all kernels share: the system, its programs, and this project's.
pub(crate) fn base(exporter: &Path, directory: &Path) -> Result<PathBuf, Skip> {
    let mut image = Image::default();
    image.system(directory)?;
    // busybox has a mke2fs of its own, which makes no journal.
    image.tools(&[
        "chrt",
        "fio",
        "mdadm",
        "mdmon",
        "dmsetup",
        "lvm",
        "mkfs.ext4",
        "mkfs.xfs",
        "mkfs.btrfs",
    ])?;
    image.program(exporter)?;
    image.program(&waits::build(directory)?)?;
    image.file("waits.yaml", waits::family().probes.as_bytes(), 0o644);
    image.file("reasons.yaml", include_bytes!("../probes/reasons.yaml"), 0o644);
    image.program(&pods::build(directory)?)?;
    image.file("pods.list", pods::list().as_bytes(), 0o644);
    image.file("who.yaml", include_bytes!("../probes/who.yaml"), 0o644);
    image.file("packets.yaml", include_bytes!("scenarios/packets.yaml"), 0o644);
    image.file("paths.yaml", include_bytes!("../probes/paths.yaml"), 0o644);
    image.file("sched.yaml", include_bytes!("../../config/probes/sched.yaml"), 0o644);
    image.file("sched_who.yaml", include_bytes!("../../config/probes/sched_who.yaml"), 0o644);
    for (name, example) in variables::EXAMPLES {
        image.file(name, example.as_bytes(), 0o644);
    }
    let program = directory.join("stacks");
    let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name);
    let flags = ["-O1", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer"];
    let sources = [source("stacks.c"), source("stacks_library.c")];
    text(tool("cc")?.args(flags).arg("-o").arg(&program).args(sources));
    image.program(&program)?;
    let program = directory.join("network");
    text(tool("cc")?.args(["-O1", "-static", "-o"]).arg(&program).arg(source("network.c")));
    image.program(&program)?;
    // Its scenario says so where they cannot be built.
    if crate::support::command::sdt_header() {
        for (name, how) in [("shop", "-O1"), ("shop-next", "-O2")] {
            let program = directory.join(name);
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/shop.c");
            text(tool("cc")?.args([how, "-static", "-DSEMAPHORES", "-o"]).arg(&program).arg(source));
            image.program(&program)?;
        }
    }
    let path = directory.join("base.cpio");
    fs::write(&path, image.finish()).unwrap();
    Ok(path)
}

/// The part of the image that is one kernel's own.
pub(crate) fn modules(kernel: &Kernel, directory: &Path) -> Result<PathBuf, Skip> {
    let mut image = Image::default();
    image.modules(kernel)?;
    let path = directory.join(format!("modules-{}.cpio", kernel.release));
    fs::write(&path, image.finish()).unwrap();
    Ok(path)
}

/// A machine that runs; ended when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    work: tempfile::TempDir,
    begun: Instant,
}

impl Machine<'_> {
    /// Boots it and gives it the scenario: a shell script.
    pub(crate) fn boot(&self, scenario: &str) -> Result<Running, Skip> {
        let work = tempfile::tempdir().unwrap();
        let mut own = Image::default();
        own.file("scenario.sh", scenario.as_bytes(), 0o644);
        let words: Vec<String> = self.arguments.iter().map(|word| format!("'{word}'")).collect();
        own.file("arguments", words.join(" ").as_bytes(), 0o644);
        let initrd = work.path().join("initrd");
        let parts = [fs::read(self.base).unwrap(), fs::read(self.modules).unwrap(), own.finish()];
        fs::write(&initrd, parts.concat()).unwrap();
        let disk = |name: &str, bytes: u64| {
            let path = work.path().join(name);
            File::create(&path).unwrap().set_len(bytes).unwrap();
            format!("file={},format=raw,if=virtio,cache=unsafe", path.display())
        };
        let mut qemu = tool("qemu-system-x86_64")?;
        let beats = format!("file:{}", work.path().join("beats").display());
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-nographic", "-no-reboot"])
            .args(["-serial", "mon:stdio", "-serial", &beats])
            .args(["-m", &self.memory_mib.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&initrd)
            .args(["-append", "console=ttyS0 panic=-1 quiet"])
            .args(["-drive", &disk("results.tar", RESULTS)]);
        for (index, bytes) in self.disks.iter().enumerate() {
            qemu.args(["-drive", &disk(&format!("disk{index}"), *bytes)]);
        }
        for (index, device) in self.hardware.iter().enumerate() {
            if !device.ends_with("drive=") {
                qemu.args(["-device", device]);
                continue;
            }
            let path = work.path().join(format!("hardware{index}"));
            File::create(&path).unwrap().set_len(HARDWARE).unwrap();
            let drive = format!("file={},format=raw,if=none,id=hardware{index}", path.display());
            qemu.args(["-drive", &drive, "-device", &format!("{device}hardware{index}")]);
        }
        match self.port {
            Some(port) => qemu.args([
                "-nic",
                &format!("user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:18277"),
            ]),
            None => qemu.args(["-nic", "none"]),
        };
        let console = File::create(work.path().join("console")).unwrap();
        let child = qemu
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .map_err(|error| Skip(format!("qemu-system-x86_64: {error}")))?;
        Ok(Running { child, work, begun: Instant::now() })
    }

    /// Boots it, runs the scenario to its end, and reads what it left.
    pub(crate) fn run(&self, scenario: &str) -> Result<Results, Skip> {
        self.boot(scenario)?.finish(LIMIT)
    }
}

impl Running {
    /// Waits for the end of the scenario and reads what it left.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<Results, Skip> {
        let mut has_begun = false;
        let (mut beats, mut silent) = (0, 0);
        while self.child.try_wait().unwrap().is_none() {
            has_begun = has_begun || self.console().contains("@@ begun");
            if !has_begun && self.begun.elapsed() > BOOT {
                self.give_up(format_args!("{NOT_BOOTED} within {BOOT:?}"));
            }
            let heard = self.beats();
            silent = if has_begun && heard == beats { silent + 1 } else { 0 };
            beats = heard;
            if silent > SILENT_LOOKS && beats > 0 {
                self.give_up(format_args!("{STOPPED} after {beats} beats"));
            }
            if silent > SILENT_LOOKS {
                self.give_up(format_args!("`stalls` tells nothing of the guest's processors"));
            }
            if self.begun.elapsed() > limit {
                self.give_up(format_args!("the guest did not end within {limit:?}, {beats} beats"));
            }
            std::thread::sleep(LOOK);
        }
        let console = self.console();
        assert!(console.contains("@@ begun"), "{NOT_BOOTED}:\n{console}");
        assert!(console.contains("@@ done"), "the scenario did not reach its end:\n{console}");
        let listing =
            text(tool("tar")?.arg("-xf").arg(self.work.path().join("results.tar")).arg("-C").arg({
                let directory = self.work.path().join("results");
                fs::create_dir(&directory).unwrap();
                directory
            }));
        drop(listing);
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.work.path().join("results")).unwrap().flatten() {
            if entry.path().is_file() {
                let content = fs::read(entry.path()).unwrap();
                files.insert(
                    entry.file_name().to_string_lossy().into_owned(),
                    String::from_utf8_lossy(&content).into_owned(),
                );
            }
        }
        Ok(Results { files, console, took: self.begun.elapsed() })
    }

    /// Ends it, and the test.
    fn give_up(&mut self, why: fmt::Arguments<'_>) -> ! {
        let _ = self.child.kill();
        let _ = self.child.wait();
        panic!("{why}; its console:\n{}", self.console());
    }

    /// In how many seconds each of its processors ran a task, as `stalls` tells.
    fn beats(&self) -> u64 {
        fs::metadata(self.work.path().join("beats")).map_or(0, |file| file.len())
    }

    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.work.path().join("console")).unwrap()).into_owned()
    }

    /// Whether it still runs.
    pub(crate) fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_up() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a scenario left.
#[derive(Debug)]
pub(crate) struct Results {
    files: BTreeMap<String, String>,
    pub(crate) console: String,
    pub(crate) took: Duration,
}

impl Results {
    /// A file that the scenario left in `/results`.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.files.get(name).unwrap_or_else(|| panic!("the scenario left no `{name}`:\n{}", self.console))
    }

    /// The longest time that a processor of the guest stood still.
    pub(crate) fn stalled(&self) -> Duration {
        let longest = self.files.get("stalls").and_then(|text| text.trim().parse().ok());
        Duration::from_millis(longest.expect("`init` measures it"))
    }

    /// Whether it left a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// A scrape that it kept.
    pub(crate) fn metrics(&self, name: &str) -> Metrics {
        Metrics::parse(self.text(name))
    }

    /// Commands of the scenario that failed, each said by `run`.
    pub(crate) fn assert_no_failures(&self) {
        let failures: Vec<&str> = self.console.lines().filter(|line| line.contains("@@ failed")).collect();
        assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), self.console);
    }
}
