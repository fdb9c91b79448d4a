//! The link to places of a USDT probe, which a program or library defines.

use super::{
    LoadError,
    error::not_loaded,
    files::File,
    refusal::{RefusedObject, because},
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
use tapster_ebpf::{program::Code, usdt::UsdtSites};

/// A program and its links.
#[derive(Debug)]
pub(super) struct Usdt {
    sites: UsdtSites,
    kind: ProgramKind,
    /// The links, declared before the program, so that they are dropped first.
    links: Mutex<Vec<OwnedFd>>,
    program: OwnedFd,
}

impl Usdt {
    /// Loads the program in the best form that the kernel accepts.
    pub(super) fn load(code: &Code, sites: &UsdtSites, maps: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        let insns = &code.assembled.insns;
        // A kernel without multi-links may already refuse the program. A single place gets such a link too: kernels with the
        // fix of CVE-2025-38466 require CAP_SYS_ADMIN for an event there, but not for a link.
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

    /// Attaches the program in the file in which the places were found.
    pub(super) fn attach(&mut self, code: &Code, file: &File) -> Result<(), LoadError> {
        let Some(binary) = file.binary.as_ref().filter(|binary| binary.id == self.sites.file) else {
            // The next check will find the new file.
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
            LoadError::attaching(code, error.to_string() + &because(&error, RefusedObject::UserProbe))
        })?;
        Ok(())
    }

    /// Detaches from all places; the program stays.
    pub(super) fn detach(&self) {
        lock(&self.links).clear();
    }

    /// Whether each place has a perf event, for which kernels require more rights than for links.
    pub(super) fn are_events(&self) -> bool {
        self.kind != ProgramKind::UprobeMulti
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
