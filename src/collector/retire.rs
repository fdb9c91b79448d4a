//! Removes rows of cgroups, disks and processes that are gone from the map, so that many short-lived ones do not fill it, and so
//! that the successors of disks begin at zero. Counts of processes stay in their series, which names a function and no process.

use super::{
    ProbeReader, RowDecoder,
    ledger::Ledger,
    part,
    retired::{Move, Retired},
    row::RowWords,
    texts,
};
use crate::{
    cgroup::{GONE, Part, is_endless},
    label::{Decode, number::unsigned},
};
use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::SystemTime,
};
use tapster_ebpf::{probe::Decoder, program::Program, typed::TypedLabel};

/// Keys of rows, each with the indexes of the labels whose cgroup or disk is gone.
pub(super) type GoneRows = HashMap<Vec<u8>, Vec<usize>>;

/// Whether a label leaves out rows whose devices are no array or no member of one.
fn is_of_array(label: &TypedLabel) -> bool {
    matches!(label.decoder, Decoder::RaidArray | Decoder::RaidLevel | Decoder::RaidSlot)
}

/// Texts that living cgroups have in the labels at some indexes.
type LivingTexts = HashSet<Vec<Arc<str>>>;

impl ProbeReader {
    /// Whether rows may be removed from the map or change their texts.
    pub(super) fn takes_out(&self) -> bool {
        !self.cgroup_labels.is_empty() || !self.disk_labels.is_empty() || !self.process_labels.is_empty()
    }

    /// Whether a label's object is a disk or a process.
    fn is_of_object(&self, index: usize) -> bool {
        self.disk_labels.contains(&index) || self.process_labels.contains(&index)
    }

    /// The rows whose disk or process is gone.
    pub(super) fn gone_objects<'k>(
        &self,
        decoders: &mut [Box<dyn Decode>],
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> GoneRows {
        let mut gone = GoneRows::new();
        let objects: Vec<usize> = self.disk_labels.iter().chain(&self.process_labels).copied().collect();
        if objects.is_empty() {
            return gone;
        }
        let layout = &self.program().layout;
        for key in keys {
            let is_gone = |index: &&usize| decoders[**index].is_gone(part(key, layout.labels[**index]));
            let mut places: Vec<usize> = objects.iter().filter(is_gone).copied().collect();
            if !places.is_empty() {
                // A removed row has to follow its cgroups as well.
                places.extend(self.cgroup_labels.iter().map(|(index, _)| *index));
                gone.insert(key.to_vec(), places);
            }
        }
        gone
    }

    /// Removes rows of what is gone from the map and keeps their counts.
    pub fn retire(&self) -> io::Result<()> {
        if !self.takes_out() {
            return Ok(());
        }
        let Program { layout, metrics, .. } = self.program();
        let mut labels = self.lock_labels();
        let RowDecoder { decoders, retired, ledger } = &mut *labels;
        for decoder in decoders.iter_mut() {
            decoder.look();
        }
        self.refuse(decoders)?;
        let mut gone = GoneRows::new();
        self.rows.scan(|key, _| {
            let is_gone = |(index, _): &&(usize, Part)| {
                self.cgroups.is_gone(unsigned(part(key, layout.labels[*index])))
            };
            let cgroups: Vec<usize> =
                self.cgroup_labels.iter().filter(is_gone).map(|(index, _)| *index).collect();
            let objects = self.gone_objects(decoders, std::iter::once(key));
            match objects.into_iter().next() {
                // Keeps the labels of disks and processes, and those cgroups that are gone.
                Some((key, mut places)) if !cgroups.is_empty() => {
                    places.retain(|index| self.is_of_object(*index) || cgroups.contains(index));
                    gone.insert(key, places);
                }
                Some((key, places)) => drop(gone.insert(key, places)),
                None if cgroups.is_empty() => {}
                None => drop(gone.insert(key.to_vec(), cgroups)),
            }
        })?;
        let at = SystemTime::now();
        self.take_out((decoders, retired, ledger), gone, at)?;
        let mut living: HashMap<Vec<usize>, LivingTexts> = HashMap::new();
        let ending = |texts: &[String], gone: &[usize]| {
            let of = |index: &usize| self.cgroup_labels.iter().find(|(own, _)| own == index);
            let (places, parts): (Vec<usize>, Vec<Part>) = gone.iter().filter_map(of).copied().unzip();
            let own = || places.iter().map(|index| texts[*index].as_str());
            if own().all(is_endless) {
                return Vec::new();
            }
            let living = living.entry(places.clone()).or_insert_with(|| self.cgroups.living(&parts));
            let lives = living.contains(&own().map(Arc::from).collect::<Vec<Arc<str>>>());
            if lives { Vec::new() } else { places }
        };
        for Move { from, to, row } in retired.settle(ending, metrics, layout) {
            ledger.count_moved(&from, &to, &row, at, metrics, layout);
        }
        Ok(())
    }

