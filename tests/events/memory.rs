//! Waits for memory, as the kernel's own trace has them; page faults as the program is told of them.

use crate::{
    Contained, Window, assert_between, numbers, program,
    support::{
        cases::{Cases, Outcome, Skip},
        command::text,
        exporter::Tapster,
        fixture,
        trace::{Event, Step, Trace},
    },
    vmstat,
};
use std::{
    fs,
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// A cgroup with little memory.
pub(crate) struct LimitedMemory(PathBuf);

impl LimitedMemory {
    pub(crate) fn of_mib(mib: u64) -> Result<Self, Skip> {
        let controller = Path::new("/sys/fs/cgroup/memory");
        if !controller.join("memory.limit_in_bytes").exists() {
            return Err(Skip("there is no memory controller of version 1".into()));
        }
        let limited = Self(controller.join(format!("tapster-test-{}", std::process::id())));
        fs::create_dir(&limited.0).map_err(|error| Skip(format!("`{}`: {error}", limited.0.display())))?;
        fs::write(limited.0.join("memory.limit_in_bytes"), (mib << 20).to_string()).unwrap();
        Ok(limited)
    }

    /// The file that takes in processes.
    pub(crate) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// How many processes the kernel killed in it.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).unwrap().parse().unwrap()
    }
}

