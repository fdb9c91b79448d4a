//! Devices that are not wanted, by name: which they are is only known here, and the programs are told. A device is found by its
//! first row, which leaves the map within a second; from then on the programs make no row for it. So rows that nobody asked for do
//! not fill the map, and other devices pay nothing: programs look only where they would make a row. See `docs/adr/0046-overrides.md`.

use super::{CollectError, ProbeReader, part};
use crate::{
    label::Decode,
    load::Attached,
    sys::{self, PossibleCpus},
};
use std::{collections::HashSet, io};
use tapster_ebpf::{probe::Shown, program::UNWANTED};

/// The map of devices that are not wanted.
#[derive(Debug)]
pub(super) struct Unwanted(sys::Map);

impl Unwanted {
    /// Opens the map; `None` if the probe was compiled for all devices.
    pub(super) fn open(attached: &Attached, cpus: PossibleCpus) -> Result<Option<Self>, CollectError> {
        let Some(map) = attached.program.map_named(UNWANTED) else { return Ok(None) };
        Ok(Some(Self(sys::Map::open(attached.map(map)?, cpus)?)))
    }

    /// Devices that are wanted now, or that are gone, leave the map.
    fn clean(&self, shown: &Shown, decoder: &mut dyn Decode) -> io::Result<()> {
        let mut over = Vec::new();
        self.0.scan(|key, _| {
            if decoder.is_gone(key) || decoder.decode(key).is_none_or(|name| shown.takes(&name)) {
                over.push(key.to_vec());
            }
        })?;
        for key in over {
            self.0.delete(&key)?;
        }
        Ok(())
    }
}

impl ProbeReader {
    /// Removes rows of devices that are not wanted from the map, and tells the programs of them.
    pub(super) fn refuse(&self, decoders: &mut [Box<dyn Decode>]) -> io::Result<()> {
        let shown = self.shown();
        let [first, ..] = self.disk_labels.as_slice() else { return Ok(()) };
        if let Some(unwanted) = &self.unwanted {
            // All labels of devices are numbers of the same kind, so one decoder does for all.
            unwanted.clean(&shown, decoders[*first].as_mut())?;
        }
        if shown.devices.is_none() {
            return Ok(());
        }
        let layout = &self.program().layout;
        let (mut rows, mut devices) = (Vec::new(), HashSet::new());
        self.rows.scan(|key, _| {
            for index in &self.disk_labels {
                let number = part(key, layout.labels[*index]);
                if decoders[*index].decode(number).is_some_and(|name| !shown.takes(&name)) {
                    devices.insert(number.to_vec());
                    rows.push(key.to_vec());
                    break;
                }
            }
        })?;
        if let Some(unwanted) = &self.unwanted {
            for number in devices {
                // A full map costs a row for a second, no more.
                let _ = unwanted.0.update(&number, &[1; 8]);
            }
        }
        for key in rows {
            self.rows.delete(&key)?;
        }
        Ok(())
    }
}
