//! Cgroups by id: their paths, and the pod, namespace and container of each.
//!
//! A key is the number of the hierarchy in the upper 16 bits, 0 for version 2, and below it the cgroup's id in that hierarchy,
//! which is never reused. So a key in a map was a cgroup when it was written, and a cgroup that is not found is gone for good.
//!
//! The pod and container come only from names that root must have given: a user with a part of the tree (systemd gives each
//! user one) can make cgroups of any name in it, and could pass for any pod.
//!
//! All probes share what is known here. [`Cgroups::look`], called about every second, checks whether each cgroup still exists.
//! A cgroup that is missing in two checks in a row is gone: by then nothing counts for it any more.

mod logs;
mod memory;
mod mount;
#[cfg(test)]
mod tests;
mod tree;

use crate::{
    container::{Container, pod_uid},
    deadline::{self, Outcome, TimeLimits},
    host::{Host, HostError},
    lock::lock,
};
use logs::{Directory, Logs};
pub use memory::{MemoryLimit, memory_limit};
pub(crate) use mount::{directory, mount_points};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
pub use tapster_ebpf::probe::CgroupPart as Part;
use tree::{CgroupLocation, CgroupLookup, CgroupTree};

/// The text of all cgroups that are gone; it keeps the number of series low. Like the two below it can be no name in Kubernetes,
/// and is no empty label, in whose place Prometheus and OpenTelemetry put what they know of the exporter's own pod.
pub const GONE: &str = "~gone";
/// The text of what a cgroup has not: it is in no container, or its container in no pod.
pub const NONE: &str = "~none";
/// The pod, and its namespace, of a container that is in a pod whose name is not known; and all texts of a cgroup of which nothing
/// is known, because its hierarchy cannot be read.
pub const UNKNOWN: &str = "~unknown";

/// How long reading names of containers may take.
const NAMES: TimeLimits = TimeLimits { first: Duration::from_secs(1), next: Duration::from_secs(1) };
/// Most cgroups that are remembered.
const LIMIT: usize = 1 << 15;
/// Most hierarchies of which the log says that they cannot be read; version 1 has a dozen.
const MOST_TOLD: usize = 64;
/// Least time between two reads of the mount table.
const PAUSE: Duration = Duration::from_secs(1);
/// The user whose cgroups name a pod and a container.
const ROOT: u32 = 0;
/// Bits of a key below the hierarchy's number.
const ID_BITS: u32 = 48;

/// The texts of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CgroupTexts {
    path: Arc<str>,
    namespace: Arc<str>,
    pod: Arc<str>,
    container: Arc<str>,
}

impl CgroupTexts {
    fn part(&self, part: Part) -> &Arc<str> {
        match part {
            Part::Path => &self.path,
            Part::Namespace => &self.namespace,
            Part::Pod => &self.pod,
            Part::Container => &self.container,
        }
    }

    /// The pod, its namespace and the container.
    fn owner(&self) -> [&Arc<str>; 3] {
        [&self.namespace, &self.pod, &self.container]
    }

    fn all(text: &str) -> Self {
        let text: Arc<str> = text.into();
        Self { path: text.clone(), namespace: text.clone(), pod: text.clone(), container: text }
    }

    fn gone() -> Self {
        Self::all(GONE)
    }

    fn none() -> Self {
        Self::all(NONE)
    }

    fn unknown() -> Self {
        Self::all(UNKNOWN)
    }
}

/// Whether a text of a cgroup is shared by what comes and goes, so that no series of it ends.
pub fn is_endless(text: &str) -> bool {
    [GONE, NONE, UNKNOWN].contains(&text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CgroupState {
    /// As far as is known: not missing in the last check.
    Living,
    /// Not found in the last check.
    Missing,
    Gone,
}

#[derive(Debug)]
struct CgroupEntry {
    texts: CgroupTexts,
    /// Its location when it was found; `None` if it was gone by then.
    location: Option<CgroupLocation>,
    state: CgroupState,
    /// Whether its container may still get a name.
    is_unnamed: bool,
    /// When its text was first requested.
    since: Instant,
    /// The check before its text was last requested.
    used: u64,
}

type Clock = Box<dyn Fn() -> Instant + Send>;

struct CgroupCache {
    host: Host,
    /// The user whose cgroups name a pod and a container.
    root: u32,
    clock: Clock,
    trees: Vec<CgroupTree>,
    /// When the mount table was last read.
    mounts_read: Option<Instant>,
    logs: Logs,
    entries: HashMap<u64, CgroupEntry>,
    /// Hierarchies that the log has reported as unreadable.
    unreadable: HashSet<u64>,
    looks: u64,
    limit: usize,
}

/// Everything that is known about cgroups, shared by all labels.
pub struct Cgroups {
    known: Mutex<CgroupCache>,
    /// The source of names of containers. It is read while no lock is held.
    directory: Arc<Directory>,
    answer: Mutex<NamesReading>,
}

/// When names of containers were last read.
struct NamesReading {
    at: Instant,
    /// Whether the log has reported that they cannot be read.
    is_awaited: bool,
}

impl std::fmt::Debug for Cgroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cgroups").finish_non_exhaustive()
    }
}

