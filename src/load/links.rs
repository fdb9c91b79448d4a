//! The programs of a probe in the kernel, and their links: one list for all kinds of links.

use super::{
    LoadError, Maps, cpus,
    cpus::Cpus,
    files::{File, is_user},
    functions::{FunctionLinks, are_several},
    packets::{Look, Packets},
    single::Single,
    usdt::Usdt,
};
use crate::{
    kernel::Kernel,
    lock::lock,
    status::{Cause, Down, ProgramStatus},
    sys::{self, ProgInfo},
};
use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tapster_ebpf::{
    btf::Btf,
    point::{AttachPoint, LinkKind as Kind, Mechanism},
    program::{Code, Program},
    usdt::FileId,
};

/// The programs of a probe.
#[derive(Debug, Default)]
pub(super) struct ProgramLinks {
    now: Mutex<PresentPrograms>,
}

/// The present programs. A reader takes a copy, and so does not block attaching and detaching, which take time.
#[derive(Clone, Debug, Default)]
struct PresentPrograms {
    /// Programs in the kernel first, then those in files, the newest last.
    list: Vec<Arc<Loaded>>,
    /// The sums of programs that were removed.
    retired: HashMap<(AttachPoint, Mechanism), ProgInfo>,
}

/// One code in the kernel.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The index of the code in the compiled program.
    index: usize,
    pub(super) code: Code,
    /// The file in which it is attached, for a user program.
    pub(super) file: Option<(PathBuf, FileId)>,
    link: Link,
}

/// The kinds of links. A program's mechanism determines which it needs.
#[derive(Debug)]
enum Link {
    /// A raw tracepoint, a target that the program names by its BTF type, or a tracepoint.
    Single(Single),
    /// Timers and counters of CPUs.
    Cpus(Cpus),
    /// Functions of the kernel or of a user program, or the tracepoints of a pattern.
    Functions(FunctionLinks),
    /// USDT probes: places in a user program.
    Usdt(Usdt),
    /// Packets at an interface or of a cgroup.
    Packets(Packets),
}

