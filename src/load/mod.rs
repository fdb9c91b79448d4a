//! Loads a compiled probe: makes its maps, has the kernel verify its programs, then attaches them.
//!
//! A program's mechanism determines its link (`tapster_ebpf::point`); each kind of link is a file here, and `links` has all
//! programs of a probe in one list. aya makes the maps, `sys` loads the programs; see `docs/adr/0036-attach-kinds.md`.

mod cpus;
mod error;
mod files;
mod functions;
mod links;
mod maps;
mod packets;
pub mod places;
pub mod refusal;
mod single;
mod usdt;

pub use error::LoadError;
pub use packets::is_there;

use crate::{
    kernel::Kernel,
    status::{Down, ProgramStatus},
};
use files::ExecutableLookup;
use links::ProgramLinks;
use maps::Maps;
use std::{
    collections::HashSet,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use tapster_ebpf::{
    attach::{Functions as _, SiteRequest, left_out},
    btf::Btf,
    point::{AttachPoint, Subject},
    program::Program,
};

/// A probe in the kernel. Dropping it detaches its programs and frees its maps.
#[derive(Debug)]
pub struct Attached {
    /// The compiled program.
    pub program: Program,
    /// Declared before the maps, so that the links are dropped first.
    links: ProgramLinks,
    maps: Maps,
    looks: Arc<ExecutableLookup>,
}

/// Makes the maps of a probe and loads its programs, without attaching any. `types` are the kernel's, needed for programs that
/// name their target by its BTF type.
pub fn load(program: Program, types: Option<&Btf>) -> Result<Attached, LoadError> {
    let maps = Maps::create(&program)?;
    let links = ProgramLinks::load(&program, &maps, types)?;
    Ok(Attached { program, links, maps, looks: Arc::default() })
}

impl Attached {
    /// Attaches all programs: the ends of pairs first, so that no start waits for an end that is not attached yet.
    pub fn attach(&mut self, kernel: &Kernel) -> Result<(), LoadError> {
        self.links.attach(&self.maps, kernel)
    }

    /// Checks what can be checked without attaching: whether the timers and counters exist.
    pub fn attempt(&self, kernel: &Kernel) -> Result<(), LoadError> {
        self.links.attempt(kernel)
    }

    /// Attaches newly compiled programs in files that differ from before; maps stay, and so do all counts. `all`: also in files
    /// that are the same.
    pub fn renew(&self, program: &Program, kernel: &Kernel, all: bool) -> Result<(), LoadError> {
        let own = &self.program;
        let same = (&own.maps, &own.layout, &own.labels, &own.metrics, &own.waiting)
            == (&program.maps, &program.layout, &program.labels, &program.metrics, &program.waiting);
        if !same {
            return Err(LoadError::Other(own.name.clone()));
        }
        self.links.renew(program, &self.maps, kernel, all)
    }

    /// Has its programs run that are attached to walks over objects: once for each object that there is.
    pub fn walk(&self) -> io::Result<()> {
        self.links.walk()
    }

    /// Whether it is attached to CPUs, which come and go.
    pub fn has_cpu_events(&self) -> bool {
        self.links.has_cpu_events()
    }

    /// Attaches timers and counters to CPUs that came online, and again to those that were offline meanwhile. Returns these
    /// CPUs, and the first error if some were refused.
    pub fn follow_cpus(&self, online: &[u32]) -> (Vec<u32>, Option<LoadError>) {
        self.links.follow_cpus(online)
    }

    /// Attaches to network interfaces and cgroups that have the names of its attach points now. Returns to how many, and why it
    /// is not attached to all.
    pub fn follow_packets(&self, proc: &Path) -> (u64, Option<Down>) {
        self.links.follow_packets(proc)
    }

    /// Detaches programs from those of these places where only one program can be, for others that come. Returns whether any was.
    pub fn give_way(&self, places: &[&AttachPoint]) -> bool {
        self.links.give_way(places)
    }

    /// Attaches programs again that gave way.
    pub fn take_back(&self, proc: &Path) -> (u64, Option<Down>) {
        self.links.take_back();
        self.follow_packets(proc)
    }

    /// Whether it is attached to functions in kernel modules, which come and go.
    pub fn is_in_a_module(&self) -> bool {
        self.links.are_in_a_module()
    }

    /// Whether it is attached to functions in one of these kernel modules, or to none of its functions in other modules.
    pub fn is_in_modules(&self, modules: &[String]) -> bool {
        self.links.are_in_modules(modules)
    }

    /// Attaches to functions in kernel modules that changed, and to those to which attaching failed before. A failure does not
    /// stop the others; the first is returned.
    pub fn follow_modules(&self, changed: &[String], kernel: &Kernel) -> Result<(), LoadError> {
        self.links.follow_modules(changed, &self.maps, kernel)
    }

    /// Functions of modules that were loaded after the probe, which its patterns match but to which it is not attached, in
    /// sentences. `kernel` is called only if there is a pattern.
    pub fn left_later<'k>(&self, modules: &[String], kernel: impl Fn() -> &'k Kernel) -> Vec<String> {
        let is_of_kernel = |subject| matches!(subject, Subject::Function { .. });
        let patterns = self
            .program
            .codes
            .iter()
            .filter(|code| is_of_kernel(code.at.kind.subject) && code.at.may_be_several());
        patterns
            .filter_map(|code| {
                let function = code.at.name();
                let wanted =
                    SiteRequest { function, at_return: false, whole: false, most: u32::MAX, stacks: false };
                let kernel = kernel();
                let now = kernel.probed(&wanted).ok()?;
                let before: HashSet<&str> = code.sites.list.iter().map(|site| site.name.as_str()).collect();
                let names = now.list.iter().map(|site| site.name.as_str());
                let is_there = |name: &str| {
                    kernel.module_of(name).is_some_and(|of| modules.iter().any(|module| module == of))
                };
                let later: Vec<&str> =
                    names.filter(|name| !before.contains(name) && is_there(name)).collect();
                let later = left_out("were loaded after the probe was attached", &later)?;
                Some(format!(
                    "`{}`: of what matches, {later} and are not counted until tapster is restarted",
                    code.at
                ))
            })
            .collect()
    }

    /// Whether it is attached in user programs by perf events, for which kernels require more rights than for links.
    pub fn has_user_events(&self) -> bool {
        self.links.has_user_events()
    }

    /// Detaches from files that were replaced and that no process executes any more.
    pub fn release(&self, proc: &Path) {
        let replaced = self.links.replaced();
        if !replaced.is_empty() {
            self.links.release(&self.looks.unused(proc, replaced));
        }
    }

    /// The file descriptor of one of the probe's maps, by its number in the program.
    pub fn map(&self, index: u32) -> Result<BorrowedFd<'_>, LoadError> {
        self.maps
            .get(index)
            .ok_or_else(|| LoadError::NoMap { probe: self.program.name.clone(), map: index.to_string() })
    }

    /// One of the programs, by the index of its code; of several for one code, the first. `None` for code in user programs,
    /// which may have several.
    pub fn program_fd(&self, index: usize) -> Option<OwnedFd> {
        self.links.with_program(index, |program| program.try_clone_to_owned().ok()).flatten()
    }

    /// The state and sums of each program, as the kernel counts them.
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.links.status()
    }

    /// Functions of patterns that have no probe, in sentences.
    pub fn left_out(&self) -> Vec<String> {
        self.links.left_out(&self.program)
    }
}
