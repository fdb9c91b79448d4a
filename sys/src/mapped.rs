//! Executable mappings of processes as the kernel reports them: `PERF_RECORD_MMAP2` of every CPU.

use super::{
    event::{TIME_ENABLED, enabled_ns},
    mapping::{MapMemory, page_size},
};
use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
    sync::atomic::Ordering,
    time::Duration,
};

/// Bytes of records for each CPU: room for the start of a thousand programs. A power of 2.
const BYTES: usize = 256 << 10;
/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_DUMMY`: counts nothing, only its records matter.
const SOFTWARE: u64 = 1;
const DUMMY: u64 = 9;
/// Bytes of `struct perf_event_attr` as of 4.1.
const ATTR_BYTES: u64 = 112;
/// Its bits `mmap`, `mmap2`, and, since 5.12, `build_id`.
const MMAP: u64 = 1 << 8;
const MMAP2: u64 = 1 << 23;
const BUILD_ID: u64 = 1 << 34;
/// Its bit `watermark`: a reader is woken after this many bytes of records, here after each record.
const WATERMARK: u64 = 1 << 14;
/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
/// `data_head` and `data_tail` in `struct perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;
/// `PERF_RECORD_LOST`, `PERF_RECORD_MMAP2`, and the bit of a record with a build id.
const LOST: u32 = 2;
const MAPPED: u32 = 10;
const HAS_BUILD_ID: u16 = 1 << 14;

/// A file that was mapped as executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The process that mapped it.
    pub process: u32,
    /// Its first address there, and the one behind its last.
    pub from: u64,
    /// See `from`.
    pub to: u64,
    /// The offset of the first address in the file.
    pub offset: u64,
    /// Identifies the file.
    pub file: MappedFile,
    /// Its path in its file system.
    pub path: PathBuf,
}

/// Identifies a file that was mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappedFile {
    /// Its build id.
    BuildId(Vec<u8>),
    /// Major and minor number of its device, and its inode.
    Inode((u32, u32), u64),
}

/// Records of all CPUs, which are kept until they are read or there is no room.
#[derive(Debug)]
pub struct Mappings {
    rings: Vec<CpuRing>,
}

#[derive(Debug)]
struct CpuRing {
    cpu: u32,
    /// As long as it is open, the kernel makes records, unless its CPU went offline: then never again.
    event: OwnedFd,
    /// How long it had been enabled at the last check.
    enabled_ns: u64,
    mapping: MapMemory,
    page: usize,
}

impl Mappings {
    /// Starts recording on these CPUs.
    pub fn open(cpus: &[u32]) -> io::Result<Self> {
        Ok(Self { rings: cpus.iter().copied().map(CpuRing::open).collect::<io::Result<_>>()? })
    }

