//! Functions by address: of the kernel, and of the programs whose stacks were taken.
//!
//! A frame of a program is the build id of its file and an offset in that file. So stacks of several processes that run one
//! program are one stack, and a process may have ended by the time of a scrape. The kernel does not report which file has that
//! build id: `files` tracks the mappings of processes for that.
//!
//! Files and processes belong to others and may be made to do harm: see [ADR 29](../../docs/adr/0029-foreign-files.md).

mod cache;
mod files;
mod frame;
mod kernel;
pub mod mapping;
mod patience;
mod reader;
#[cfg(test)]
mod tests;
mod unread;

pub use frame::{Frame, frames};
pub(crate) use kernel::KernelSymbols;

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

/// Longest name of a function that is shown, bytes; longer ones are cut.
const LONGEST_NAME: usize = 200;
/// Stands for a stack that could not be kept.
pub const LOST: &str = "~lost";
/// Stands for an address without a known function.
const UNKNOWN: &str = "[unknown]";

/// The symbols of the kernel and of programs, shared by all labels.
#[derive(Debug)]
pub struct Symbols {
    host: Host,
    kernel: Mutex<Option<KernelSymbols>>,
    files: OnceLock<Files>,
}

/// The names of the functions of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackNames {
    /// Innermost first.
    pub list: Vec<String>,
    /// Whether they are final: symbols that are not read yet may change a name in the next scrape.
    pub are_final: bool,
}

impl Symbols {
    /// Makes it for a host; reads nothing yet.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), kernel: Mutex::new(None), files: OnceLock::new() }
    }

    /// Fails if kernel functions cannot be named.
    pub fn want_kernel(&self) -> Result<(), HostError> {
        let mut kernel = lock(&self.kernel);
        if kernel.is_none() {
            *kernel = Some(KernelSymbols::new(&self.host)?);
        }
        Ok(())
    }

    /// Requests the kernel's reports of mappings from now on.
    pub fn want_files(&self) {
        self.files.get_or_init(|| Files::new(self.host.proc.clone(), self.host.online_cpus()));
    }

    /// Starts the threads that read files of programs, if stacks of programs are wanted. The first scrape does so too.
    pub fn begin(&self) {
        if let Some(files) = self.files.get() {
            files.begin();
        }
    }

    /// Lets changed symbols be read again; called once at the beginning of each scrape. It does not wait.
    pub fn refresh(&self) {
        if let Some(kernel) = lock(&self.kernel).as_mut() {
            kernel.look_again();
        }
        if let Some(files) = self.files.get() {
            files.look();
        }
    }

    /// Names of a stack's functions, innermost first like the frames. `process` is the one to which addresses belong, 0 for
    /// none. Waits for symbols that are not read yet, about a second for all callers together.
    pub fn names(&self, frames: &[Frame], process: u32) -> StackNames {
        let unknown = || frames.iter().map(|_| None).collect();
        let of_files = self.files.get().map_or_else(unknown, |files| files.names(frames, process));
        let mut kernel = lock(&self.kernel);
        let mut names = StackNames { list: Vec::with_capacity(frames.len()), are_final: true };
        for (depth, (frame, of_file)) in frames.iter().zip(of_files).enumerate() {
            // All frames but the innermost are return addresses, which may be behind the end of the calling function.
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

    /// From now on only the user who started this process sees the names: then a file whose process has ended is read whoever
    /// owns it.
    pub fn are_private(&self) {
        if let Some(files) = self.files.get() {
            files.are_private();
        }
    }

    /// Waits until the requested symbols are read, at most this long; returns whether any were missing.
    pub fn wait(&self, most: Duration) -> bool {
        self.files.get().is_some_and(|files| files.wait(most))
    }

    /// The family of files of programs that could not be read, if stacks of programs are wanted.
    pub fn families(&self) -> Option<MetricFamily> {
        self.files.get().map(Files::family)
    }
}

/// A symbol as it is shown: without the character that separates frames, and at most [`LONGEST_NAME`] long.
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
