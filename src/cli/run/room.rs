//! Checks that this process can get the threads and files that serving needs, whatever happens to probes. A shortage is
//! reported before anything is attached, with the limit to raise.

use crate::sys;
use anyhow::{Context, bail};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

/// Threads that exist from the start: for a collection, the upkeep of probes, a check of certificates, a password.
pub(super) const READY: usize = 4;
/// These, two threads for pushing, and one that follows processes for stacks.
const THREADS: usize = READY + 3;
/// Files that the runtime, listening, and a scrape with a few connections need besides those of probes.
const FILES: usize = 24;
/// Fewer files than this are rarely enough for the shipped probes.
const FEW_FILES: u64 = 256;
/// Most connections.
const CONNECTIONS: usize = 256;
/// Threads that have started are never stopped: the kernel might refuse the next one.
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);
/// How long threads may take to start before the runtime goes on with fewer.
const BEGIN: Duration = Duration::from_secs(2);

/// Raises the limit of open files as far as possible.
pub(super) fn raise_files() -> Option<sys::FileLimit> {
    match sys::raise_file_limit() {
        Ok(limit) => {
            if limit.files < FEW_FILES {
                tracing::warn!(
                    "this process may have only {} files open, and probes may not come up for it: raise the limit with \
                     `LimitNOFILE=` of its unit, or `ulimit -Hn`",
                    limit.files
                );
            }
            Some(limit)
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            None
        }
    }
}

/// Files that are reserved for serving while probes are brought up, which might use all of them.
#[must_use]
#[derive(Debug)]
pub(super) struct Reserve(#[expect(dead_code, reason = "they are there to be let go")] Vec<OwnedFd>);

/// Checks that serving can get its threads and files; the files stay reserved, the threads end again.
pub(super) fn reserve() -> anyhow::Result<Reserve> {
    let files = files()?;
    let gate = Gate::default();
    thread::scope(|scope| {
        // The gate is opened in any case, because the scope waits for the threads.
        let _open = Opened(&gate);
        for number in 0..THREADS {
            let spawned = thread::Builder::new().spawn_scoped(scope, || gate.pass(FOR_EVER));
            spawned.with_context(|| short_of_threads(number))?;
        }
        Ok(Reserve(files))
    })
}

fn short_of_threads(number: usize) -> String {
    format!(
        "this process needs {THREADS} threads besides its first and may start only {number}: raise `LimitNPROC=` of its unit or \
         `ulimit -u`, or `pids.max` of its cgroup (`TasksMax=`, `podPidsLimit`)"
    )
}

/// Opens as many files as serving needs. Some libraries panic if they cannot open theirs.
fn files() -> anyhow::Result<Vec<OwnedFd>> {
    let is_short = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    let open = || match File::open("/dev/null") {
        Ok(file) => Ok(OwnedFd::from(file)),
        Err(error) if is_short(&error) => Err(error),
        // The rights for it are given up by now, or there are no devices.
        Err(_) => io::stderr().as_fd().try_clone_to_owned(),
    };
    let mut opened = Vec::with_capacity(FILES);
    for number in 0..FILES {
        match open() {
            Ok(file) => opened.push(file),
            Err(error) if is_short(&error) => {
                let limit = sys::file_limit().unwrap_or_default();
                let what = if error.raw_os_error() == Some(libc::EMFILE) {
                    format!(
                        "may have {limit} files open: raise the limit with `LimitNOFILE=` of its unit, or `ulimit -Hn`"
                    )
                } else {
                    "finds no more on this host: raise `fs.file-max`".to_owned()
                };
                bail!("this process needs {FILES} more files for serving, can open {number}, and {what}");
            }
            Err(error) => return Err(error).context("no file can be opened"),
        }
    }
    Ok(opened)
}

/// How many connections may be open at a time: half of the remaining files; scrapes need the others.
pub(super) fn connections() -> usize {
    let limit = sys::file_limit().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let connections = (limit.saturating_sub(open) / 2).clamp(1, CONNECTIONS);
    if connections < CONNECTIONS {
        tracing::warn!(
            connections,
            "fewer connections than {CONNECTIONS} can be open at a time, because this process may have {limit} files open and has \
             {open}: raise the limit with `LimitNOFILE=` of its unit, or `ulimit -Hn`"
        );
    }
    connections
}

/// A runtime on the calling thread, with at most `threads` threads for blocking work, of which `ready` start at once. If the
/// system refuses more threads later, work waits for the existing ones.
pub(super) fn runtime(threads: usize, ready: usize) -> anyhow::Result<Runtime> {
    drop(files()?);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(threads)
        .thread_keep_alive(FOR_EVER)
        .build()
        .context("the runtime cannot be set up")?;
    let gate = Arc::<Gate>::default();
    let begun = Instant::now();
    for number in 0..ready {
        let passing = gate.clone();
        let spawn = || runtime.spawn_blocking(move || passing.pass(BEGIN));
        // It panics if there is no thread at all. The panic of the first attempt is silenced, because it becomes the error that
        // is returned.
        if number == 0 {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let spawned = catch_unwind(AssertUnwindSafe(spawn));
            std::panic::set_hook(hook);
            spawned
                .map_err(|_| io::Error::from_raw_os_error(libc::EAGAIN))
                .with_context(|| short_of_threads(0))?;
        } else {
            spawn();
        }
    }
    // Each must be on a thread of its own.
    while gate.waiting.load(Ordering::Acquire) < ready && begun.elapsed() < BEGIN {
        thread::sleep(Duration::from_millis(1));
    }
    gate.open();
    Ok(runtime)
}

/// Holds threads until all of them have started.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

struct Opened<'g>(&'g Gate);

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn pass(&self, patience: Duration) {
        self.waiting.fetch_add(1, Ordering::Release);
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.opened.wait_timeout_while(is_open, patience, |is_open| !*is_open);
    }
}
