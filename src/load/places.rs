//! Places that one program is attached to: functions of the kernel, or offsets in a file. With one link for all where the
//! kernel has such links, else one by one.
//!
//! Each place has a cookie, which tells the program where it was stopped.

use crate::sys::{self, Ends, KernelFunctions, Spot};
use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Places that may be refused before all are given up.
const MOST_REFUSED: usize = 64;
/// Files that stay free for this process besides those of the probes.
const SPARE_FILES: u64 = 64;
/// Most programs where each place needs one of its own.
const MOST_PROGRAMS: usize = 512;

/// How a program is attached to many places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// All with one link, 5.18 for the kernel and 6.6 for programs.
    Multi,
    /// All with one link, and both ends of each function, 6.10 and for the kernel only.
    Session,
    /// Each with an event of its own, which carries a cookie, 5.15.
    Cookie,
    /// Each with an event of its own, and without a cookie.
    Event,
    /// Each with an event and a program of its own.
    Program,
}

/// The places.
#[derive(Debug)]
pub struct Places {
    spots: Spots,
    cookies: Vec<u64>,
    ends: Ends,
}

#[derive(Debug)]
enum Spots {
    Kernel { symbols: Vec<CString>, addresses: Option<Vec<u64>> },
    File { path: CString, offsets: Vec<u64> },
}

/// What keeps a program attached, and places that were refused: their index and why.
#[derive(Debug, Default)]
pub struct Held {
    /// Links and events.
    pub descriptors: Vec<OwnedFd>,
    /// Programs, where each place has its own.
    pub programs: Vec<OwnedFd>,
    /// What was refused.
    pub refused: Vec<(usize, io::Error)>,
}

/// Why a program was not attached.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// The kernel refused a place for a reason that others have, too, or too many of them.
    #[error("{place}: {error}")]
    Refused {
        /// Which.
        place: String,
        /// Its error.
        #[source]
        error: io::Error,
    },
    /// Too many places for the way of this kernel.
    #[error(
        "{places} places are too many for this kernel, which attaches to each by itself and takes {most}"
    )]
    TooMany {
        /// Wanted.
        places: usize,
        /// Possible.
        most: usize,
    },
    /// The limit of open files is not known.
    #[error("the limit of open files: {0}")]
    Files(#[source] io::Error),
}

impl Places {
    /// Functions of the kernel by symbol and, where all are known, by address.
    pub fn kernel(functions: Vec<(CString, Option<u64>)>, cookies: Vec<u64>, ends: Ends) -> Self {
        let addresses = functions.iter().map(|(_, address)| *address).collect();
        let symbols = functions.into_iter().map(|(symbol, _)| symbol).collect();
        Self { spots: Spots::Kernel { symbols, addresses }, cookies, ends }
    }

    /// Offsets in a file.
    pub fn file(path: CString, offsets: Vec<u64>, cookies: Vec<u64>, ends: Ends) -> Self {
        Self { spots: Spots::File { path, offsets }, cookies, ends }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.cookies.len()
    }

