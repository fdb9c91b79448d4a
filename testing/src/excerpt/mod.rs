//! An excerpt of a kernel: as much of its description as probes need, small enough to be kept with the tests.
//!
//! It is a directory like a host's, with `proc` and `sys`, that `tapster` reads instead of the kernel's own files. [`types`]
//! cuts the types; there are the formats of tracepoints that probes name, and the names of functions.

mod types;

use super::{examples, fixture};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};
use tapster::{config, host::Host, kernel::Kernel};
use tapster_ebpf::{
    attach::{Arch, Target},
    btf::Btf,
    check,
    glob::{self, Glob},
    insn::Insn,
    point::Subject,
    probe::Probe,
    program::Program,
};
pub use types::cut;

/// The directory of excerpts for the shipped probes, one for each series of kernels.
const SHIPPED: &str = "fixtures/kernels";
/// The same for the examples.
const EXAMPLES: &str = "fixtures/examples";
/// Where variables are.
const VARIABLES: u64 = 0xffff_ffff_8200_0000;
/// What the compiler reads for `argv(TASK)`.
const OF_WORDS: &str = "task.mm.arg_start .arg_end";
/// What the compiler reads for `cgroup(TASK)`.
const OF_CGROUPS: &str = "task.cgroups.dfl_cgrp.kn.id .subsys[cpu_cgrp_id] .level .root.hierarchy_id .cgroup";

/// Probes of kernel events: those of user programs are the same on each kernel.
fn of_kernel(probes: Vec<Probe>) -> Vec<Probe> {
    let is_of_kernel = |probe: &Probe| !probe.attach_points().any(|at| at.value.kind.is_in_binary());
    probes.into_iter().filter(is_of_kernel).collect()
}

/// The shipped probes of kernel events.
pub fn shipped() -> Vec<Probe> {
    of_kernel(config::library().unwrap())
}

/// Probes, and the excerpts that were cut for them.
#[derive(Debug)]
pub struct Collection {
    directory: &'static str,
    pub probes: Vec<Probe>,
    pub wanted: Wanted,
}

impl Collection {
    pub fn shipped() -> Self {
        Self { directory: SHIPPED, probes: shipped(), wanted: Wanted::shipped() }
    }

    pub fn examples() -> Self {
        let mut texts = Vec::new();
        let mut probes = Vec::new();
        for example in examples::all() {
            texts.push(example.text);
            probes.extend(example.probes);
        }
        let probes = of_kernel(probes);
        let wanted = Wanted::of(&probes, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        Self { directory: EXAMPLES, probes, wanted }
    }

    /// The series and the directory of each excerpt, the oldest first.
    pub fn excerpts(&self) -> Vec<(String, PathBuf)> {
        below(self.directory)
    }
}

/// What probes need of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names of members, and of arguments.
    pub members: BTreeSet<String>,
    /// Names of structs to which values are cast, or that are known by name for another reason.
    pub structs: BTreeSet<String>,
    /// Names of enumerators, or what they begin with: one that ends in `_`.
    pub enumerators: BTreeSet<String>,
    /// Functions of the kernel, and raw tracepoints by the names of their functions.
    pub functions: BTreeSet<String>,
    /// Patterns of functions of the kernel.
    pub patterns: BTreeSet<String>,
    /// Type definitions that only have to exist.
    pub names: BTreeSet<String>,
    /// Tracepoints, `CATEGORY/NAME`.
    pub events: BTreeSet<String>,
    /// Variables of the kernel.
    pub variables: BTreeSet<String>,
}

impl Wanted {
    pub fn shipped() -> Self {
        Self::of(&shipped(), &config::LIBRARY.map(|(_, text)| text))
    }

    /// Whether a function is one of those.
    fn has_function(&self, name: &str) -> bool {
        self.functions.contains(name) || self.patterns.iter().any(|pattern| Glob::new(pattern).matches(name))
    }

    /// Whether an enumerator is one of those.
    fn has_enumerator(&self, name: &str) -> bool {
        let begins = |prefix: &String| prefix.ends_with('_') && name.starts_with(prefix.as_str());
        self.enumerators.contains(name) || self.enumerators.iter().any(begins)
    }

    /// What `tapster check --btf` asks of types besides, where there is nothing else of a kernel: what its processor is, what it
    /// can trace, and records of tracepoints.
    #[must_use]
    pub fn of_types_alone(mut self) -> Self {
        let structs = ["pt_regs", "trace_kprobe", "ftrace_page", "syscall_metadata"];
        self.structs.extend(structs.map(str::to_owned));
        for event in &self.events {
            let (category, name) = event.split_once('/').unwrap_or_default();
            self.structs.insert(format!("trace_event_raw_{name}"));
            self.functions.insert(format!("__traceiter_{name}"));
            self.names.insert(format!("btf_trace_{name}"));
            if let Some((_, call)) =
                name.split_once("er_").or(name.split_once("it_")).filter(|_| category == "syscalls")
            {
                self.functions.extend(["x64", "arm64"].map(|arch| format!("__{arch}_sys_{call}")));
            }
        }
        // The class of the page cache's events.
        self.structs.insert("trace_event_raw_mm_filemap_op_page_cache".into());
        self.functions.insert("__bpf_trace_mm_filemap_op_page_cache".into());
        self
    }

