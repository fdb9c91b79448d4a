//! A kernel that does not run here, as far as files describe it: the target of `tapster check --btf`.
//!
//! Its BTF tells types, functions and tracepoints, but not all of any of them. Where that is not enough for an answer, the
//! question is kept as a doubt: a probe that does not compile because of it may compile on the kernel. A copy of a host's own
//! files (`sys/kernel/btf`, `sys/kernel/tracing`, `proc/kallsyms`, `proc/sys/kernel/osrelease`) leaves no doubt of what it has.

mod archive;
mod files;
mod formats;
mod packed;
#[cfg(test)]
mod tests;

pub use files::KernelSource;

use super::{Kernel, Missing, Tracefs, function::no_trampolines};
use crate::host::Host;
use formats::EventFormat;
use packed::KernelTypes;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
    path::Path,
};
use tapster_ebpf::{
    attach::{Arch, Functions, Site, SiteRequest, Sites, Target, UnknownSymbol, UserFunctions},
    btf::{Btf, BtfError, BtfKind},
    diagnostic::{Diagnostic, near},
    glob::{Glob, is_pattern},
    insn::{Helper, Insn},
    probe::{KernelVersion, Root},
    program::Program,
    tracefs::Tracepoints,
    usdt,
};

/// Since then BTF has the names of tracepoints (`btf_trace_NAME`) and programs by BTF attach to functions.
const TRACING: KernelVersion = KernelVersion(5, 5, 0);
/// The number of CPUs for which programs are made: it decides how many copies of a row there are, not whether a probe compiles.
const CPUS: u32 = 128;

/// A kernel that does not run here.
pub struct OfflineKernel {
    /// Its release, or the name of its file.
    pub name: String,
    /// Its version.
    pub version: KernelVersion,
    arch: Arch,
    btf: Btf,
    /// Names from the BTF of modules; `None` if there is none.
    modules: Option<ModuleNames>,
    /// The files that a host with this kernel has.
    host: Option<Kernel>,
    /// Questions that could not be answered since [`Self::forget`].
    doubts: RefCell<Vec<Missing>>,
    /// Attach points of which not all arguments are known.
    partly: RefCell<BTreeSet<String>>,
    /// What was believed since then.
    beliefs: RefCell<BTreeSet<String>>,
    /// Whether the category of a tracepoint was believed.
    believes_categories: Cell<bool>,
}

/// Names that modules have.
#[derive(Debug, Default)]
struct ModuleNames {
    functions: BTreeSet<String>,
    tracepoints: BTreeSet<String>,
}

impl std::fmt::Debug for OfflineKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OfflineKernel").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is said of a kernel besides its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelHints {
    /// Its version.
    pub version: Option<KernelVersion>,
    /// Its processor.
    pub arch: Option<Arch>,
}

fn missing(message: impl Into<String>, hint: impl Into<Option<String>>) -> Missing {
    Missing { message: message.into(), hint: hint.into() }
}

fn refused(path: &Path, (message, hint): packed::FileRefusal) -> Missing {
    missing(format!("`{}`: {message}", path.display()), hint)
}

/// The places that files and directories mean.
pub fn places(paths: &[impl AsRef<Path>]) -> Result<Vec<KernelSource>, Missing> {
    let mut found = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        found.extend(files::places(path).map_err(|refusal| refused(path, refusal))?);
    }
    Ok(found)
}

/// The kernels that a place describes, or why it describes none.
pub fn read(place: &KernelSource, said: KernelHints) -> Vec<Result<OfflineKernel, Missing>> {
    let path = place.path();
    let one = |found: Result<OfflineKernel, packed::FileRefusal>| {
        vec![found.map_err(|refusal| refused(path, refusal))]
    };
    match place {
        KernelSource::File(file) => all(files::types(file), path, said),
        KernelSource::Types(directory) => {
            one(files::types(&directory.join("vmlinux")).and_then(|mut all| {
                let types = all.pop().filter(|_| all.is_empty()).unwrap_or_default();
                OfflineKernel::of(types, path, Some(files::modules(directory)?), said)
            }))
        }
        KernelSource::Host(directory) => one(OfflineKernel::of_host(directory, said)),
    }
}

/// The kernels in the bytes of a file with this path.
pub fn of_bytes(path: &Path, bytes: Vec<u8>, said: KernelHints) -> Vec<Result<OfflineKernel, Missing>> {
    all(packed::types(bytes), path, said)
}

