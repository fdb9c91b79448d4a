//! The devices over time: read again only when something changed, each within its time.

use super::{
    DeviceGroups, DeviceKind, Disks, KnownDevice, MAX_DEVICES,
    enclosure::Slots,
    families,
    read::{self, FoundDevice, KnownIdentity, ReadingMeans},
};
use crate::{
    deadline::{self, HangingThreads, MayHang, Outcome, TimeLimits},
    family::MetricFamily,
    host::{Host, sysfs},
    lock::lock,
    mark::Mark,
    topology::{DeviceName, Topology},
};
use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How long reading a device may take, and reading all slots: a disk takes a third of a millisecond.
const LIMITS: TimeLimits = TimeLimits { first: Duration::from_secs(1), next: Duration::from_millis(250) };
/// After this devices are read again, whatever is known of changes: not all cause a device event.
const LONGEST: Duration = Duration::from_mins(5);
/// The same while a device does not answer.
const LONGEST_SILENT: Duration = Duration::from_secs(30);

/// The devices of a host.
#[derive(Debug)]
pub struct DiskWatch {
    sys: PathBuf,
    udev: PathBuf,
    /// Held while devices are read, so that only one scrape at a time reads them.
    state: Mutex<WatchState>,
}

/// What is kept from one reading to the next.
#[derive(Debug, Default)]
struct WatchState {
    groups: Arc<DeviceGroups>,
    items: HashMap<OsString, Arc<WatchedDevice>>,
    all_slots: Arc<AllSlots>,
    slots: Arc<Slots>,
    seen: Option<SeenChanges>,
    current: Arc<Disks>,
    /// Devices that did not answer.
    silent: Vec<String>,
    /// The reading since which some did not, or the slots of enclosures; `None` if all answered at the last one.
    unanswered: Option<Instant>,
    has_told_of_limit: bool,
    written: Option<WrittenFamilies>,
}

/// By what a change is seen, and when the last one was.
#[derive(Debug)]
struct SeenChanges {
    /// The kernel's number of device events. Every device that comes, goes or changes causes one.
    events: Option<String>,
    /// The data base of udev, which learns of a device after its event.
    udev: Mark,
    at: Instant,
    /// When identities were last read.
    whole: Instant,
}

/// A device from one reading to the next.
#[derive(Debug)]
struct WatchedDevice {
    block: sysfs::Block,
    left: HangingThreads,
    known: Mutex<Option<KnownIdentity>>,
    found: Mutex<Option<FoundDevice>>,
}

impl MayHang for WatchedDevice {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

/// All slots, which are read as one.
#[derive(Debug, Default)]
struct AllSlots {
    left: HangingThreads,
}

impl MayHang for AllSlots {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

/// The families as they were last made, and of what.
#[derive(Debug)]
struct WrittenFamilies {
    disks: Arc<Disks>,
    groups: Arc<DeviceGroups>,
    named: Vec<DeviceName>,
    families: Vec<MetricFamily>,
}

impl DiskWatch {
    /// Watches the devices of a host; there are none until the first [`Self::refresh`].
    pub fn new(host: &Host) -> Self {
        Self { sys: host.sys.clone(), udev: host.udev.clone(), state: Mutex::default() }
    }

    /// Uses these groups from now on.
    pub fn set_groups(&self, groups: DeviceGroups) {
        lock(&self.state).groups = Arc::new(groups);
    }

    /// The devices now. Most of the time nothing changed, and only the kernel's number of device events is read.
    pub fn refresh(&self) -> Arc<Disks> {
        self.refresh_in(&mut lock(&self.state))
    }

