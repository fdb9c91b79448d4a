//! What a kernel offers to the compiler: the one argument that stands for it.

use crate::{
    arch::Arch,
    btf::Btf,
    missing::Missing,
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
    /// CPUs that it may bring up; rows kept per CPU are that many.
    pub possible_cpus: u32,
    /// Its processor.
    pub arch: Arch,
    /// Functions that can be attached to.
    pub functions: &'a dyn Functions,
    /// Whether probes count while a command runs, whose tasks `traced` tells from all others; without one it is always true.
    pub command: bool,
}

/// What a compiler asks about functions of a kernel and of programs on it. The answers are looked up when they are
/// asked for, because they cost something and most probes need none.
pub trait Functions {
    /// Whether `fentry` and `fexit` programs are taken.
    fn traced(&self) -> Result<(), Missing>;
    /// Whether kprobes are taken.
    fn probing(&self) -> Result<(), Missing>;
    /// The functions of the kernel that a name or pattern means and a kprobe can be set on.
    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing>;
    /// The functions of a program or library that a name or pattern means.
    fn user(&self, root: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing>;
    /// A probe that a program or library brings along.
    fn usdt(
        &self,
        root: &Root,
        binary: &str,
        provider: Option<&str>,
        name: &str,
    ) -> Result<usdt::UsdtProbe, Missing>;
    /// The mount namespace that processes must be in; `None` for any.
    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing>;
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("kernel", &self.kernel).finish_non_exhaustive()
    }
}