    /// What these probes, declared in these texts, need.
    fn of(probes: &[Probe], texts: &[&str]) -> Self {
        let mut wanted = Self::default();
        wanted.structs.insert("task_struct".into());
        for text in texts.iter().copied().chain([OF_CGROUPS, OF_WORDS]) {
            wanted.read(text);
        }
        for at in probes.iter().flat_map(Probe::attach_points) {
            let (kind, name) = (at.value.kind, at.value.name());
            match kind.subject {
                Subject::Tracepoint => {
                    wanted.events.extend(at.value.category().map(|category| format!("{category}/{name}")));
                    // A raw tracepoint is read as the kernel passes its arguments.
                    if kind.mechanisms.iter().any(|mechanism| mechanism.link.is_raw_tracepoint()) {
                        wanted.functions.insert(format!("__traceiter_{name}"));
                        wanted.names.insert(format!("btf_trace_{name}"));
                    }
                }
                Subject::Function { .. } if glob::is_pattern(name) => {
                    wanted.patterns.insert(name.to_owned());
                }
                Subject::Function { .. } => {
                    wanted.functions.insert(name.to_owned());
                }
                Subject::Objects => {
                    wanted.functions.insert(format!("bpf_iter_{name}"));
                    wanted.structs.insert(format!("bpf_iter__{name}"));
                }
                Subject::UserFunction { .. }
                | Subject::UserProbe
                | Subject::Timer
                | Subject::Counter
                | Subject::Own => {}
            }
        }
        wanted
    }

    /// Adds names in expressions: after a point, after `struct`, in capitals, or as an index.
    fn read(&mut self, text: &str) {
        let code = text.lines().map(|line| line.split(" #").next().unwrap_or_default());
        for line in code.filter(|line| !line.trim_start().starts_with(['#'])) {
            let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let mut before = "";
            let mut rest = line;
            while let Some(at) = rest.find(is_of_name) {
                let name = &rest[at..];
                let name = &name[..name.find(|c| !is_of_name(c)).unwrap_or(name.len())];
                if rest[..at].ends_with('.') {
                    self.members.insert(name.to_owned());
                } else if before == "struct" {
                    self.structs.insert(name.to_owned());
                } else if before == "kaddr" {
                    self.variables.insert(name.to_owned());
                } else if rest[..at].ends_with('[')
                    || (name.len() > 3 || name.len() == 3 && name.ends_with('_'))
                        && name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
                {
                    self.enumerators.insert(name.to_owned());
                }
                before = name;
                rest = &rest[at + name.len()..];
            }
        }
    }
}

/// The complete files of a kernel, to be cut.
#[derive(Debug)]
pub struct Whole {
    pub release: String,
    pub types: Vec<u8>,
    /// Functions, one on each line as in `/proc/kallsyms`.
    pub symbols: String,
    /// Formats of tracepoints, `CATEGORY/NAME`.
    pub formats: BTreeMap<String, String>,
    /// The files of [`TRACING`] that exist.
    pub tracing: Vec<String>,
}

/// Files of tracefs that show how a kernel was built.
pub const TRACING: [&str; 2] = ["available_filter_functions", "kprobe_events"];

impl Whole {
    /// Reads those of the running kernel.
    pub fn here(wanted: &Wanted) -> Self {
        let tracing = Path::new("/sys/kernel/tracing");
        let format = |event: &String| {
            let text = fs::read_to_string(tracing.join("events").join(event).join("format")).ok()?;
            Some((event.clone(), text))
        };
        Self {
            release: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned(),
            types: fs::read("/sys/kernel/btf/vmlinux").unwrap(),
            symbols: fs::read_to_string("/proc/kallsyms").unwrap(),
            formats: wanted.events.iter().filter_map(format).collect(),
            tracing: TRACING
                .iter()
                .filter(|name| tracing.join(name).exists())
                .map(|name| (*name).into())
                .collect(),
        }
    }

    /// Replaces the excerpt of the same series; returns what was written.
    pub fn keep(&self, collection: &Collection) -> String {
        let series: Vec<&str> = self.release.split('.').take(2).collect();
        let directory = fixture::file(collection.directory).join(series.join("."));
        let _ = fs::remove_dir_all(&directory);
        let bytes = self.cut(&collection.wanted, &directory);
        let types = tempfile::NamedTempFile::new().unwrap();
        fs::write(types.path(), &self.types).unwrap();
        let whole = described(&directory, Some(types.path()));
        let (same, not) = assert_same(&collection.probes, &whole, &kernel(&directory));
        format!(
            "{}: {bytes} of {} bytes of types, {same} probes alike, {not} that do not compile",
            self.release,
            self.types.len()
        )
    }

