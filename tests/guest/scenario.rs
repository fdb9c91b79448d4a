//! The scenarios: a script for the guest, and what its results must show.

mod block;
mod command;
mod containers;
mod devices;
mod events;
mod filesystems;
mod functions;
mod globs;
mod hot;
mod objects;
mod packets;
mod paths;
mod pods;
mod stacks;
mod story;
mod stuck;
mod trial;
mod usdt;
pub(crate) mod variables;
mod waits;

use super::{kernel::Kernel, machine::Results};
use trial::Trial;

/// A script and its check.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) script: &'static str,
    /// Empty virtio disks, bytes each.
    pub(crate) disks: &'static [u64],
    /// More devices, as arguments of QEMU; those that end with `drive=` get an empty one.
    pub(crate) hardware: &'static [&'static str],
    pub(crate) memory_mib: u32,
    /// The kernels that it runs on at each change: those between which the kernel, or what tapster does there, differs most. The
    /// long run has all of them.
    pub(crate) each_change: &'static [&'static str],
    /// Whether it compares times, so that no other guest may run beside it.
    pub(crate) alone: bool,
    /// Figures in one line; a failure is a panic.
    pub(crate) check: fn(&Kernel, &Results) -> String,
}

/// All of them. `waits` are 68 programs that sleep, `mixed` programs that work side by side, for the part of their sleep that has no reason, and
/// `pods` containers in each arrangement of cgroups.
pub(crate) const ALL: [Scenario; 24] = [
    Scenario {
        name: "events",
        script: include_str!("scenarios/events.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        each_change: &["5.10", "7"],
        alone: false,
        check: events::check,
    },
    Scenario {
        name: "packets",
        script: include_str!("scenarios/packets.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        each_change: &["5.10", "6.1", "7"],
        alone: false,
        check: packets::check,
    },
    Scenario {
        name: "devices",
        script: include_str!("scenarios/devices.sh"),
        disks: &[],
        hardware: devices::HARDWARE,
        memory_mib: 1024,
        each_change: &["6.1"],
        alone: false,
        check: devices::check,
    },
    Scenario {
        name: "command",
        script: include_str!("scenarios/command.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        each_change: &["7"],
        alone: false,
        check: command::check,
    },
    Scenario {
        name: "functions",
        script: include_str!("scenarios/functions.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["5.10", "7"],
        alone: false,
        check: functions::check,
    },
    Scenario {
        name: "filesystems",
        script: include_str!("scenarios/filesystems.sh"),
        disks: &[512 << 20, 512 << 20, 512 << 20],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.12"],
        alone: false,
        check: filesystems::check,
    },
    Scenario {
        name: "stacks",
        script: include_str!("scenarios/stacks.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.1", "7"],
        alone: false,
        check: stacks::check,
    },
    Scenario {
        name: "usdt",
        script: include_str!("scenarios/usdt.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        each_change: &["5.10", "7"],
        alone: false,
        check: usdt::check,
    },
    Scenario {
        name: "globs",
        script: include_str!("scenarios/globs.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["5.10", "7"],
        alone: false,
        check: globs::check,
    },
    Scenario {
        name: "variables",
        script: include_str!("scenarios/variables.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        each_change: &["5.10", "7"],
        alone: false,
        check: variables::check,
    },
    Scenario {
        name: "objects",
        script: include_str!("scenarios/objects.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.1", "7"],
        alone: false,
        check: objects::check,
    },
    Scenario {
        name: "block",
        script: include_str!("scenarios/block.sh"),
        disks: &[128 << 20],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["5.10", "7"],
        alone: false,
        check: block::check,
    },
    Scenario {
        name: "story",
        script: include_str!("scenarios/story.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.12"],
        alone: false,
        check: story::check,
    },
    Scenario {
        name: "null_blk",
        script: include_str!("scenarios/null_blk.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.1"],
        alone: false,
        check: null_blk,
    },
    Scenario {
        name: "levels",
        script: include_str!("scenarios/levels.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["5.10"],
        alone: false,
        check: levels,
    },
    Scenario {
        name: "lvm",
        script: include_str!("scenarios/lvm.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["7"],
        alone: false,
        check: lvm,
    },
    Scenario {
        name: "nested",
        script: include_str!("scenarios/nested.sh"),
        disks: &[128 << 20],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.1"],
        alone: false,
        check: nested,
    },
    Scenario {
        name: "stuck",
        script: include_str!("scenarios/stuck.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.12"],
        alone: false,
        check: stuck::check,
    },
    Scenario {
        name: "hot",
        script: include_str!("scenarios/hot.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["7"],
        alone: false,
        check: hot::check,
    },
    Scenario {
        name: "containers",
        script: include_str!("scenarios/containers.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.1"],
        alone: false,
        check: containers::check,
    },
    Scenario {
        name: "paths",
        script: include_str!("scenarios/paths.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &["6.1", "7"],
        alone: false,
        check: paths::check,
    },
    Scenario {
        name: "waits",
        script: include_str!("scenarios/waits.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        each_change: &[],
        alone: true,
        check: waits::check,
    },
    Scenario {
        name: "pods",
        script: include_str!("scenarios/pods.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        each_change: &[],
        alone: true,
        check: pods::check,
    },
    Scenario {
        name: "mixed",
        script: include_str!("scenarios/mixed.sh"),
        disks: &[],
        hardware: &[],
        memory_mib: 2048,
        each_change: &[],
        alone: true,
        check: waits::check_mixed,
    },
];

fn all(trials: &[Trial<'_>], results: &Results) -> String {
    trials.iter().map(|trial| trial.check(results)).collect::<Vec<_>>().join("; ")
}

fn null_blk(_: &Kernel, results: &Results) -> String {
    let read = Trial {
        name: "read",
        array: "md0",
        level: "raid0",
        members: &["nullb0", "nullb1", "nullb2", "nullb3"],
        slow: Some(("nullb2", 0.01)),
        operation: "read",
        remaps: true,
    };
    all(&[read, Trial { name: "write", operation: "write", ..read }], results)
}

/// The first number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let word = line.and_then(|line| line.split(' ').next());
    word.unwrap_or_else(|| panic!("no `{name}` in:\n{text}")).parse().unwrap()
}

fn levels(_: &Kernel, results: &Results) -> String {
    let slow = Some(("dm-0", 0.02));
    let raid1 = Trial {
        name: "raid1",
        array: "md1",
        level: "raid1",
        members: &["ram0", "dm-0"],
        slow,
        operation: "write",
        remaps: true,
    };
    let members: &[&str] = &["ram0", "ram1", "ram2", "dm-0"];
    let raid10 = Trial { name: "raid10", array: "md10", level: "raid10", members, ..raid1 };
    let raid5 = Trial { name: "raid5", array: "md5", level: "raid5", members, operation: "read", ..raid1 };
    let stopped = results.metrics("stopped.prom");
    assert_eq!(stopped.find("tapster_raid_member_info", &[]), None, "no array is left");
    all(&[raid1, raid10, raid5, Trial { name: "raid5w", operation: "write", ..raid5 }], results)
}

fn lvm(_: &Kernel, results: &Results) -> String {
    // dm-0 is the slow disk. The mirrors have devices of their own below them, in the order they were made.
    let stripe = Trial {
        name: "stripe",
        array: "dm-1",
        level: "striped",
        members: &["ram0", "ram1", "ram2", "dm-0"],
        slow: Some(("dm-0", 0.02)),
        operation: "read",
        remaps: true,
    };
    let name_of = |volume: &str| {
        let line = results.text("names").lines().find(|line| line.contains(&format!(" {volume}")));
        let minor = line.and_then(|line| line.split(',').nth(1)?.split_whitespace().next());
        minor.map_or_else(
            || panic!("no {volume} in:\n{}", results.text("names")),
            |minor| format!("dm-{minor}"),
        )
    };
    let (mirror, old) = (name_of("vg-mirror"), name_of("vg-old"));
    let known = results.metrics("before.prom").values(
        "tapster_block_io_duration_seconds_count",
        &[("operation", "write")],
        "device",
    );
    let (first, second) = (name_of("vg-mirror_rimage_0"), name_of("vg-mirror_rimage_1"));
    for member in [&first, &second] {
        assert!(known.contains(member), "another `{member}` was there before: {known:?}");
    }
    let (leg, slow_leg) = (name_of("vg-old_mimage_0"), name_of("vg-old_mimage_1"));
    let trials = [
        stripe,
        Trial {
            name: "mirror",
            array: &mirror,
            level: "raid1",
            members: &[&first, &second],
            slow: Some((&second, 0.02)),
            operation: "write",
            remaps: false,
        },
        Trial {
            name: "old",
            array: &old,
            level: "mirror",
            members: &[&leg, &slow_leg],
            slow: Some((&slow_leg, 0.02)),
            operation: "write",
            remaps: false,
        },
    ];
    all(&trials, results)
}

fn nested(_: &Kernel, results: &Results) -> String {
    let outer = Trial {
        name: "nested",
        array: "md9",
        level: "raid0",
        members: &["dm-0", "ram3"],
        slow: None,
        operation: "read",
        remaps: true,
    };
    let scsi = results.text("scsi").trim();
    let kinds: &[&str] = &["vdb1", "vdb2", scsi, "loop0", "zram0"];
    all(
        &[
            outer,
            Trial { array: "dm-0", level: "striped", members: &["md0", "ram2"], ..outer },
            Trial { array: "md0", members: &["ram0", "ram1"], ..outer },
            Trial { name: "kinds", array: "md8", members: kinds, ..outer },
            Trial { name: "kinds", array: "md8", members: kinds, operation: "write", ..outer },
        ],
        results,
    )
}