impl Drop for LimitedMemory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A file of which nothing is in memory.
fn cold_file(directory: &Path, mib: u64) -> PathBuf {
    let path = directory.join("cold");
    let mut file = fs::File::create(&path).unwrap();
    for _ in 0..mib {
        file.write_all(&vec![7; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
    // SAFETY: the descriptor is open, and no memory is passed.
    assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
    path
}

fn reclaim() -> Outcome {
    let memory = LimitedMemory::of_mib(30)?;
    let contained = Contained::new()?;
    let directory = tempfile::tempdir_in(fixture::repository().join("target")).unwrap();
    let file = cold_file(directory.path(), 200);
    let kinds = ["direct", "memcg"]
        .map(|kind| ["begin", "end"].map(|end| format!("vmscan/mm_vmscan_{kind}_reclaim_{end}")));
    let names: Vec<&str> = kinds.iter().flatten().map(String::as_str).collect();
    let first = Trace::of(&names)?;
    let tapster = contained.start("memory_reclaim");
    let second = Trace::of(&names)?;
    let read = format!("echo $$ >{} && exec cat {}", memory.procs().display(), file.display());
    let (window, reader) = Window::of(&tapster, || {
        let mut child = contained.shell(&read).stdout(std::process::Stdio::null()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    });
    let step = |event: &Event| {
        let key = format!("{} {}", event.tid, event.name.trim_end_matches("_begin").trim_end_matches("_end"));
        let label = if event.tid == reader { "reader" } else { "others" };
        Some(if event.name.ends_with("_begin") { Step::Start(key, label.into()) } else { Step::End(key) })
    };
    let (second, first) = (second.stop(), first.stop());
    let found = window.histogram("tapster_memory_reclaim_duration_seconds", &contained.labels(&[]));
    let bounds = window.bounds(&first, &second, step).remove("reader").expect("the reader waited");
    assert!(bounds.least.count >= 100, "{bounds:?}");
    assert_between("the reader", found.count(), (bounds.least.count, bounds.most.count), 0);
    bounds.assert_seconds("the reader", found.sum, 0);
    Ok(format!("{} in {:.4} s (trace {:.4} s)", found.count(), found.sum, bounds.most.seconds()))
}

fn compaction() -> Outcome {
    const COMPACT: &str = "/proc/sys/vm/compact_memory";
    const EVENTS: [&str; 2] = ["compaction/mm_compaction_begin", "compaction/mm_compaction_end"];
    if !Path::new(COMPACT).exists() {
        return Err(Skip("this kernel does not compact memory".into()));
    }
    let first = Trace::of(&EVENTS)?;
    let tapster = Tapster::start(&["--strict", "--probes", "memory_compaction"]);
    let second = Trace::of(&EVENTS)?;
    let (window, ()) = Window::of(&tapster, || {
        for _ in 0..3 {
            fs::write(COMPACT, "1").unwrap();
        }
    });
    let step = |event: &Event| {
        let key = event.tid.to_string();
        // `… mode=sync …`
        let mode = event.field("mode").to_owned();
        Some(if event.name == "mm_compaction_begin" { Step::Start(key, mode) } else { Step::End(key) })
    };
    let (second, first) = (second.stop(), first.stop());
    let mut figures = Vec::new();
    for (mode, bounds) in window.bounds(&first, &second, step) {
        let found = window.histogram("tapster_memory_compaction_duration_seconds", &[("mode", &mode)]);
        assert_between(&mode, found.count(), (bounds.least.count, bounds.most.count), 0);
        bounds.assert_seconds(&mode, found.sum, 0);
        let trace = bounds.most.seconds();
        figures.push(format!("{} {mode} in {:.4} s (trace {trace:.4} s)", found.count(), found.sum));
    }
    assert!(!figures.is_empty(), "nothing was compacted");
    Ok(figures.join(", "))
}

fn faults() -> Outcome {
    const PAGES: u64 = 200;
    let directory = tempfile::tempdir_in(fixture::repository().join("target")).unwrap();
    let program = program("ends", directory.path())?;
    let file = cold_file(directory.path(), PAGES.div_ceil(16));
    let contained = Contained::new()?;
    let tapster = contained.start("page_faults_major");
    let run = format!("exec {} faults {} {PAGES}", program.display(), file.display());
    let (window, said) = Window::of(&tapster, || text(&mut contained.shell(&run)));
    let own = u64::try_from(numbers(&said, "faults")[0][0]).unwrap();
    assert!(own >= PAGES / 2, "{said}");
    let found =
        window.count("tapster_major_page_faults_total", &contained.labels(&[("comm", "ends-faults")]));
    // The program itself may have to be fetched, before it has its name.
    let under_any = window.count("tapster_major_page_faults_total", &contained.labels(&[]));
    assert_between("faults", own, (found, under_any), 0);
    Ok(format!("{found} of {PAGES} pages, getrusage says {own}"))
}

fn page_cache() -> Outcome {
    const MIB: u64 = 8;
    let directory = tempfile::tempdir_in(fixture::repository().join("target")).unwrap();
    let file = cold_file(directory.path(), MIB);
    let contained = Contained::new()?;
    let trace = Trace::of(&["filemap/mm_filemap_add_to_page_cache"])?;
    let tapster = contained.start("container_page_cache");
    let (window, reader) = Window::of(&tapster, || {
        let read = format!("exec cat {}", file.display());
        let mut child = contained.shell(&read).stdout(std::process::Stdio::null()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    });
    let pages = |event: &Event| 1_u64 << event.field("order").parse::<u32>().unwrap_or(0);
    let of_reader = trace.stop().iter().filter(|event| event.tid == reader).map(pages).sum::<u64>();
    let found = window.count("tapster_container_page_cache_added_pages_total", &contained.labels(&[]));
    // Before it is in the container, the shell may have to be fetched itself.
    assert_between("pages", found, (MIB * 256, of_reader), 0);
    Ok(format!("{found} pages of a file of {}, the trace has {of_reader}", MIB * 256))
}

/// Memory of which every other page was given back, so that what is left is moved together when memory is compacted.
struct Holes(*mut libc::c_void, usize);

impl Holes {
    fn new(pages: usize) -> Self {
        let bytes = pages << 12;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: it asks for new memory.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let holes = Self(memory, bytes);
        // SAFETY: the memory is this value's own, and so many bytes.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.cast::<u8>(), bytes) };
        // A huge page would be moved as one, or not at all.
        advise(all, libc::MADV_NOHUGEPAGE);
        for (number, page) in all.chunks_exact_mut(4096).enumerate() {
            page[0] = 1 + u8::from(number % 2 == 1);
        }
        for page in all.chunks_exact_mut(4096).step_by(2) {
            advise(page, libc::MADV_DONTNEED);
        }
        holes
    }
}

impl Drop for Holes {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

fn advise(memory: &mut [u8], advice: i32) {
    // SAFETY: it is whole pages of anonymous memory of ours; what is given back reads as zeros.
    assert_eq!(unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), advice) }, 0);
}

fn migrations() -> Outcome {
    const COMPACT: &str = "/proc/sys/vm/compact_memory";
    const PAGES: usize = 32_768;
    if !Path::new(COMPACT).exists() {
        return Err(Skip("this kernel does not compact memory".into()));
    }
    let known = ["pgmigrate_success", "pgmigrate_fail"];
    let tapster = Tapster::start(&["--strict", "--probes", "page_migrations"]);
    let first = known.map(vmstat);
    let (window, inner) = Window::of(&tapster, || {
        let holes = Holes::new(PAGES);
        let before = known.map(vmstat);
        fs::write(COMPACT, "1").unwrap();
        let after = known.map(vmstat);
        drop(holes);
        [after[0] - before[0], after[1] - before[1]]
    });
    let last = known.map(vmstat);
    let mut figures = Vec::new();
    for (at, family) in ["page_migrations", "page_migration_failures"].into_iter().enumerate() {
        let found = window.count(&format!("tapster_{family}_total"), &[]);
        assert_between(family, found, (inner[at], last[at] - first[at]), 0);
        figures.push(format!("{found} {}", ["moved", "failed"][at]));
    }
    let compacted = window.count("tapster_page_migrations_total", &[("reason", "COMPACTION")]);
    assert!(compacted > 0 || inner[0] == 0, "{inner:?} pages were moved for another reason");
    if compacted == 0 {
        return Err(Skip("there was nothing to be moved".into()));
    }
    Ok(format!("{}, {compacted} of them for compaction", figures.join(", ")))
}

pub(crate) fn all(cases: &mut Cases) {
    cases.run("tasks that free memory, beside the kernel's trace", reclaim);
    cases.run("compaction, beside the kernel's trace", compaction);
    cases.run("major page faults, beside getrusage", faults);
    cases.run("pages that a container brings into the page cache, beside the kernel's trace", page_cache);
    cases.run("pages that are moved, beside /proc/vmstat", migrations);
}
