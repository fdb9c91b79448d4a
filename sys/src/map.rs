//! Maps: reads one element, or all of them while programs keep writing.
//!
//! Supports hash maps and arrays, shared or per CPU. The value of a per-CPU map has the kernel's form: the value of each CPU,
//! rounded up to 8 bytes, one after the other.

use super::{
    bpf::{self, BpfCommand, Element, Information, MapBatch, RefusedCall},
    cpu::PossibleCpus,
};
use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// About how many bytes one batch should have.
const BATCH_BYTES: usize = 256 << 10;

/// Fewest elements of a batch. A batch contains at least a bucket of the hash, and long buckets are rare.
const BATCH_LEAST: usize = 64;

/// The kernel's error for an operation that a map type lacks; `libc` does not define it.
const ENOTSUPP: i32 = 524;

/// An open map and its sizes as the kernel reports them.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
    max_entries: usize,
    is_array: bool,
}

/// The beginning of `struct bpf_map_info`.
#[derive(Debug, Default)]
#[repr(C)]
struct RawMapInfo {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}
// SAFETY: numbers only, without holes between or after them.
unsafe impl Information for RawMapInfo {}

/// The elements of a map at one time.
#[derive(Clone, Debug)]
pub struct Dump {
    keys: Vec<u8>,
    values: Vec<u8>,
    key_size: usize,
    value_size: usize,
    /// Whether it has every element that existed all the time. False if the map changed faster than it could be read, which may
    /// happen on kernels without batches (before 5.6).
    pub complete: bool,
}

impl Dump {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.keys.len() / self.key_size
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys and values; each key comes once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.keys.chunks_exact(self.key_size).zip(self.values.chunks_exact(self.value_size))
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Map {
    /// Opens a map and reads its sizes; the descriptor is duplicated. Fails for other types than hash maps and arrays.
    pub fn open(fd: BorrowedFd<'_>, cpus: PossibleCpus) -> io::Result<Self> {
        let info: RawMapInfo = bpf::object_info(fd)?;
        let size = |number: u32| usize::try_from(number).map_err(io::Error::other);
        let value_size = match info.kind {
            // Hash, array, LRU hash.
            1 | 2 | 9 => size(info.value_size)?,
            // The same per CPU.
            5 | 6 | 10 => size(info.value_size)?.next_multiple_of(8) * size(cpus.get())?,
            other => {
                let message = format!("map type {other} is neither a hash nor an array");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
        };
        Ok(Self {
            fd: fd.try_clone_to_owned()?,
            key_size: size(info.key_size)?,
            value_size,
            max_entries: size(info.max_entries)?,
            // Array, array per CPU.
            is_array: matches!(info.kind, 2 | 6),
        })
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of a value; of all CPUs for a per-CPU map.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Most elements that it holds.
    pub fn max_entries(&self) -> usize {
        self.max_entries
    }

    /// The value of a key; `None` if the key does not exist.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        expect_length("key", key, self.key_size)?;
        let mut value = vec![0; self.value_size];
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// Sets the value of a key, and adds the key if it does not exist. Values of per-CPU maps contain those of all CPUs.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        expect_length("key", key, self.key_size)?;
        expect_length("value", value, self.value_size)?;
        let mut attributes = self.element(key.as_ptr(), value.as_ptr() as u64);
        // SAFETY: the kernel reads a key and a value, whose lengths have just been compared with its own.
        unsafe { bpf::bpf(BpfCommand::UpdateElement, &mut attributes) }?;
        Ok(())
    }

    /// Removes a key from a hash; `false` if it did not exist.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        expect_length("key", key, self.key_size)?;
        let mut attributes = self.element(key.as_ptr(), 0);
        // SAFETY: the kernel reads a key, whose length has just been compared with its own.
        let result = unsafe { bpf::bpf(BpfCommand::DeleteElement, &mut attributes) };
        found(result)
    }

    /// Removes all elements of a hash; those of an array become zeros.
    pub fn clear(&self) -> io::Result<()> {
        let keys: Vec<Vec<u8>> = self.dump()?.iter().map(|(key, _)| key.to_vec()).collect();
        let zeros = vec![0; if self.is_array { self.value_size } else { 0 }];
        for key in keys {
            if self.is_array {
                self.update(&key, &zeros)?;
            } else {
                self.delete(&key)?;
            }
        }
        Ok(())
    }

    /// All elements; [`Self::scan`] visits them without keeping them.
    pub fn dump(&self) -> io::Result<Dump> {
        self.keep(|visit| self.scan(visit))
    }

    fn keep(&self, scan: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> io::Result<bool>) -> io::Result<Dump> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let complete = scan(&mut |key, value| {
            keys.extend_from_slice(key);
            values.extend_from_slice(value);
        })?;
        Ok(Dump { keys, values, key_size: self.key_size, value_size: self.value_size, complete })
    }

    /// Calls `visit` once for each key with its value. Returns [`Dump::complete`].
    ///
    /// Elements that are added or removed meanwhile may or may not be visited. Reads in batches (hash and array 5.6, per-CPU
    /// array 5.13), or key by key if the kernel has none.
    pub fn scan(&self, mut visit: impl FnMut(&[u8], &[u8])) -> io::Result<bool> {
        let room = (BATCH_BYTES / (self.key_size + self.value_size)).max(BATCH_LEAST);
        match self.scan_batches(room, &mut visit)? {
            Some(complete) => Ok(complete),
            None => self.scan_keys(&mut visit),
        }
    }

