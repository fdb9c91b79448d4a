//! Files by build id, learnt from the mappings of processes, and their symbols. Reports of the kernel are read here without
//! delay; files are read by [`SymbolReader`], and a scrape waits for it only as long as its patience lasts.

use super::{
    cache::{FileMapping, Job, MappedRange, RangeContent, SymbolsKey, UnidentifiedFile, kept, padded},
    frame::Frame,
    lock,
    mapping::Inode,
    reader::SymbolReader,
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

/// How often CPUs that came online are opened for reports of mappings.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Least time between two reads of the kernel's reports.
const PAUSE: Duration = Duration::from_millis(10);

/// Files, and what is known about them.
#[derive(Debug)]
pub(super) struct Files {
    reader: Arc<SymbolReader>,
    told: Arc<Mutex<Option<Mappings>>>,
    /// The file in sysfs that lists the CPUs that are online.
    online: PathBuf,
    /// Whether the threads run; `None` before the first attempt to start them.
    begun: Mutex<Option<bool>>,
}

impl Files {
    /// Requests the kernel's reports of mappings. Nothing is read before [`Files::begin`].
    pub(super) fn new(proc: PathBuf, online: PathBuf) -> Self {
        let told = sys::cpu_list(&online).and_then(|cpus| Mappings::open(&cpus));
        if let Err(error) = &told {
            tracing::warn!(%error, "programs that run for less than a second may stay unknown in stacks");
        }
        Self {
            reader: Arc::new(SymbolReader::new(proc)),
            told: Arc::new(Mutex::new(told.ok())),
            online,
            begun: Mutex::default(),
        }
    }

    /// Starts the threads that read, unless they run.
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
        self.reader.ask(&mut self.reader.cache(), Job::All);
        let (reader, told, online) = (self.reader.clone(), self.told.clone(), self.online.clone());
        let waiter = |told: &Mutex<Option<Mappings>>| lock(told).as_ref()?.waiter().ok();
        let mut waits = waiter(&told);
        let look = move || {
            let mut followed = Instant::now();
            let mut refused = LastRefusal::default();
            while !reader.cache().is_over {
                // Reports are read without delay, because a process may end in a moment.
                wait(waits.as_ref());
                look(&reader, &told);
                if followed.elapsed() >= LOOK_EVERY {
                    followed = Instant::now();
                    if follow(&told, &online, &mut refused) {
                        waits = waiter(&told);
                        // The kernel did not report what was mapped on a new CPU meanwhile.
                        reader.ask(&mut reader.cache(), Job::All);
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

    /// Reads which files were mapped since the last call.
    pub(super) fn look(&self) {
        self.begin();
        look(&self.reader, &self.told);
    }

    /// Names of the frames of programs, and whether each is final. Waits a little for symbols that are not read yet.
    pub(super) fn names(&self, frames: &[Frame], process: u32) -> Vec<Option<(String, bool)>> {
        let mut cache = self.reader.cache();
        loop {
            let lacking = cache.lacking(frames, process);
            for job in &lacking {
                self.reader.ask(&mut cache, *job);
            }
            let begun = Instant::now();
            let left = cache.patience.left(begun);
            if lacking.is_empty() || left.is_zero() || cache.is_over {
                break;
            }
            let waited = self.reader.answered.wait_timeout(cache, left);
            (cache, _) = waited.unwrap_or_else(PoisonError::into_inner);
            cache.patience.spend(begun.elapsed());
        }
        frames.iter().enumerate().map(|(depth, frame)| cache.name(frame, depth, process)).collect()
    }

    /// From now on only the user who started this process sees the names.
    pub(super) fn are_private(&self) {
        self.reader.is_private.store(true, Ordering::Relaxed);
    }

    /// Waits until the requested symbols are read, at most this long; returns whether any were missing.
    pub(super) fn wait(&self, most: Duration) -> bool {
        let cache = self.reader.cache();
        let was_lacking = cache.is_lacking();
        let waited = self.reader.answered.wait_timeout_while(cache, most, |cache| cache.is_lacking());
        drop(waited);
        was_lacking
    }

    /// The family that counts files that could not be read.
    pub(super) fn family(&self) -> MetricFamily {
        self.reader.cache().unread.family()
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

/// The last refusal, so that it is logged once and not each second.
#[derive(Debug, Default)]
struct LastRefusal(Option<String>);

impl LastRefusal {
    /// Whether there is an error, and it differs from the last one.
    fn is_news(&mut self, error: Option<&io::Error>) -> bool {
        let error = error.map(ToString::to_string);
        let is_news = error.is_some() && error != self.0;
        self.0 = error;
        is_news
    }
}

/// Opens CPUs that came online for reports of mappings; returns whether there are any.
fn follow(told: &Mutex<Option<Mappings>>, online: &Path, refused: &mut LastRefusal) -> bool {
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

fn look(reader: &SymbolReader, told: &Mutex<Option<Mappings>>) {
    let mut told = lock(told);
    let Some(told) = told.as_mut() else {
        return reader.ask(&mut reader.cache(), Job::New);
    };
    let mut mapped = Vec::new();
    let lost = told.read(|one| mapped.push(one));
    if mapped.is_empty() && !lost {
        return;
    }
    let mut cache = reader.cache();
    let told = SystemTime::now();
    for Mapped { process, from, to, offset, file, path } in mapped {
        let path = kept(path);
        let of = match file {
            MappedFile::BuildId(id) => {
                let key = SymbolsKey::BuildId(padded(&id));
                cache.add(key, FileMapping { process, from, to, path, seen: None });
                if cache.is_unseen(key) {
                    reader.ask(&mut cache, Job::See(key));
                }
                RangeContent::File(key)
            }
            // Another file may have had this inode number before.
            MappedFile::Inode(device, number) => {
                reader.ask(&mut cache, Job::Process(process));
                RangeContent::Unseen(UnidentifiedFile { inode: Inode { device, number }, path, told })
            }
        };
        cache.remember(process, MappedRange { from, to, offset, of }, told);
    }
    if lost {
        reader.ask(&mut cache, Job::All);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_said_once() {
        let mut refused = LastRefusal::default();
        let (one, other) = (io::Error::other("one"), io::Error::other("other"));
        let errors = [Some(&one), Some(&one), Some(&other), Some(&one), None, None, Some(&one)];
        let said = errors.map(|error| refused.is_news(error));
        assert_eq!(said, [true, false, true, true, false, false, true]);
    }
}
