//! Functions by address: of the kernel, and of whatever programs a stack was taken in.
//!
//! A program's frame comes as the build id of its file and a place in that file, so that stacks of several processes
//! that run one program are one stack, and a process need not be there any more when somebody asks. What the kernel does
//! not give is which file has that build id: `files` keeps track of what processes map.
//!
//! Files and processes are others', and may be made to harm: see [ADR 29](../../docs/adr/0029-foreign-files.md).

mod files;
mod frame;
mod kernel;
mod known;
pub mod mapping;
mod patience;
mod reader;
#[cfg(test)]
mod tests;
mod unread;

pub use frame::{Frame, frames};
pub(crate) use kernel::KernelFunctions;

use crate::{
    elf::short,
    family::MetricFamily,
    host::{Host, HostError},
    lock::lock,
};
use files::Files;
use std::{
    sync::{Mutex, OnceLock},
    time::Duration,
};

/// Longest name of a function that is shown; what is beyond is cut.
const LONGEST_NAME: usize = 200;
/// What stands for a stack that could not be kept.
pub const LOST: &str = "~lost";
/// What stands for an address of which nothing is known.
const UNKNOWN: &str = "[unknown]";

/// The symbols of the kernel and of programs, shared by all labels.
#[derive(Debug)]
pub struct Symbols {
    host: Host,
    kernel: Mutex<Option<KernelFunctions>>,
    files: OnceLock<Files>,
}

/// The functions of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Innermost first.
    pub list: Vec<String>,
    /// Whether they stay so: what is not read yet may have another name in the next scrape.
    pub are_final: bool,
}

impl Symbols {
    /// Reads nothing yet.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), kernel: Mutex::new(None), files: OnceLock::new() }
    }

    /// Makes sure that kernel functions can be named.
    pub fn want_kernel(&self) -> Result<(), HostError> {
        let mut kernel = lock(&self.kernel);
        if kernel.is_none() {
            *kernel = Some(KernelFunctions::new(&self.host)?);
        }
        Ok(())
    }

    /// Has the kernel tell from now on which files processes run.
    pub fn want_files(&self) {
        self.files.get_or_init(|| Files::new(self.host.proc.clone(), self.host.online_cpus()));
    }

    /// Starts the threads that read files of programs, where stacks of programs are wanted. The first scrape does as well.
    pub fn begin(&self) {
        if let Some(files) = self.files.get() {
            files.begin();
        }
    }

    /// What has changed is looked at again; to be called once at the beginning of each scrape. Waits for nobody.
    pub fn refresh(&self) {
        if let Some(kernel) = lock(&self.kernel).as_mut() {
            kernel.look_again();
        }
        if let Some(files) = self.files.get() {
            files.look();
        }
    }

    /// Names of a stack's functions, innermost first as the frames. Addresses mean something in `process` only, 0 for none.
    /// Symbols that are not read yet are waited for, about a second for all that ask together.
    pub fn names(&self, frames: &[Frame], process: u32) -> Names {
        let unknown = || frames.iter().map(|_| None).collect();
        let of_files = self.files.get().map_or_else(unknown, |files| files.names(frames, process));
        let mut kernel = lock(&self.kernel);
        let mut names = Names { list: Vec::with_capacity(frames.len()), are_final: true };
        for (depth, (frame, of_file)) in frames.iter().zip(of_files).enumerate() {
            // All but the innermost are places that a call returns to, which may be behind the function's end.
            let back = u64::from(depth > 0);
            names.list.push(match (frame, of_file) {
                (Frame::Kernel(address), _) => kernel
                    .as_mut()
                    .map_or_else(|| UNKNOWN.into(), |kernel| kernel.named(address.saturating_sub(back))),
                (_, Some((name, is_final))) => {
                    names.are_final &= is_final;
                    name
                }
                (_, None) => UNKNOWN.into(),
            });
        }
        names
    }

    /// From now on names are shown to nobody but whoever started this process: then a file whose process is gone is read
    /// whoever may read it.
    pub fn are_private(&self) {
        if let Some(files) = self.files.get() {
            files.are_private();
        }
    }

    /// Waits until the symbols are read that were lacking so far, for so long; whether some were.
    pub fn wait(&self, most: Duration) -> bool {
        self.files.get().is_some_and(|files| files.wait(most))
    }

    /// Files of programs that could not be read, where stacks of programs are wanted.
    pub fn families(&self) -> Option<MetricFamily> {
        self.files.get().map(Files::family)
    }
}

/// A symbol as a frame is shown: without what parts frames, and no longer than need be.
fn shown(symbol: &str) -> String {
    let mut name: String = short(symbol)
        .chars()
        .map(|character| if character == ';' || character.is_control() { ':' } else { character })
        .collect();
    if name.len() > LONGEST_NAME {
        let end = name.floor_char_boundary(LONGEST_NAME - '…'.len_utf8());
        name.truncate(end);
        name.push('…');
    }
    name
}