    /// `None` if the kernel cannot read this map in batches; nothing was visited then.
    ///
    /// A hash is read bucket by bucket, each under its lock, and a key's bucket never changes: so no key comes twice or is
    /// missed, and the walk ends with the last bucket.
    fn scan_batches(&self, room: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<Option<bool>> {
        // A bucket may hold all elements; twice as many leaves room for those being replaced.
        let most = self.max_entries.max(1) * 2;
        let mut room = room.min(most);
        let mut keys = vec![0; room * self.key_size];
        let mut values = vec![0; room * self.value_size];
        // The position: the number of a bucket, or an array's key.
        let mut from = vec![0; self.key_size.max(8)];
        let mut next = from.clone();
        let mut started = false;
        let mut refusals = 0;
        // Each call advances by at least one element, or is one of the few that are refused.
        for _ in 0..most + 1000 {
            let mut attributes = MapBatch {
                from: if started { from.as_mut_ptr() as u64 } else { 0 },
                next: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: u32::try_from(room).map_err(io::Error::other)?,
                map: bpf::number(self.fd.as_fd()),
                ..MapBatch::default()
            };
            // SAFETY: the kernel writes at most `count` keys and values and there is room for as many. It
            // reads and writes a place of 4 bytes or of a key's size.
            let result = unsafe { bpf::bpf(BpfCommand::LookupBatch, &mut attributes) };
            // For the errors that are accepted below, the kernel has set `count`.
            let errno = result.as_ref().err().map(|refused| refused.errno);
            match errno {
                None | Some(libc::ENOENT) => {}
                // A lock was not available, 5.11; what was read before counts.
                Some(libc::EBUSY | libc::EDEADLK | libc::ETIMEDOUT) if refusals < 100 => refusals += 1,
                // The next bucket does not fit, and it is the first of the batch.
                Some(libc::ENOSPC) if room < most => {
                    room = (room * 2).min(most);
                    keys.resize(room * self.key_size, 0);
                    values.resize(room * self.value_size, 0);
                    continue;
                }
                Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP) if !started => return Ok(None),
                Some(_) => result.map(|_| ())?,
            }
            let read = attributes.count;
            let read = usize::try_from(read).map_err(io::Error::other)?.min(room);
            let read_keys = keys[..read * self.key_size].chunks_exact(self.key_size);
            for (key, value) in read_keys.zip(values.chunks_exact(self.value_size)) {
                visit(key, value);
            }
            if errno == Some(libc::ENOENT) {
                return Ok(Some(true));
            }
            if read > 0 {
                std::mem::swap(&mut from, &mut next);
                started = true;
            }
        }
        Ok(Some(false))
    }

    /// Reads key by key, for kernels without batches.
    ///
    /// The key after one that is gone is the first key, so a walk may start over again and again: visited keys are remembered
    /// and steps are limited.
    fn scan_keys(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<bool> {
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut key = vec![0; self.key_size];
        let mut next = vec![0; self.key_size];
        let mut value = vec![0; self.value_size];
        let mut from_start = true;
        for _ in 0..self.max_entries.saturating_mul(3).saturating_add(64) {
            let previous = if from_start { std::ptr::null() } else { key.as_ptr() };
            let mut attributes = self.element(previous, next.as_mut_ptr() as u64);
            // SAFETY: the kernel reads a key, if one is given, and writes one; both are of the size it told.
            let result = unsafe { bpf::bpf(BpfCommand::NextKey, &mut attributes) };
            if !found(result)? {
                return Ok(true);
            }
            std::mem::swap(&mut key, &mut next);
            from_start = false;
            if !seen.contains(&key) && self.lookup_into(&key, &mut value)? {
                visit(&key, &value);
                seen.insert(key.clone());
            }
        }
        Ok(false)
    }

    /// Both lengths must equal the map's.
    fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        assert_eq!((key.len(), value.len()), (self.key_size, self.value_size), "lengths are the map's");
        let mut attributes = self.element(key.as_ptr(), value.as_mut_ptr() as u64);
        // SAFETY: the kernel reads a key and writes a value, whose lengths have just been compared with its own.
        let result = unsafe { bpf::bpf(BpfCommand::LookupElement, &mut attributes) };
        found(result)
    }

    fn element(&self, key: *const u8, value: u64) -> Element {
        Element { map: bpf::number(self.fd.as_fd()), key: key as u64, value, ..Element::default() }
    }
}

fn found(result: Result<i32, RefusedCall>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(refused) if refused.errno == libc::ENOENT => Ok(false),
        Err(refused) => Err(refused.into()),
    }
}

fn expect_length(what: &str, bytes: &[u8], expected: usize) -> io::Result<()> {
    if bytes.len() == expected {
        return Ok(());
    }
    let message = format!("a {what} of this map has {expected} bytes, not {}", bytes.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

#[cfg(test)]
impl Map {
    /// Reads all elements in batches of at first `room` elements, or key by key for `None`, whatever the kernel supports.
    pub(super) fn dump_by(&self, room: Option<usize>) -> io::Result<Dump> {
        self.keep(|visit| match room {
            Some(room) => {
                self.scan_batches(room, visit).map(|complete| complete.expect("this kernel has batches"))
            }
            None => self.scan_keys(visit),
        })
    }
}