    fn spot(&self, index: usize) -> Spot<'_> {
        match &self.spots {
            Spots::Kernel { symbols, .. } => Spot::Kernel(&symbols[index]),
            Spots::File { path, offsets } => Spot::File(path, offsets[index]),
        }
    }

    fn describe(&self, index: usize) -> String {
        match self.spot(index) {
            Spot::Kernel(symbol) => format!("`{}` could not be attached to", symbol.to_string_lossy()),
            Spot::File(_, offset) => format!("the file could not be attached to at {offset:#x}"),
        }
    }

    /// Attaches a program, loaded for that, with one link; or where the kernel refuses some place, with links for those
    /// around it.
    pub fn link(&self, program: BorrowedFd<'_>) -> Result<Held, PlacesError> {
        let mut held = Held::default();
        if self.count() > 0 {
            self.link_some(program, 0, self.count(), &mut held)?;
        }
        Ok(held)
    }

    fn link_some(
        &self,
        program: BorrowedFd<'_>,
        from: usize,
        to: usize,
        held: &mut Held,
    ) -> Result<(), PlacesError> {
        let cookies = &self.cookies[from..to];
        let linked = match &self.spots {
            Spots::Kernel { addresses: Some(addresses), .. } => {
                let functions = KernelFunctions::Addresses(&addresses[from..to]);
                sys::attach_kprobes(program, functions, cookies, self.ends)
            }
            Spots::Kernel { symbols, addresses: None } => {
                let symbols: Vec<&CStr> = symbols[from..to].iter().map(CString::as_c_str).collect();
                sys::attach_kprobes(program, KernelFunctions::Symbols(&symbols), cookies, self.ends)
            }
            Spots::File { path, offsets } => {
                sys::attach_uprobes(program, path, &offsets[from..to], cookies, self.ends)
            }
        };
        match linked {
            Ok(link) => held.descriptors.push(link),
            Err(error) if to - from == 1 => self.refuse(held, from, error)?,
            Err(_) => {
                let middle = from.midpoint(to);
                self.link_some(program, from, middle, held)?;
                self.link_some(program, middle, to, held)?;
            }
        }
        Ok(())
    }

    /// Attaches one program to each place by itself, with its cookie or without.
    pub fn each(&self, program: BorrowedFd<'_>, with_cookie: bool) -> Result<Held, PlacesError> {
        self.one_by_one(usize::MAX, |spot, cookie| {
            Ok(if with_cookie {
                sys::attach_probe_with_cookie(program, spot, self.ends, cookie).map(Vec::from)
            } else {
                sys::attach_probe(program, spot, self.ends).map(|event| vec![event])
            })
        })
    }

    /// Attaches to each place a program of its own, in which its cookie is written.
    pub fn each_its_own<E: From<PlacesError>>(
        &self,
        mut load: impl FnMut(u64) -> Result<OwnedFd, E>,
    ) -> Result<Held, E> {
        let mut programs = Vec::new();
        let held = self.one_by_one(MOST_PROGRAMS, |spot, cookie| {
            let program: OwnedFd = load(cookie)?;
            let event = sys::attach_probe(program.as_fd(), spot, self.ends);
            programs.push(program);
            Ok::<_, E>(event.map(|event| vec![event]))
        })?;
        Ok(Held { programs, ..held })
    }

    fn one_by_one<E: From<PlacesError>>(
        &self,
        most: usize,
        mut attach: impl FnMut(Spot<'_>, u64) -> Result<io::Result<Vec<OwnedFd>>, E>,
    ) -> Result<Held, E> {
        let limit = sys::raise_file_limit().map_err(PlacesError::Files)?;
        let files = usize::try_from(limit.files.saturating_sub(SPARE_FILES)).unwrap_or(usize::MAX);
        // Two descriptors belong to each.
        let most = most.min(files / 2);
        if self.count() > most {
            return Err(PlacesError::TooMany { places: self.count(), most }.into());
        }
        let mut held = Held::default();
        for (index, cookie) in self.cookies.iter().enumerate() {
            match attach(self.spot(index), *cookie)? {
                Ok(descriptors) => held.descriptors.extend(descriptors),
                Err(error) => self.refuse(&mut held, index, error)?,
            }
        }
        Ok(held)
    }

    /// A place that the kernel does not take does without: an instruction that it cannot run elsewhere, a function that
    /// its own probes need. Too many have another reason.
    fn refuse(&self, held: &mut Held, index: usize, error: io::Error) -> Result<(), PlacesError> {
        if held.refused.len() >= MOST_REFUSED
            || matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory)
            || matches!(sys::errno(&error), Some(libc::EMFILE | libc::ENFILE))
        {
            return Err(PlacesError::Refused { place: self.describe(index), error });
        }
        held.refused.push((index, error));
        Ok(())
    }
}
