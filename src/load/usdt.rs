//! A program at places that pass a probe which a program or library brings along.

use super::{
    LoadError,
    error::not_loaded,
    files::File,
    refusal::{Asked, because},
};
use crate::{
    lock::lock,
    sys::{self, ProgramKind},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Mutex,
};
use tapster_ebpf::{program::Code, usdt::Sites};

/// A program and its links.
#[derive(Debug)]
pub(super) struct Usdt {
    sites: Sites,
    kind: ProgramKind,
    /// What keeps it attached, before the program.
    links: Mutex<Vec<OwnedFd>>,
    program: OwnedFd,
}

impl Usdt {
    /// Has the verifier look at the program, in the best form that the kernel takes.
    pub(super) fn load(code: &Code, sites: &Sites, maps: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        let insns = &code.assembled.insns;
        // A kernel without such links may refuse the program already. For one place, too: kernels with the fix of CVE-2025-38466 ask
        // CAP_SYS_ADMIN for an event at it, and for a link they do not.
        let multi = sys::load_program(&code.name, ProgramKind::UprobeMulti, insns, maps)
            .ok()
            .filter(|program| sys::has_uprobe_multi(program.as_fd()));
        let (kind, program) = match multi {
            Some(program) => (ProgramKind::UprobeMulti, program),
            None => {
                let loaded = sys::load_program(&code.name, ProgramKind::Probe, insns, maps);
                (ProgramKind::Probe, loaded.map_err(not_loaded(code))?)
            }
        };
        Ok(Self { sites: sites.clone(), kind, links: Mutex::default(), program })
    }

    /// Attaches the program to the file in which the places were found.
    pub(super) fn attach(&mut self, code: &Code, file: &File) -> Result<(), LoadError> {
        let Some(binary) = file.binary.as_ref().filter(|binary| binary.id == self.sites.file) else {
            // It will be looked at again.
            let message = format!("`{}` changed while it was looked at", file.path.display());
            return Err(LoadError::attaching(code, message));
        };
        let path = binary.kernel_path();
        let attached = if self.kind == ProgramKind::UprobeMulti {
            sys::attach_usdt(self.program.as_fd(), &path, &self.sites.list).map(|link| vec![link])
        } else {
            let each = |site| sys::attach_site(self.program.as_fd(), &path, site);
            self.sites.list.iter().copied().map(each).collect()
        };
        *lock(&self.links) = attached.map_err(|error: io::Error| {
            LoadError::attaching(code, error.to_string() + &because(&error, Asked::UserProbe))
        })?;
        Ok(())
    }

    /// Lets go of all places; the program stays.
    pub(super) fn detach(&self) {
        lock(&self.links).clear();
    }

    /// Whether each place has a perf event, for which kernels ask more rights than for links.
    pub(super) fn are_events(&self) -> bool {
        self.kind != ProgramKind::UprobeMulti
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
