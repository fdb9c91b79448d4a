//! The families that describe arrays.

use super::{Array, Topology};
use crate::family::{FamilyKind, MetricFamily};

/// The states of an md array, by the kernel's names.
const STATES: [&str; 10] = [
    "clear",
    "inactive",
    "suspended",
    "readonly",
    "read-auto",
    "clean",
    "active",
    "write-pending",
    "active-idle",
    "broken",
];

/// The actions of an array on itself, by the kernel's names.
const ACTIONS: [&str; 7] = ["idle", "resync", "recover", "check", "repair", "reshape", "frozen"];

/// The families of a snapshot: none without an array. The names of devices are told with what else is known of them, in
/// [`crate::disks`].
pub fn families(topology: &Topology) -> Vec<MetricFamily> {
    let arrays = topology.arrays();
    let mut info = gauge(
        "tapster_raid_array_info",
        "An array: its level, its driver and the driver's name of it; always 1.",
        &["array", "level", "kind", "name"],
    );
    let mut members = gauge(
        "tapster_raid_member_info",
        "A member of an array: its place and its state; always 1.",
        &["array", "level", "member", "slot", "state"],
    );
    for array in arrays {
        info.push(&[&array.name, &array.level, array.kind.name(), &array.title], 1.0);
        for member in &array.members {
            members.push(&[&array.name, &array.level, &member.name, &member.slot, &member.state], 1.0);
        }
    }
    let mut all = vec![
        info,
        members,
        numbers(arrays, "disks", "Members that the array has when it is complete.", |array| {
            array.disks.map(number)
        }),
        numbers(
            arrays,
            "degraded",
            "Members that the array lacks; absent for levels without redundancy.",
            |array| array.degraded.map(number),
        ),
        states(
            arrays,
            "array_state",
            "state",
            &STATES,
            "State of the array: 1 for the one it is in.",
            |array| array.state.as_deref(),
        ),
        states(
            arrays,
            "array_sync_action",
            "action",
            &ACTIONS,
            "What the array does to itself: 1 for what it does now; absent for levels that never do.",
            |array| array.action.as_deref(),
        ),
        numbers(
            arrays,
            "sync_completed_ratio",
            "How much of the current sync action is done; absent while there is none.",
            |array| array.completed,
        ),
    ];
    all.retain(|family| !family.samples.is_empty());
    all
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> MetricFamily {
    MetricFamily::new(name, help, FamilyKind::Gauge, labels)
}

#[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
fn number(count: u64) -> f64 {
    count as f64
}

/// A family with a number for each array that has it.
fn numbers(arrays: &[Array], name: &str, help: &str, value: impl Fn(&Array) -> Option<f64>) -> MetricFamily {
    let mut family = gauge(&format!("tapster_raid_array_{name}"), help, &["array"]);
    for array in arrays {
        if let Some(value) = value(array) {
            family.push(&[&array.name], value);
        }
    }
    family
}

/// A row for each known word, 1 for the current one, which may be an unknown word.
fn states(
    arrays: &[Array],
    name: &str,
    label: &str,
    known: &[&str],
    help: &str,
    current: impl Fn(&Array) -> Option<&str>,
) -> MetricFamily {
    let mut family = gauge(&format!("tapster_raid_{name}"), help, &["array", label]);
    for array in arrays {
        let Some(current) = current(array) else { continue };
        for word in known {
            family.push(&[&array.name, word], f64::from(u8::from(*word == current)));
        }
        if !known.contains(&current) {
            family.push(&[&array.name, current], 1.0);
        }
    }
    family
}
