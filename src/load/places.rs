//! Attaches one program to places: functions of the kernel, offsets in a file, or tracepoints. One link serves all places if the
//! kernel has such links, which it has not for tracepoints; otherwise each place gets its own.
//!
//! Each place has a cookie, which tells the program at which place it stopped.

use crate::sys::{self, Ends, KernelFunctions, Spot};
use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Most places that may be refused before attaching fails.
const MOST_REFUSED: usize = 64;
/// Descriptors that stay free for this process besides those of the probes.
const SPARE_FILES: u64 = 64;
/// Most programs if each place needs its own.
const MOST_PROGRAMS: usize = 512;

/// How a program is attached to many places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMethod {
    /// One link for all places: 5.18 for the kernel, 6.6 for user programs.
    Multi,
    /// One link for both ends of all functions: 6.10, only for the kernel.
    Session,
    /// An event for each place, with a cookie: 5.15.
    Cookie,
    /// An event for each place, without a cookie.
    Event,
    /// An event and a program for each place.
    Program,
}

/// Places to attach to.
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
    Tracepoints { numbers: Vec<u64>, names: Vec<String> },
}

/// The links of a program, and the places that were refused.
#[derive(Debug, Default)]
pub struct PlaceLinks {
    /// Links and events.
    pub descriptors: Vec<OwnedFd>,
    /// Programs, if each place has its own.
    pub programs: Vec<OwnedFd>,
    /// Places that were refused: index and error.
    pub refused: Vec<(usize, io::Error)>,
}

/// Why a program was not attached.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// The kernel refused a place for a reason that affects other places too, or refused too many places.
    #[error("{place}: {error}")]
    Refused {
        /// The place.
        place: String,
        /// Its error.
        #[source]
        error: io::Error,
    },
    /// More places than this kernel's means allow.
    #[error(
        "{places} places are too many for this kernel, which attaches to each by itself and takes {most}"
    )]
    TooMany {
        /// The number of places.
        places: usize,
        /// The most that are possible.
        most: usize,
    },
    /// The limit of open files is unknown.
    #[error("the limit of open files: {0}")]
    Files(#[source] io::Error),
}

impl Places {
    /// Functions of the kernel by symbol and, if all are known, by address.
    pub fn kernel(functions: Vec<(CString, Option<u64>)>, cookies: Vec<u64>, ends: Ends) -> Self {
        let addresses = functions.iter().map(|(_, address)| *address).collect();
        let symbols = functions.into_iter().map(|(symbol, _)| symbol).collect();
        Self { spots: Spots::Kernel { symbols, addresses }, cookies, ends }
    }

    /// Offsets in a file.
    pub fn file(path: CString, offsets: Vec<u64>, cookies: Vec<u64>, ends: Ends) -> Self {
        Self { spots: Spots::File { path, offsets }, cookies, ends }
    }

    /// Tracepoints by their numbers and names.
    pub fn tracepoints(points: Vec<(u64, String)>, cookies: Vec<u64>) -> Self {
        let (numbers, names) = points.into_iter().unzip();
        Self { spots: Spots::Tracepoints { numbers, names }, cookies, ends: Ends::Entry }
    }

    /// Number of places.
    pub fn count(&self) -> usize {
        self.cookies.len()
    }

