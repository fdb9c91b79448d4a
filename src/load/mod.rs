//! A compiled probe into the kernel, in this order: maps are made, programs are verified, and then attached.
//!
//! Which link a program needs is said by its mechanism (`tapster_ebpf::point`); each kind of link is a file here, and `links`
//! has all programs of a probe in one list. Maps are made by aya, programs by `sys`; see `docs/adr/0036-attach-kinds.md`.

mod cpus;
mod error;
mod files;
mod functions;
mod links;
mod maps;
pub mod places;
pub mod refusal;
mod single;
mod usdt;

pub use error::LoadError;

use crate::{kernel::Kernel, status::ProgramStatus};
use files::Look;
use links::Links;
use maps::Maps;
use std::{
    collections::HashSet,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use tapster_ebpf::{
    attach::{Functions as _, Wanted, left_out},
    btf::Btf,
    point::Subject,
    program::Program,
};

/// A probe in the kernel. Dropping it detaches its programs and frees its maps.
#[derive(Debug)]
pub struct Attached {
    /// What was compiled.
    pub program: Program,
    /// Before the maps, so that they are gone before those are.
    links: Links,
    maps: Maps,
    looks: Arc<Look>,
}

/// Makes the maps of a probe and has the verifier look at its programs, without attaching any. `types` are the kernel's, needed
/// for programs that name what they are attached to by its type.
pub fn load(program: Program, types: Option<&Btf>) -> Result<Attached, LoadError> {
    let maps = Maps::create(&program)?;
    let links = Links::load(&program, &maps, types)?;
    Ok(Attached { program, links, maps, looks: Arc::default() })
}

impl Attached {
    /// Attaches all programs: those that end a pair first, so that no start waits for an end that is not there yet.
    pub fn attach(&mut self, kernel: &Kernel) -> Result<(), LoadError> {
        self.links.attach(&self.maps, kernel)
    }

    /// Tries what attaching needs, as far as it can be had without attaching: whether the timers and counters are there.
    pub fn attempt(&self, kernel: &Kernel) -> Result<(), LoadError> {
        self.links.attempt(kernel)
    }

    /// Attaches what was compiled anew for files that are others now; maps stay, and all that is counted. `all`: also to
    /// files that are the same.
    pub fn renew(&self, program: &Program, kernel: &Kernel, all: bool) -> Result<(), LoadError> {
        let own = &self.program;
        let same = (&own.maps, &own.layout, &own.labels, &own.metrics, &own.waiting)
            == (&program.maps, &program.layout, &program.labels, &program.metrics, &program.waiting);
        if !same {
            return Err(LoadError::Other(own.name.clone()));
        }
        self.links.renew(program, &self.maps, kernel, all)
    }

    /// Whether it is attached to CPUs, which come and go.
    pub fn has_cpu_events(&self) -> bool {
        self.links.has_cpu_events()
    }

    /// Attaches timers and counters to CPUs that came online, and again to those that were offline meanwhile: these CPUs, and why
    /// the first was refused of which some were.
    pub fn follow_cpus(&self, online: &[u32]) -> (Vec<u32>, Option<LoadError>) {
        self.links.follow_cpus(online)
    }

    /// Whether it is attached to functions in modules of the kernel, which come and go.
    pub fn is_in_a_module(&self) -> bool {
        self.links.are_in_a_module()
    }

    /// Whether it is attached to functions in one of these modules of the kernel, or to none of what was in others.
    pub fn is_in_modules(&self, modules: &[String]) -> bool {
        self.links.are_in_modules(modules)
    }

    /// Attaches anew to functions in modules of the kernel that changed, and to those that could not be attached to before. What
    /// cannot be had keeps nothing else from being attached to; the first of it is the error.
    pub fn follow_modules(&self, changed: &[String], kernel: &Kernel) -> Result<(), LoadError> {
        self.links.follow_modules(changed, &self.maps, kernel)
    }

    /// Functions of modules that were loaded after the probe, which its patterns match and it is not attached to, in sentences.
    /// `kernel` is asked for only if there is a pattern.
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
                    Wanted { function, at_return: false, whole: false, most: u32::MAX, stacks: false };
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

    /// Whether it is attached to user programs by perf events, for which kernels ask more rights than for links.
    pub fn has_user_events(&self) -> bool {
        self.links.has_user_events()
    }

    /// Detaches from files that were replaced and that no process runs any more.
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

    /// One of the programs, in the order of the compiled codes; of many for one, the first. `None` for those at user programs, of
    /// which there may be several.
    pub fn program_fd(&self, index: usize) -> Option<OwnedFd> {
        self.links.with_program(index, |program| program.try_clone_to_owned().ok()).flatten()
    }

    /// What each program is and what it costs, as the kernel counts it.
    pub fn programs(&self) -> Vec<ProgramStatus> {
        self.links.status()
    }

    /// Functions of patterns that have no probe, in sentences.
    pub fn left_out(&self) -> Vec<String> {
        self.links.left_out(&self.program)
    }
}
