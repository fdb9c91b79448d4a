//! Functions by address: of the kernel, and of whatever programs a stack was taken in.
//!
//! A program's frame comes as the build id of its file and a place in that file, so that stacks of several processes
//! that run one program are one stack, and a process need not be there any more when somebody asks. What the kernel does
//! not give is which file has that build id: `files` keeps track of what processes map.

mod files;
mod frame;
mod mapping;
#[cfg(test)]
mod tests;

pub use frame::{Frame, frames};

use crate::{
    elf::short,
    label::{Host, LabelError, ksym::Ksym},
};
use files::Files;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::Duration,
};

/// How often it is looked which files were mapped: before the kernel has no room for more to tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest name of a function that is shown; what is beyond is cut.
const LONGEST_NAME: usize = 200;
/// What stands for a frame of which nothing is known.
const UNKNOWN: &str = "[unknown]";

/// The symbols of the kernel and of programs, shared by all labels.
#[derive(Debug)]
pub struct Symbols {
    host: Host,
    kernel: Mutex<Option<Ksym>>,
    files: Mutex<Option<Files>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Symbols {
    /// Reads nothing yet.
    pub fn new(host: &Host) -> Self {
        Self { host: host.clone(), kernel: Mutex::new(None), files: Mutex::new(None) }
    }

    /// Makes sure that kernel functions can be named.
    pub fn want_kernel(&self) -> Result<(), LabelError> {
        let mut kernel = lock(&self.kernel);
        if kernel.is_none() {
            *kernel = Some(Ksym::new(&self.host)?);
        }
        Ok(())
    }

    /// Follows which files processes run, on a thread that ends with this.
    pub fn want_files(this: &Arc<Self>) {
        let mut files = lock(&this.files);
        if files.is_some() {
            return;
        }
        *files = Some(Files::new(this.host.proc.clone()));
        let weak: Weak<Self> = Arc::downgrade(this);
        let look = move || {
            while let Some(symbols) = weak.upgrade() {
                if let Some(files) = lock(&symbols.files).as_mut() {
                    files.look();
                }
                drop(symbols);
                thread::sleep(LOOK_EVERY);
            }
        };
        if let Err(error) = thread::Builder::new().name("symbols".into()).spawn(look) {
            tracing::warn!(%error, "new processes are looked for only when somebody scrapes");
        }
    }

    /// What has changed is looked at again; to be called once at the beginning of each scrape.
    pub fn refresh(&self) {
        if let Some(kernel) = lock(&self.kernel).as_mut() {
            kernel.look_again();
        }
        if let Some(files) = lock(&self.files).as_mut() {
            files.look();
        }
    }

    /// Names of a stack's functions, innermost first as the frames. Addresses mean something in `process` only, 0 for none.
    pub fn names(&self, frames: &[Frame], process: u32) -> Vec<String> {
        let mut kernel = lock(&self.kernel);
        let mut files = lock(&self.files);
        let mut names = Vec::with_capacity(frames.len());
        for (depth, frame) in frames.iter().enumerate() {
            // All but the innermost are places that a call returns to, which may be behind the function's end.
            let back = u64::from(depth > 0);
            let name = match frame {
                Frame::Kernel(address) => {
                    let name = kernel.as_mut().and_then(|kernel| kernel.name(address.saturating_sub(back)));
                    name.unwrap_or_else(|| format!("{address:#x}"))
                }
                Frame::File { build_id, offset } => files.as_mut().map_or_else(
                    || UNKNOWN.into(),
                    |files| files.name(build_id, offset.saturating_sub(back)),
                ),
                Frame::Address(address) => files
                    .as_mut()
                    .and_then(|files| files.name_in(process, address.saturating_sub(back)))
                    .unwrap_or_else(|| UNKNOWN.into()),
            };
            names.push(name);
        }
        if let Some(files) = files.as_mut() {
            files.forget_process();
        }
        names
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