    /// Removes these rows from the map.
    pub(super) fn take_out(
        &self,
        (decoders, retired, ledger): (&mut [Box<dyn Decode>], &mut Retired, &mut Ledger),
        gone: GoneRows,
        at: SystemTime,
    ) -> io::Result<()> {
        let Program { layout, metrics, labels, .. } = self.program();
        let shown = self.shown();
        for (key, places) in gone {
            let texts = texts(&key, layout, decoders);
            if texts.as_ref().is_some_and(|texts| !self.is_wanted(&shown, texts)) {
                self.rows.delete(&key)?;
                continue;
            }
            let has_disk = places.iter().any(|index| self.disk_labels.contains(index));
            if texts.is_none() && !has_disk {
                // A row that another decoder leaves out may be shown again; but counts of another disk in the row of this one
                // could not be told apart.
                continue;
            }
            let Some(value) = self.rows.lookup(&key)? else { continue };
            self.rows.delete(&key)?;
            let row = RowWords::read(&value, layout, metrics, self.copies(), 0).counts(metrics, layout);
            let before = ledger.take_out(&key);
            let into = match texts {
                // A member is shown only as long as it is a member.
                Some(texts) if !has_disk || !labels.iter().any(is_of_array) => {
                    retired.add(texts, places, (row.clone(), before.is_some()), metrics, layout)
                }
                _ => labels.iter().map(|_| GONE.to_owned()).collect(),
            };
            if let Some(before) = before {
                ledger.count_moved(&before, &into, &row, at, metrics, layout);
            }
        }
        for index in self.disk_labels.iter().chain(&self.process_labels) {
            decoders[*index].forget_gone();
        }
        Ok(())
    }

    /// Ends the series of disks that are gone if another disk now has the name: one that is there, or whose texts are in the
    /// map.
    pub(super) fn settle_disks(
        &self,
        (decoders, retired, ledger): (&[Box<dyn Decode>], &mut Retired, &mut Ledger),
        present: &HashMap<Arc<[String]>, usize>,
        at: SystemTime,
    ) {
        if self.disk_labels.is_empty() || retired.is_empty() {
            return;
        }
        let Program { layout, metrics, .. } = self.program();
        let name = |texts: &'_ Arc<[String]>| -> Vec<(usize, String)> {
            self.disk_labels.iter().map(|index| (*index, texts[*index].clone())).collect()
        };
        let mut heirs: HashMap<(usize, String), bool> =
            present.keys().flat_map(name).map(|name| (name, true)).collect();
        let ending = |texts: &[String], gone: &[usize]| {
            let has_heir = |index: &usize| {
                let name = (*index, texts[*index].clone());
                self.disk_labels.contains(index)
                    && *heirs.entry(name).or_insert_with(|| decoders[*index].has_heir(&texts[*index]))
            };
            gone.iter().copied().filter(has_heir).collect()
        };
        for Move { from, to, row } in retired.settle(ending, metrics, layout) {
            ledger.count_moved(&from, &to, &row, at, metrics, layout);
        }
    }
}
