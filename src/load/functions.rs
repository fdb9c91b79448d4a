//! The link to functions by kprobes and uprobes: one function, or all that a pattern matches; and to the tracepoints of a pattern.
//!
//! A program that must know at which function it stopped calls the helper for its cookie, which is the function's number.
//! Kernels without cookies (before 5.15) get a program for each function, with the number in place of that call.

use super::{
    LoadError,
    error::not_loaded,
    places::{AttachMethod, PlaceLinks, Places, PlacesError},
    refusal::{RefusedObject, because},
};
use crate::{
    kernel::Kernel,
    lock::lock,
    sys::{self, Ends, ProgInfo, ProgramKind, load_program},
};
use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Mutex,
};
use tapster_ebpf::{
    attach::{Place, left_out},
    insn::{Alu, Helper, Insn, R0, Src},
    point::LinkKind,
    program::{Code, Program},
};

/// From this many places on, a message reports that they are attached one by one, which takes milliseconds each, and longer to
/// detach.
const MANY: usize = 32;

/// The functions of one code in the kernel.
#[derive(Debug)]
pub(super) struct FunctionLinks {
    method: AttachMethod,
    /// The links or events, declared before the programs, so that they are dropped first.
    links: Mutex<Vec<OwnedFd>>,
    programs: Vec<OwnedFd>,
    /// Kernel modules that the functions are in.
    modules: Vec<String>,
    /// Numbers of functions that the kernel refused.
    refused: Vec<usize>,
}

/// Whether a code of a tracepoint needs what functions do: it is for several, or has to know for which it runs.
pub(super) fn are_several(code: &Code) -> bool {
    code.sites.list.len() > 1 || asks_for_cookie(code)
}

/// The kind of the program for a link of its own to each place.
fn kind(code: &Code) -> ProgramKind {
    if code.mechanism.link == LinkKind::Tracepoint { ProgramKind::Tracepoint } else { ProgramKind::Probe }
}

fn is_of_kernel(code: &Code) -> bool {
    matches!(code.mechanism.link, LinkKind::KernelProbe { .. })
}

/// All places, each with its offset in the file if it has one, and with the index of its function.
fn places(code: &Code) -> Vec<(usize, Option<u64>)> {
    let of = |(index, place): (usize, &Place)| match place {
        Place::Kernel { .. } | Place::Tracepoint { .. } => vec![(index, None)],
        Place::File { at, .. } => at.iter().map(|offset| (index, Some(*offset))).collect(),
    };
    code.sites.list.iter().map(|site| &site.place).enumerate().flat_map(of).collect()
}

fn asks_for_cookie(code: &Code) -> bool {
    code.assembled.insns.contains(&Insn::Call(Helper::AttachCookie))
}

/// The instructions with the number in place of the call for it.
fn with_number(code: &Code, number: u64) -> Vec<Insn> {
    let number = i32::try_from(number).expect("functions of a probe are numbered from 0, and few");
    let known = |insn: &Insn| match insn {
        Insn::Call(Helper::AttachCookie) => Insn::Alu64(Alu::Mov, R0, Src::Imm(number)),
        other => *other,
    };
    code.assembled.insns.iter().map(known).collect()
}

/// Numbers and names of tracepoints.
fn tracepoints(
    code: &Code,
    kernel: &Kernel,
    list: &[(usize, Option<u64>)],
) -> Result<Vec<(u64, String)>, LoadError> {
    let tracefs = kernel.tracefs.as_ref();
    let tracefs = tracefs.map_err(|missing| LoadError::attaching(code, missing.message.clone()))?;
    let number = |(index, _): &(usize, _)| {
        let Place::Tracepoint { category, name } = &code.sites.list[*index].place else {
            unreachable!("`{}` is no tracepoint: this is a bug in tapster", code.at)
        };
        let number = tracefs.number(category, name);
        let number = number.map_err(|error| LoadError::attaching(code, error.to_string()))?;
        Ok((number, format!("{category}:{name}")))
    };
    list.iter().map(number).collect()
}