fn all(
    found: Result<Vec<KernelTypes>, packed::FileRefusal>,
    path: &Path,
    said: KernelHints,
) -> Vec<Result<OfflineKernel, Missing>> {
    match found {
        Ok(all) => {
            let described = |types| OfflineKernel::of(types, path, None, said);
            all.into_iter().map(|types| described(types).map_err(|refusal| refused(path, refusal))).collect()
        }
        Err(refusal) => vec![Err(refused(path, refusal))],
    }
}

impl OfflineKernel {
    fn of_host(directory: &Path, said: KernelHints) -> Result<Self, packed::FileRefusal> {
        let types = directory.join("sys/kernel/btf");
        let host = Host {
            proc: directory.join("proc"),
            sys: directory.join("sys"),
            // They are read once, here.
            btf: Some(directory.join("none")),
            ..Host::default()
        };
        let release = fs::read_to_string(host.proc.join("sys/kernel/osrelease")).ok();
        let release = release.map(|release| release.trim().to_owned()).filter(|release| !release.is_empty());
        let modules = Some(files::modules(&types)?).filter(|modules| !modules.is_empty());
        let bytes = files::types(&types.join("vmlinux"))?.pop().unwrap_or_default();
        let mut described = Self::of(KernelTypes { release, ..bytes }, directory, modules, said)?;
        described.host = Some(Kernel::detect(&host));
        Ok(described)
    }

    fn of(
        types: KernelTypes,
        path: &Path,
        modules: Option<Vec<Vec<u8>>>,
        said: KernelHints,
    ) -> Result<Self, packed::FileRefusal> {
        let KernelTypes { name, bytes, arch, release } = types;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let shown = name.clone().unwrap_or_else(|| file.clone().into_owned());
        let plain = files::plain(&shown).to_owned();
        let of_member = |(message, hint): packed::FileRefusal| match &name {
            Some(name) => (format!("`{name}` in it: {message}"), hint),
            None => (message, hint),
        };
        let btf = parse(bytes).map_err(of_member)?;
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let version = said
            .version
            .or_else(|| KernelVersion::parse(release.as_deref()?))
            .or_else(|| files::version(&plain))
            .or_else(|| files::version(&parent));
        let Some(version) = version else {
            let hint = "say it by `--kernel VERSION`, or name the file after it, such as 6.1.0-18-amd64.btf";
            return Err(of_member(("which version the kernel has is not known".into(), Some(hint.into()))));
        };
        if version >= TRACING && btf.names(BtfKind::Func).next().is_none() {
            let hint = "it may be reduced by a tool such as `bpftool gen min_core_btf`: give the whole BTF";
            return Err(of_member(("its BTF has types and no functions".into(), Some(hint.into()))));
        }
        let found = arch.or_else(|| processor(&btf));
        let arch = match (said.arch, found) {
            (Some(said), Some(found)) if said != found => {
                let message = format!("its kernel is for {}, and not for {}", word(found), word(said));
                return Err(of_member((message, Some("leave out `--arch`".into()))));
            }
            (said, found) => said.or(found).or_else(|| files::arch(&path.join(&shown).to_string_lossy())),
        };
        let Some(arch) = arch else {
            let hint = "say it by `--arch x86_64` or `--arch arm64`; tapster runs on no other";
            return Err(of_member((
                "which processor the kernel is for is not known".into(),
                Some(hint.into()),
            )));
        };
        let modules = modules.map(|all| ModuleNames::read(&all, &btf)).transpose().map_err(of_member)?;
        Ok(Self {
            name: release.unwrap_or(plain),
            version,
            arch,
            btf,
            modules,
            host: None,
            doubts: RefCell::default(),
            partly: RefCell::default(),
            beliefs: RefCell::default(),
            believes_categories: Cell::new(false),
        })
    }

    /// Its types.
    pub fn types(&self) -> &Btf {
        &self.btf
    }

