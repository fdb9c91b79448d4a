//! File systems: as many calls as the kernel's own trace and `fio` have; the page cache: as many hits and misses as
//! there were pages; overlays: calls inside calls of the same function, each with its own time.

use super::functions::calls;
use crate::{kernel::Kernel, machine::Results, support::metrics::Metrics};
use serde_json::Value;

/// Pages of the file that is read.
const PAGES: u64 = 1024;
/// Pages of the file in the overlay.
const LAYERED: u64 = 256;

fn fio(results: &Results, name: &str, what: &str) -> u64 {
    let report: Value = serde_json::from_str(results.text(name)).unwrap();
    report["jobs"][0][what]["total_ios"].as_u64().unwrap()
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let mut figures = Vec::new();
    let (before, after) = (results.metrics("before.prom"), results.metrics("after.prom"));
    for (kind, device, sync) in [
        ("ext4", "vdb", "ext4_sync_file"),
        ("xfs", "vdc", "xfs_file_fsync"),
        ("btrfs", "vdd", "btrfs_sync_file"),
    ] {
        figures.push(filesystem(results, &before, &after, kind, device, sync));
    }
    figures.push(page_cache(kernel, results));
    figures.push(overlay(results));
    for reason in ["max_series", "max_inflight", "busy", "fault"] {
        let dropped =
            results.metrics("overlay-after.prom").sum("tapster_probe_dropped_total", &[("reason", reason)]);
        assert!(dropped == 0.0, "{reason}: {dropped}");
    }
    figures.join("; ")
}

fn filesystem(
    results: &Results,
    before: &Metrics,
    after: &Metrics,
    kind: &str,
    device: &str,
    sync: &str,
) -> String {
    let trace = results.text("filesystems.trace");
    let (own, shared) = (format!("tapster_{kind}_duration_seconds"), "tapster_filesystem_duration_seconds");
    let mut counts = Vec::new();
    for (operation, function) in [
        ("read", format!("{kind}_file_read_iter")),
        ("write", format!("{kind}_file_write_iter")),
        ("open", format!("{kind}_file_open")),
        ("fsync", sync.to_owned()),
    ] {
        let traced = calls(trace, &function, "");
        let inside = after.histogram_since(before, &own, &[("device", device), ("operation", operation)]);
        let door = after.histogram_since(before, shared, &[("filesystem", kind), ("operation", operation)]);
        assert_eq!(inside.count(), traced, "{kind} {operation}: the trace of {function}");
        assert_eq!(door.count(), traced, "{kind} {operation}: through the door that all share");
        // The door is outside of the file system.
        assert!(inside.sum < door.sum, "{kind} {operation}: {} s inside, {} s outside", inside.sum, door.sum);
        counts.push(format!("{operation} {traced}"));
    }
    let since = |what: &str, operation: &str| {
        after.since(
            before,
            &format!("tapster_{kind}_{what}_total"),
            &[("device", device), ("operation", operation)],
        )
    };
    let traced = |function: &str| calls(trace, function, "fio-");
    assert_eq!(
        traced(&format!("{kind}_file_write_iter")),
        fio(results, &format!("{kind}-write.json"), "write")
    );
    assert_eq!(traced(&format!("{kind}_file_read_iter")), fio(results, &format!("{kind}-read.json"), "read"));
    assert_eq!(traced(sync), fio(results, &format!("{kind}-write.json"), "sync"));
    assert_eq!(
        (since("bytes", "write"), since("bytes", "read")),
        (PAGES * 4096, PAGES * 4096),
        "{kind}: bytes"
    );
    assert_eq!(
        since("errors", "read") + since("errors", "write") + since("errors", "open"),
        0,
        "{kind}: errors"
    );
    format!("{kind} {}", counts.join(", "))
}

