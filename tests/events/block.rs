//! Whose block I/O it is: what `fio` in a container says that it did, and the kernel's account of the device.

use crate::{
    Contained, Window, assert_between,
    support::{
        cases::{Cases, Outcome},
        command::tool,
        control::disk::DiskControl,
        device::{LoopDevice, Stat, filled_file, memory_directory, wait_quiet},
        fio::Job,
    },
};

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

pub(crate) fn all(cases: &mut Cases) {
    cases.run("whose block I/O it is, beside fio and the kernel's account", by_whom);
}
