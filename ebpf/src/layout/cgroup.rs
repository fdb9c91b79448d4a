//! Layout of what `cgroup_matches` needs: the patterns, and the answers that were found.

use crate::{
    glob::PathGlob,
    map::{MapDef, MapKind},
    typed::{TypedEvent, TypedProbe},
};

/// Name of the map of answers.
pub const CGROUPS: &str = "cgroups";
/// Name of the array of tables of patterns.
pub const PATTERNS: &str = "patterns";
/// Most answers that are remembered. One that is not is found again at each event, which takes longer and is no less right.
const MAX_CGROUPS: u32 = 4096;

/// Layout of the maps of cgroups.
///
/// The key of the map of answers is a cgroup's number, 8 bytes, and the pattern's, 8 bytes; the value is 1 or 0, 8 bytes. Programs
/// fill it. An entry of the array of patterns is the table of one, see [`crate::glob::Automaton`], with zeros behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupLayout {
    /// The patterns; their numbers are their places.
    pub patterns: Vec<PathGlob>,
}

impl CgroupLayout {
    pub(super) fn new(probe: &TypedProbe) -> Self {
        let tests = probe.events.iter().flat_map(TypedEvent::cgroup_tests);
        let mut patterns: Vec<PathGlob> = tests.map(|test| test.pattern.clone()).collect();
        patterns.sort_by(|a, b| a.text().cmp(b.text()));
        patterns.dedup();
        Self { patterns }
    }

    /// The number of a pattern.
    pub(crate) fn number(&self, pattern: &PathGlob) -> Option<u32> {
        u32::try_from(self.patterns.iter().position(|known| known == pattern)?).ok()
    }

    /// The tables of the patterns, by number.
    pub fn tables(&self) -> Vec<Vec<u8>> {
        let size = self.table_size();
        let table = |pattern: &PathGlob| {
            let mut table = pattern.automaton().table.clone();
            table.resize(size, 0);
            table
        };
        self.patterns.iter().map(table).collect()
    }

    /// Size of the longest table.
    fn table_size(&self) -> usize {
        self.patterns.iter().map(|pattern| pattern.automaton().table.len()).max().unwrap_or(0)
    }

    /// Its maps.
    pub(crate) fn maps(&self) -> Vec<MapDef> {
        let entries = u32::try_from(self.patterns.len()).unwrap_or(u32::MAX);
        if entries == 0 {
            return Vec::new();
        }
        let value_size = u32::try_from(self.table_size()).expect("a table has at most 64 KiB");
        vec![
            MapDef {
                name: CGROUPS,
                kind: MapKind::Hash,
                key_size: 16,
                value_size: 8,
                max_entries: MAX_CGROUPS,
            },
            MapDef { name: PATTERNS, kind: MapKind::Array, key_size: 4, value_size, max_entries: entries },
        ]
    }
}
