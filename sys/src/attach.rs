//! Attaches programs to functions of the kernel and of user programs, and to raw tracepoints. A program stays attached until
//! the descriptors are closed.

use super::bpf::{self, Attributes, BpfCommand, RefusedCall};
use std::{
    ffi::CStr,
    fs,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};
use tapster_ebpf::{point::PacketHook, usdt::UsdtSite};

/// `BPF_TRACE_ITER`
const TRACE_ITER: u32 = 28;
/// `BPF_TRACE_KPROBE_MULTI`
pub(super) const KPROBE_MULTI: u32 = 42;
/// `BPF_TRACE_KPROBE_SESSION`
pub(super) const KPROBE_SESSION: u32 = 56;
/// `BPF_TRACE_UPROBE_MULTI`
pub(super) const UPROBE_MULTI: u32 = 48;
/// `BPF_F_KPROBE_MULTI_RETURN`, `BPF_F_UPROBE_MULTI_RETURN`, and the bit of `config` of a kprobe or uprobe event with the same
/// meaning (`format/retprobe`).
const AT_RETURN: u8 = 1;
/// `BPF_PERF_EVENT`
const PERF_EVENT: u32 = 41;
/// `BPF_F_BEFORE`
const BEFORE: u32 = 1 << 3;
/// The file with the type number of kprobes as perf events, 4.17; it differs between kernels. The next one is for uprobes.
const KPROBE_TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";
const UPROBE_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
/// `PERF_TYPE_TRACEPOINT`
const TRACEPOINT_TYPE: u32 = 2;
/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: u64 = 8;
/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_SET_BPF`
const ENABLE: libc::Ioctl = 0x2400;
const SET_BPF: libc::Ioctl = 0x4004_2408;

#[derive(Debug, Default)]
#[repr(C)]
struct MultiLink {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counts: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    process: u32,
    pad: u32,
}
// SAFETY: numbers only, and the sizes of the fields before each leave no hole.
unsafe impl Attributes for MultiLink {}

#[derive(Debug, Default)]
#[repr(C)]
struct KernelMultiLink {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    multi_flags: u32,
    count: u32,
    symbols: u64,
    addresses: u64,
    cookies: u64,
}
// SAFETY: as above.
unsafe impl Attributes for KernelMultiLink {}

#[derive(Debug, Default)]
#[repr(C)]
struct PerfLink {
    program: u32,
    event: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}
// SAFETY: as above.
unsafe impl Attributes for PerfLink {}

#[derive(Debug, Default)]
#[repr(C)]
struct RawTracepoint {
    name: u64,
    program: u32,
    pad: u32,
}
// SAFETY: as above.
unsafe impl Attributes for RawTracepoint {}

#[derive(Debug, Default)]
#[repr(C)]
struct Iteration {
    link: u32,
    flags: u32,
}
// SAFETY: as above.
unsafe impl Attributes for Iteration {}

/// The first published version of `struct perf_event_attr` that has the fields for a uprobe.
#[derive(Debug, Default)]
#[repr(C)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    /// `config1`: a path, or the name of a function of the kernel.
    name: u64,
    offset: u64,
}

/// Functions of the kernel, named in one of two ways.
#[derive(Clone, Copy, Debug)]
pub enum KernelFunctions<'a> {
    /// By address.
    Addresses(&'a [u64]),
    /// By symbol, for which the kernel searches all its symbols.
    Symbols(&'a [&'a CStr]),
}

impl KernelFunctions<'_> {
    fn count(self) -> usize {
        match self {
            Self::Addresses(addresses) => addresses.len(),
            Self::Symbols(symbols) => symbols.len(),
        }
    }
}

/// Where a program stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// At the entry of a function, or at an instruction.
    Entry,
    /// At its return.
    Return,
    /// One program at both: a session, 6.10 and for functions of the kernel only.
    Both,
}

impl Ends {
    /// The bit for returns.
    fn flag(self) -> u8 {
        if self == Self::Return { AT_RETURN } else { 0 }
    }
}

/// Attaches one program to many functions of the kernel, each with its cookie, 5.18. The program must be loaded for that.
pub fn attach_kprobes(
    program: BorrowedFd<'_>,
    functions: KernelFunctions<'_>,
    cookies: &[u64],
    ends: Ends,
) -> io::Result<OwnedFd> {
    if functions.count() != cookies.len() {
        return Err(io::Error::other("each function has one cookie: this is a bug in tapster"));
    }
    Ok(link_kprobes(program, functions, cookies, ends)?)
}

fn link_kprobes(
    program: BorrowedFd<'_>,
    functions: KernelFunctions<'_>,
    cookies: &[u64],
    ends: Ends,
) -> Result<OwnedFd, RefusedCall> {
    let pointers: Vec<u64> = match functions {
        KernelFunctions::Symbols(symbols) => symbols.iter().map(|symbol| symbol.as_ptr() as u64).collect(),
        KernelFunctions::Addresses(_) => Vec::new(),
    };
    let (symbols, addresses) = match functions {
        KernelFunctions::Symbols(_) => (pointers.as_ptr() as u64, 0),
        KernelFunctions::Addresses(addresses) => (0, addresses.as_ptr() as u64),
    };
    let mut attributes = KernelMultiLink {
        program: bpf::number(program),
        attach_type: if ends == Ends::Both { KPROBE_SESSION } else { KPROBE_MULTI },
        multi_flags: ends.flag().into(),
        count: u32::try_from(functions.count().min(cookies.len())).unwrap_or(u32::MAX),
        symbols,
        addresses,
        cookies: cookies.as_ptr() as u64,
        ..KernelMultiLink::default()
    };
    // SAFETY: the kernel reads `count` addresses, or pointers to strings, and as many cookies; the command makes a
    // descriptor.
    unsafe { bpf::bpf_fd(BpfCommand::LinkCreate, &mut attributes) }
}

/// Whether the kernel supports [`attach_kprobes`], checked with a program loaded for it and a function that does not exist:
/// only a kernel that supports it searches for the function.
pub fn has_kprobe_multi(program: BorrowedFd<'_>, ends: Ends) -> bool {
    let nowhere = KernelFunctions::Symbols(&[c"no function is called that"]);
    let error = link_kprobes(program, nowhere, &[0], ends).err().map(|refused| refused.errno);
    matches!(error, Some(libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL))
}

/// Attaches one program to many places of a file, each with its cookie, 6.6. The program must be loaded for that.
pub fn attach_uprobes(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    ends: Ends,
) -> io::Result<OwnedFd> {
    if offsets.len() != cookies.len() {
        return Err(io::Error::other("each place has one cookie: this is a bug in tapster"));
    }
    let mut attributes = MultiLink {
        program: bpf::number(program),
        attach_type: UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        cookies: cookies.as_ptr() as u64,
        count: u32::try_from(offsets.len()).map_err(io::Error::other)?,
        multi_flags: ends.flag().into(),
        ..MultiLink::default()
    };
    // SAFETY: the kernel reads a string, and `count` offsets and cookies, of which there are as many; the command makes
    // a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::LinkCreate, &mut attributes) }?)
}

/// Attaches one program to many places of a file, without cookies, 6.6; the semaphores of the places stay above 0 as long as
/// the descriptor is open.
pub fn attach_usdt(program: BorrowedFd<'_>, path: &CStr, sites: &[UsdtSite]) -> io::Result<OwnedFd> {
    let offsets: Vec<u64> = sites.iter().map(|site| site.offset).collect();
    let semaphores: Vec<u64> = sites.iter().map(|site| site.semaphore).collect();
    let mut attributes = MultiLink {
        program: bpf::number(program),
        attach_type: UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        reference_counts: semaphores.as_ptr() as u64,
        count: u32::try_from(sites.len()).map_err(io::Error::other)?,
        ..MultiLink::default()
    };
    // SAFETY: the kernel reads a string, and `count` offsets and semaphores, of which there are as many; the command
    // makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::LinkCreate, &mut attributes) }?)
}

/// Attaches a program to one place of a file; with a semaphore, 4.20.
pub fn attach_site(program: BorrowedFd<'_>, path: &CStr, site: UsdtSite) -> io::Result<OwnedFd> {
    // The kernel has 32 bits for the offset of the semaphore, 0 for none.
    if site.semaphore > u64::from(u32::MAX) {
        return Err(io::Error::other("the semaphore is more than 4 GiB into the file"));
    }
    let event = open_probe(Spot::File(path, site.offset), site.semaphore << 32)?;
    enable(&event, program)?;
    Ok(event)
}

/// Whether the kernel supports [`attach_uprobes`], checked with a program loaded for it and the root directory as the file:
/// only a kernel that supports it checks the path.
pub fn has_uprobe_multi(program: BorrowedFd<'_>) -> bool {
    attach_uprobes(program, c"/", &[0], &[0], Ends::Entry)
        .is_err_and(|error| error.kind() != io::ErrorKind::InvalidInput)
}

/// The system call by which a uprobe that has become a call enters the kernel; only on x86-64.
pub const SYS_UPROBE: i64 = 336;

/// Whether the kernel replaces a probed five-byte `nop` by a call instead of a trap, 6.18 on x86-64. Such a kernel has a system
/// call for it, and refuses it to everybody else.
pub fn has_uprobe_call() -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    // SAFETY: without arguments; a kernel that has it looks at where it comes from, and another does not know it.
    let made = unsafe { libc::syscall(SYS_UPROBE) };
    made == -1 && super::errno(&io::Error::last_os_error()) == Some(libc::ENXIO)
}

/// A place at which a program stops.
#[derive(Clone, Copy, Debug)]
pub enum Spot<'a> {
    /// A function of the kernel by its symbol.
    Kernel(&'a CStr),
    /// An offset in a file, bytes from its start.
    File(&'a CStr, u64),
    /// A tracepoint by its number in tracefs.
    Tracepoint(u64),
}

/// Attaches a program to one place with a cookie, 5.15; both descriptors are needed.
pub fn attach_probe_with_cookie(
    program: BorrowedFd<'_>,
    spot: Spot<'_>,
    ends: Ends,
    cookie: u64,
) -> io::Result<[OwnedFd; 2]> {
    let event = open_probe(spot, u64::from(ends.flag()))?;
    let mut attributes = PerfLink {
        program: bpf::number(program),
        event: bpf::number(event.as_fd()),
        attach_type: PERF_EVENT,
        cookie,
        ..PerfLink::default()
    };
    // SAFETY: no addresses, and the command makes a descriptor.
    let link = unsafe { bpf::bpf_fd(BpfCommand::LinkCreate, &mut attributes) }?;
    Ok([link, event])
}

/// Attaches a program to one place without a cookie, for older kernels.
pub fn attach_probe(program: BorrowedFd<'_>, spot: Spot<'_>, ends: Ends) -> io::Result<OwnedFd> {
    let event = open_probe(spot, u64::from(ends.flag()))?;
    enable(&event, program)?;
    Ok(event)
}

pub(super) fn enable(event: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    for (request, argument, name) in
        [(SET_BPF, program.as_raw_fd(), "PERF_EVENT_IOC_SET_BPF"), (ENABLE, 0, "PERF_EVENT_IOC_ENABLE")]
    {
        // SAFETY: both requests take a number.
        let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
        if result != 0 {
            return Err(RefusedCall::last(name).into());
        }
    }
    Ok(())
}

/// For functions and files `config` has a bit for returns, and the offset of a semaphore in its upper half; a tracepoint has its
/// number there.
fn open_probe(spot: Spot<'_>, config: u64) -> io::Result<OwnedFd> {
    let (kind, config, name, offset) = match spot {
        Spot::Kernel(symbol) => (probe_type(KPROBE_TYPE)?, config, symbol.as_ptr() as u64, 0),
        Spot::File(path, offset) => (probe_type(UPROBE_TYPE)?, config, path.as_ptr() as u64, offset),
        Spot::Tracepoint(number) => (TRACEPOINT_TYPE, number, 0, 0),
    };
    let event = PerfEventAttr {
        kind,
        size: u32::try_from(size_of::<PerfEventAttr>()).expect("the structure is small"),
        config,
        name,
        offset,
        ..PerfEventAttr::default()
    };
    // SAFETY: the kernel reads the structure, whose size it is told, and the name. All processes: one CPU stands for all,
    // because programs run before the kernel looks at which.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const event, -1, 0, -1, CLOSE_ON_EXEC) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made it and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(RefusedCall::last("perf_event_open").into()),
    }
}

/// Reads the number of a type of perf events.
fn probe_type(file: &'static str) -> io::Result<u32> {
    let text = fs::read_to_string(file).map_err(|error| match error.raw_os_error() {
        Some(errno) => RefusedCall { call: file, errno }.into(),
        None => error,
    })?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{file}: not a number")))
}

/// Attaches a program that names its own target by a BTF type, 5.5.
pub fn attach_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = RawTracepoint { name: 0, program: bpf::number(program), pad: 0 };
    // SAFETY: there is no name to read; the command makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::RawTracepointOpen, &mut attributes) }?)
}

/// Attaches a program to a raw tracepoint by its name, 4.17.
pub fn attach_raw_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let mut attributes = RawTracepoint { name: name.as_ptr() as u64, program: bpf::number(program), pad: 0 };
    // SAFETY: the kernel reads a string; the command makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::RawTracepointOpen, &mut attributes) }?)
}

/// Where packets are seen.
#[derive(Clone, Copy, Debug)]
pub enum PacketPlace<'a> {
    /// A network interface, by its number.
    Interface(u32),
    /// A cgroup, by its open directory.
    Cgroup(BorrowedFd<'a>),
}

/// Attaches a program to packets, beside those that are there; the kernel refuses it where there is room for one only, and that is
/// taken (`EBUSY`, `EEXIST`). It is detached when the descriptor is closed.
pub fn attach_packets(
    program: BorrowedFd<'_>,
    hook: PacketHook,
    place: PacketPlace<'_>,
) -> io::Result<OwnedFd> {
    let mut attributes = PerfLink {
        program: bpf::number(program),
        event: match place {
            PacketPlace::Interface(index) => index,
            PacketPlace::Cgroup(directory) => bpf::number(directory),
        },
        attach_type: hook.attach_type(),
        // Before others, which may end the way of a packet. XDP has one program, and cgroups run all.
        flags: if matches!(hook, PacketHook::TcIngress | PacketHook::TcEgress) { BEFORE } else { 0 },
        ..PerfLink::default()
    };
    // SAFETY: no addresses, and the command makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::LinkCreate, &mut attributes) }?)
}

/// Attaches a program to a walk over objects, which it names by a BTF type, 5.8. It runs when the link is [walked](walk).
pub fn attach_walk(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes =
        PerfLink { program: bpf::number(program), attach_type: TRACE_ITER, ..PerfLink::default() };
    // SAFETY: no addresses, and the command makes a descriptor.
    Ok(unsafe { bpf::bpf_fd(BpfCommand::LinkCreate, &mut attributes) }?)
}

/// Has the program of a link run once for each object, and once more with none.
pub fn walk(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Iteration { link: bpf::number(link), flags: 0 };
    // SAFETY: no addresses, and the command makes a descriptor.
    let fd = unsafe { bpf::bpf_fd(BpfCommand::IteratorCreate, &mut attributes) }?;
    let mut walk = fs::File::from(fd);
    // Programs write no text: one read is all, unless the kernel pauses a long walk or a signal does.
    let mut text = [0; 4096];
    loop {
        match walk.read(&mut text) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}