    /// The kernel as the compiler sees it.
    pub fn target(&self) -> Target<'_> {
        Target {
            btf: Some(&self.btf),
            tracepoints: self,
            kernel: self.version,
            possible_cpus: self.host.as_ref().map_or(CPUS, |host| host.possible_cpus),
            arch: self.arch,
            functions: self,
            command: false,
        }
    }

    /// Begins with another probe: doubts and beliefs are of those before.
    pub fn forget(&self) {
        self.doubts.borrow_mut().clear();
        self.partly.borrow_mut().clear();
        self.beliefs.borrow_mut().clear();
    }

    /// Whether the category of any tracepoint was believed.
    pub fn believes_categories(&self) -> bool {
        self.believes_categories.get()
    }

    /// Questions that could not be answered, for a probe that compiles without their answers.
    pub fn doubts(&self) -> Vec<String> {
        self.doubts.borrow().iter().map(|doubt| doubt.message.clone()).collect()
    }

    /// What was taken as it is written, because nothing of the kernel tells it.
    pub fn beliefs(&self) -> Vec<String> {
        self.beliefs.borrow().iter().cloned().collect()
    }

    /// Why a probe with these errors may compile on the kernel itself, if it may: an event that is in doubt has its part in them, and
    /// others follow from it.
    pub fn doubt_of(&self, errors: &[Diagnostic]) -> Option<String> {
        let doubts = self.doubts.borrow();
        let mut known = errors.iter().map(|error| &error.message);
        if let Some(message) = known.find(|message| doubts.iter().any(|doubt| doubt.message == **message)) {
            return Some(message.clone());
        }
        let listed =
            |error: &&Diagnostic| error.hint.as_deref().is_some_and(|hint| hint.contains(formats::ELEMENTS));
        if let Some(error) = errors.iter().find(listed) {
            return Some(format!("{}: BTF does not tell of what it is a list", error.message));
        }
        let partly = self.partly.borrow();
        let lacks = |point: &&String| {
            let beginning = format!("`{point}` has no argument");
            errors.iter().any(|error| error.message.starts_with(&beginning))
        };
        let point = partly.iter().find(lacks)?;
        Some(format!("not all arguments of `{point}` are told by BTF"))
    }

    /// Why the kernel does not take a program, as far as that can be told without its verifier.
    pub fn refuses(&self, program: &Program) -> Option<String> {
        let calls =
            program.codes.iter().flat_map(|code| &code.assembled.insns).filter_map(|insn| match insn {
                Insn::Call(helper) => Some(*helper),
                _ => None,
            });
        // Where there are no cookies, the loader puts a function's number in the place of this call.
        let lacking =
            calls.into_iter().find(|helper| *helper != Helper::AttachCookie && !self.has(*helper))?;
        let number = lacking as i32;
        Some(format!(
            "its programs call a helper that this kernel does not have, `{lacking:?}` (number {number})"
        ))
    }

    /// Whether the kernel has a helper: by its own list, or by its version.
    fn has(&self, helper: Helper) -> bool {
        match self.btf.find("bpf_func_id", BtfKind::Enum) {
            Some(id) => self.btf.enumerators(id).iter().any(|(_, number)| *number == helper as i64),
            None => {
                helper.since().is_none_or(|(major, minor)| self.version >= KernelVersion(major, minor, 0))
            }
        }
    }

    /// Keeps a question without an answer.
    fn doubt(&self, missing: Missing) -> Missing {
        self.doubts.borrow_mut().push(missing.clone());
        missing
    }

    fn tracefs(&self) -> Option<&Tracefs> {
        self.host.as_ref()?.tracefs.as_ref().ok()
    }

    /// The files of a host, if they have the names of functions.
    fn named(&self) -> Option<&Kernel> {
        self.host.as_ref().filter(|host| host.function_names().is_some())
    }

    /// Whether the kernel has what this file of tracefs is for, or a type of its code. Some files can be seen and not be copied.
    fn shows(&self, file: &str, structure: &str) -> bool {
        let has_type = || self.btf.find(structure, BtfKind::Struct).is_some();
        self.tracefs().is_some_and(|tracefs| tracefs.has(file)) || has_type()
    }

    fn has_function(&self, name: &str) -> bool {
        self.btf.find(name, BtfKind::Func).is_some()
            || self.modules.as_ref().is_some_and(|modules| modules.functions.contains(name))
    }

    fn functions(&self) -> BTreeSet<&str> {
        let modules = self.modules.iter().flat_map(|modules| &modules.functions);
        self.btf.names(BtfKind::Func).chain(modules.map(String::as_str)).collect()
    }
}

