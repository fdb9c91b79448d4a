//! What a kernel offers to the compiler, as one argument.

use crate::{
    arch::Arch,
    btf::Btf,
    missing::{Missing, UnknownSymbol},
    point::Root,
    probe::KernelVersion,
    site::{SiteRequest, Sites, UserFunctions},
    tracefs::Tracepoints,
    usdt,
};
use std::fmt;

/// What a kernel offers to the compiler.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its types, if it has BTF.
    pub btf: Option<&'a Btf>,
    /// Its tracepoints.
    pub tracepoints: &'a dyn Tracepoints,
    /// Its version.
    pub kernel: KernelVersion,
    /// Number of possible CPUs; rows that are per CPU exist that many times.
    pub possible_cpus: u32,
    /// Architecture of the processor.
    pub arch: Arch,
    /// Functions that probes can attach to.
    pub functions: &'a dyn Functions,
    /// Whether probes count while a command runs, to whose tasks `traced` is limited; without a command `traced` is always
    /// true.
    pub command: bool,
}

/// Questions of the compiler about functions of the kernel and of programs, and about symbols. Each answer is computed when it is asked for: it
/// is expensive, and most probes need none.
pub trait Functions {
    /// Returns an error if the kernel does not accept `fentry` and `fexit` programs.
    fn traced(&self) -> Result<(), Missing>;
    /// Returns an error if the kernel does not accept kprobes.
    fn probing(&self) -> Result<(), Missing>;
    /// The functions of the kernel that a name or pattern matches and that a kprobe can be set on.
    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing>;
    /// The functions of a program or library that a name or pattern matches.
    fn user(&self, root: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing>;
    /// A USDT probe of a program or library.
    fn usdt(
        &self,
        root: &Root,
        binary: &str,
        provider: Option<&str>,
        name: &str,
    ) -> Result<usdt::UsdtProbe, Missing>;
    /// The address of a symbol of the kernel itself, as long as the kernel runs. Of a variable that each CPU has, its place
    /// among those of a CPU.
    fn symbol(&self, name: &str) -> Result<u64, UnknownSymbol>;
    /// The mount namespace that processes must be in; `None` for any.
    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing>;

    /// What packets of a network interface begin with. A kernel that does not run here is taken to have the interface.
    fn interface(&self, _name: &str) -> Result<LinkLayer, Missing> {
        Ok(LinkLayer::Ethernet)
    }

    /// Returns an error if there is no cgroup of version 2 with this path, below the root of their hierarchy. A kernel that does
    /// not run here is taken to have it.
    fn cgroup(&self, _path: &str) -> Result<(), Missing> {
        Ok(())
    }
}

/// What packets of a network interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// A header of Ethernet, 14 bytes, as also those of the loopback interface.
    Ethernet,
    /// None: the packet of the network itself, as in tunnels.
    None,
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("kernel", &self.kernel).finish_non_exhaustive()
    }
}
