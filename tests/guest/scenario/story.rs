//! The array of the story: every count exact, the delayed member told from its peers.

use crate::{kernel::Kernel, machine::Results, trace};

const FAMILY: &str = "tapster_raid_member_duration_seconds";
/// What `dm-delay` was told.
const DELAY: f64 = 0.05;

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let (before, after) = (results.metrics("before.prom"), results.metrics("after.prom"));
    let text = results.text("story.trace");
    let (seen, remaps) = (trace::members(text), trace::remaps(text));
    let mut figures = Vec::new();
    for slot in 0..8_u32 {
        let (member, device) =
            if slot == 7 { ("dm-0".to_owned(), None) } else { (format!("ram{slot}"), Some(slot)) };
        let slot = slot.to_string();
        let labels = [
            ("array", "md0"),
            ("level", "raid0"),
            ("member", member.as_str()),
            ("slot", slot.as_str()),
            ("operation", "read"),
        ];
        let ours = after.histogram_since(&before, FAMILY, &labels);
        let missed = after.since(&before, "tapster_probe_missed_total", &[("probe", "raid_member")]);
        // A run that the kernel leaves out is counted; nothing else may be lost.
        assert!(
            (160 - missed.min(160)..=160).contains(&ours.count()),
            "{member}: {} of 160; the kernel left out {missed} runs of the probe's programs",
            ours.count()
        );
        if ours.count() < 160 {
            figures.push(format!("{member} {} and {missed} runs left out", ours.count()));
        }
        // The number of a device-mapper device is given when the driver is loaded.
        let is_member = |found: &str| match device {
            Some(minor) => found == format!("1,{minor}"),
            None => found.ends_with(",0") && !found.starts_with("1,"),
        };
        let of_member = |array: &str, found: &str| array == "9,0" && is_member(found);
        let counts = remaps.iter().filter(|((array, found, _), _)| of_member(array, found));
        let remapped: u64 = counts.map(|(_, count)| count).sum();
        assert_eq!(remapped, 160, "{member}: as the kernel's trace has it");
        let (_, theirs) = seen
            .iter()
            .find(|((array, found), _)| of_member(array, found))
            .expect("the trace has the member");
        assert_eq!(theirs.count, 160, "{member}: bios from submission to completion in the kernel's trace");
        // The trace stands a few events apart from us, and each costs some time under emulation.
        let apart = (ours.sum - theirs.sum).abs() / 160.0;
        assert!(
            apart < 150e-6 + 0.02 * ours.sum / 160.0,
            "time: {member}: {} s, the trace has {}",
            ours.sum,
            theirs.sum
        );
        let (lower, upper) = ours.bucket_of_rank(80);
        if member == "dm-0" {
            assert!(lower < DELAY && DELAY <= upper, "time: {member}: half within ({lower}, {upper}]");
            assert!(ours.sum / 160.0 >= DELAY, "{member}: shorter than the delay");
            figures.push(format!("dm-0 160 × {:.1} ms (trace {:.1})", ours.sum / 0.16, theirs.sum / 0.16));
        } else {
            assert!(upper < DELAY / 8.0, "time: {member}: half within ({lower}, {upper}]");
            if slot == "0" {
                figures.push(format!(
                    "ram0 160 × {:.3} ms (trace {:.3})",
                    ours.sum / 0.16,
                    theirs.sum / 0.16
                ));
            }
        }
    }
    for reason in ["max_series", "max_inflight", "busy", "each_limit"] {
        assert_eq!(after.sum("tapster_probe_dropped_total", &[("reason", reason)]).to_bits(), 0, "{reason}");
    }
    let command = results.text("story-raid.txt");
    let sentence = command.lines().find(|line| line.contains("slow") && line.contains("dm-0"));
    figures.push(
        sentence
            .unwrap_or_else(|| panic!("time: `tapster raid` names no slow member:\n{command}"))
            .to_owned(),
    );
    figures.push(report(results.text("report.txt")));
    figures.join(", ")
}

/// The table of `tapster report`: every device once, sorted by its time, with the count that the array makes of the load.
fn report(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("tapster_block_io_duration_seconds: "));
    let titles: Vec<&str> = lines.by_ref().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(titles[..5], ["device", "operation", "total", "count", "average"], "{text}");
    let rows: Vec<Vec<&str>> =
        lines.take_while(|line| !line.is_empty()).map(|line| line.split_whitespace().collect()).collect();
    let found = |device: &str| {
        let mut rows = rows.iter().filter(|row| row[..2] == [device, "read"]);
        let row = rows.next().unwrap_or_else(|| panic!("no {device}:\n{text}"));
        assert!(rows.next().is_none(), "{device} twice:\n{text}");
        // The total is a number and its unit, and so is the average.
        (row[4], row[5].parse::<f64>().unwrap(), row[6])
    };
    for ram in 0..7 {
        assert_eq!(found(&format!("ram{ram}")).0, "160", "{text}");
    }
    let (count, average, unit) = found("dm-0");
    assert!(count == "160" && average >= DELAY * 1e3 && unit == "ms", "{text}");
    // Two jobs of 64 reads; how many bios each of them is, is for the kernel to say.
    assert!(found("md0").0.parse::<u64>().unwrap() >= 128, "{text}");
    // The array waits for its slowest member, so these two have taken the most time.
    let first: Vec<&str> = rows.iter().take(2).map(|row| row[0]).collect();
    assert!(first.contains(&"md0") && first.contains(&"dm-0"), "{text}");
    format!("report: dm-0 160 × {average} ms")
}
