//! What scrapes of a probe cost: series and bytes for a label set, and for the disks of this host.

use super::kibibytes;
use crate::{
    collector::estimate,
    disk,
    exposition::{Exposition, Format, ScrapeSize},
    host::Host,
    name,
};
use std::{fs, sync::Arc};
use tapster_ebpf::{
    probe::{Decoder, Shown},
    program::Program,
};

/// Operations that the kernel's account tells apart, and the place of their number in it.
const OPERATIONS: [(&str, usize); 4] = [("read", 0), ("write", 4), ("discard", 11), ("flush", 15)];
/// A disk where the host has none.
const SOME: &str = "sda";

/// A disk of this host that has had I/O.
#[derive(Debug)]
pub(super) struct Disk {
    name: String,
    operations: Vec<&'static str>,
}

/// The disks of this host that have had I/O. Others have no series.
pub(super) fn disks(host: &Host) -> Vec<Disk> {
    let entries = fs::read_dir(host.sys.join("block")).into_iter().flatten().flatten();
    let mut disks: Vec<Disk> = entries
        .filter(|entry| !disk::is_hidden(&entry.path()))
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let operations = operations(&stat);
            let name = name::of_block_file(&entry.file_name());
            (!operations.is_empty()).then_some(Disk { name, operations })
        })
        .collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

fn operations(stat: &str) -> Vec<&'static str> {
    let words: Vec<u64> = stat.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let has = |(_, place): &&(&str, usize)| words.get(*place).is_some_and(|count| *count > 0);
    OPERATIONS.iter().filter(has).map(|(name, _)| *name).collect()
}

/// Labels as texts: the device and the operation as they are, others of a usual length.
fn labels(program: &Program, device: &str, operation: &str) -> Arc<[String]> {
    let text = |decoder: &Decoder| match decoder {
        Decoder::BlockDevice => device.to_owned(),
        Decoder::BlockPath => String::new(),
        Decoder::Table { rows, .. } if rows.values().any(|text| text == operation) => operation.to_owned(),
        Decoder::Table { rows, .. } => rows.values().next().cloned().unwrap_or_default(),
        _ => "12345678".to_owned(),
    };
    program.labels.iter().map(|label| text(&label.decoder)).collect()
}

/// What these label sets take of a scrape in a format.
fn size(program: &Program, shown: &Shown, sets: &[Arc<[String]>], format: Format) -> ScrapeSize {
    let mut exposition = Exposition::new(format);
    let mut sum = ScrapeSize::default();
    // A family of a probe that compiles can be written, unless its label values are alike: then it is so little.
    let families = estimate(program, shown, sets).into_iter();
    families.filter_map(|family| exposition.add(family).ok()).for_each(|size| sum += size);
    sum
}

fn told(size: ScrapeSize) -> String {
    const EXACT: u64 = 10_000;
    let bytes = if size.bytes < EXACT { format!("{} bytes", size.bytes) } else { kibibytes(size.bytes) };
    format!("{} series and {bytes}", size.series)
}

/// Lines about a probe.
pub(super) fn lines(program: &Program, shown: &Shown, disks: &[Disk]) -> Vec<String> {
    let is = |wanted: Decoder| program.labels.iter().any(|label| label.decoder == wanted);
    let of_device = is(Decoder::BlockDevice);
    let of = |sets: &[Arc<[String]>]| {
        let [text, native] = [Format::Text, Format::Protobuf].map(|format| {
            let ScrapeSize { series, bytes } = size(program, shown, sets, format);
            // Without the first lines of each family.
            ScrapeSize { series, bytes: bytes.saturating_sub(size(program, shown, &[], format).bytes) }
        });
        if text.series == native.series {
            told(text)
        } else {
            format!("{} as text, {} as protobuf", told(text), told(native))
        }
    };
    let one = || labels(program, SOME, OPERATIONS[0].0);
    let mut lines = vec![if program.labels.is_empty() {
        format!("a scrape has about {}", of(&[one()]))
    } else {
        format!("each label set is about {}", of(&[one()]))
    }];
    // Which arrays there are does not follow from the disks.
    if of_device && !is(Decoder::RaidArray) {
        let taken: Vec<&Disk> = disks.iter().filter(|disk| shown.takes(&disk.name)).collect();
        let has_operation = program.labels.iter().any(|label| label.name == "operation");
        let sets: Vec<Arc<[String]>> = taken
            .iter()
            .flat_map(|disk| {
                let most = if has_operation { disk.operations.len() } else { 1 };
                disk.operations.iter().take(most).map(|operation| labels(program, &disk.name, operation))
            })
            .collect();
        let names = of_this_host(taken.len());
        let sets_of =
            if sets.len() == 1 { "1 label set".to_owned() } else { format!("{} label sets", sets.len()) };
        lines.push(if taken.is_empty() && !disks.is_empty() {
            format!("no series here: `devices` takes none of {}", of_this_host(disks.len()))
        } else {
            format!("{names}: {sets_of}, about {}", of(&sets))
        });
    }
    lines
}

fn of_this_host(disks: usize) -> String {
    match disks {
        1 => "the disk of this host that has had I/O".to_owned(),
        count => format!("the {count} disks of this host that have had I/O"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_used_is_counted() {
        assert_eq!(operations("0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"), [""; 0]);
        assert_eq!(operations("7 0 1 2 0 0 0 0 0 0 0 3 0 9 1 2 8"), ["read", "discard", "flush"]);
        // Before 4.18 there are eleven numbers.
        assert_eq!(operations("7 0 1 2 5 0 0 0 0 0 0"), ["read", "write"]);
    }

    #[test]
    fn a_host_without_disks_has_none() {
        let host = tempfile::tempdir().unwrap();
        let sys = host.path().to_owned();
        assert!(disks(&Host { sys: sys.clone(), ..Host::default() }).is_empty());
        for (disk, stat) in
            [("sdb", "7 0 1 2 5 0 0 0 0 0 0"), ("loop0", "0 0 0 0 0 0 0 0 0 0 0"), ("sda", "1 0 0 0")]
        {
            fs::create_dir_all(sys.join("block").join(disk)).unwrap();
            fs::write(sys.join("block").join(disk).join("stat"), stat).unwrap();
        }
        let found = disks(&Host { sys, ..Host::default() });
        let found: Vec<_> = found.iter().map(|disk| (disk.name.as_str(), disk.operations.len())).collect();
        assert_eq!(found, [("sda", 1), ("sdb", 2)], "a loop device that was never used costs nothing");
    }
}
