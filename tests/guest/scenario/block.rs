//! Every I/O of every kind of block device counted once, at the first attempt: nothing in the guest but this load.

use crate::{kernel::Kernel, machine::Results, support::metrics::Metrics};
use serde_json::Value;

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let mut figures = Vec::new();
    for (device, has_requests) in [("ram0", false), ("nullb0", true), ("loop0", true), ("vdb", true)] {
        let mut total = 0;
        for (load, operation) in
            [("randread", "read"), ("randwrite", "write"), ("read", "read"), ("write", "write")]
        {
            let name = format!("{device}-{load}");
            let scrape = |when: &str| results.metrics(&format!("{name}-{when}.prom"));
            let (before, after) = (scrape("before"), scrape("after"));
            let json: Value = serde_json::from_str(results.text(&format!("{name}.json"))).unwrap();
            let fio = &json["jobs"][0][operation];
            let (ios, bytes) = (fio["total_ios"].as_u64().unwrap(), fio["io_bytes"].as_u64().unwrap());
            assert!(ios >= 64, "{name}: fio did {ios}");
            let labels = [("device", device), ("operation", operation)];
            let ours = after.histogram_since(&before, "tapster_block_io_duration_seconds", &labels);
            assert_eq!(ours.count(), ios, "{name}: I/Os, ours and fio's");
            assert_eq!(after.since(&before, "tapster_block_io_bytes_total", &labels), bytes, "{name}: bytes");
            assert_eq!(after.since(&before, "tapster_block_io_errors_total", &labels), 0, "{name}: errors");
            let inside = after.histogram_since(&before, "tapster_block_device_duration_seconds", &labels);
            if has_requests {
                assert!(inside.count() > 0, "{name}: no request was seen");
                // Large ones are split into requests that are inside at the same time.
                if load.starts_with("rand") {
                    assert!(inside.count() <= ios, "{name}: {} requests for {ios} I/Os", inside.count());
                    // Both times end at one event, the request's after the program of the I/O's has run.
                    let probe = [("probe", "block_io")];
                    let runs = |scrape: &Metrics| scrape.sum("tapster_probe_run_seconds_total", &probe);
                    let (under_way, between) = (ours.sum, runs(&after) - runs(&before));
                    assert!(
                        inside.sum <= under_way + between,
                        "{name}: {} s inside the device, {under_way} s under way, {between} s in the program between",
                        inside.sum
                    );
                }
            } else {
                assert_eq!(inside.count(), 0, "{name}: a device without requests");
            }
            total += ios;
        }
        figures.push(format!("{device} {total}"));
    }
    format!("I/Os counted as fio: {}; {}", figures.join(", "), pages(kernel, results))
}

/// What no event tells is found by the kernel's own account, and what events tell is not taken for it.
fn pages(kernel: &Kernel, results: &Results) -> String {
    let (before, after) = (results.metrics("pages-before.prom"), results.metrics("pages-after.prom"));
    let account: Vec<u64> =
        results.text("pages.stat").split_whitespace().map(|word| word.parse().unwrap()).collect();
    let own = account[2] * 512;
    assert!(own >= 32 << 20, "the kernel's account of zram0: {account:?}");
    let labels = [("device", "zram0"), ("operation", "read")];
    let counted = after.since(&before, "tapster_block_io_bytes_total", &labels);
    let unseen = after.find("tapster_block_unseen_bytes", &labels[..1]);
    let has_pages = ["5.10.", "6.1."].iter().any(|series| kernel.release.starts_with(series));
    let is_told = results.text("tapster.log").contains("that no event told");
    let text = format!("zram: {own} bytes, {counted} counted, {unseen:?} unseen");
    assert_eq!((unseen.is_some(), is_told), (has_pages, has_pages), "{text}");
    if has_pages {
        assert!(unseen.is_some_and(|bytes| bytes > 16e6) && counted < own / 2, "{text}");
    } else {
        assert!(counted >= 32 << 20, "{text}");
    }
    text
}
