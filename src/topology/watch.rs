//! The topology over time: read for each scrape, with each complaint logged once.

use super::{DeviceMapper, LeftOutCounts, MAX_ARRAYS, MAX_MEMBERS, Topology, TopologyReader};
use crate::{
    host::Host,
    lock::lock,
    sys::{DmControl, DmTarget},
};
use std::{
    io, mem,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The present topology, shared by all callers.
#[derive(Debug)]
pub struct Watch {
    mapper: Arc<Control>,
    /// Held while the topology is read, so that only one scrape at a time reads it.
    reading: Mutex<Reading>,
    current: RwLock<Arc<Topology>>,
    /// When all devices last answered.
    answered: Mutex<Instant>,
}

/// What is kept from one reading to the next.
#[derive(Debug)]
struct Reading {
    reader: TopologyReader,
    left_out: LeftOutCounts,
    /// Devices that did not answer.
    silent: Vec<String>,
}

impl Watch {
    /// Watches the arrays of a host; there are none until the first [`Self::refresh`].
    pub fn new(host: &Host) -> Self {
        let mapper = Arc::new(Control::new(host.dev.join("mapper/control")));
        let reader = TopologyReader::new(host, mapper.clone());
        let reading = Reading { reader, left_out: LeftOutCounts::default(), silent: Vec::new() };
        Self {
            mapper,
            reading: Mutex::new(reading),
            current: RwLock::default(),
            answered: Mutex::new(Instant::now()),
        }
    }

    /// Reads the arrays. One that does not answer within a second stays as it was, and is not waited for again.
    pub fn refresh(&self) -> Arc<Topology> {
        let mut reading = lock(&self.reading);
        let begun = Instant::now();
        let (topology, silent) = reading.reader.read(&self.current());
        let topology = Arc::new(topology);
        self.mapper.complain();
        if silent.is_empty() {
            *lock(&self.answered) = begun;
        }
        reading.tell(topology.left_out(), silent);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = topology.clone();
        topology
    }

    /// The arrays of the last reading.
    pub fn current(&self) -> Arc<Topology> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Devices that did not answer in the last reading, which may or may not be arrays.
    pub fn silent(&self) -> Vec<String> {
        lock(&self.reading).silent.clone()
    }

    /// Time since all devices last answered.
    pub fn age(&self) -> Duration {
        lock(&self.answered).elapsed()
    }
}

impl Reading {
    fn tell(&mut self, left_out: LeftOutCounts, silent: Vec<String>) {
        if left_out != LeftOutCounts::default()
            && mem::replace(&mut self.left_out, left_out) == LeftOutCounts::default()
        {
            tracing::warn!(
                arrays = left_out.arrays,
                members = left_out.members,
                "more than {MAX_ARRAYS} arrays or {MAX_MEMBERS} members: the others are left out"
            );
        }
        for device in silent.iter().filter(|device| !self.silent.contains(device)) {
            tracing::warn!(
                device,
                "the device does not answer; if it is an array, it is shown as it was: a disk of it may hang"
            );
        }
        for device in self.silent.iter().filter(|device| !silent.contains(device)) {
            tracing::info!(device, "the device answers again");
        }
        self.silent = silent;
    }
}

/// The control device, opened when the first device needs it: opening it loads the driver.
#[derive(Debug)]
struct Control {
    path: PathBuf,
    open: Mutex<Option<Arc<DmControl>>>,
    /// Why a device could not be read, in this reading.
    refused: Mutex<Option<String>>,
    /// Whether that has been logged.
    told: AtomicBool,
}

impl Control {
    fn new(path: PathBuf) -> Self {
        Self { path, open: Mutex::default(), refused: Mutex::default(), told: AtomicBool::new(false) }
    }

    fn opened(&self) -> io::Result<Arc<DmControl>> {
        let mut open = lock(&self.open);
        if let Some(open) = &*open {
            return Ok(open.clone());
        }
        Ok(open.insert(Arc::new(DmControl::open(&self.path)?)).clone())
    }

    fn ask(&self, ask: impl FnOnce(&DmControl) -> io::Result<Vec<DmTarget>>) -> io::Result<Vec<DmTarget>> {
        let result = self.opened().and_then(|control| ask(&control));
        if let Err(error) = &result
            // The device went meanwhile.
            && error.raw_os_error() != Some(libc::ENXIO)
        {
            *lock(&self.refused) = Some(error.to_string());
        }
        result
    }

    /// Logs once why device-mapper arrays cannot be seen.
    fn complain(&self) {
        if let Some(error) = lock(&self.refused).take()
            && !self.told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                error,
                "device-mapper devices cannot be asked for their tables, so arrays among them are not shown; it takes \
                 CAP_SYS_ADMIN and the host's `{}`",
                self.path.display()
            );
        }
    }
}

impl DeviceMapper for Control {
    fn status(&self, device: u64) -> io::Result<Vec<DmTarget>> {
        self.ask(|control| control.status(device))
    }

    fn table(&self, device: u64) -> io::Result<Vec<DmTarget>> {
        self.ask(|control| control.table(device))
    }
}
