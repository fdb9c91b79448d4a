//! Maps, with the kernel's rules for flags, limits and the lifetime of elements.

use std::collections::BTreeMap;

/// Kind of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VmMapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`
    Array,
    /// `BPF_MAP_TYPE_PERCPU_HASH`
    PercpuHash,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PercpuArray,
    /// `BPF_MAP_TYPE_TASK_STORAGE`; the key is the address of the task, 8 bytes, and there is room for all of them
    TaskStorage,
}

impl VmMapKind {
    fn is_array(self) -> bool {
        matches!(self, Self::Array | Self::PercpuArray)
    }

    fn is_percpu(self) -> bool {
        matches!(self, Self::PercpuHash | Self::PercpuArray)
    }
}

/// Declaration of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VmMap {
    /// Its kind.
    pub kind: VmMapKind,
    /// Size of a key, bytes; 4 for arrays.
    pub key_size: u32,
    /// Size of a value (on one CPU), bytes.
    pub value_size: u32,
    /// Most elements; arrays have exactly this many, and values with tasks no limit.
    pub max_entries: u32,
}

/// A negative error number, as helpers return it.
pub type Errno = i64;

const ENOENT: Errno = -2;
const E2BIG: Errno = -7;
const EEXIST: Errno = -17;
const EINVAL: Errno = -22;

const NOEXIST: u64 = 1;
const EXIST: u64 = 2;

/// A map and its contents.
///
/// Each element has `cpus` consecutive cells (one if the map is not per CPU). When an element of a hash is deleted or
/// replaced, its cells stay readable until the run ends, as with RCU: a pointer that is kept too long writes into an element
/// that nobody sees, and not into the new one.
#[derive(Debug)]
pub struct MapContents {
    declared: VmMap,
    cpus: usize,
    cells: Vec<Vec<u8>>,
    /// First cell by key; arrays do not use it, because their index is the element.
    elements: BTreeMap<Vec<u8>, usize>,
    free: Vec<usize>,
    /// Cells that were freed in this run.
    stale: Vec<usize>,
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).expect("a usize has at least 32 bits")
}

impl MapContents {
    pub(super) fn new(declared: VmMap, cpus: u32) -> Self {
        let cpus = if declared.kind.is_percpu() { size(cpus) } else { 1 };
        let mut map = Self {
            declared,
            cpus,
            cells: Vec::new(),
            elements: BTreeMap::new(),
            free: Vec::new(),
            stale: Vec::new(),
        };
        if declared.kind.is_array() {
            map.cells = vec![vec![0; map.value_size()]; size(declared.max_entries) * cpus];
        }
        map
    }

    pub(super) fn key_size(&self) -> usize {
        size(self.declared.key_size)
    }

    pub(super) fn value_size(&self) -> usize {
        size(self.declared.value_size)
    }

    pub(super) fn is_percpu(&self) -> bool {
        self.declared.kind.is_percpu()
    }

    pub(super) fn is_with_tasks(&self) -> bool {
        self.declared.kind == VmMapKind::TaskStorage
    }

    /// Whether the map has values for that CPU.
    pub(super) fn has_cpu(&self, cpu: u32) -> bool {
        !self.is_percpu() || size(cpu) < self.cpus
    }

    pub(super) fn cell(&self, cell: usize) -> Option<&[u8]> {
        self.cells.get(cell).map(Vec::as_slice)
    }

    pub(super) fn cell_mut(&mut self, cell: usize) -> Option<&mut [u8]> {
        self.cells.get_mut(cell).map(Vec::as_mut_slice)
    }

    /// Makes cells that the last run freed usable again.
    pub(super) fn recycle(&mut self) {
        self.free.append(&mut self.stale);
    }

    /// First cell of a key's element.
    fn element(&self, key: &[u8]) -> Option<usize> {
        if !self.declared.kind.is_array() {
            return self.elements.get(key).copied();
        }
        let index = u32::from_le_bytes(key.try_into().ok()?);
        (index < self.declared.max_entries).then(|| size(index) * self.cpus)
    }