fn page_cache(kernel: &Kernel, results: &Results) -> String {
    let [cold, warm, hot] = ["cold", "warm", "hot"].map(|name| results.metrics(&format!("{name}.prom")));
    let reads = |after: &Metrics, before: &Metrics, result: &str| {
        let labels = [("result", result)];
        let count =
            after.histogram_since(before, "tapster_page_cache_read_duration_seconds", &labels).count();
        let pages =
            |what: &str| after.since(before, &format!("tapster_page_cache_{what}_pages_total"), &labels);
        (count, pages("accessed"), pages("missed"))
    };
    let added = |after: &Metrics, before: &Metrics, what: &str| {
        after.since(before, &format!("tapster_page_cache_{what}_pages_total"), &[("device", "vdb")])
    };
    assert_eq!((fio(results, "cold.json", "read"), fio(results, "warm.json", "read")), (PAGES, PAGES));
    let (misses, accessed, missed) = reads(&warm, &cold, "miss");
    // Where the pages are is in the inode, which may have to be read first.
    assert_eq!((misses, accessed), (PAGES, PAGES), "reads of what was not there");
    assert_eq!(missed, PAGES, "pages that were not there");
    assert_eq!(added(&warm, &cold, "added"), PAGES, "pages that entered");
    assert_eq!(reads(&hot, &warm, "miss").0, 0, "all was there the second time");
    assert_eq!(reads(&hot, &warm, "hit"), (PAGES, PAGES, 0), "reads of what was there");
    assert_eq!(added(&hot, &warm, "added"), 0, "nothing entered the second time");
    // In order: fewer reads than pages have to wait, and as many pages come in.
    let (before, after) = (results.metrics("ordered-before.prom"), results.metrics("ordered-after.prom"));
    let (hit, miss) = (reads(&after, &before, "hit"), reads(&after, &before, "miss"));
    assert_eq!((hit.1 + miss.1, miss.2), (PAGES, PAGES), "read ahead: {hit:?}, {miss:?}");
    assert!(miss.0 < PAGES / 4, "read ahead: {miss:?}");
    // Linux 5.10 makes a page for the read that finds the end, too.
    let beyond = u64::from(kernel.release.starts_with("5.10."));
    assert_eq!(added(&after, &before, "added"), PAGES + beyond, "pages that entered");
    let left = added(&results.metrics("dropped.prom"), &after, "removed");
    assert!(left >= PAGES, "{left} pages left");
    format!("page cache {misses} misses, then {PAGES} hits; in order {} misses, {} hits", miss.0, hit.0)
}

fn overlay(results: &Results) -> String {
    let (before, after) = (results.metrics("overlay-before.prom"), results.metrics("overlay-after.prom"));
    let trace = results.text("overlay.trace");
    let (outer, nested) = (calls(trace, "vfs_read", "dd-"), calls(trace, "vfs_iter_read", "dd-"));
    // One more that finds the end.
    assert_eq!(nested, 2 * (LAYERED + 1), "two layers below each read");
    let seen =
        |kind: &str| after.histogram_since(&before, "tapster_layer_duration_seconds", &[("type", kind)]);
    let (upper, lower) = (seen("overlay"), seen("ext4"));
    assert_eq!(
        (upper.count(), lower.count()),
        (LAYERED + 1, LAYERED + 1),
        "calls inside calls of the same function"
    );
    let whole = after.histogram_since(&before, "tapster_outermost_duration_seconds", &[("comm", "dd")]);
    assert!(outer > LAYERED && whole.count() >= LAYERED, "{outer} traced, {} seen", whole.count());
    // Each has the time of those below it in its own, rank by rank: were they taken for each other, it would not be so.
    assert!(lower.sum < upper.sum && upper.sum < whole.sum, "{} < {} < {}", lower.sum, upper.sum, whole.sum);
    let read = after.histogram_since(
        &before,
        "tapster_filesystem_duration_seconds",
        &[("filesystem", "overlay"), ("operation", "read")],
    );
    assert_eq!(read.count(), LAYERED + 1, "reads of the overlay as a program makes them");
    format!(
        "overlay on overlay on ext4: {} calls in {} calls, {:.1} ms in {:.1} ms",
        lower.count(),
        upper.count(),
        lower.sum * 1e3,
        upper.sum * 1e3
    )
}