    /// Writes the excerpt to a directory; returns the size of its types in bytes.
    pub fn cut(&self, wanted: &Wanted, directory: &Path) -> usize {
        let write = |path: &str, content: &[u8]| {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let types = cut(&Btf::parse(self.types.clone()).unwrap(), wanted, &[]);
        write("sys/kernel/btf/vmlinux", &types);
        // The vendor's suffix does not matter.
        let numbers = self.release.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap();
        write("proc/sys/kernel/osrelease", format!("{numbers}\n").as_bytes());
        for name in ["proc/self/uid_map", "proc/self/status"] {
            write(name, &fs::read(fixture::file("fixtures/host").join(name)).unwrap());
        }
        // Two processors, as guests have.
        write("sys/devices/system/cpu/possible", b"0-1\n");
        let is_wanted =
            |line: &&str| line.split_ascii_whitespace().nth(2).is_some_and(|name| wanted.has_function(name));
        // Addresses are of no use elsewhere. Variables have one that is in the kernel's half.
        let at = |address: u64, line: &str| format!("{address:016x} {}\n", line.split_once(' ').unwrap().1);
        let is_variable = |line: &&str| {
            line.split_ascii_whitespace().nth(2).is_some_and(|name| wanted.variables.contains(name))
        };
        let functions = self.symbols.lines().filter(is_wanted).map(|line| at(0, line));
        let variables = self.symbols.lines().filter(is_variable).map(|line| at(VARIABLES, line));
        let symbols: String = functions.chain(variables).collect();
        write("proc/kallsyms", symbols.as_bytes());
        let mut events = String::new();
        for (event, format) in &self.formats {
            writeln!(events, "{}", event.replace('/', ":")).unwrap();
            write(&format!("sys/kernel/tracing/events/{event}/format"), format.as_bytes());
        }
        write("sys/kernel/tracing/available_events", events.as_bytes());
        for name in &self.tracing {
            write(&format!("sys/kernel/tracing/{name}"), b"");
        }
        types.len()
    }
}

/// The excerpts for the shipped probes: the series and the directory of each, the oldest first.
pub fn all() -> Vec<(String, PathBuf)> {
    below(SHIPPED)
}

fn below(directory: &str) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(fixture::file(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path)).collect();
    all.sort_by_key(|(series, _)| {
        series.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>()
    });
    all
}

/// The kernel of an excerpt.
pub fn kernel(directory: &Path) -> Kernel {
    described(directory, None)
}

/// The kernel of an excerpt with other types.
pub fn described(directory: &Path, types: Option<&Path>) -> Kernel {
    Kernel::detect(&Host {
        proc: directory.join("proc"),
        sys: directory.join("sys"),
        btf: types.map(Path::to_owned),
        ..Host::default()
    })
}

/// Compiles each shipped probe that is for this kernel: its name, and the program or the errors.
pub fn compiled(kernel: &Kernel) -> Vec<(String, Result<Program, String>)> {
    compile(shipped(), kernel)
}

/// Compiles each of these probes that is for this kernel: its name, and the program or the errors.
pub fn compile(probes: Vec<Probe>, kernel: &Kernel) -> Vec<(String, Result<Program, String>)> {
    // Independent of this machine; guests have two CPUs.
    let target = Target { possible_cpus: 2, arch: Arch::X86_64, ..kernel.target() };
    let (probes, diagnostics) = check::select(probes, &target);
    // That a probe is for other kernels is a warning.
    let errors: Vec<String> =
        diagnostics.iter().filter(|found| found.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    let compile = |probe: &Probe| {
        let program = tapster_ebpf::compile(probe, &target);
        program.map_err(|mistakes| {
            mistakes.into_iter().map(|mistake| mistake.message).collect::<Vec<_>>().join("; ")
        })
    };
    probes.iter().map(|probe| (probe.name.value.clone(), compile(probe))).collect()
}

/// Asserts that two descriptions of one kernel give the same programs; returns the number of these probes, and of those that
/// compile with neither.
pub fn assert_same(probes: &[Probe], one: &Kernel, other: &Kernel) -> (usize, usize) {
    let instructions = |program: &Program| -> Vec<Vec<Insn>> {
        program.codes.iter().map(|code| code.assembled.insns.clone()).collect()
    };
    let (mut same, mut not) = (0, 0);
    for ((name, one), (_, other)) in
        compile(probes.to_vec(), one).into_iter().zip(compile(probes.to_vec(), other))
    {
        match (one, other) {
            (Ok(one), Ok(other)) => {
                assert!(instructions(&one) == instructions(&other), "{name}: other programs");
                same += 1;
            }
            (Err(_), Err(_)) => not += 1,
            (one, other) => panic!("{name}: the one: {:?}, the other: {:?}", one.err(), other.err()),
        }
    }
    (same, not)
}
