//! Devices that are slow on purpose, that come and go, and whose number another one gets.

use super::{COUNT, MIB, Target, assert_not_longer, figures, mean, measure, rank};
use crate::support::{
    cases::{Outcome, Skip},
    command::tool,
    device::{LoopDevice, disk_of, filled_file},
    exporter::{Tapster, within},
    fio::{Job, PERCENTILE_ERROR},
    metrics::whole,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// A cgroup of the test's own, gone when dropped.
struct Group(PathBuf);

impl Group {
    fn new(parent: &Path) -> Result<Self, Skip> {
        let path = parent.join(format!("tapster-test-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| Skip(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last of its processes may be a moment in leaving.
        let _ = within(Duration::from_secs(5), || fs::remove_dir(&self.0).is_ok());
    }
}

/// A known rate is a known latency: the file behind a loop device may be read ten times a second.
pub(super) fn delayed(tapster: &Tapster, directory: &Path) -> Outcome {
    const READS: u64 = 30;
    const PER_SECOND: u64 = 10;
    let groups = Path::new("/sys/fs/cgroup/blkio");
    if !groups.join("blkio.throttle.read_iops_device").exists() {
        return Err(Skip("no blkio cgroup (v1) with throttling".into()));
    }
    let disk = disk_of(directory)?;
    let file = filled_file(&directory.join("delayed"), MIB);
    let device = LoopDevice::over(&file, &["--direct-io=on"])?;
    // Until it is used, a scrape has what another device of its name had counted.
    Job { pattern: "read", bytes: 4096, block_bytes: 4096, depth: 1, target: &device.path, extra: &[] }
        .run()?;
    let group = Group::new(groups)?;
    let number = fs::read_to_string(format!("/sys/block/{disk}/dev")).unwrap();
    let limit = format!("{} {PER_SECOND}", number.trim());
    fs::write(group.0.join("blkio.throttle.read_iops_device"), limit).unwrap();
    let target = Target::exclusive(device.name(), &device.path);
    let job = Job {
        target: &device.path,
        pattern: "randread",
        block_bytes: 4096,
        depth: 1,
        bytes: READS * 4096,
        extra: &[],
    };
    let measured = measure(tapster, &target, &job, || {
        let mut shell = tool("sh")?;
        let fio = tool("fio")?;
        let script = format!(
            "echo $$ >'{}/cgroup.procs' && exec nice -n -20 '{}' \"$@\"",
            group.0.display(),
            fio.get_program().display()
        );
        shell.args(["-c", &script, "fio"]);
        Ok(job.run_by(shell))
    })?;
    assert_not_longer(&job, &measured);
    let (ours, fio) = (mean(&measured.histogram), measured.report.mean);
    // The throttle lets some go at once at the beginning. What `fio` does between two reads, and how long a busy
    // host lets it wait for a CPU, is not the device's time and is left as a tenth.
    let allowed = (READS as f64 / PER_SECOND as f64 - 0.3) / READS as f64;
    if fio < allowed * 0.9 {
        return Err(Skip(format!(
            "the throttle does not reach the file behind the loop device: mean {fio} s"
        )));
    }
    assert!(ours >= allowed * 0.9, "mean {ours} below what the throttle allows, {allowed}");
    assert!(ours >= fio * 0.9, "mean {ours} far below fio's {fio}");
    for (percentile, fio) in measured.report.percentiles.iter().filter(|(_, fio)| *fio > 0.05) {
        let (lower, upper) = measured.histogram.bucket_of_rank(rank(*percentile, READS));
        let bracket = lower..=upper * 1.1;
        assert!(
            bracket.contains(&(fio / (1.0 + PERCENTILE_ERROR))) || bracket.contains(fio),
            "p{percentile}: fio {fio} not in {bracket:?}"
        );
    }
    Ok(format!("{:.1} ms each, fio {:.1} ms; {}", ours * 1e3, fio * 1e3, figures(&job, &measured)))
}

/// Devices come and go while scrapes run.
pub(super) fn vanishing(tapster: &Tapster, directory: &Path) -> Outcome {
    const ROUNDS: usize = 10;
    let file = filled_file(&directory.join("vanishing"), MIB);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut scrapes = 0;
            while !done.load(Ordering::Relaxed) {
                let metrics = tapster.scrape();
                assert_eq!(metrics.find("tapster_probe_up", &[("probe", "block_io")]), Some(1.0));
                scrapes += 1;
            }
            scrapes
        });
        let attach = || {
            for _ in 0..ROUNDS {
                let device = LoopDevice::over(&file, &[])?;
                let job = Job {
                    target: &device.path,
                    pattern: "read",
                    block_bytes: 4096,
                    depth: 1,
                    bytes: 65536,
                    extra: &[],
                };
                job.run()?;
                device.detach();
            }
            Ok(())
        };
        let result = attach();
        done.store(true, Ordering::Relaxed);
        let scrapes = scraper.join().unwrap();
        result?;
        Ok(format!("{scrapes} scrapes while a device came and went {ROUNDS} times"))
    })
}

/// What is counted has the name of the device that had the number then. The kernel's own numbers are not ours to
/// give away, so the exporter is shown a sysfs in which the link changes.
pub(super) fn renumbered(directory: &Path) -> Outcome {
    let sysfs = directory.join("sysfs");
    let links = sysfs.join("dev/block");
    fs::create_dir_all(&links).unwrap();
    // Without the number of events of devices, of which a link that is changed by hand makes none.
    fs::create_dir(sysfs.join("kernel")).unwrap();
    for entry in fs::read_dir("/sys/kernel").unwrap().map(Result::unwrap) {
        if entry.file_name() != "uevent_seqnum" {
            std::os::unix::fs::symlink(entry.path(), sysfs.join("kernel").join(entry.file_name())).unwrap();
        }
    }
    std::os::unix::fs::symlink("/sys/fs", sysfs.join("fs")).unwrap();
    std::os::unix::fs::symlink("/sys/devices", sysfs.join("devices")).unwrap();
    let file = filled_file(&directory.join("renumbered"), MIB);
    let device = LoopDevice::over(&file, &[])?;
    let numbers = fs::read_to_string(format!("/sys/block/{}/dev", device.name())).unwrap();
    let link = links.join(numbers.trim());
    let lead = |name: &str| {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(format!("../../devices/virtual/block/{name}"), &link).unwrap();
    };
    lead("first");
    let tapster = Tapster::start(&["--path.sysfs", sysfs.to_str().unwrap()]);
    let job = Job {
        target: &device.path,
        pattern: "read",
        block_bytes: 4096,
        depth: 1,
        bytes: 16 * 4096,
        extra: &[],
    };
    job.run()?;
    let named = |name: &str| {
        whole(
            tapster
                .settled(COUNT, &[("device", name)])
                .sum(COUNT, &[("device", name), ("operation", "read")]),
        )
    };
    let count = named("first");
    assert!(count >= 16, "{count} reads of `first`");
    fs::remove_file(&link).unwrap();
    assert_eq!(named("first"), count, "a device that is gone keeps its name");
    lead("second");
    assert_eq!((named("first"), named("second")), (count, 0), "nothing was counted for the second yet");
    job.run()?;
    let second = named("second");
    assert!(second >= 16, "{second} reads of `second`");
    assert_eq!(named("first"), count, "what the second counts is not the first's");
    Ok(format!("{count} reads under the first name, {second} under the second"))
}
