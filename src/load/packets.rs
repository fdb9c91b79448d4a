//! The link of a program to packets: at a network interface, or of a cgroup. Either may go, and another come by its name.

use super::{LoadError, error::not_loaded};
use crate::{
    cgroup,
    lock::lock,
    sys::{self, PacketPlace, ProgramKind},
};
use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::Mutex,
};
use tapster_ebpf::{
    point::{AttachPoint, PacketHook},
    program::Code,
};

/// A program and its link.
#[derive(Debug)]
pub(super) struct Packets {
    /// Declared before the program, so that it is dropped first.
    held: Mutex<Holding>,
    program: OwnedFd,
}

/// What a program holds.
#[derive(Debug, Default)]
enum Holding {
    /// Nothing: it is not attached yet, or its place is gone.
    #[default]
    Nothing,
    /// Its link.
    Link(Held),
    /// Nothing, because another program is about to come in its place.
    GaveWay,
}

#[derive(Debug)]
struct Held {
    place: PlaceId,
    #[expect(dead_code, reason = "it is held, and not asked")]
    link: OwnedFd,
}

/// What has a name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaceId {
    /// The number of an interface.
    Interface(u32),
    /// The number of a cgroup.
    Cgroup(u64),
}

/// What a look at the place of a program found.
#[derive(Debug)]
pub(super) enum Look {
    /// What was there before.
    Same,
    /// Another, to which the program is attached now.
    Attached,
    /// Nothing, in a sentence.
    Gone(String),
    /// Another, to which the program could not be attached.
    Refused(LoadError),
}

fn hook(code: &Code) -> PacketHook {
    let Some(hook) = code.mechanism.link.packets() else {
        unreachable!("`{}` sees no packets: this is a bug in tapster", code.at)
    };
    hook
}

/// Whether the place of an attach point exists, for those that see packets.
pub fn is_there(at: &AttachPoint, proc: &Path) -> bool {
    let hook = at.kind.mechanisms.iter().find_map(|mechanism| mechanism.link.packets());
    hook.is_none_or(|hook| open(at, hook, proc).is_ok())
}

/// The directory of a cgroup, or nothing for an interface; and what it is.
fn open(at: &AttachPoint, hook: PacketHook, proc: &Path) -> io::Result<(Option<File>, PlaceId)> {
    let name = &at.parts()[0];
    if hook.is_at_interface() {
        return Ok((None, PlaceId::Interface(sys::interface(name)?.index)));
    }
    let path = cgroup::directory(proc, name).map_err(|missing| io::Error::other(missing.message))?;
    let directory = File::open(path)?;
    let number = directory.metadata()?.ino();
    Ok((Some(directory), PlaceId::Cgroup(number)))
}

impl Packets {
    /// Loads the program.
    pub(super) fn load(code: &Code, maps: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        let insns = &code.assembled.insns;
        let program = sys::load_program(&code.name, ProgramKind::Packets(hook(code)), insns, maps);
        Ok(Self { held: Mutex::default(), program: program.map_err(not_loaded(code))? })
    }

    /// Attaches the program. `proc` is where procfs is mounted.
    pub(super) fn attach(&self, code: &Code, proc: &Path) -> Result<(), LoadError> {
        let held = self.link(code, open(&code.at, hook(code), proc));
        *lock(&self.held) = Holding::Link(held.map_err(|error| LoadError::not_attached(code, &error))?);
        Ok(())
    }

    fn link(&self, code: &Code, found: io::Result<(Option<File>, PlaceId)>) -> io::Result<Held> {
        let (directory, place) = found?;
        let target = match (&directory, place) {
            (Some(directory), _) => PacketPlace::Cgroup(directory.as_fd()),
            (None, PlaceId::Interface(index)) => PacketPlace::Interface(index),
            (None, PlaceId::Cgroup(_)) => {
                unreachable!("`{}` has a directory: this is a bug in tapster", code.at)
            }
        };
        let link = sys::attach_packets(self.program.as_fd(), hook(code), target)?;
        Ok(Held { place, link })
    }

    /// Attaches the program to what has the name now, if that is another than before.
    pub(super) fn follow(&self, code: &Code, proc: &Path) -> Look {
        let mut held = lock(&self.held);
        if matches!(*held, Holding::GaveWay) {
            return Look::Same;
        }
        let found = open(&code.at, hook(code), proc);
        let place = match &found {
            Ok((_, place)) => *place,
            Err(_) => {
                *held = Holding::Nothing;
                let what = if hook(code).is_at_interface() { "network interface" } else { "cgroup" };
                return Look::Gone(format!(
                    "`{}`: there is no {what} `{}` any more",
                    code.at,
                    code.at.parts()[0]
                ));
            }
        };
        if matches!(&*held, Holding::Link(held) if held.place == place) {
            return Look::Same;
        }
        // The link to what is gone does nothing any more.
        *held = Holding::Nothing;
        match self.link(code, found) {
            Ok(now) => {
                *held = Holding::Link(now);
                Look::Attached
            }
            Err(error) => Look::Refused(LoadError::not_attached(code, &error)),
        }
    }

    /// Detaches the program, if it is where only one can be, for another one that comes there.
    pub(super) fn give_way(&self, code: &Code) -> bool {
        let mut held = lock(&self.held);
        let gives = hook(code) == PacketHook::Xdp && matches!(*held, Holding::Link(_));
        if gives {
            *held = Holding::GaveWay;
        }
        gives
    }

    /// Lets the next look attach the program again that gave way to one that did not come.
    pub(super) fn take_back(&self) {
        let mut held = lock(&self.held);
        if matches!(*held, Holding::GaveWay) {
            *held = Holding::Nothing;
        }
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
