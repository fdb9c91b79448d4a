//! Files by build id, learnt from what processes map, and their symbols. What the kernel tells is taken in here at once; what has
//! to be read, others read ([`Reader`]), and whoever asks waits for it no longer than there is patience.

use super::{
    frame::Frame,
    known::{Job, Key, Of, Part, Place, Unseen, kept, padded},
    lock,
    mapping::Inode,
    reader::Reader,
};
use crate::{
    family::MetricFamily,
    sys::{self, Mapped, MappedFile, Mappings, MappingsWaiter},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
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
    /// Which CPUs are online: a file of sysfs.
    online: PathBuf,
    /// Whether threads look and read; `None` as long as nobody wanted them.
    begun: Mutex<Option<bool>>,
}

impl Files {
    /// Begins to have the kernel tell what processes map. Nothing is read before [`Files::begin`].
    pub(super) fn new(proc: PathBuf, online: PathBuf) -> Self {
        let told = sys::cpu_list(&online).and_then(|cpus| Mappings::open(&cpus));
        if let Err(error) = &told {
            tracing::warn!(%error, "programs that run for less than a second may stay unknown in stacks");
        }
        Self {
            reader: Arc::new(Reader::new(proc)),
            told: Arc::new(Mutex::new(told.ok())),
            online,
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
        let (reader, told, online) = (self.reader.clone(), self.told.clone(), self.online.clone());
        let waiter = |told: &Mutex<Option<Mappings>>| lock(told).as_ref()?.waiter().ok();
        let mut waits = waiter(&told);
        let look = move || {
            let mut followed = Instant::now();
            let mut refused = Refused::default();
            while !reader.known().is_over {
                // At once: a process may end in a moment.
                wait(waits.as_ref());
                look(&reader, &told);
                if followed.elapsed() >= LOOK_EVERY {
                    followed = Instant::now();
                    if follow(&told, &online, &mut refused) {
                        waits = waiter(&told);
                        // What was mapped on a CPU meanwhile was not told.
                        reader.ask(&mut reader.known(), Job::All);
                    }
                }
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

/// Why something was refused the last time, so that it is said once and not each second.
#[derive(Debug, Default)]
struct Refused(Option<String>);

impl Refused {
    /// Whether there is an error, and another one than the last time.
    fn is_news(&mut self, error: Option<&io::Error>) -> bool {
        let error = error.map(ToString::to_string);
        let is_news = error.is_some() && error != self.0;
        self.0 = error;
        is_news
    }
}

/// Has CPUs that came online tell what is mapped; whether there are any.
fn follow(told: &Mutex<Option<Mappings>>, online: &Path, refused: &mut Refused) -> bool {
    let mut told = lock(told);
    let Some(told) = told.as_mut() else { return false };
    let followed = sys::cpu_list(online).and_then(|online| told.follow(&online));
    if refused.is_news(followed.as_ref().err())
        && let Err(error) = &followed
    {
        tracing::warn!(%error, "programs on processors that come online may stay unknown in stacks");
    }
    followed.unwrap_or(false)
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
    let told = SystemTime::now();
    for Mapped { process, from, to, offset, file, path } in mapped {
        let path = kept(path);
        let of = match file {
            MappedFile::BuildId(id) => {
                let key = Key::BuildId(padded(&id));
                known.add(key, Place { process, from, to, path, seen: None });
                if known.is_unseen(key) {
                    reader.ask(&mut known, Job::See(key));
                }
                Of::File(key)
            }
            // What has this number may be another file than the one that had it before.
            MappedFile::Inode(device, number) => {
                reader.ask(&mut known, Job::Process(process));
                Of::Unseen(Unseen { inode: Inode { device, number }, path, told })
            }
        };
        known.remember(process, Part { from, to, offset, of }, told);
    }
    if lost {
        reader.ask(&mut known, Job::All);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_said_once() {
        let mut refused = Refused::default();
        let (one, other) = (io::Error::other("one"), io::Error::other("other"));
        let errors = [Some(&one), Some(&one), Some(&other), Some(&one), None, None, Some(&one)];
        let said = errors.map(|error| refused.is_news(error));
        assert_eq!(said, [true, false, true, true, false, false, true]);
    }
}
