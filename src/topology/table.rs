//! Parses lines of device-mapper tables, and of their status, as arrays.
//!
//! The form of a line depends on the target; these are the forms that the kernel prints for `striped`, `linear`, `mirror` and
//! `raid` (`Documentation/admin-guide/device-mapper`). A line of another form is no array.

use super::{MAX_MEMBERS, md};
use crate::{name, sys::DmTarget};

/// An array from its table and status.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArrayTable {
    pub(super) level: String,
    pub(super) disks: u64,
    pub(super) degraded: Option<u64>,
    pub(super) action: Option<String>,
    pub(super) completed: Option<f64>,
    pub(super) announces: bool,
    pub(super) members: Vec<MemberEntry>,
}

/// A member: its index in the table, its number, its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemberEntry {
    pub(super) slot: usize,
    pub(super) device: u64,
    pub(super) state: String,
}

/// Whether a device with such a target may be an array. The tables of other devices are not read, because that of `crypt`
/// contains its key.
pub(super) fn is_candidate(target: &DmTarget) -> bool {
    matches!(target.kind.as_str(), "striped" | "linear" | "mirror" | "raid")
}

/// Parses the table of a device; a `status` that belongs to another table, or is empty, is ignored.
pub(super) fn parse(table: &[DmTarget], status: &[DmTarget]) -> Option<ArrayTable> {
    let same = table.len() == status.len()
        && table.iter().zip(status).all(|(table, status)| table.kind == status.kind);
    let status = if same { status } else { &[] };
    match table {
        [target] if target.kind == "raid" => raid(&target.parameters, status.first()),
        [target] if target.kind == "mirror" => mirror(&target.parameters, status.first()),
        _ => spread(table, status),
    }
}

/// The next word as a number that may bound a loop.
fn count<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<usize> {
    words.next()?.parse().ok().filter(|count| *count <= MAX_MEMBERS)
}

/// A volume of stripes and segments, one after the other; it is an array if it is on more than one device.
fn spread(table: &[DmTarget], status: &[DmTarget]) -> Option<ArrayTable> {
    let mut members: Vec<MemberEntry> = Vec::new();
    let mut is_striped = false;
    for (index, target) in table.iter().enumerate() {
        let mut words = target.parameters.split_whitespace();
        let devices = match target.kind.as_str() {
            "striped" => {
                is_striped = true;
                let stripes = count(&mut words)?;
                let _chunk = words.next()?;
                devices(&mut words, stripes)?
            }
            "linear" => devices(&mut words, 1)?,
            _ => return None,
        };
        let health = status.get(index).map(|status| stripes_health(&status.parameters)).unwrap_or_default();
        for (place, device) in devices.into_iter().enumerate() {
            let is_dead = health.as_bytes().get(place) == Some(&b'D');
            let state = if is_dead { "faulty" } else { "in_sync" };
            // If a device comes twice, its first index counts.
            match members.iter().position(|member| member.device == device) {
                Some(known) if is_dead => members[known].state = state.into(),
                Some(_) => {}
                None if members.len() < MAX_MEMBERS => {
                    members.push(MemberEntry { slot: members.len(), device, state: state.into() });
                }
                None => return None,
            }
        }
    }
    (members.len() > 1).then(|| ArrayTable {
        level: if is_striped { "striped" } else { "linear" }.into(),
        disks: number(members.len()),
        degraded: None,
        action: None,
        completed: None,
        announces: true,
        members,
    })
}

/// Converts a number of devices.
fn number(count: usize) -> u64 {
    u64::try_from(count).expect("no machine has more devices than 64 bits count")
}

/// `COUNT` pairs of a device and an offset.
fn devices<'a>(words: &mut impl Iterator<Item = &'a str>, count: usize) -> Option<Vec<u64>> {
    (0..count)
        .map(|_| {
            let device = name::parse_numbers(words.next()?)?;
            let _: u64 = words.next()?.parse().ok()?;
            Some(device)
        })
        .collect()
}