impl ModuleNames {
    fn read(all: &[Vec<u8>], base: &Btf) -> Result<Self, packed::FileRefusal> {
        let mut modules = Self::default();
        for bytes in all {
            let own = parse(bytes.clone())?;
            modules.functions.extend(own.names_behind(base, BtfKind::Func).map(str::to_owned));
            let types = own.names_behind(base, BtfKind::Typedef);
            let names = types.filter_map(|name| name.strip_prefix("btf_trace_"));
            modules.tracepoints.extend(names.map(str::to_owned));
        }
        Ok(modules)
    }
}

fn parse(bytes: Vec<u8>) -> Result<Btf, packed::FileRefusal> {
    Btf::parse(bytes).map_err(|error| {
        let hint = matches!(error, BtfError::UnknownKind { .. })
            .then(|| "it is of a kernel that is newer than this tapster".to_owned());
        (format!("the BTF is damaged: {error}"), hint)
    })
}

/// The processor by the registers that its kernel saves.
fn processor(btf: &Btf) -> Option<Arch> {
    let registers = btf.find("pt_regs", BtfKind::Struct)?;
    let has = |name: &str| btf.member(registers, name).is_some();
    if has("r15") && has("orig_ax") {
        Some(Arch::X86_64)
    } else if has("pstate") && has("regs") {
        Some(Arch::Aarch64)
    } else {
        None
    }
}

fn word(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "x86_64",
        Arch::Aarch64 => "arm64",
    }
}

/// What to do where only a host's own files give an answer.
const COPY: &str = "a copy of the host's files tells it: see `tapster check --btf DIR` in docs/deploy.md";

impl Tracepoints for OfflineKernel {
    fn format(&self, category: &str, name: &str) -> Option<String> {
        if let Some(tracefs) = self.tracefs() {
            return tracefs.format(category, name);
        }
        match formats::format(&self.btf, category, name) {
            EventFormat::Known(fields) => {
                self.believes_categories.set(true);
                Some(fields)
            }
            EventFormat::Partly(fields) => {
                // Only what asks for another argument is in doubt.
                self.believes_categories.set(true);
                self.partly.borrow_mut().insert(format!("tracepoint:{category}:{name}"));
                Some(fields)
            }
            EventFormat::Unknown | EventFormat::Absent => None,
        }
    }

    fn exists(&self, category: &str, name: &str) -> bool {
        // Only a host's own files tell categories.
        if let Some(tracefs) = self.tracefs() {
            return tracefs.exists(category, name);
        }
        let of_module = || self.modules.as_ref().is_some_and(|modules| modules.tracepoints.contains(name));
        let exists = formats::exists(&self.btf, name) || of_module();
        self.believes_categories.set(self.believes_categories.get() || exists);
        exists
    }

    fn unreadable(&self, category: &str, name: &str) -> Option<Missing> {
        if let Some(tracefs) = self.tracefs() {
            let is_listed = tracefs.all().iter().any(|(own, known)| own == category && known == name);
            let not_copied = || {
                let message =
                    format!("the tracepoint `{category}:{name}` is listed, and its format was not copied");
                self.doubt(missing(message, COPY.to_owned()))
            };
            return tracefs.unreadable(category, name).or_else(|| is_listed.then(not_copied));
        }
        let shown = if category.is_empty() { name.to_owned() } else { format!("{category}:{name}") };
        let is_of_module = self.modules.as_ref().is_some_and(|modules| modules.tracepoints.contains(name));
        if formats::exists(&self.btf, name) || is_of_module {
            let message = format!("which fields the tracepoint `{shown}` has is not told by BTF");
            let hint = "use `rawtracepoint:`, whose arguments BTF has, or give a copy of the host's files";
            return Some(self.doubt(missing(message, hint.to_owned())));
        }
        if self.version < TRACING {
            let message =
                format!("whether there is a tracepoint `{shown}` is not told by BTF before Linux 5.5");
            return Some(self.doubt(missing(message, COPY.to_owned())));
        }
        let near = near(name, formats::names(&self.btf), 3);
        let near = (!near.is_empty()).then(|| {
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            format!("did you mean {}?", near.join(" or "))
        });
        // A module of which nothing is known may have it. System calls are the kernel's own.
        if self.modules.is_some() || category == "syscalls" {
            let hint = near.or_else(|| Some("it is neither in the kernel nor in its modules' BTF".into()));
            return Some(missing(format!("this kernel has no tracepoint `{shown}`"), hint));
        }
        let message = format!(
            "the kernel itself has no tracepoint `{shown}`, and whether a module has it is not known"
        );
        Some(self.doubt(missing(message, near.or_else(|| Some(COPY.into())))))
    }

