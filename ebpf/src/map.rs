//! Definitions of maps, which programs share with each other and with the exporter.

/// Kinds of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`
    Array,
    /// `BPF_MAP_TYPE_ARRAY` with `BPF_F_MMAPABLE`, 5.5: user space can map it into its memory
    SharedArray,
    /// `BPF_MAP_TYPE_PERCPU_HASH`, 4.6
    PerCpuHash,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`, 4.6
    PerCpuArray,
    /// `BPF_MAP_TYPE_RINGBUF`, 5.8; it has no keys and values, its entries are bytes
    Ring,
    /// `BPF_MAP_TYPE_TASK_STORAGE`, for programs of all kinds 5.13: a value with each task, which goes when the task does
    TaskStorage,
}

impl MapKind {
    /// The number in `enum bpf_map_type`.
    pub fn number(self) -> u32 {
        match self {
            Self::Hash => 1,
            Self::Array | Self::SharedArray => 2,
            Self::PerCpuHash => 5,
            Self::PerCpuArray => 6,
            Self::Ring => 27,
            Self::TaskStorage => 29,
        }
    }

    /// The flags for `BPF_MAP_CREATE`.
    pub fn flags(self) -> u32 {
        const NO_PREALLOC: u32 = 1;
        const MMAPABLE: u32 = 1 << 10;
        match self {
            Self::SharedArray => MMAPABLE,
            Self::TaskStorage => NO_PREALLOC,
            Self::Hash | Self::Array | Self::PerCpuHash | Self::PerCpuArray | Self::Ring => 0,
        }
    }
}

/// A map to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDef {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: MapKind,
    /// Size of a key, bytes.
    pub key_size: u32,
    /// Size of a value (of one CPU's), bytes.
    pub value_size: u32,
    /// Most entries; the kernel allocates all of them when the map is created.
    pub max_entries: u32,
}

/// Kernel memory for each entry of a hash besides key and value, bytes: `struct htab_elem` and its bucket.
const HASH_ENTRY_BYTES: u64 = 64;

impl MapDef {
    /// Kernel memory of the map, bytes; rounded as the kernel rounds.
    pub fn memory_bytes(&self, possible_cpus: u32) -> u64 {
        let value = u64::from(self.value_size.next_multiple_of(8));
        let key = u64::from(self.key_size.next_multiple_of(8));
        let entries = u64::from(self.max_entries);
        let cpus = u64::from(possible_cpus);
        match self.kind {
            // The kernel keeps one spare element for each CPU.
            MapKind::Hash => (entries + cpus) * (key + value + HASH_ENTRY_BYTES),
            MapKind::Array | MapKind::SharedArray => entries * value,
            MapKind::PerCpuHash => entries * (key + 8 + HASH_ENTRY_BYTES + value * cpus),
            MapKind::PerCpuArray => entries * value * cpus,
            // Two pages of positions before the bytes.
            MapKind::Ring => entries + 2 * 4096,
            // How many tasks will have a value is not known.
            MapKind::TaskStorage => 0,
        }
    }
}