impl Loaded {
    /// Loads a code.
    pub(super) fn new(
        index: usize,
        code: &Code,
        maps: &[BorrowedFd<'_>],
        types: Option<&Btf>,
    ) -> Result<Self, LoadError> {
        let begun = Instant::now();
        let link = match (code.mechanism.link, &code.usdt) {
            (_, Some(sites)) => Link::Usdt(Usdt::load(code, sites, maps)?),
            (Kind::KernelProbe { .. } | Kind::UserProbe { .. }, None) => {
                Link::Functions(FunctionLinks::load(code, maps)?)
            }
            (Kind::Tracepoint, None) if are_several(code) => {
                Link::Functions(FunctionLinks::load(code, maps)?)
            }
            (Kind::Packets(_), None) => Link::Packets(Packets::load(code, maps)?),
            (Kind::CpuEvents, None) => Link::Cpus(Cpus::load(code, maps)?),
            (Kind::RawTracepoint | Kind::Tracing(_) | Kind::Walk(_) | Kind::Tracepoint, None) => {
                Link::Single(Single::load(code, maps, types)?)
            }
        };
        let loaded = Self { index, code: code.clone(), file: None, link };
        let verified_insns = loaded.info().verified_insns;
        tracing::debug!(at = %code.at, elapsed = ?begun.elapsed(), verified_insns, "program loaded");
        Ok(loaded)
    }

    /// Attaches it, for a user program in this file.
    pub(super) fn attach(
        &mut self,
        file: Option<File>,
        maps: &[BorrowedFd<'_>],
        kernel: &Kernel,
    ) -> Result<(), LoadError> {
        match (&mut self.link, &file) {
            (Link::Single(single), _) => single.attach(&self.code, kernel)?,
            (Link::Cpus(cpus), _) => cpus.attach(&self.code, kernel)?,
            (Link::Packets(packets), _) => packets.attach(&self.code, kernel.proc())?,
            (Link::Functions(functions), _) => functions.attach(&self.code, maps, kernel)?,
            (Link::Usdt(usdt), Some(file)) => usdt.attach(&self.code, file)?,
            (Link::Usdt(_), None) => {
                unreachable!("`{}` is in no file: this is a bug in tapster", self.code.at)
            }
        }
        self.file = file.map(|file| (file.path, file.id));
        Ok(())
    }

    /// The file in which it is attached, for a user program.
    pub(super) fn file_id(&self) -> Option<FileId> {
        self.file.as_ref().map(|(_, id)| *id)
    }

    /// Detaches it; its counts in the kernel can still be read.
    pub(super) fn detach(&self) {
        match &self.link {
            Link::Functions(functions) => functions.detach(),
            Link::Usdt(usdt) => usdt.detach(),
            Link::Single(_) | Link::Cpus(_) | Link::Packets(_) => {
                unreachable!("`{}` is in no file: this is a bug in tapster", self.code.at)
            }
        }
    }

    /// Its program; of several, the first.
    fn program(&self) -> Option<BorrowedFd<'_>> {
        match &self.link {
            Link::Single(single) => Some(single.program()),
            Link::Cpus(cpus) => Some(cpus.program()),
            Link::Functions(functions) => functions.programs().next(),
            Link::Usdt(usdt) => Some(usdt.program()),
            Link::Packets(packets) => Some(packets.program()),
        }
    }

    /// The sums over its programs.
    fn info(&self) -> ProgInfo {
        match &self.link {
            Link::Functions(functions) => functions.info(),
            Link::Single(_) | Link::Cpus(_) | Link::Usdt(_) | Link::Packets(_) => {
                self.program().and_then(|program| sys::prog_info(program).ok()).unwrap_or_default()
            }
        }
    }

    fn functions(&self) -> Option<&FunctionLinks> {
        match &self.link {
            Link::Functions(functions) => Some(functions),
            Link::Single(_) | Link::Cpus(_) | Link::Usdt(_) | Link::Packets(_) => None,
        }
    }

    fn instructions(&self) -> u64 {
        u64::try_from(self.code.assembled.insns.len()).expect("programs are small")
    }

    fn status(&self, info: ProgInfo) -> ProgramStatus {
        let mechanism = self
            .functions()
            .map_or_else(|| self.code.mechanism.name.to_owned(), |functions| functions.mechanism(&self.code));
        ProgramStatus {
            attach_point: self.code.at.to_string(),
            mechanism,
            functions: self.code.sites.list.len(),
            instructions: self.instructions(),
            runs: info.runs,
            run_ns: info.run_ns,
            missed: info.missed,
        }
    }

    /// Identifies its sums.
    fn key(&self) -> (AttachPoint, Mechanism) {
        (self.code.at.clone(), self.code.mechanism)
    }
}

impl ProgramLinks {
    /// Loads all programs of a probe.
    pub(super) fn load(program: &Program, maps: &Maps, types: Option<&Btf>) -> Result<Self, LoadError> {
        let maps = maps.all();
        let mut session = FunctionLinks::session(program, &maps).into_iter().flatten();
        let mut list = Vec::new();
        for (index, code) in program.codes.iter().enumerate() {
            // One program for both codes of a pair, if the kernel has sessions.
            let loaded = match session.next() {
                Some(functions) => {
                    let link = Link::Functions(functions);
                    Loaded { index, code: code.clone(), file: None, link }
                }
                None => Loaded::new(index, code, &maps, types)?,
            };
            list.push(Arc::new(loaded));
        }
        Ok(Self { now: Mutex::new(PresentPrograms { list, retired: HashMap::new() }) })
    }

    /// Attaches all programs: the ends of pairs first, so that no start waits for an end that is not attached yet.
    pub(super) fn attach(&mut self, maps: &Maps, kernel: &Kernel) -> Result<(), LoadError> {
        let maps = maps.all();
        let list = &mut self.now.get_mut().unwrap_or_else(PoisonError::into_inner).list;
        for loaded in list.iter_mut().rev() {
            let loaded = Arc::get_mut(loaded).expect("what is not attached yet is asked for by nobody");
            let file = File::of(&loaded.code, kernel)?;
            loaded.attach(file, &maps, kernel)?;
        }
        // User programs in the order in which they were attached, those of the kernel as compiled.
        let (kernels, users): (Vec<_>, Vec<_>) = list.drain(..).partition(|loaded| !is_user(&loaded.code));
        list.extend(kernels.into_iter().chain(users.into_iter().rev()));
        Ok(())
    }

