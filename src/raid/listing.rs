//! The members of an array, in the form of `mdadm --detail`.

use super::mdstat;
use crate::{
    name,
    table::table,
    topology::{Array, ArrayMember, MAX_MEMBERS},
};
use std::{collections::HashMap, fmt::Write};

/// Lists arrays with their members; `mdstat` has the numbers of md's members.
pub fn listing(arrays: &[&Array], mdstat: &str) -> String {
    let numbers = mdstat::numbers(mdstat);
    let mut text = String::new();
    for array in arrays {
        let _ = writeln!(text, "{}", headline(array));
        let rows = rows(array, &numbers);
        let titles = ["Number", "Major", "Minor", "RaidDevice", "State", "Device"].map(String::from);
        text += &table(
            &std::iter::once(titles).chain(rows).collect::<Vec<_>>(),
            &[true, true, true, true, false, false],
        );
        text.push('\n');
    }
    text
}

/// The array in a line: `md0: raid5 of 3 devices, clean, 1 missing, recover (25.0 % done)`.
fn headline(array: &Array) -> String {
    let mut text = array.name.clone();
    if array.title != array.name {
        let _ = write!(text, " ({})", array.title);
    }
    let _ = write!(text, ": {}", array.level);
    match array.disks {
        Some(1) => text += " of 1 device",
        Some(disks) => {
            let _ = write!(text, " of {disks} devices");
        }
        None => {}
    }
    if let Some(state) = &array.state {
        let _ = write!(text, ", {state}");
    }
    if let Some(missing @ 1..) = array.degraded {
        let _ = write!(text, ", degraded: {missing} missing");
    }
    if let Some(action) = array.action.as_ref().filter(|action| *action != "idle") {
        let _ = write!(text, ", {action}{}", done(array));
    }
    text
}

/// ` (25.0 % done)`, while an action runs.
pub(super) fn done(array: &Array) -> String {
    array.completed.map(|part| format!(" ({:.1} % done)", part * 100.0)).unwrap_or_default()
}

/// A row for each slot of the array, occupied or not, and for each other device.
fn rows(array: &Array, numbers: &HashMap<(&str, &str), u64>) -> Vec<[String; 6]> {
    let place = |member: &ArrayMember| member.slot.parse::<u64>().ok();
    let most = u64::try_from(MAX_MEMBERS).unwrap_or(u64::MAX);
    let removed = (0..array.disks.unwrap_or(0).min(most))
        .filter(|slot| !array.members.iter().any(|member| place(member) == Some(*slot)))
        .map(|slot| {
            let row = ["-".into(), "0".into(), "0".into(), slot.to_string(), "removed".into(), String::new()];
            (slot, row)
        });
    let mut rows: Vec<(u64, [String; 6])> = array
        .members
        .iter()
        .map(|member| {
            let dash = || "-".to_owned();
            let number = numbers.get(&(array.name.as_str(), member.name.as_str())).map(ToString::to_string);
            let parts = member.device.map(name::parts);
            let row = [
                number.unwrap_or_else(dash),
                parts.map_or_else(dash, |(major, _)| major.to_string()),
                parts.map_or_else(dash, |(_, minor)| minor.to_string()),
                place(member).map_or_else(dash, |slot| slot.to_string()),
                state(member),
                format!("/dev/{}", member.name),
            ];
            (place(member).unwrap_or(u64::MAX), row)
        })
        .chain(removed)
        .collect();
    rows.sort_by_key(|(slot, _)| *slot);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// A state in mdadm's words: `in_sync` is `active sync`, a spare with a slot is being rebuilt.
fn state(member: &ArrayMember) -> String {
    let has_place = member.slot.parse::<u64>().is_ok();
    let words: Vec<&str> = member
        .state
        .split(',')
        .map(|word| match word {
            "in_sync" => "active sync",
            "spare" if has_place => "spare rebuilding",
            "write_mostly" => "writemostly",
            other => other,
        })
        .collect();
    words.join(" ")
}
