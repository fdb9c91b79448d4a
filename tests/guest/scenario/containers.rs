//! Containers of external metadata, names that people gave, and a number that is used again.

use crate::{kernel::Kernel, machine::Results};
use std::collections::HashMap;

const READS: &str = "tapster_block_io_duration_seconds";

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let metrics = results.metrics("containers.prom");
    let arrays: HashMap<&str, &str> =
        results.text("arrays").lines().filter_map(|line| line.split_once(' ')).collect();
    let context = || format!("{arrays:?}\n{}\n{}", results.text("md"), results.text("mdstat"));
    for (name, level) in [("ddf", "container"), ("imsm", "container"), ("safe", "raid1"), ("fast", "raid0")] {
        let array = arrays[name];
        let levels = metrics.values("tapster_raid_array_info", &[("array", array), ("name", name)], "level");
        assert_eq!(levels, [level], "{name}: {}", context());
        let labels = [("device", array), ("kind", "md"), ("name", name)];
        assert!(metrics.find("tapster_block_device_info", &labels).is_some(), "{name}: {}", context());
        let states: Vec<String> = ["inactive", "broken"]
            .into_iter()
            .filter(|state| {
                metrics.sum("tapster_raid_array_state", &[("array", array), ("state", state)]) > 0.0
            })
            .map(String::from)
            .collect();
        assert!(states.is_empty(), "{name} is {states:?}: {}", context());
        let has_state = metrics.find("tapster_raid_array_state", &[("array", array)]).is_some();
        assert_eq!(has_state, level != "container", "{name}: {}", context());
    }
    // The first word; behind it may be that bad blocks are kept outside of md.
    let state = |array: &str, member: &str| -> Vec<String> {
        let labels = [("array", arrays[array]), ("member", member)];
        let states = metrics.values("tapster_raid_member_info", &labels, "state");
        states.iter().filter_map(|state| state.split(',').next().map(String::from)).collect()
    };
    // mdadm may take any two of the three.
    let mut of_ddf: Vec<String> =
        ["ram0", "ram1", "ram2"].iter().flat_map(|disk| state("ddf", disk)).collect();
    of_ddf.sort();
    assert_eq!(of_ddf, ["in_use", "in_use", "spare"], "{}", context());
    for disk in ["ram3", "ram4"] {
        assert_eq!(state("imsm", disk), ["in_use"], "{}", context());
        assert_eq!(state("fast", disk), ["in_sync"], "{}", context());
    }
    let degraded = metrics.find("tapster_raid_array_degraded", &[("array", arrays["safe"])]);
    assert_eq!(degraded.map(f64::to_bits), Some(0), "{}", context());
    assert_eq!(metrics.find("tapster_raid_array_degraded", &[("array", arrays["ddf"])]), None);
    let writes = metrics.histogram(
        "tapster_raid_member_duration_seconds",
        &[("array", arrays["safe"]), ("operation", "write")],
    );
    assert!(writes.count() >= 2 * 256, "{} writes of members", writes.count());
    let listed = results.text("containers.raid");
    assert!(listed.contains(&format!("{} (ddf): container\n", arrays["ddf"])), "{listed}");
    assert!(!listed.contains("inactive"), "{listed}");

    let (first, second) = (results.metrics("first.prom"), results.metrics("second.prom"));
    let device = |name: &str, of: &crate::support::metrics::Metrics| {
        of.values("tapster_block_device_info", &[("kind", "dm"), ("name", name)], "device")
    };
    let number = device("vg-first", &first);
    assert_eq!(device("vg-second", &second), number, "the number was not used again");
    assert!(device("vg-first", &second).is_empty(), "it is gone");
    let reads = |of: &crate::support::metrics::Metrics, device: &str| {
        of.histogram(READS, &[("device", device), ("operation", "read")]).count()
    };
    assert_eq!((reads(&first, &number[0]), reads(&second, &number[0])), (16, 4), "each device's own");
    let gone = reads(&second, "~gone") - reads(&first, "~gone");
    assert_eq!(gone, 16, "what the first one had counted");
    format!("{} arrays in containers and out of them; {} again: 16, then 4 reads", arrays.len(), number[0])
}
