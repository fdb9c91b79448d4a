//! Reads arrays again and again, each within its time: attributes of an array, and the control device, answer only when the
//! array's driver lets them, which may wait for a disk that does not answer.

use super::{Array, DeviceMapper, DeviceName, Topology, dm, md, named};
use crate::{
    deadline::{self, HangingThreads, MayHang, Outcome, TimeLimits},
    host::{Host, sysfs},
};
use std::{collections::HashMap, ffi::OsString, sync::Arc, time::Duration};

/// How long reading a device may take: an array of eight members takes a tenth of a millisecond, one of two hundred takes two
/// milliseconds.
const LIMITS: TimeLimits = TimeLimits { first: Duration::from_secs(1), next: Duration::from_millis(250) };

/// What is kept from one reading to the next.
pub struct TopologyReader {
    host: Host,
    mapper: Arc<dyn DeviceMapper>,
    /// The block devices of the last reading, by the name of their directory.
    devices: HashMap<OsString, Arc<Device>>,
}

impl std::fmt::Debug for TopologyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopologyReader").field("host", &self.host).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Device {
    block: sysfs::Block,
    left: HangingThreads,
}

impl MayHang for Device {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

impl TopologyReader {
    /// Makes a reader of the arrays of a host.
    pub fn new(host: &Host, mapper: Arc<dyn DeviceMapper>) -> Self {
        Self { host: host.clone(), mapper, devices: HashMap::new() }
    }

    /// Reads the arrays; those that do not answer are taken from `before`. Also returns the names of devices that did not
    /// answer, which may or may not be arrays.
    pub fn read(&mut self, before: &Topology) -> (Topology, Vec<String>) {
        let blocks = sysfs::blocks(&self.host.sys);
        let devices: Vec<Arc<Device>> = blocks
            .into_iter()
            .map(|block| match self.devices.remove(&block.file) {
                Some(known) => known,
                None => Arc::new(Device { block, left: HangingThreads::default() }),
            })
            .collect();
        self.devices = devices.iter().map(|device| (device.block.file.clone(), device.clone())).collect();
        let (sys, mapper) = (self.host.sys.clone(), self.mapper.clone());
        let links = named::MdNames::read(&self.host.dev);
        let read = move |device: &Device| {
            let named = named::read(&sys, &device.block, &links);
            let array = md::read(&sys, &device.block, named.as_ref());
            (array.or_else(|| dm::read(&sys, &device.block, &*mapper)), named)
        };
        let outcomes = deadline::each(LIMITS, devices.clone(), read);
        let mut silent = Vec::new();
        let found = devices.iter().zip(outcomes).map(|(device, outcome)| {
            let name = &device.block.name;
            let known = || {
                let array = before.arrays().iter().find(|array| array.name == *name).cloned();
                (array, before.named().iter().find(|named| named.device == *name).cloned())
            };
            match outcome {
                Outcome::Read(found) => found,
                Outcome::Slow => {
                    silent.push(name.clone());
                    known()
                }
                // The panic is logged.
                Outcome::Panicked => known(),
            }
        });
        let (arrays, named): (Vec<Option<Array>>, Vec<Option<DeviceName>>) = found.unzip();
        let topology = Topology::new(arrays.into_iter().flatten().collect());
        (topology.with_names(named.into_iter().flatten().collect()), silent)
    }
}
