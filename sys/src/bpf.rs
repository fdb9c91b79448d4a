//! `bpf(2)` and the attributes of the commands used here, as in `include/uapi/linux/bpf.h`.
//!
//! A structure may be shorter than the kernel's: the kernel treats missing fields as zero. All padding is named, because the
//! kernel reads it too.

use std::{
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// A command of `bpf(2)`.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum BpfCommand {
    MapCreate = 0,
    LookupElement = 1,
    UpdateElement = 2,
    DeleteElement = 3,
    NextKey = 4,
    ProgramLoad = 5,
    ProgramTestRun = 10,
    ObjectInfo = 15,
    RawTracepointOpen = 17,
    BtfLoad = 18,
    LookupBatch = 24,
    LinkCreate = 28,
    EnableStats = 32,
    IteratorCreate = 33,
}

impl BpfCommand {
    fn name(self) -> &'static str {
        match self {
            Self::MapCreate => "BPF_MAP_CREATE",
            Self::LookupElement => "BPF_MAP_LOOKUP_ELEM",
            Self::UpdateElement => "BPF_MAP_UPDATE_ELEM",
            Self::DeleteElement => "BPF_MAP_DELETE_ELEM",
            Self::NextKey => "BPF_MAP_GET_NEXT_KEY",
            Self::ProgramLoad => "BPF_PROG_LOAD",
            Self::ProgramTestRun => "BPF_PROG_TEST_RUN",
            Self::ObjectInfo => "BPF_OBJ_GET_INFO_BY_FD",
            Self::RawTracepointOpen => "BPF_RAW_TRACEPOINT_OPEN",
            Self::BtfLoad => "BPF_BTF_LOAD",
            Self::LinkCreate => "BPF_LINK_CREATE",
            Self::LookupBatch => "BPF_MAP_LOOKUP_BATCH",
            Self::EnableStats => "BPF_ENABLE_STATS",
            Self::IteratorCreate => "BPF_ITER_CREATE",
        }
    }
}

/// A refused command or call, with its error number, which `io::Error` does not keep together with a message.
#[derive(Debug)]
pub(super) struct RefusedCall {
    pub(super) call: &'static str,
    pub(super) errno: i32,
}

impl RefusedCall {
    /// The error of the last call.
    pub(super) fn last(call: &'static str) -> Self {
        Self { call, errno: io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
    }
}

impl fmt::Display for RefusedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = io::Error::from_raw_os_error(self.errno);
        if self.call.starts_with("BPF_") {
            write!(f, "bpf({}): {cause}", self.call)
        } else {
            write!(f, "{}: {cause}", self.call)
        }
    }
}

impl std::error::Error for RefusedCall {}

impl From<RefusedCall> for io::Error {
    fn from(refused: RefusedCall) -> Self {
        Self::new(Self::from_raw_os_error(refused.errno).kind(), refused)
    }
}

/// The error number of a refused system call, whichever function made it.
pub fn errno(error: &io::Error) -> Option<i32> {
    let named = || {
        let inner = error.get_ref()?;
        let refused = inner.downcast_ref::<RefusedCall>().map(|refused| refused.errno);
        refused.or_else(|| inner.downcast_ref::<io::Error>().and_then(errno))
    };
    error.raw_os_error().or_else(named)
}

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Element {
    pub(super) map: u32,
    pub(super) pad: u32,
    pub(super) key: u64,
    /// The address of the value, or of the next key.
    pub(super) value: u64,
    pub(super) flags: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct MapBatch {
    pub(super) from: u64,
    pub(super) next: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) count: u32,
    pub(super) map: u32,
    pub(super) element_flags: u64,
    pub(super) flags: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct TestRun {
    pub(super) program: u32,
    pub(super) returned: u32,
    pub(super) data_size_in: u32,
    pub(super) data_size_out: u32,
    pub(super) data_in: u64,
    pub(super) data_out: u64,
    pub(super) repeat: u32,
    pub(super) duration: u32,
    pub(super) context_size_in: u32,
    pub(super) context_size_out: u32,
    pub(super) context_in: u64,
    pub(super) context_out: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Info {
    object: u32,
    length: u32,
    address: u64,
}

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct EnableStats {
    pub(super) kind: u32,
}

/// Attributes of a command: plain numbers without hidden padding.
///
/// # Safety
/// No byte of the type is uninitialised, and the kernel's attributes of the command start with its fields.
pub(super) unsafe trait Attributes {}
// SAFETY: numbers only, and the sizes of the fields before each leave no hole.
unsafe impl Attributes for Element {}
// SAFETY: as above.
unsafe impl Attributes for MapBatch {}
// SAFETY: as above.
unsafe impl Attributes for TestRun {}
// SAFETY: as above.
unsafe impl Attributes for Info {}
// SAFETY: as above.
unsafe impl Attributes for EnableStats {}

/// A structure with information, of which the kernel fills as much as it knows.
///
/// # Safety
/// Any bytes are a value of the type, and none is uninitialised.
pub(super) unsafe trait Information: Default {}

/// Calls `bpf(2)`.
///
/// # Safety
/// Addresses in `attributes` must be valid for what the command reads and writes there.
pub(super) unsafe fn bpf<T: Attributes>(command: BpfCommand, attributes: &mut T) -> Result<i32, RefusedCall> {
    let size = size_of::<T>();
    // SAFETY: the attributes are initialised and valid for their size; what they refer to, the caller answers for.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, libc::c_long::from(command as u8), &raw mut *attributes, size)
    };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(|| RefusedCall::last(command.name()))
}

/// Calls `bpf(2)` for a command that makes a file descriptor.
///
/// # Safety
/// As for [`bpf`], and the command does return a new descriptor.
pub(super) unsafe fn bpf_fd<T: Attributes>(
    command: BpfCommand,
    attributes: &mut T,
) -> Result<OwnedFd, RefusedCall> {
    // SAFETY: the caller's promise is the same.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel has just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Information about a program or map; fields that the kernel does not know stay zero.
pub(super) fn object_info<T: Information>(fd: BorrowedFd<'_>) -> Result<T, RefusedCall> {
    let mut info = T::default();
    let mut attributes = Info {
        object: number(fd),
        length: u32::try_from(size_of::<T>()).expect("information structures are small"),
        address: &raw mut info as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes at `address`, any of which `T` allows. It also reads addresses and
    // counts of further arrays from there, and leaves those whose count is zero alone.
    unsafe { bpf(BpfCommand::ObjectInfo, &mut attributes) }?;
    Ok(info)
}

/// A descriptor as `bpf(2)` takes it.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