/// The letters of a status `2 8:0 8:16 1 AD`; empty for other forms.
fn stripes_health(status: &str) -> &str {
    let mut words = status.split_whitespace();
    let stripes = count(&mut words).unwrap_or(0);
    words.nth(stripes + 1).filter(|_| stripes > 0).unwrap_or("")
}

/// Table `LOG COUNT ARGUMENTS… COUNT DEVICE OFFSET …`, status `COUNT DEVICE… DONE/ALL 1 LETTERS …`.
fn mirror(table: &str, status: Option<&DmTarget>) -> Option<ArrayTable> {
    let mut words = table.split_whitespace();
    let _log = words.next()?;
    for _ in 0..count(&mut words)? {
        words.next()?;
    }
    let copies = count(&mut words)?;
    let devices = devices(&mut words, copies)?;
    let mut told = status.map(|status| status.parameters.split_whitespace());
    let (done, health) = told
        .as_mut()
        .and_then(|words| {
            let copies = count(words)?;
            let done = fraction(words.nth(copies)?)?;
            Some((Some(done), words.nth(1)?))
        })
        .unwrap_or_default();
    let is_dead = |slot: usize| health.as_bytes().get(slot) == Some(&b'D');
    let members: Vec<MemberEntry> = devices
        .into_iter()
        .enumerate()
        .map(|(slot, device)| MemberEntry {
            slot,
            device,
            state: if is_dead(slot) { "faulty" } else { "in_sync" }.into(),
        })
        .collect();
    let syncs = done.map(|(done, all)| done < all);
    (!members.is_empty()).then(|| ArrayTable {
        level: "mirror".into(),
        disks: number(copies),
        degraded: done.map(|_| number((0..copies).filter(|slot| is_dead(*slot)).count())),
        action: syncs.map(|syncs| if syncs { "resync" } else { "idle" }.into()),
        completed: done.filter(|_| syncs == Some(true)).and_then(|(done, all)| md::ratio(done, all)),
        announces: false,
        members,
    })
}

fn fraction(text: &str) -> Option<(u64, u64)> {
    let (done, all) = text.split_once('/')?;
    Some((done.parse().ok()?, all.parse().ok()?))
}

