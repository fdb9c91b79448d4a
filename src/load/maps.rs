//! The maps of a probe, made by aya.

use super::{LoadError, error::refused, refusal::RefusedObject};
use crate::sys::{self, PossibleCpus};
use aya::maps::MapData;
use aya_obj::{
    EbpfSectionKind,
    maps::{LegacyMap, bpf_map_def},
};
use std::{
    error::Error,
    io,
    os::fd::{AsFd, BorrowedFd},
};
use tapster_ebpf::program::{MapDef, MapKind, Program};

/// Maps in the order of their numbers in instructions.
#[derive(Debug)]
pub(super) struct Maps(Vec<MapData>);

impl Maps {
    /// Makes the maps of a probe.
    pub(super) fn create(program: &Program) -> Result<Self, LoadError> {
        let create = |map: &MapDef| {
            let refusal = |error: &(dyn Error + 'static)| LoadError::Map {
                probe: program.name.clone(),
                message: refused(error, RefusedObject::Map),
            };
            // Its value needs types, which aya makes only of those in an object.
            if map.kind == MapKind::TaskStorage {
                let fd = sys::create_map(map).map_err(|error| refusal(&error))?;
                return MapData::from_fd(fd).map_err(|error| refusal(&error));
            }
            MapData::create(definition(map), map.name, None).map_err(|error| refusal(&error))
        };
        let maps: Self = program.maps.iter().map(create).collect::<Result<_, _>>().map(Self)?;
        maps.fill(program).map_err(|error| LoadError::Map {
            probe: program.name.clone(),
            message: refused(&error, RefusedObject::Map),
        })?;
        Ok(maps)
    }

    /// Writes what programs find in the maps when they first run.
    fn fill(&self, program: &Program) -> io::Result<()> {
        for (map, index, value) in program.contents() {
            let map = self.get(map).ok_or_else(|| io::Error::other("the map is not there"))?;
            sys::Map::open(map, PossibleCpus::of_host()?)?.update(&index.to_le_bytes(), &value)?;
        }
        Ok(())
    }

    /// The descriptors of all maps.
    pub(super) fn all(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|map| map.fd().as_fd()).collect()
    }

    /// The descriptor of a map by its number.
    pub(super) fn get(&self, index: u32) -> Option<BorrowedFd<'_>> {
        self.0.get(usize::try_from(index).ok()?).map(|map| map.fd().as_fd())
    }
}

fn definition(map: &MapDef) -> aya_obj::Map {
    aya_obj::Map::Legacy(LegacyMap {
        def: bpf_map_def {
            map_type: map.kind.number(),
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
            map_flags: map.kind.flags(),
            ..bpf_map_def::default()
        },
        inner_def: None,
        section_index: 0,
        section_kind: EbpfSectionKind::Maps,
        symbol_index: None,
        data: Vec::new(),
    })
}