    fn spot(&self, index: usize) -> Spot<'_> {
        match &self.spots {
            Spots::Kernel { symbols, .. } => Spot::Kernel(&symbols[index]),
            Spots::File { path, offsets } => Spot::File(path, offsets[index]),
            Spots::Tracepoints { numbers, .. } => Spot::Tracepoint(numbers[index]),
        }
    }

    fn describe(&self, index: usize) -> String {
        match &self.spots {
            Spots::Kernel { symbols, .. } => {
                format!("`{}` could not be attached to", symbols[index].to_string_lossy())
            }
            Spots::File { offsets, .. } => {
                format!("the file could not be attached to at {:#x}", offsets[index])
            }
            Spots::Tracepoints { names, .. } => format!("`{}` could not be attached to", names[index]),
        }
    }

    /// Attaches a program, loaded for such links, with one link; if the kernel refuses a place, with links for the places
    /// around it.
    pub fn link(&self, program: BorrowedFd<'_>) -> Result<PlaceLinks, PlacesError> {
        let mut links = PlaceLinks::default();
        if self.count() > 0 {
            self.link_some(program, 0, self.count(), &mut links)?;
        }
        Ok(links)
    }

    fn link_some(
        &self,
        program: BorrowedFd<'_>,
        from: usize,
        to: usize,
        links: &mut PlaceLinks,
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
            Spots::Tracepoints { .. } => {
                unreachable!("no link is for several tracepoints: this is a bug in tapster")
            }
        };
        match linked {
            Ok(link) => links.descriptors.push(link),
            Err(error) if to - from == 1 => self.refuse(links, from, error)?,
            Err(_) => {
                let middle = from.midpoint(to);
                self.link_some(program, from, middle, links)?;
                self.link_some(program, middle, to, links)?;
            }
        }
        Ok(())
    }

    /// Attaches one program to each place by an event, with its cookie or without.
    pub fn each(&self, program: BorrowedFd<'_>, with_cookie: bool) -> Result<PlaceLinks, PlacesError> {
        self.one_by_one(usize::MAX, |spot, cookie| {
            Ok(if with_cookie {
                sys::attach_probe_with_cookie(program, spot, self.ends, cookie).map(Vec::from)
            } else {
                sys::attach_probe(program, spot, self.ends).map(|event| vec![event])
            })
        })
    }

    /// Attaches a separate program to each place, which contains the cookie as a constant.
    pub fn each_its_own<E: From<PlacesError>>(
        &self,
        mut load: impl FnMut(u64) -> Result<OwnedFd, E>,
    ) -> Result<PlaceLinks, E> {
        let mut programs = Vec::new();
        let links = self.one_by_one(MOST_PROGRAMS, |spot, cookie| {
            let program: OwnedFd = load(cookie)?;
            let event = sys::attach_probe(program.as_fd(), spot, self.ends);
            programs.push(program);
            Ok::<_, E>(event.map(|event| vec![event]))
        })?;
        Ok(PlaceLinks { programs, ..links })
    }

    fn one_by_one<E: From<PlacesError>>(
        &self,
        most: usize,
        mut attach: impl FnMut(Spot<'_>, u64) -> Result<io::Result<Vec<OwnedFd>>, E>,
    ) -> Result<PlaceLinks, E> {
        let limit = sys::raise_file_limit().map_err(PlacesError::Files)?;
        let files = usize::try_from(limit.files.saturating_sub(SPARE_FILES)).unwrap_or(usize::MAX);
        // Each place needs two descriptors.
        let most = most.min(files / 2);
        if self.count() > most {
            return Err(PlacesError::TooMany { places: self.count(), most }.into());
        }
        let mut links = PlaceLinks::default();
        for (index, cookie) in self.cookies.iter().enumerate() {
            match attach(self.spot(index), *cookie)? {
                Ok(descriptors) => links.descriptors.extend(descriptors),
                Err(error) => self.refuse(&mut links, index, error)?,
            }
        }
        Ok(links)
    }

    /// Leaves out a place that the kernel refuses: for example, an instruction that it cannot emulate, or a function that
    /// kprobes themselves use. Too many refusals must have another cause, and fail.
    fn refuse(&self, links: &mut PlaceLinks, index: usize, error: io::Error) -> Result<(), PlacesError> {
        if links.refused.len() >= MOST_REFUSED
            || matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory)
            || matches!(sys::errno(&error), Some(libc::EMFILE | libc::ENFILE))
        {
            return Err(PlacesError::Refused { place: self.describe(index), error });
        }
        links.refused.push((index, error));
        Ok(())
    }
}