    /// For how long not all devices, and slots of enclosures, have answered; zero while they do.
    pub fn age(&self) -> Duration {
        lock(&self.state).unanswered.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The families about devices, with the names that people gave to them.
    pub fn families(&self, topology: &Topology) -> Vec<MetricFamily> {
        let mut state = lock(&self.state);
        let disks = self.refresh_in(&mut state);
        let named = topology.named();
        if let Some(written) = &state.written
            && Arc::ptr_eq(&written.disks, &disks)
            && Arc::ptr_eq(&written.groups, &state.groups)
            && written.named == named
        {
            return written.families.clone();
        }
        let families = families::families(&disks, named, &state.groups);
        let groups = state.groups.clone();
        state.written =
            Some(WrittenFamilies { disks, groups, named: named.to_vec(), families: families.clone() });
        families
    }

    fn refresh_in(&self, state: &mut WatchState) -> Arc<Disks> {
        // Both are read first: the next reading sees what happens meanwhile.
        let events = fs::read_to_string(self.sys.join("kernel/uevent_seqnum")).ok();
        let udev = Mark::of(&self.udev);
        let now = Instant::now();
        let longest = if state.unanswered.is_none() { LONGEST } else { LONGEST_SILENT };
        if let Some(seen) = &state.seen
            && events.is_some()
            && seen.events == events
            && seen.udev == udev
            && now.duration_since(seen.at) < longest
        {
            return state.current.clone();
        }
        let whole = state.seen.as_ref().map(|seen| seen.whole);
        let afresh = whole.is_none_or(|whole| now.duration_since(whole) >= LONGEST);
        let whole = whole.filter(|_| !afresh).unwrap_or(now);
        state.seen = Some(SeenChanges { events, udev, at: now, whole });
        self.read(state, afresh);
        state.current.clone()
    }

    fn read(&self, state: &mut WatchState, afresh: bool) {
        let begun = Instant::now();
        let sys = self.sys.clone();
        let slots = deadline::each(LIMITS, vec![state.all_slots.clone()], move |_| Slots::read(&sys)).pop();
        let mut have_answered = false;
        if let Some(Outcome::Read(slots)) = slots {
            have_answered = true;
            if slots != *state.slots {
                state.slots = Arc::new(slots);
            }
        }
        let mut blocks = sysfs::blocks(&self.sys);
        let left_out = blocks.len().saturating_sub(MAX_DEVICES);
        blocks.truncate(MAX_DEVICES);
        let items: Vec<Arc<WatchedDevice>> = blocks
            .into_iter()
            .map(|block| match state.items.remove(&block.file) {
                Some(known) => known,
                None => Arc::new(WatchedDevice {
                    block,
                    left: HangingThreads::default(),
                    known: Mutex::default(),
                    found: Mutex::default(),
                }),
            })
            .collect();
        state.items = items.iter().map(|item| (item.block.file.clone(), item.clone())).collect();
        let (sys, udev) = (self.sys.clone(), self.udev.clone());
        let means = ReadingMeans { sys, udev, slots: state.slots.clone(), afresh };
        let outcomes = deadline::each(LIMITS, items.clone(), move |item: &WatchedDevice| {
            let known = lock(&item.known).clone();
            let (found, known) = read::read(&means, &item.block, known.as_ref()).unzip();
            *lock(&item.known) = known.flatten();
            *lock(&item.found) = found;
        });
        let silent: Vec<String> = items
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == Outcome::Slow)
            .map(|(item, _)| item.block.name.clone())
            .collect();
        have_answered &= silent.is_empty();
        state.unanswered = if have_answered { None } else { state.unanswered.or(Some(begun)) };
        state.tell(silent, left_out);
        // One that does not answer is as it was.
        let found: Vec<FoundDevice> = items.iter().filter_map(|item| lock(&item.found).clone()).collect();
        let disks = gather(found);
        if disks != *state.current {
            state.current = Arc::new(disks);
        }
    }
}

impl WatchState {
    fn tell(&mut self, silent: Vec<String>, left_out: usize) {
        if left_out > 0 && !std::mem::replace(&mut self.has_told_of_limit, true) {
            tracing::warn!(left_out, "more than {MAX_DEVICES} block devices: nothing is told of the others");
        }
        for device in silent.iter().filter(|device| !self.silent.contains(device)) {
            tracing::warn!(device, "the device does not say which disk it is: it is shown as it was");
        }
        self.silent = silent;
    }
}

/// Devices and held partitions, with what is at the bottom of each.
fn gather(found: Vec<FoundDevice>) -> Disks {
    let mut disk_of = HashMap::new();
    let mut devices: Vec<KnownDevice> = Vec::new();
    for FoundDevice { device, partitions } in found {
        for part in &partitions {
            disk_of.insert(part.name.clone(), device.name.clone());
        }
        devices.push(device);
        devices.extend(partitions);
    }
    debug_assert!(
        devices.iter().all(|device| device.kind != DeviceKind::Partition || device.backing.is_empty())
    );
    Disks::new(devices, &disk_of)
}