impl Cgroups {
    /// Makes it for a host; reads nothing yet.
    pub fn new(host: &Host) -> Self {
        Self::with(host, ROOT, Box::new(Instant::now), LIMIT)
    }

    fn with(host: &Host, root: u32, clock: Clock, limit: usize) -> Self {
        let known = CgroupCache {
            host: host.clone(),
            root,
            clock,
            trees: Vec::new(),
            mounts_read: None,
            logs: Logs::default(),
            entries: HashMap::new(),
            unreadable: HashSet::new(),
            looks: 1,
            limit,
        };
        Self {
            known: Mutex::new(known),
            directory: Arc::new(Directory::new(host.container_logs())),
            answer: Mutex::new(NamesReading { at: Instant::now(), is_awaited: false }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, CgroupCache> {
        lock(&self.known)
    }

    /// Fails if the host has no cgroups that can be named.
    pub fn want(&self) -> Result<(), HostError> {
        if self.is_wanted() {
            return Ok(());
        }
        self.lock().read_mounts()?;
        self.refresh();
        Ok(())
    }

    /// Whether any label names cgroups.
    pub fn is_wanted(&self) -> bool {
        !self.lock().trees.is_empty()
    }

    /// One text of the cgroup with this key.
    pub fn text(&self, key: u64, part: Part) -> Arc<str> {
        self.lock().texts(key).part(part).clone()
    }

    /// Whether the cgroup with this key is gone.
    pub fn is_gone(&self, key: u64) -> bool {
        let mut known = self.lock();
        known.texts(key);
        known.entries.get(&key).is_some_and(|entry| entry.state == CgroupState::Gone)
    }

    /// The texts of these parts, of all cgroups that exist and whose text was requested lately.
    pub fn living(&self, parts: &[Part]) -> HashSet<Vec<Arc<str>>> {
        let known = self.lock();
        let living = known.entries.values().filter(|entry| entry.state != CgroupState::Gone);
        living.map(|entry| parts.iter().map(|part| entry.texts.part(*part).clone()).collect()).collect()
    }

    /// Reads names of containers if they have changed. If their disk does not answer within a second, the names stay as they
    /// were, and are not waited for again.
    pub fn refresh(&self) {
        let (begun, since) = (Instant::now(), self.lock().logs.changed);
        let read = move |directory: &Directory| directory.read(since);
        let outcome = deadline::each(NAMES, vec![self.directory.clone()], read).pop();
        let mut answer = lock(&self.answer);
        let directory = self.directory.path().display();
        if let Some(Outcome::Read(logs)) = outcome {
            answer.at = begun;
            if std::mem::take(&mut answer.is_awaited) {
                tracing::info!("`{directory}` answers again");
            }
            drop(answer);
            if let Some(logs) = logs {
                self.lock().name(logs);
            }
        } else if !std::mem::replace(&mut answer.is_awaited, true) {
            tracing::warn!(
                "`{directory}` does not answer, so containers have the names that were known; the disk that it is on may hang"
            );
        }
    }

    /// Time since names of containers were read.
    pub fn age(&self) -> Duration {
        lock(&self.answer).at.elapsed()
    }

    /// Checks whether each cgroup still exists, and forgets those whose text was not requested since the check before the last.
    pub fn look(&self) {
        self.refresh();
        self.lock().look();
    }
}

impl CgroupCache {
    fn read_mounts(&mut self) -> Result<(), HostError> {
        let now = (self.clock)();
        if self.mounts_read.is_some_and(|read| now.saturating_duration_since(read) < PAUSE) {
            return Ok(());
        }
        let mounts = mount::mounts(&self.host.proc)?;
        self.trees =
            mounts.into_iter().map(|mount| CgroupTree::new(mount, &self.host.proc, self.root)).collect();
        self.mounts_read = Some(now);
        Ok(())
    }

    fn find(&mut self, key: u64, since: Instant) -> CgroupLookup {
        let (hierarchy, id) = (key >> ID_BITS, key & ((1 << ID_BITS) - 1));
        let now = (self.clock)();
        let is_known = self.trees.iter().any(|tree| tree.hierarchy() == hierarchy);
        // A hierarchy may be mounted later; without its mount the state is unknown.
        if !is_known && let Err(error) = self.read_mounts() {
            return CgroupLookup::Unreadable(error.to_string());
        }
        match self.trees.iter_mut().find(|tree| tree.hierarchy() == hierarchy) {
            Some(tree) => tree.find(id, since, now, self.limit),
            None => CgroupLookup::Unreadable("it is not mounted where tapster sees it".into()),
        }
    }

    /// The sentence about a hierarchy that cannot be read; `None` if it was given before.
    fn tell_unreadable(&mut self, key: u64, why: &str) -> Option<String> {
        let hierarchy = key >> ID_BITS;
        // A number that no hierarchy has is no hierarchy's.
        let is_new = self.unreadable.len() < MOST_TOLD && self.unreadable.insert(hierarchy);
        let which = if hierarchy == 0 { "version 2".into() } else { format!("hierarchy {hierarchy}") };
        is_new.then(|| {
            format!(
                "cgroups of {which} cannot be told, their labels are `{UNKNOWN}`: {why}; if it was mounted after tapster \
                 started, `--sandbox` hides it: restart tapster"
            )
        })
    }

    fn texts(&mut self, key: u64) -> CgroupTexts {
        let looks = self.looks;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.used = looks;
            return entry.texts.clone();
        }
        let since = (self.clock)();
        let (texts, location, state, is_unnamed) = match self.find(key, since) {
            CgroupLookup::Living(location) => {
                let (texts, is_unnamed) = self.describe(&location);
                (texts, Some(location), CgroupState::Living, is_unnamed)
            }
            CgroupLookup::Dead => (CgroupTexts::gone(), None, CgroupState::Living, false),
            CgroupLookup::Unreadable(why) => {
                if let Some(what) = self.tell_unreadable(key, &why) {
                    tracing::warn!("{what}");
                }
                return CgroupTexts::unknown();
            }
            CgroupLookup::Unknown => return CgroupTexts::unknown(),
        };
        if self.entries.len() < self.limit {
            let entry = CgroupEntry { texts: texts.clone(), location, state, is_unnamed, since, used: looks };
            self.entries.insert(key, entry);
        }
        texts
    }

    /// The texts of a cgroup, and whether its container has no name yet.
    fn describe(&self, location: &CgroupLocation) -> (CgroupTexts, bool) {
        let path = location.of_root();
        let mut texts = CgroupTexts { path: location.path.as_str().into(), ..CgroupTexts::none() };
        let Some(container) = Container::in_path(path) else { return (texts, false) };
        texts.container = container.shown().into();
        let Container::Id(id) = &container else { return (texts, false) };
        let (named, uid) = (self.logs.container(id), pod_uid(path));
        let pod = named.map(|(pod, _)| pod).or_else(|| self.logs.pod(uid.as_ref()?));
        if let Some(pod) = pod {
            (texts.namespace, texts.pod) = (pod.namespace.as_str().into(), pod.name.as_str().into());
        } else if uid.is_some() {
            (texts.namespace, texts.pod) = (UNKNOWN.into(), UNKNOWN.into());
        }
        if let Some((_, name)) = named {
            texts.container = name.into();
        }
        (texts, named.is_none())
    }

    /// Names containers by these links from now on.
    fn name(&mut self, logs: Logs) {
        self.logs = logs;
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.values_mut().filter(|entry| entry.is_unnamed && entry.state != CgroupState::Gone)
        {
            if let Some(location) = &entry.location {
                (entry.texts, entry.is_unnamed) = self.describe(location);
            }
        }
        self.entries = entries;
    }

    fn look(&mut self) {
        self.looks += 1;
        let looks = self.looks;
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|_, entry| entry.used + 2 >= looks);
        for (key, entry) in entries.iter_mut().filter(|(_, entry)| entry.state != CgroupState::Gone) {
            let id = key & ((1 << ID_BITS) - 1);
            let directory = entry.location.as_ref().and_then(|location| location.directory.as_ref());
            if directory.is_some_and(|directory| CgroupTree::is_at(directory, id)) {
                entry.state = CgroupState::Living;
                continue;
            }
            entry.state = match (self.find(*key, entry.since), entry.state) {
                // The cgroup was renamed, which version 1 allows, or it is not below the mount.
                (CgroupLookup::Living(location), _) => {
                    (entry.texts, entry.is_unnamed) = self.describe(&location);
                    entry.location = Some(location);
                    CgroupState::Living
                }
                (CgroupLookup::Unknown | CgroupLookup::Unreadable(_), state) => state,
                (CgroupLookup::Dead, CgroupState::Living) => CgroupState::Missing,
                (CgroupLookup::Dead, CgroupState::Missing | CgroupState::Gone) => CgroupState::Gone,
            };
        }
        bury(&mut entries);
        self.entries = entries;
    }
}

/// Replaces the texts of cgroups that are gone by [`GONE`], unless a living cgroup has the same texts. [`NONE`] stays: all
/// cgroups outside of containers share it.
fn bury(entries: &mut HashMap<u64, CgroupEntry>) {
    let living = entries.values().filter(|entry| entry.state != CgroupState::Gone);
    let (mut paths, mut owners) = (HashSet::new(), HashSet::new());
    for entry in living {
        paths.insert(entry.texts.path.clone());
        owners.insert(entry.texts.owner().map(Arc::clone));
    }
    for entry in entries.values_mut().filter(|entry| entry.state == CgroupState::Gone) {
        let gone = CgroupTexts::gone();
        let is_nobody = entry.texts.owner().iter().all(|text| ***text == *NONE);
        if !is_nobody && !owners.contains(&entry.texts.owner().map(Arc::clone)) {
            (entry.texts.namespace, entry.texts.pod, entry.texts.container) =
                (gone.namespace, gone.pod, gone.container);
        }
        if !paths.contains(&entry.texts.path) {
            entry.texts.path = gone.path;
        }
    }
}