impl FunctionLinks {
    /// Loads the program in the best form that the kernel accepts.
    pub(super) fn load(code: &Code, maps: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        let load = |kind, insns: &[Insn]| load_program(&code.name, kind, insns, maps);
        let insns = &code.assembled.insns;
        let one = |method, program| Self::new(method, vec![program]);
        // A single place in a user program gets a link too: kernels with the fix of CVE-2025-38466 require CAP_SYS_ADMIN for an
        // event there, but not for a link.
        let is_tracepoint = code.mechanism.link == LinkKind::Tracepoint;
        if (places(code).len() > 1 || !is_of_kernel(code)) && !code.one_by_one && !is_tracepoint {
            let (kind, has): (_, fn(BorrowedFd<'_>) -> bool) = if is_of_kernel(code) {
                (ProgramKind::KprobeMulti, |program| sys::has_kprobe_multi(program, Ends::Entry))
            } else {
                (ProgramKind::UprobeMulti, sys::has_uprobe_multi)
            };
            // A kernel that does not know the helper refuses the program; one without such links refuses the link.
            if let Ok(program) = load(kind, insns)
                && has(program.as_fd())
            {
                return Ok(one(AttachMethod::Multi, program));
            }
        }
        if !asks_for_cookie(code) {
            return load(kind(code), insns)
                .map(|program| one(AttachMethod::Event, program))
                .map_err(not_loaded(code));
        }
        if let Ok(program) = load(kind(code), insns) {
            return Ok(one(AttachMethod::Cookie, program));
        }
        // One program shows whether the verifier accepts them all.
        let number = code.sites.list.first().map_or(0, |site| site.number);
        load(kind(code), &with_number(code, number.into())).map_err(not_loaded(code))?;
        Ok(Self::new(AttachMethod::Program, Vec::new()))
    }

    /// Loads both codes of a pair as one program, if the kernel has sessions: it belongs to the first code, and the second has
    /// nothing left to do.
    pub(super) fn session(program: &Program, maps: &[BorrowedFd<'_>]) -> Option<[Self; 2]> {
        let insns = &program.session.as_ref()?.insns;
        let loaded = load_program(&program.name, ProgramKind::KprobeSession, insns, maps);
        let loaded = loaded
            .inspect_err(|refused| tracing::debug!(probe = program.name, %refused, "no session"))
            .ok()?;
        sys::has_kprobe_multi(loaded.as_fd(), Ends::Both)
            .then(|| [vec![loaded], Vec::new()].map(|programs| Self::new(AttachMethod::Session, programs)))
    }

    fn new(method: AttachMethod, programs: Vec<OwnedFd>) -> Self {
        Self { method, links: Mutex::default(), programs, modules: Vec::new(), refused: Vec::new() }
    }

    /// Whether the program of another code serves these functions too, so that there is nothing left to do.
    fn are_done(&self) -> bool {
        self.method == AttachMethod::Session && self.programs.is_empty()
    }

    /// Attaches to all functions.
    pub(super) fn attach(
        &mut self,
        code: &Code,
        maps: &[BorrowedFd<'_>],
        kernel: &Kernel,
    ) -> Result<(), LoadError> {
        if self.are_done() {
            return Ok(());
        }
        let names = code.sites.list.iter().filter(|_| is_of_kernel(code)).map(|site| &site.name);
        self.modules = names.filter_map(|name| kernel.module_of(name)).map(str::to_owned).collect();
        self.modules.sort_unstable();
        self.modules.dedup();
        let list = places(code);
        let links = self.hold(code, maps, kernel, &list, false)?;
        for (index, error) in &links.refused {
            let function = list[*index].0;
            tracing::warn!(at = %code.at, function = code.sites.list[function].name, %error, "not attached");
            self.refused.push(function);
        }
        self.refused.dedup();
        *lock(&self.links) = links.descriptors;
        self.programs.extend(links.programs);
        Ok(())
    }

    /// Whether any of them is in a kernel module.
    pub(super) fn are_in_modules(&self) -> bool {
        !self.modules.is_empty()
    }

    /// Whether these changed kernel modules require attaching again: some functions are in them, or some are in other modules
    /// and none is attached, because they may be found now.
    pub(super) fn follow(&self, changed: &[String]) -> bool {
        let is_held = self.are_done() || !lock(&self.links).is_empty();
        self.modules.iter().any(|own| changed.contains(own)) || self.are_in_modules() && !is_held
    }

    /// Attaches to the functions that exist now, after a module with some of them was unloaded or loaded.
    pub(super) fn renew(
        &self,
        code: &Code,
        maps: &[BorrowedFd<'_>],
        kernel: &Kernel,
    ) -> Result<(), LoadError> {
        if self.are_done() {
            return Ok(());
        }
        // No event reaches functions of a module that is gone.
        lock(&self.links).clear();
        let is_there = |(index, _): &(usize, _)| kernel.has_function(&code.sites.list[*index].name);
        let list: Vec<_> = places(code).into_iter().filter(is_there).collect();
        if list.is_empty() {
            let (at, modules) = (code.at.to_string(), self.modules.join("`, `"));
            return Err(LoadError::Unloaded { at, modules });
        }
        let links = self.hold(code, maps, kernel, &list, true)?;
        if !links.refused.is_empty() {
            let count = links.refused.len();
            tracing::warn!(at = %code.at, count, "functions that the kernel does not take now are not counted");
        }
        *lock(&self.links) = links.descriptors.into_iter().chain(links.programs).collect();
        Ok(())
    }

    /// Attaches to these places.
    fn hold(
        &self,
        code: &Code,
        maps: &[BorrowedFd<'_>],
        kernel: &Kernel,
        list: &[(usize, Option<u64>)],
        is_anew: bool,
    ) -> Result<PlaceLinks, LoadError> {
        let cookies = list.iter().map(|(index, _)| code.sites.list[*index].number.into()).collect();
        let ends = match (self.method, code.mechanism.link.is_after_return()) {
            (AttachMethod::Session, _) => Ends::Both,
            (_, true) => Ends::Return,
            (_, false) => Ends::Entry,
        };
        let text =
            |text: &str| CString::new(text).map_err(|error| LoadError::attaching(code, error.to_string()));
        // The file that was read is used, even if another has its name by now: in that one the places would be wrong.
        let file = code.sites.file.as_deref().and_then(|path| kernel.program_file(path));
        let places = if let Some(file) = &file {
            let path = text(&format!("/proc/self/fd/{}", file.file.as_raw_fd()))?;
            Places::file(path, list.iter().filter_map(|(_, offset)| *offset).collect(), cookies, ends)
        } else if code.mechanism.link == LinkKind::Tracepoint {
            Places::tracepoints(tracepoints(code, kernel, list)?, cookies)
        } else {
            let mut functions = Vec::new();
            for (index, _) in list {
                let Place::Kernel { symbol, address } = &code.sites.list[*index].place else {
                    return Err(LoadError::attaching(
                        code,
                        "the file is not open: this is a bug in tapster".into(),
                    ));
                };
                // A module that was loaded again has other addresses.
                functions.push((text(symbol)?, address.filter(|_| !is_anew)));
            }
            Places::kernel(functions, cookies, ends)
        };
        let links = matches!(self.method, AttachMethod::Multi | AttachMethod::Session);
        if !links && list.len() >= MANY {
            let places = list.len();
            tracing::warn!(at = %code.at, places, "attached to one by one, which takes a while");
        }
        let asked = match code.mechanism.link {
            LinkKind::UserProbe { .. } => RefusedObject::UserProbe,
            _ => RefusedObject::Event,
        };
        let failed =
            |error: PlacesError| LoadError::attaching(code, error.to_string() + &because(&error, asked));
        let held = match (self.method, self.programs.first()) {
            (AttachMethod::Multi | AttachMethod::Session, Some(program)) => {
                places.link(program.as_fd()).map_err(failed)?
            }
            (AttachMethod::Cookie, Some(program)) => places.each(program.as_fd(), true).map_err(failed)?,
            (AttachMethod::Event, Some(program)) => places.each(program.as_fd(), false).map_err(failed)?,
            (AttachMethod::Program, _) | (_, None) => {
                let load = |number| {
                    load_program(&code.name, kind(code), &with_number(code, number), maps)
                        .map_err(|refused| EachError::Load(not_loaded(code)(refused)))
                };
                places.each_its_own(load).map_err(|either| match either {
                    EachError::Load(error) => error,
                    EachError::Places(error) => failed(error),
                })?
            }
        };
        if let (true, Some((_, error))) = (held.descriptors.is_empty(), held.refused.first()) {
            return Err(LoadError::attaching(code, error.to_string() + &because(error, asked)));
        }
        Ok(held)
    }

    /// The programs; there may be one for each function.
    pub(super) fn programs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.programs.iter().map(AsFd::as_fd)
    }

    /// Detaches from all functions; the programs stay.
    pub(super) fn detach(&self) {
        lock(&self.links).clear();
    }

    /// Whether they are attached by perf events, for which kernels require more rights than for links.
    pub(super) fn are_events(&self) -> bool {
        matches!(self.method, AttachMethod::Cookie | AttachMethod::Event | AttachMethod::Program)
    }

    /// The sums over all programs.
    pub(super) fn info(&self) -> ProgInfo {
        let all = self.programs().filter_map(|program| sys::prog_info(program).ok());
        all.reduce(|a, b| ProgInfo {
            runs: a.runs + b.runs,
            run_ns: a.run_ns + b.run_ns,
            missed: a.missed + b.missed,
            ..a
        })
        .unwrap_or_default()
    }

    /// The name of the mechanism.
    pub(super) fn mechanism(&self, code: &Code) -> String {
        let name = code.mechanism.name;
        match self.method {
            AttachMethod::Session => "kprobe_session".into(),
            AttachMethod::Multi if code.sites.list.len() > 1 => format!("{name}_multi"),
            AttachMethod::Multi | AttachMethod::Cookie | AttachMethod::Event | AttachMethod::Program => {
                name.into()
            }
        }
    }

    /// The functions that the kernel refused, in a sentence.
    pub(super) fn refused(&self, code: &Code) -> Option<String> {
        let names: Vec<&str> =
            self.refused.iter().map(|index| code.sites.list[*index].name.as_str()).collect();
        left_out("that the kernel refused", &names)
    }
}

/// The error if each place has a program.
enum EachError {
    Load(LoadError),
    Places(PlacesError),
}

impl From<PlacesError> for EachError {
    fn from(error: PlacesError) -> Self {
        Self::Places(error)
    }
}
