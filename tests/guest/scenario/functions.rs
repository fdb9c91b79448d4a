//! Functions of the kernel: as many calls as the kernel's own trace has, and as long as they were told to sleep.

use crate::{kernel::Kernel, machine::Results, support::metrics::whole};

/// How often the kernel's trace has an event by a task whose name begins so.
pub(super) fn calls(trace: &str, event: &str, task: &str) -> u64 {
    let event = format!(": {event}: ");
    let lines = trace.lines().filter(|line| line.contains(&event) && line.trim_start().starts_with(task));
    u64::try_from(lines.count()).unwrap()
}

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let (before, after) = (results.metrics("before.prom"), results.metrics("after.prom"));
    let trace = results.text("functions.trace");
    let reads = calls(trace, "vfs_read", "dd-");
    assert!(reads >= 1000, "dd was traced reading {reads} times");
    let mut figures = vec![format!("vfs_read {reads}")];
    for name in ["read_traced", "read_probed"] {
        let dd = [("comm", "dd")];
        let seen = after.histogram_since(&before, &format!("tapster_{name}_duration_seconds"), &dd);
        assert_eq!(seen.count(), reads, "{name}");
        let bytes = after.since(&before, &format!("tapster_{name}_bytes_total"), &dd);
        let wanted = after.since(&before, &format!("tapster_{name}_wanted_bytes_total"), &dd);
        // What else dd read is its own libraries' headers, if it has any.
        assert!(bytes >= 4_096_000 && wanted >= bytes, "{name}: {bytes} bytes of {wanted}");
    }
    // One label set for each name: some kernels leave rubbish behind a name that is shorter than its room.
    for name in ["read_traced", "read_probed"] {
        let names = after.values(&format!("tapster_{name}_bytes_total"), &[], "comm").len();
        assert_eq!(whole(after.sum("tapster_probe_series", &[("probe", name)])), names as u64, "{name}");
    }
    let sleeps = after.histogram_since(&before, "tapster_sleep_duration_seconds", &[("comm", "usleep")]);
    assert_eq!(sleeps.count(), 5);
    let (lower, upper) = sleeps.bucket_of_rank(1);
    assert!(lower < 0.05 && upper <= 0.25, "time: the shortest sleep within ({lower}, {upper}]");
    assert!(sleeps.sum >= 0.25, "slept {} s", sleeps.sum);
    let stripes = after.histogram_since(&before, "tapster_stripe_duration_seconds", &[]).count();
    assert!(stripes >= 128, "{stripes} bios through the stripe");
    assert_eq!(stripes, calls(trace, "stripe", ""), "raid0_make_request, a module's");
    figures.push(format!("raid0_make_request {stripes}"));
    figures.push(format!("5 sleeps of 50 ms took {:.1} ms each", sleeps.sum / 0.005));
    let check = results.text("check");
    let by = |what: &str| check.lines().any(|line| line.trim().ends_with(what));
    assert!(by("fexit:hrtimer_nanosleep by fexit"), "{check}");
    assert!(by("kretprobe:raid0_make_request by kretprobe"), "{check}");
    figures.join(", ")
}