    /// The cell to which a program on `cpu` gets a pointer.
    pub(super) fn lookup(&self, key: &[u8], cpu: u32) -> Option<usize> {
        let first = self.element(key)?;
        Some(if self.is_percpu() { first + size(cpu) } else { first })
    }

    /// Finds or makes the element of `key`, if `flags` allow writing it, and returns its first cell.
    fn claim(&mut self, key: &[u8], flags: u64) -> Result<usize, Errno> {
        if flags > EXIST {
            return Err(EINVAL);
        }
        let old = self.element(key);
        if self.declared.kind.is_array() {
            return match old {
                None => Err(E2BIG),
                Some(_) if flags == NOEXIST => Err(EEXIST),
                Some(first) => Ok(first),
            };
        }
        match old {
            Some(_) if flags == NOEXIST => Err(EEXIST),
            None if flags == EXIST => Err(ENOENT),
            None if !self.is_with_tasks() && self.elements.len() >= size(self.declared.max_entries) => {
                Err(E2BIG)
            }
            // A per-CPU element is updated in place, any other replaced (htab_map_update_elem).
            Some(first) if self.is_percpu() => Ok(first),
            old => {
                self.stale.extend(old);
                let first = self.free.pop().unwrap_or_else(|| {
                    self.cells.resize(self.cells.len() + self.cpus, Vec::new());
                    self.cells.len() - self.cpus
                });
                self.cells[first..first + self.cpus].fill(vec![0; size(self.declared.value_size)]);
                self.elements.insert(key.to_vec(), first);
                Ok(first)
            }
        }
    }

    /// `bpf_map_update_elem` by a program on `cpu`.
    pub(super) fn update(&mut self, key: &[u8], value: &[u8], flags: u64, cpu: u32) -> Result<(), Errno> {
        let first = self.claim(key, flags)?;
        let cell = if self.is_percpu() { first + size(cpu) } else { first };
        self.cells[cell] = value.to_vec();
        Ok(())
    }

    /// Deletes an element, as a program or user space does.
    pub fn remove(&mut self, key: &[u8]) -> Result<(), Errno> {
        if self.declared.kind.is_array() {
            return Err(EINVAL);
        }
        self.stale.push(self.elements.remove(key).ok_or(ENOENT)?);
        Ok(())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        if self.declared.kind.is_array() { size(self.declared.max_entries) } else { self.elements.len() }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value as user space reads it: per-CPU maps give one value after the other, each padded to 8 bytes.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let first = self.element(key)?;
        let cells = &self.cells[first..first + self.cpus];
        if !self.is_percpu() {
            return Some(cells.concat());
        }
        let mut value = Vec::new();
        for cell in cells {
            value.extend(cell);
            value.resize(value.len().next_multiple_of(8), 0);
        }
        Some(value)
    }

    /// The value as a program on `cpu` sees it.
    pub fn get_cpu(&self, key: &[u8], cpu: u32) -> Option<&[u8]> {
        if !self.has_cpu(cpu) {
            return None;
        }
        self.cell(self.lookup(key, cpu)?)
    }

    /// Adds or replaces an element; the value has the layout of [`MapContents::get`].
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        let value_size = self.value_size();
        let stride = if self.is_percpu() { value_size.next_multiple_of(8) } else { value_size };
        if key.len() != self.key_size() || value.len() != stride * self.cpus {
            return Err(EINVAL);
        }
        let first = self.claim(key, 0)?;
        for (i, cell) in self.cells[first..first + self.cpus].iter_mut().enumerate() {
            cell.copy_from_slice(&value[i * stride..i * stride + value_size]);
        }
        Ok(())
    }

    /// All elements: hashes sorted by the bytes of the key, arrays by index.
    pub fn iter(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
        let indices = if self.declared.kind.is_array() { self.declared.max_entries } else { 0 };
        let indices = (0..indices).map(|index| index.to_le_bytes().to_vec());
        let keys = self.elements.keys().cloned().chain(indices);
        keys.filter_map(|key| self.get(&key).map(|value| (key, value)))
    }
}