    /// Starts recording on CPUs that came online, and again on those that were offline meanwhile; returns whether any CPU came
    /// or went. Earlier records must be read before. Called about every second. If one CPU is refused, the others are recorded
    /// all the same, and the next call at the latest returns the error.
    pub fn follow(&mut self, online: &[u32]) -> io::Result<bool> {
        let before = self.rings.len();
        self.rings.retain_mut(|ring| ring.is_alive() && online.contains(&ring.cpu));
        let left = self.rings.len();
        let mut refused = None;
        for cpu in online {
            if !self.rings.iter().any(|ring| ring.cpu == *cpu) {
                match CpuRing::open(*cpu) {
                    Ok(ring) => self.rings.push(ring),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
        }
        let has_changed = left < before || left < self.rings.len();
        refused.filter(|_| !has_changed).map_or(Ok(has_changed), Err)
    }

    /// Makes an object that waits for records.
    pub fn waiter(&self) -> io::Result<MappingsWaiter> {
        let events = self.rings.iter().map(|ring| ring.event.try_clone());
        Ok(MappingsWaiter { events: events.collect::<io::Result<_>>()? })
    }

    /// Calls `visit` with each file that was mapped since the last call; returns whether records were lost for lack of room.
    pub fn read(&mut self, mut visit: impl FnMut(Mapped)) -> bool {
        let mut lost = false;
        for ring in &mut self.rings {
            ring.read(&mut |kind, misc, body| match kind {
                LOST => lost = true,
                MAPPED => {
                    if let Some(mapped) = mapped(misc, body) {
                        visit(mapped);
                    }
                }
                _ => {}
            });
        }
        lost
    }
}

/// Waits for records while another thread reads them.
#[derive(Debug)]
pub struct MappingsWaiter {
    events: Vec<OwnedFd>,
}

impl MappingsWaiter {
    /// Waits until there are records, at most this long.
    pub fn wait(&self, most: Duration) -> io::Result<()> {
        let event =
            |event: &OwnedFd| libc::pollfd { fd: event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut events: Vec<libc::pollfd> = self.events.iter().map(event).collect();
        let count = libc::nfds_t::try_from(events.len()).map_err(io::Error::other)?;
        let milliseconds = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the kernel reads and writes as many structures as it is told that there are.
        if unsafe { libc::poll(events.as_mut_ptr(), count, milliseconds) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn event(cpu: u32, more: u64) -> io::Result<OwnedFd> {
    let mut attr = [0_u64; 14];
    attr[0] = ATTR_BYTES << 32 | SOFTWARE;
    attr[1] = DUMMY;
    attr[4] = TIME_ENABLED;
    attr[5] = MMAP | MMAP2 | WATERMARK | more;
    attr[6] = 1;
    // SAFETY: the kernel reads as many bytes as the second word says, which is the array's size.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), -1, cpu, -1, CLOSE_ON_EXEC) };
    match i32::try_from(fd) {
        // SAFETY: it was just opened and belongs to nobody else.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::new(error.kind(), format!("perf_event_open: {error}")))
        }
    }
}

impl CpuRing {
    fn open(cpu: u32) -> io::Result<Self> {
        let page = page_size()?;
        let event = event(cpu, BUILD_ID).or_else(|_| event(cpu, 0))?;
        let mapping = MapMemory::new(event.as_fd(), 0, page + BYTES, true)?;
        Ok(Self { cpu, event, enabled_ns: 0, mapping, page })
    }

    fn is_alive(&mut self) -> bool {
        let before = self.enabled_ns;
        enabled_ns(&self.event).is_ok_and(|now| {
            self.enabled_ns = now;
            now > before
        })
    }

    fn read(&mut self, visit: &mut dyn FnMut(u32, u16, &[u8])) {
        let written = self.mapping.word(HEAD).load(Ordering::Acquire);
        let mut at = self.mapping.word(TAIL).load(Ordering::Relaxed);
        let mut record = Vec::new();
        while at < written {
            self.copy(at, 8, &mut record);
            let number = |range: std::ops::Range<usize>| {
                record[range].iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte))
            };
            let (kind, misc, size) = (number(0..4), number(4..6), number(6..8));
            let size = u64::from(size);
            if size < 8 || at + size > written {
                // The kernel never writes this; the following records cannot be found.
                at = written;
                break;
            }
            self.copy(at + 8, usize::try_from(size - 8).expect("a usize has 64 bits"), &mut record);
            visit(kind, u16::try_from(misc).expect("it is read from two bytes"), &record);
            at += size;
        }
        self.mapping.word(TAIL).store(at, Ordering::Release);
    }

    /// Copies bytes from a position; they may continue at the beginning of the ring.
    fn copy(&self, at: u64, length: usize, record: &mut Vec<u8>) {
        record.clear();
        let mut at = at;
        while record.len() < length {
            let place = usize::try_from(at).expect("a usize has 64 bits") & (BYTES - 1);
            let part = (length - record.len()).min(BYTES - place);
            let from = self.mapping.address(self.page + place, part);
            // SAFETY: within the mapping, as `address` makes sure, and between what was read and what is written, where
            // the kernel changes nothing.
            record.extend_from_slice(unsafe { std::slice::from_raw_parts(from, part) });
            at += part as u64;
        }
    }
}

/// `pid, tid: u32; address, length, offset: u64; 24 bytes about the file; protection, flags: u32; name`
fn mapped(misc: u16, body: &[u8]) -> Option<Mapped> {
    let word = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let from = long(8)?;
    let file = if misc & HAS_BUILD_ID == 0 {
        MappedFile::Inode((word(32)?, word(36)?), long(40)?)
    } else {
        let length = usize::from(*body.get(32)?);
        MappedFile::BuildId(body.get(36..36 + length.min(20))?.to_vec())
    };
    let name = body.get(64..)?;
    let name = name.split(|byte| *byte == 0).next()?;
    // Memory without a file is named `//anon`, that of the kernel `[vdso]`.
    if !name.starts_with(b"/") || name.starts_with(b"//") {
        return None;
    }
    Some(Mapped {
        process: word(0)?,
        from,
        to: from.checked_add(long(16)?)?,
        offset: long(24)?,
        file,
        path: OsStr::from_bytes(name).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu_list;
    use object::Object as _;
    use std::{path::Path, process::Command};

    #[test]
    fn a_program_that_ended_was_seen() {
        let cpus = cpu_list(Path::new("/sys/devices/system/cpu/online")).unwrap();
        let mut mappings = match Mappings::open(&cpus) {
            Ok(mappings) => mappings,
            Err(error) => return println!("skipped: {error}"),
        };
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let mut child = Command::new(&shell).args(["-c", "exit"]).spawn().unwrap();
        child.wait().unwrap();
        let mut seen = Vec::new();
        let lost = mappings.read(|mapped| {
            if mapped.process == child.id() && mapped.path == shell {
                seen.push(mapped);
            }
        });
        assert!(!seen.is_empty() || lost, "{}", shell.display());
        for mapped in seen {
            assert!(mapped.from < mapped.to, "{mapped:?}");
            let bytes = std::fs::read(&shell).unwrap();
            let own = object::File::parse(&*bytes).unwrap().build_id().unwrap().map(<[u8]>::to_vec);
            match (mapped.file, own) {
                (MappedFile::BuildId(told), own) => assert_eq!(Some(told), own),
                (MappedFile::Inode(..), Some(_)) => println!("before 5.12 without build ids"),
                (MappedFile::Inode(..), None) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(10));
        assert!(!mappings.follow(&cpus).unwrap(), "all are there");
        std::thread::sleep(Duration::from_millis(10));
        if let [first, _, ..] = cpus.as_slice() {
            assert!(mappings.follow(&[*first]).unwrap());
            std::thread::sleep(Duration::from_millis(10));
            assert!(mappings.follow(&cpus).unwrap(), "they came back");
        }
        let mut again = 0;
        mappings.read(|mapped| again += u32::from(mapped.process == child.id()));
        assert_eq!(again, 0, "each is told once");
    }
}
