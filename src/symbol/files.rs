//! Files by build id, learnt from what processes map, and their symbols. What the kernel tells is taken in here at once; what has
//! to be read, others read ([`Reader`]), and whoever asks waits for it no longer than there is patience.

use super::{
    frame::Frame,
    known::{Job, Key, Of, Part, Place, kept, padded},
    lock,
    mapping::Inode,
    reader::Reader,
};
use crate::{
    family::MetricFamily,
    sys::{Mapped, MappedFile, Mappings, MappingsWaiter},
};
use aya::util::online_cpus;
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

/// How often it is looked which files were mapped, where the kernel does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Least time between two looks at what the kernel tells.
const PAUSE: Duration = Duration::from_millis(10);

/// Files, and what is known of them.
#[derive(Debug)]
pub(super) struct Files {
    reader: Arc<Reader>,
    told: Arc<Mutex<Option<Mappings>>>,
    /// Whether threads look and read; `None` as long as nobody wanted them.
    begun: Mutex<Option<bool>>,
}

impl Files {
    /// Begins to have the kernel tell what processes map. Nothing is read before [`Files::begin`].
    pub(super) fn new(proc: PathBuf) -> Self {
        let cpus = online_cpus().map_err(|(_, error)| error);
        let told = cpus.and_then(|cpus| Mappings::open(&cpus));
        if let Err(error) = &told {
            tracing::warn!(%error, "programs that run for less than a second may stay unknown in stacks");
        }
        Self {
            reader: Arc::new(Reader::new(proc)),
            told: Arc::new(Mutex::new(told.ok())),
            begun: Mutex::default(),
        }
    }

    /// Starts the threads that look and read, if they are not there.
    pub(super) fn begin(&self) {
        let mut begun = lock(&self.begun);
        if *begun == Some(true) {
            return;
        }
        let started = self.start();
        if let (Err(error), None) = (&started, *begun) {
            tracing::warn!(%error, "functions of programs are not named until there is a thread to read them");
        }
        *begun = Some(started.is_ok());
    }

    fn start(&self) -> io::Result<()> {
        let reader = self.reader.clone();
        thread::Builder::new().name("symbols".into()).spawn(move || reader.work())?;
        self.reader.ask(&mut self.reader.known(), Job::All);
        let (reader, told) = (self.reader.clone(), self.told.clone());
        let waiter = lock(&told).as_ref().and_then(|told| told.waiter().ok());
        let look = move || {
            while !reader.known().is_over {
                // At once: a process may end in a moment.
                wait(waiter.as_ref());
                look(&reader, &told);
                thread::sleep(PAUSE);
            }
        };
        if let Err(error) = thread::Builder::new().name("mappings".into()).spawn(look) {
            tracing::warn!(%error, "new processes are looked for only when somebody scrapes");
        }
        Ok(())
    }

    /// Takes in which files were mapped since the last time.
    pub(super) fn look(&self) {
        self.begin();
        look(&self.reader, &self.told);
    }

    /// Names of the frames of programs, and whether each stays so. What is not known yet is waited for a little.
    pub(super) fn names(&self, frames: &[Frame], process: u32) -> Vec<Option<(String, bool)>> {
        let mut known = self.reader.known();
        loop {
            let lacking = known.lacking(frames, process);
            for job in &lacking {
                self.reader.ask(&mut known, *job);
            }
            let begun = Instant::now();
            let left = known.patience.left(begun);
            if lacking.is_empty() || left.is_zero() || known.is_over {
                break;
            }
            let waited = self.reader.answered.wait_timeout(known, left);
            (known, _) = waited.unwrap_or_else(PoisonError::into_inner);
            known.patience.spend(begun.elapsed());
        }
        frames.iter().enumerate().map(|(depth, frame)| known.name(frame, depth, process)).collect()
    }

    /// From now on what is named is shown to nobody but whoever started this process.
    pub(super) fn are_private(&self) {
        self.reader.is_private.store(true, Ordering::Relaxed);
    }

    /// Waits until what names lack is read, for so long; whether something was lacking.
    pub(super) fn wait(&self, most: Duration) -> bool {
        let known = self.reader.known();
        let was_lacking = known.is_lacking();
        let waited = self.reader.answered.wait_timeout_while(known, most, |known| known.is_lacking());
        drop(waited);
        was_lacking
    }

    /// How many files could not be read.
    pub(super) fn family(&self) -> MetricFamily {
        self.reader.known().unread.family()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.reader.end();
    }
}

fn wait(waiter: Option<&MappingsWaiter>) {
    if waiter.is_none_or(|waiter| waiter.wait(LOOK_EVERY).is_err()) {
        thread::sleep(LOOK_EVERY);
    }
}

fn look(reader: &Reader, told: &Mutex<Option<Mappings>>) {
    let mut told = lock(told);
    let Some(told) = told.as_mut() else {
        return reader.ask(&mut reader.known(), Job::New);
    };
    let mut mapped = Vec::new();
    let lost = told.read(|one| mapped.push(one));
    if mapped.is_empty() && !lost {
        return;
    }
    let mut known = reader.known();
    for Mapped { process, from, to, offset, file, path } in mapped {
        let (key, is_looked_at) = match file {
            MappedFile::BuildId(id) => (Key::BuildId(padded(&id)), true),
            MappedFile::Inode(device, number) => {
                let inode = Inode { device, number };
                let looked_at = known.looked_at(inode);
                (looked_at.unwrap_or(Key::Inode(inode)), looked_at.is_some())
            }
        };
        known.add(key, Place { process, from, to, path: kept(path), seen: None });
        known.remember(process, Part { from, to, offset, of: Of::File(key) });
        if !is_looked_at {
            // Whether it has a build id has to be read.
            reader.ask(&mut known, Job::Process(process));
        } else if known.is_unseen(key) {
            reader.ask(&mut known, Job::See(key));
        }
    }
    if lost {
        reader.ask(&mut known, Job::All);
    }
}
