//! Whose block I/O it is: what `fio` in a container says that it did, and the kernel's account of the device.

use crate::{
    Contained, Window, assert_between,
    support::{
        cases::{Attempt, Cases, Outcome, unless_hidden},
        command::{text, tool},
        control::{disk::DiskControl, event::EventControl},
        device::{LoopDevice, Stat, filled_file, memory_directory, wait_quiet},
        exporter::Tapster,
        fio::Job,
    },
};
use std::process::Command;

const MIB: u64 = 1 << 20;

fn by_whom() -> Outcome {
    let directory = memory_directory()?;
    let device = LoopDevice::over(&filled_file(&directory.path().join("disk"), 16 * MIB), &[])?;
    let name = device.name();
    wait_quiet(&name);
    let contained = Contained::new()?;
    let tapster = contained.start("block_container,block_cgroup,block_command,block_io");
    let fio = tool("fio")?.get_program().to_string_lossy().into_owned();
    let mut figures = Vec::new();
    for pattern in ["randread", "randwrite"] {
        let job =
            Job { target: &device.path, pattern, block_bytes: 8192, depth: 4, bytes: 8 * MIB, extra: &[] };
        let control = DiskControl::new(&name)?;
        let before = Stat::of(&name);
        let mut shell = contained.shell(&format!("exec {fio} \"$@\""));
        shell.arg("fio");
        let (window, report) = Window::of(&tapster, || {
            let report = job.run_by(shell);
            wait_quiet(&name);
            report
        });
        let kernel = Stat::of(&name).since(before);
        let operation = job.operation();
        let (ios, lost) = (report.ios, control.lost_bios());
        assert_eq!(kernel.direction(operation).sectors * 512, report.bytes, "the kernel's account");
        let on_device = [("device", name.as_str()), ("operation", operation)];
        let of_io = window.histogram("tapster_block_io_duration_seconds", &on_device).sum;
        let cgroup = |metrics: &crate::support::metrics::Metrics| {
            let all = metrics.values("tapster_block_cgroup_io_total", &on_device, "cgroup");
            all.into_iter().find(|path| path.ends_with(&contained.container.path)).unwrap_or_default()
        };
        let path = cgroup(&window.after);
        let who: [(&str, Vec<(&str, &str)>); 3] = [
            ("container", contained.labels(&on_device)),
            ("cgroup", [&on_device[..], &[("cgroup", path.as_str())]].concat()),
            ("command", [&on_device[..], &[("comm", "fio")]].concat()),
        ];
        for (who, labels) in who {
            let family = |what: &str| format!("tapster_block_{who}_io{what}_total");
            let found = window.count(&family(""), &labels);
            assert_between(&format!("{operation} by {who}"), found, (ios, ios), lost);
            let bytes = window.count(&family("_bytes"), &labels);
            assert_eq!(bytes, found * 8192, "{operation} by {who}");
            let seconds = window.seconds(&family("_seconds"), &labels);
            // fio's clock begins before the submission and ends behind the completion. Each probe reads its own clock, a microsecond
            // from the next one's.
            let most = report.mean * ios as f64;
            assert!(seconds > 0.0 && seconds < most, "{operation} by {who}: {seconds} s, fio says {most}");
            assert!(
                (seconds - of_io).abs() <= (found + lost) as f64 * 2e-6,
                "{operation} by {who}: {seconds} s, of the device {of_io}"
            );
            figures.push(format!("{found} of {ios} {operation} by {who} in {seconds:.4} of {most:.4} s"));
        }
    }
    Ok(figures.join(", "))
}