    fn all(&self) -> Vec<(String, String)> {
        if let Some(tracefs) = self.tracefs() {
            return tracefs.all();
        }
        formats::names(&self.btf).map(|name| (String::new(), name.to_owned())).collect()
    }

    fn matching(&self, category: &str, name: &str) -> Result<BTreeSet<(String, String)>, Missing> {
        if let Some(tracefs) = self.tracefs() {
            return tracefs.matching(category, name);
        }
        let message = format!("which tracepoints `{category}:{name}` matches is not told by BTF");
        Err(self.doubt(missing(message, COPY.to_owned())))
    }
}

impl Functions for OfflineKernel {
    fn traced(&self) -> Result<(), Missing> {
        no_trampolines(self.arch, self.version)?;
        let has = self.shows("available_filter_functions", "ftrace_page");
        if has {
            return Ok(());
        }
        let hint = "it was built without CONFIG_DYNAMIC_FTRACE".to_owned();
        Err(missing("this kernel has no fentry and fexit", hint))
    }

    fn probing(&self) -> Result<(), Missing> {
        let has = self.shows("kprobe_events", "trace_kprobe");
        let hint = "it was built without CONFIG_KPROBE_EVENTS".to_owned();
        if has { Ok(()) } else { Err(missing("this kernel has no kprobes", hint)) }
    }

    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        self.probing()?;
        let function = wanted.function;
        if let Some(host) = self.named() {
            return host.named(wanted);
        }
        if is_pattern(function) {
            let glob = Glob::new(function);
            let list: Vec<Site> =
                self.functions().into_iter().filter(|name| glob.matches(name)).map(Site::kernel).collect();
            if list.is_empty() {
                let message =
                    format!("no function in this kernel's BTF matches `{function}`, and it has not all");
                return Err(self.doubt(missing(message, COPY.to_owned())));
            }
            wanted.check_count(list.len(), "this kernel")?;
            let remark = format!("with {} functions that BTF has of `{function}`", list.len());
            self.beliefs.borrow_mut().insert(remark);
            return Ok(Sites { list, ..Sites::default() });
        }
        if self.has_function(function) {
            return Ok(Sites { list: vec![Site::kernel(function)], ..Sites::default() });
        }
        let message = format!(
            "this kernel's BTF has no function `{function}`, and whether the kernel has it is not known"
        );
        let near: Vec<String> =
            near(function, self.functions(), 3).iter().map(|name| format!("`{name}`")).collect();
        let hint =
            if near.is_empty() { COPY.to_owned() } else { format!("did you mean {}?", near.join(" or ")) };
        Err(self.doubt(missing(message, hint)))
    }

    fn user(&self, _: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        let message =
            format!("`{}` is a function of `{binary}`, which is no part of a kernel", wanted.function);
        Err(self.doubt(missing(message, PROGRAMS.to_owned())))
    }

    fn usdt(&self, _: &Root, binary: &str, _: Option<&str>, name: &str) -> Result<usdt::UsdtProbe, Missing> {
        let message = format!("`{name}` is a probe of `{binary}`, which is no part of a kernel");
        Err(self.doubt(missing(message, PROGRAMS.to_owned())))
    }

    /// Addresses of another boot hold for no program here: what is asked is whether the symbol exists.
    fn symbol(&self, name: &str) -> Result<u64, UnknownSymbol> {
        if let Some(host) = self.named() {
            host.only_symbol(name)?;
        } else if self.btf.variable(name).is_none() && name != OF_EACH_CPU {
            self.beliefs.borrow_mut().insert(format!("with the symbol `{name}`, which BTF does not tell of"));
        }
        Ok(NOWHERE)
    }

    fn namespace(&self, _: &Root) -> Result<Option<u32>, Missing> {
        Ok(None)
    }
}

/// The kernel's array by which it finds what each CPU has: no kernel for several CPUs is without.
const OF_EACH_CPU: &str = "__per_cpu_offset";
/// Stands for an address: one of the kernel's.
const NOWHERE: u64 = 0xffff_ffff_8000_0000;

/// What to do about probes of programs.
const PROGRAMS: &str = "check it on a host with that program, without `--btf`";