    /// Checks what can be checked without attaching: whether the timers and counters exist.
    pub(super) fn attempt(&self, kernel: &Kernel) -> Result<(), LoadError> {
        let all = self.all();
        let mut on_cpus = all.iter().filter(|loaded| matches!(loaded.link, Link::Cpus(_)));
        on_cpus.try_for_each(|loaded| cpus::attempt(&loaded.code, kernel))
    }

    /// The present programs.
    pub(super) fn all(&self) -> Vec<Arc<Loaded>> {
        lock(&self.now).list.clone()
    }

    /// Detaches programs and keeps their sums; others, which are attached, take their place.
    pub(super) fn exchange(&self, gone: &[Arc<Loaded>], come: Vec<Loaded>) {
        // Done before the lock is taken, because detaching many takes time.
        for loaded in gone {
            loaded.detach();
        }
        let mut now = lock(&self.now);
        let PresentPrograms { list, retired } = &mut *now;
        list.retain(|loaded| {
            let is_gone = gone.iter().any(|gone| Arc::ptr_eq(gone, loaded));
            if is_gone {
                add(retired.entry(loaded.key()).or_default(), loaded.info());
            }
            !is_gone
        });
        list.extend(come.into_iter().map(Arc::new));
    }

    /// Calls `with` on the kernel program of a code; of several, the first.
    pub(super) fn with_program<T>(&self, index: usize, with: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        let all = self.all();
        let loaded = all.iter().find(|loaded| loaded.index == index && !is_user(&loaded.code))?;
        loaded.program().map(with)
    }

    /// The state and sums of each program; of user programs one for each attach point, because each place may have a program.
    pub(super) fn status(&self) -> Vec<ProgramStatus> {
        let PresentPrograms { list, retired } = lock(&self.now).clone();
        let (users, kernels): (Vec<_>, Vec<_>) = list.iter().partition(|loaded| is_user(&loaded.code));
        let mut of_users: Vec<((AttachPoint, Mechanism), ProgramStatus, ProgInfo)> = Vec::new();
        for loaded in users {
            let key = loaded.key();
            let index = of_users.iter().position(|(known, ..)| *known == key).unwrap_or_else(|| {
                let before = retired.get(&key).copied().unwrap_or_default();
                of_users.push((key, loaded.status(before), before));
                of_users.len() - 1
            });
            let (_, status, sum) = &mut of_users[index];
            add(sum, loaded.info());
            *status = ProgramStatus {
                instructions: status.instructions.max(loaded.instructions()),
                runs: sum.runs,
                run_ns: sum.run_ns,
                missed: sum.missed,
                ..std::mem::take(status)
            };
        }
        let of_users = of_users.into_iter().map(|(_, status, _)| status);
        kernels.into_iter().map(|loaded| loaded.status(loaded.info())).chain(of_users).collect()
    }

    /// Functions of patterns that have no probe, in sentences.
    pub(super) fn left_out(&self, program: &Program) -> Vec<String> {
        let all = self.all();
        let refused = |loaded: &Arc<Loaded>| {
            let what = loaded.functions()?.refused(&loaded.code)?;
            Some(format!("{}: left out {what}", loaded.code.at))
        };
        let (users, kernels): (Vec<_>, Vec<_>) = all.iter().partition(|loaded| is_user(&loaded.code));
        let mut sentences = Vec::new();
        for (index, code) in program.codes.iter().enumerate() {
            sentences.extend(code.sites.left_out.iter().map(|what| format!("{}: left out {what}", code.at)));
            let own = kernels.iter().find(|loaded| loaded.index == index);
            sentences.extend(own.and_then(|loaded| refused(loaded)));
        }
        sentences.extend(users.into_iter().filter_map(refused));
        sentences
    }

    /// Whether any is attached in a user program by perf events, for which kernels require more rights than for links.
    pub(super) fn has_user_events(&self) -> bool {
        self.all().iter().filter(|loaded| is_user(&loaded.code)).any(|loaded| match &loaded.link {
            Link::Functions(functions) => functions.are_events(),
            Link::Usdt(usdt) => usdt.are_events(),
            Link::Single(_) | Link::Cpus(_) | Link::Packets(_) => false,
        })
    }