/// What fio reads and writes one after the other, and here and there; what is read ahead waits for nobody.
fn access() -> Outcome {
    const FAMILY: &str = "tapster_block_access_total";
    let directory = memory_directory()?;
    let device = LoopDevice::over(&filled_file(&directory.path().join("disk"), 64 * MIB), &[])?;
    let name = device.name();
    wait_quiet(&name);
    let tapster = Tapster::start(&["--strict", "--probes", "block_access"]);
    let mut figures = Vec::new();
    for pattern in ["read", "write", "randread", "randwrite"] {
        let job =
            Job { target: &device.path, pattern, block_bytes: 8192, depth: 1, bytes: 8 * MIB, extra: &[] };
        let job = if pattern.starts_with("rand") {
            Job { extra: &["--io_size=8m"], bytes: 64 * MIB, ..job }
        } else {
            job
        };
        let control = DiskControl::new(&name)?;
        let (window, report) = Window::of(&tapster, || {
            let report = job.run();
            wait_quiet(&name);
            report
        });
        let report = report?;
        let (lost, operation) = (control.lost_issues(), job.operation());
        let of = |more: &[(&str, &str)]| {
            window.count(FAMILY, &[&[("device", name.as_str()), ("operation", operation)], more].concat())
        };
        let all = of(&[]);
        // The disk's first request has none before it.
        assert_between(pattern, all, (report.ios - 1, report.ios), lost);
        assert_eq!(of(&[("wait", "yes")]), all, "{pattern}: fio waits for each");
        let bytes = window.count("tapster_block_access_bytes_total", &[("device", &name)]);
        assert_eq!(bytes, all * 8192, "{pattern}");
        let sequential = of(&[("access", "sequential")]);
        if pattern.starts_with("rand") {
            // One in eight thousand follows by chance.
            assert!(sequential <= all / 100, "{pattern}: {sequential} of {all}");
        } else {
            // A request that is hidden makes the next look as if it were elsewhere.
            assert_between(pattern, sequential, (report.ios - 2, report.ios), 2 * lost);
        }
        figures.push(format!("{sequential} of {all} {pattern} are sequential"));
    }
    text(tool("blockdev")?.arg("--flushbufs").arg(&device.path));
    let (window, _) = Window::of(&tapster, || std::fs::read(&device.path).unwrap());
    let labels = |wait| [("device", name.as_str()), ("operation", "read"), ("wait", wait)];
    let ahead = window.count(FAMILY, &labels("no"));
    assert!(ahead > 0, "nothing was read ahead");
    figures.push(format!("{ahead} read ahead"));
    Ok(figures.join(", "))
}

/// Reads of a disk whose file has become shorter.
fn errors() -> Outcome {
    const READS: u64 = 7;
    let directory = memory_directory()?;
    let file = filled_file(&directory.path().join("disk"), 4 * MIB);
    let device = LoopDevice::over(&file, &[])?;
    let name = device.name();
    wait_quiet(&name);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(2 * MIB).unwrap();
    unless_hidden("failed requests", 3, || {
        let tapster = Tapster::start(&["--strict", "--probes", "block_errors"]);
        // BLK_STS_IOERR, on all disks.
        let control = EventControl::with(c"block_rq_complete", &[(1, 10)])?;
        let (window, ()) = Window::of(&tapster, || {
            for block in 0..READS {
                let mut dd = Command::new("dd");
                dd.arg(format!("if={}", device.path.display())).arg(format!("skip={}", 768 + block));
                let status =
                    dd.args(["of=/dev/null", "bs=4096", "count=1", "iflag=direct", "status=none"]).output();
                assert!(!status.unwrap().status.success(), "what is not there was read");
            }
        });
        let labels = [("device", name.as_str()), ("error", "EIO")];
        let found = window.count("tapster_block_request_errors_total", &labels);
        if found != READS {
            let lost = READS.saturating_sub(control.count());
            return Ok(Attempt::Short { why: format!("{found} of {READS}"), lost });
        }
        let bytes = window.count("tapster_block_request_error_bytes_total", &labels);
        assert_eq!(bytes, READS * 4096);
        Ok(Attempt::Done(format!("{found} of {READS}, {bytes} bytes")))
    })
}

pub(crate) fn all(cases: &mut Cases) {
    cases.run("whose block I/O it is, beside fio and the kernel's account", by_whom);
    cases.run("whether requests are sequential, beside fio", access);
    cases.run("requests that fail, beside who asked", errors);
}