/// Table `TYPE COUNT PARAMETERS… COUNT METADATA DEVICE …`, status `TYPE COUNT LETTERS DONE/ALL ACTION …`.
fn raid(table: &str, status: Option<&DmTarget>) -> Option<ArrayTable> {
    let mut words = table.split_whitespace();
    // `raid5_ls`, `raid10_near`: the level comes before the layout.
    let level = words.next()?.split('_').next()?.to_owned();
    let parameters = count(&mut words)?;
    let parameters: Vec<&str> = words.by_ref().take(parameters).collect();
    let write_mostly: Vec<usize> = parameters
        .windows(2)
        .filter(|pair| pair[0] == "write_mostly")
        .filter_map(|pair| pair[1].parse().ok())
        .collect();
    let disks = count(&mut words)?;
    let told = status.and_then(|status| {
        let mut words = status.parameters.split_whitespace().skip(2);
        let (health, done) = (words.next()?, fraction(words.next()?)?);
        // Kernels before 3.9 do not print the action.
        Some((health, done, words.next()))
    });
    let action = told.and_then(|(_, _, action)| action).filter(|_| level != "raid0");
    let health = told.map(|(health, ..)| health.as_bytes());
    let is_missing = |slot: usize| match health.and_then(|health| health.get(slot)) {
        Some(b'D') => true,
        // Alive and not in sync: the member is being rebuilt, or the whole array is being synchronised for the first time.
        Some(b'a') => action == Some("recover"),
        _ => false,
    };
    let mut members = Vec::new();
    for slot in 0..disks {
        let _metadata = words.next()?;
        let device = words.next()?;
        if device == "-" {
            continue;
        }
        let state = match health.and_then(|health| health.get(slot)) {
            Some(b'D') => "faulty",
            Some(b'a') if is_missing(slot) => "spare",
            _ => "in_sync",
        };
        let mostly = if write_mostly.contains(&slot) { ",write_mostly" } else { "" };
        members.push(MemberEntry {
            slot,
            device: name::parse_numbers(device)?,
            state: format!("{state}{mostly}"),
        });
    }
    let runs = action.is_some_and(|action| !matches!(action, "idle" | "frozen"));
    (!members.is_empty()).then(|| ArrayTable {
        degraded: health
            .filter(|_| level != "raid0")
            .map(|_| number((0..disks).filter(|slot| is_missing(*slot)).count())),
        action: action.map(str::to_owned),
        completed: told.filter(|_| runs).and_then(|(_, (done, all), _)| md::ratio(done, all)),
        level,
        disks: number(disks),
        announces: false,
        members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(line: &str) -> DmTarget {
        let (kind, parameters) = line.split_once(' ').unwrap_or((line, ""));
        DmTarget { kind: kind.into(), parameters: parameters.into() }
    }

    fn read(table: &[&str], status: &[&str]) -> Option<ArrayTable> {
        let targets = |lines: &[&str]| lines.iter().copied().map(target).collect::<Vec<_>>();
        parse(&targets(table), &targets(status))
    }

    /// Slot, device and state of all members, then the rest of the array.
    fn show(table: &ArrayTable) -> String {
        let ArrayTable { level, disks, degraded, action, completed, announces, members } = table;
        let mut text = format!("{level} {disks}");
        for (what, value) in [
            ("degraded", degraded.map(|number| number.to_string())),
            ("action", action.clone()),
            ("completed", completed.map(|ratio| ratio.to_string())),
            ("silent", (!announces).then(String::new)),
        ] {
            if let Some(value) = value {
                text += format!(" {what} {value}").trim_end();
            }
        }
        let entry = |MemberEntry { slot, device, state }: &MemberEntry| {
            format!(", {slot} {} {state}", name::numbers(*device))
        };
        text + &members.iter().map(entry).collect::<String>()
    }

    #[test]
    fn arrays_of_each_kind() {
        for (table, status, expected) in [
            (
                &["striped 3 128 8:0 2048 8:16 2048 253:7 0"][..],
                &["striped 3 8:0 8:16 253:7 1 AAD"][..],
                "striped 3, 0 8:0 in_sync, 1 8:16 in_sync, 2 253:7 faulty",
            ),
            // A stripe, extended by a segment on one of its disks and one on another disk.
            (
                &["striped 2 128 8:16 0 8:0 0", "linear 8:0 99", "linear 8:32 7"],
                &[],
                "striped 3, 0 8:16 in_sync, 1 8:0 in_sync, 2 8:32 in_sync",
            ),
            (
                &["linear 8:1 384", "linear 8:17 384"],
                &["linear", "linear"],
                "linear 2, 0 8:1 in_sync, 1 8:17 in_sync",
            ),
            (
                &["mirror disk 2 253:3 1024 2 253:4 0 253:5 0 1 handle_errors"],
                &["mirror 2 253:4 253:5 80/400 1 AD 3 disk 253:3 A"],
                "mirror 2 degraded 1 action resync completed 0.2 silent, 0 253:4 in_sync, 1 253:5 faulty",
            ),
            (
                &["mirror core 1 1024 2 8:0 0 8:16 0"],
                &["mirror 2 8:0 8:16 400/400 1 AA 1 core"],
                "mirror 2 degraded 0 action idle silent, 0 8:0 in_sync, 1 8:16 in_sync",
            ),
            (&["mirror core 1 1024 2 8:0 0 8:16 0"], &[], "mirror 2 silent, 0 8:0 in_sync, 1 8:16 in_sync"),
            (
                &["raid raid5_ls 3 128 region_size 1024 3 253:0 253:1 253:2 253:3 253:4 253:5"],
                &["raid raid5_ls 3 AAA 1048576/1048576 idle 0 0 -"],
                "raid5 3 degraded 0 action idle silent, 0 253:1 in_sync, 1 253:3 in_sync, 2 253:5 in_sync",
            ),
            // One disk is gone, another is being rebuilt, a third is only written to.
            (
                &["raid raid1 5 0 region_size 1024 write_mostly 2 4 253:0 253:1 - - 253:4 253:5 253:6 253:7"],
                &["raid raid1 4 ADAa 256/1024 recover 0 0 -"],
                "raid1 4 degraded 2 action recover completed 0.25 silent, 0 253:1 in_sync, 2 253:5 in_sync,write_mostly, 3 253:7 spare",
            ),
            // The first synchronisation of the whole array, with nothing missing.
            (
                &["raid raid10_near 3 128 region_size 1024 2 253:0 253:1 253:2 253:3"],
                &["raid raid10_near 2 aa 0/1024 resync 0 0 -"],
                "raid10 2 degraded 0 action resync completed 0 silent, 0 253:1 in_sync, 1 253:3 in_sync",
            ),
            (
                &["raid raid0 1 128 2 - 8:0 - 8:16"],
                &["raid raid0 2 AA 1024/1024 idle 0 0 -"],
                "raid0 2 silent, 0 8:0 in_sync, 1 8:16 in_sync",
            ),
            // The status of another table is ignored.
            (
                &["raid raid1 2 0 nosync 2 - 8:0 - 8:16"],
                &["linear"],
                "raid1 2 silent, 0 8:0 in_sync, 1 8:16 in_sync",
            ),
        ] {
            assert_eq!(read(table, status).as_ref().map(show).as_deref(), Some(expected), "{table:?}");
        }
    }

    #[test]
    fn what_is_no_array() {
        for table in [
            &[][..],
            &["linear 8:0 0"],
            &["linear 8:0 0", "linear 8:0 4096"],
            &["striped 1 128 8:0 0"],
            &["striped 2 128 8:0 0 8:0 4096"],
            &["linear 8:0 0", "crypt aes 0 8:16 0"],
            &["linear 8:0 0", "raid raid1 2 0 nosync 2 - 8:16 - 8:32"],
        ] {
            assert_eq!(read(table, &[]), None, "{table:?}");
        }
    }

    #[test]
    fn lines_that_end_early_or_lie() {
        let lines = [
            ("striped 3 128 8:0 2048 8:16 2048 253:7 0", "striped 3 8:0 8:16 253:7 1 AAD"),
            (
                "mirror disk 2 253:3 1024 2 253:4 0 253:5 0 1 handle_errors",
                "mirror 2 253:4 253:5 80/400 1 AD 3 disk 253:3 A",
            ),
            (
                "raid raid5_ls 3 128 region_size 1024 2 253:0 253:1 253:2 253:3",
                "raid raid5_ls 2 AA 1/1 idle 0 0 -",
            ),
        ];
        for (table, status) in lines {
            let (table, status): (Vec<&str>, Vec<&str>) =
                (table.split(' ').collect(), status.split(' ').collect());
            for end in 0..=table.len() {
                read(&[&table[..end].join(" ")], &[&status.join(" ")]);
            }
            for end in 0..=status.len() {
                let table = table.join(" ");
                assert!(read(&[&table], &[&status[..end].join(" ")]).is_some(), "{table} {end}");
            }
            for place in 1..table.len() {
                for word in ["-1", "0", "x", "-", "1/0", "18446744073709551615", "8:0", "\u{df}"] {
                    let mut table = table.clone();
                    table[place] = word;
                    read(&[&table.join(" ")], &[&status.join(" ")]);
                }
            }
            for place in 1..status.len() {
                for word in ["-1", "0", "x", "-", "1/0", "18446744073709551615", "8:0", "\u{df}"] {
                    let mut status = status.clone();
                    status[place] = word;
                    read(&[&table.join(" ")], &[&status.join(" ")]);
                }
            }
        }
    }
}