    /// Has all programs run that are attached to walks over objects.
    pub(super) fn walk(&self) -> io::Result<()> {
        self.all().iter().try_for_each(|loaded| match &loaded.link {
            Link::Single(single) => single.walk(),
            Link::Cpus(_) | Link::Functions(_) | Link::Usdt(_) | Link::Packets(_) => Ok(()),
        })
    }

    /// Whether any is on CPUs, which come and go.
    pub(super) fn has_cpu_events(&self) -> bool {
        self.all().iter().any(|loaded| matches!(loaded.link, Link::Cpus(_)))
    }

    /// Attaches timers and counters to CPUs that came online, and again to those that were offline meanwhile. Returns these
    /// CPUs, and the first error if some were refused.
    pub(super) fn follow_cpus(&self, online: &[u32]) -> (Vec<u32>, Option<LoadError>) {
        let (mut cpus, mut refused) = (Vec::new(), None);
        for loaded in self.all() {
            let Link::Cpus(own) = &loaded.link else { continue };
            let covered = own.follow(online);
            cpus.extend(covered.cpus);
            let error = covered.refused.map(|error| LoadError::not_attached(&loaded.code, &error));
            refused = refused.or(error);
        }
        cpus.sort_unstable();
        cpus.dedup();
        (cpus, refused)
    }

    /// Attaches programs for packets to interfaces and cgroups that have their names now. Returns to how many, and the first that
    /// is not attached.
    pub(super) fn follow_packets(&self, proc: &Path) -> (u64, Option<Down>) {
        let (mut attached, mut down) = (0, None);
        for loaded in self.all() {
            let Link::Packets(packets) = &loaded.link else { continue };
            let why = match packets.follow(&loaded.code, proc) {
                Look::Same => continue,
                Look::Attached => {
                    attached += 1;
                    continue;
                }
                Look::Gone(message) => Down { cause: Cause::Waiting, message },
                Look::Refused(error) => error.down(),
            };
            down.get_or_insert(why);
        }
        (attached, down)
    }

    /// Detaches programs from those of these places where only one can be. Returns whether any was.
    pub(super) fn give_way(&self, places: &[&AttachPoint]) -> bool {
        let mut any = false;
        for loaded in self.all().iter().filter(|loaded| places.contains(&&loaded.code.at)) {
            if let Link::Packets(packets) = &loaded.link {
                any |= packets.give_way(&loaded.code);
            }
        }
        any
    }

    /// Lets programs be attached again that gave way.
    pub(super) fn take_back(&self) {
        for loaded in self.all() {
            if let Link::Packets(packets) = &loaded.link {
                packets.take_back();
            }
        }
    }

    /// Whether any is at functions in kernel modules, which come and go.
    pub(super) fn are_in_a_module(&self) -> bool {
        self.all().iter().filter_map(|loaded| loaded.functions()).any(FunctionLinks::are_in_modules)
    }

    /// Whether any is for functions in one of these modules, or for functions in other modules to none of which it is attached.
    pub(super) fn are_in_modules(&self, modules: &[String]) -> bool {
        self.all().iter().filter_map(|loaded| loaded.functions()).any(|functions| functions.follow(modules))
    }

    /// Attaches to functions in kernel modules that changed, and to those to which attaching failed before. A failure does not
    /// stop the others; the first is returned.
    pub(super) fn follow_modules(
        &self,
        changed: &[String],
        maps: &Maps,
        kernel: &Kernel,
    ) -> Result<(), LoadError> {
        let maps = maps.all();
        let mut result = Ok(());
        for loaded in self.all().iter().rev() {
            if let Some(functions) = loaded.functions().filter(|functions| functions.follow(changed)) {
                result = result.and(functions.renew(&loaded.code, &maps, kernel));
            }
        }
        result
    }
}

fn add(sum: &mut ProgInfo, more: ProgInfo) {
    sum.runs += more.runs;
    sum.run_ns += more.run_ns;
    sum.missed += more.missed;
}
