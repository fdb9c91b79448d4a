//! The topology over time: read again for each scrape, with its complaints made once.

use super::{DeviceMapper, LeftOut, MAX_ARRAYS, MAX_MEMBERS, Topology};
use crate::{
    label::Host,
    sys::{DmControl, DmTarget},
};
use std::{
    io, mem,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// The topology now, for as many as want it.
#[derive(Debug)]
pub struct Watch {
    host: Host,
    /// Held while the topology is read, so that one scrape at a time does.
    reader: Mutex<Reader>,
    current: RwLock<Arc<Topology>>,
}

/// What is kept from one reading to the next.
#[derive(Debug)]
struct Reader {
    mapper: Control,
    left_out: LeftOut,
}

impl Watch {
    /// Watches the arrays of a host; there are none until the first [`Self::refresh`].
    pub fn new(host: &Host) -> Self {
        let mapper =
            Control { path: host.dev.join("mapper/control"), open: None, refused: None, told: false };
        let reader = Mutex::new(Reader { mapper, left_out: LeftOut::default() });
        Self { host: host.clone(), reader, current: RwLock::default() }
    }

    /// Reads the arrays again.
    pub fn refresh(&self) -> Arc<Topology> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let topology = Arc::new(Topology::read(&self.host, &mut reader.mapper));
        reader.mapper.complain();
        let left_out = topology.left_out();
        if left_out != LeftOut::default()
            && mem::replace(&mut reader.left_out, left_out) == LeftOut::default()
        {
            tracing::warn!(
                arrays = left_out.arrays,
                members = left_out.members,
                "more than {MAX_ARRAYS} arrays or {MAX_MEMBERS} members: the others are left out"
            );
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = topology.clone();
        topology
    }

    /// The arrays as they were last read.
    pub fn current(&self) -> Arc<Topology> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The control device, opened when there is a device to ask about: opening it loads the driver.
#[derive(Debug)]
struct Control {
    path: PathBuf,
    open: Option<DmControl>,
    /// Why a device could not be asked, of this reading.
    refused: Option<String>,
    /// Whether that has been said.
    told: bool,
}

impl Control {
    fn ask(
        &mut self,
        ask: impl FnOnce(&mut DmControl) -> io::Result<Vec<DmTarget>>,
    ) -> io::Result<Vec<DmTarget>> {
        let opened = match &mut self.open {
            Some(open) => Ok(open),
            closed => DmControl::open(&self.path).map(|open| closed.insert(open)),
        };
        let result = opened.and_then(ask);
        if let Err(error) = &result
            // A device that went meanwhile.
            && error.raw_os_error() != Some(libc::ENXIO)
        {
            self.refused = Some(error.to_string());
        }
        result
    }

    /// Says once why device-mapper arrays are not seen.
    fn complain(&mut self) {
        if let Some(error) = self.refused.take()
            && !mem::replace(&mut self.told, true)
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
    fn status(&mut self, device: u64) -> io::Result<Vec<DmTarget>> {
        self.ask(|control| control.status(device))
    }

    fn table(&mut self, device: u64) -> io::Result<Vec<DmTarget>> {
        self.ask(|control| control.table(device))
    }
}
