//! `tapster check --btf`: would these probes compile on kernels that do not run here?
//!
//! Nothing of this host is asked. What the files of a kernel do not tell is said to be unknown, and is never taken for a yes.

use super::super::{FAILURE, USAGE, print, report, tell_missing};
use crate::{
    config::Config,
    kernel::{
        Missing,
        offline::{self, KernelHints, OfflineKernel},
    },
    table,
};
use clap::{Args, ValueEnum};
use std::{fmt::Write, path::PathBuf};
use tapster_ebpf::{
    attach::Arch,
    diagnostic::Diagnostic,
    probe::{KernelVersion, Probe},
};

/// Widest table; more kernels have a line each.
const WIDEST: usize = 120;
/// Most kernels that are named behind each other.
const NAMED: usize = 6;

/// Flags for kernels that do not run here.
#[derive(Args, Debug)]
pub struct KernelArgs {
    /// Say for a kernel that does not run here whether the probes compile on it: its BTF (a copy of /sys/kernel/btf/vmlinux), a
    /// vmlinux or boot image, an archive (.tar, .tar.xz, .tar.gz), a copy of a host's files, or a directory of several. May be
    /// given several times; needs no rights and nothing of this host
    #[arg(long, value_name = "FILE|DIR")]
    pub btf: Vec<PathBuf>,
    /// The version of that kernel, where neither the file nor its name tells it
    #[arg(long, value_name = "VERSION", requires = "btf", value_parser = version)]
    pub kernel: Option<KernelVersion>,
    /// The processor of those kernels, where their files do not tell it
    #[arg(long, value_name = "ARCH", requires = "btf")]
    pub arch: Option<ArchName>,
}

/// Names of processors.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ArchName {
    /// Intel and AMD, 64 bits
    #[value(name = "x86_64", alias = "amd64")]
    X86,
    /// Arm, 64 bits
    #[value(name = "arm64", alias = "aarch64")]
    Arm,
}

fn version(text: &str) -> Result<KernelVersion, String> {
    KernelVersion::parse(text)
        .ok_or_else(|| "it is no version of a kernel, such as 6.1 or 5.10.0-30-amd64".into())
}

/// What is said of a probe on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ProbeVerdict {
    Compiled,
    /// It is for other kernels, by its own `kernel`.
    Elsewhere,
    Unknown,
    Fails,
}

impl ProbeVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Elsewhere => "not for it",
            Self::Unknown => "unknown",
            Self::Fails => "fails",
        }
    }
}

/// A kernel and the verdicts on the probes, in their order.
struct KernelVerdicts {
    kernel: String,
    verdicts: Vec<ProbeVerdict>,
}

/// Sentences, each with the kernels that it is true of.
struct ByKernel<T>(Vec<(T, Vec<String>)>);

impl<T: PartialEq> ByKernel<T> {
    fn add(&mut self, what: T, kernel: &str) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, kernels)) if kernels.last().is_some_and(|last| last == kernel) => {}
            Some((_, kernels)) => kernels.push(kernel.to_owned()),
            None => self.0.push((what, vec![kernel.to_owned()])),
        }
    }
}

fn listed(kernels: &[String]) -> String {
    let shown = kernels.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match kernels.len().checked_sub(NAMED) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// What was found out about all kernels.
struct KernelSurvey {
    names: Vec<String>,
    columns: Vec<KernelVerdicts>,
    /// What is wrong with a probe on which kernels.
    errors: ByKernel<Diagnostic>,
    /// A probe, its verdict, and the first reason for it.
    reasons: ByKernel<(String, ProbeVerdict, String)>,
    /// A compiled probe, and what of it stays open.
    remarks: ByKernel<(String, String)>,
    /// Whether categories of tracepoints were taken as they are written.
    believes: bool,
    /// Whether there is an error that is no single probe's.
    is_wrong: bool,
}

/// Compiles the probes for each kernel. `is_right` says whether nothing else of the configuration is wrong.
pub(super) fn check(args: &KernelArgs, config: &Config, is_right: bool) -> anyhow::Result<u8> {
    let places = match offline::places(&args.btf) {
        Ok(places) => places,
        Err(missing) => {
            tell_missing(&missing);
            return Ok(USAGE);
        }
    };
    let is_wrong = report(&config.diagnostics) || !is_right;
    let mut survey = KernelSurvey {
        names: names(&config.probes),
        columns: Vec::new(),
        errors: ByKernel(Vec::new()),
        reasons: ByKernel(Vec::new()),
        remarks: ByKernel(Vec::new()),
        believes: false,
        is_wrong,
    };
    let said = KernelHints {
        version: args.kernel,
        arch: args.arch.map(|name| match name {
            ArchName::X86 => Arch::X86_64,
            ArchName::Arm => Arch::Aarch64,
        }),
    };
    let mut unread = 0;
    for place in places {
        // One kernel after the other: its types are several megabytes.
        for kernel in offline::read(&place, said) {
            match kernel {
                Ok(kernel) if args.kernel.is_some() && !survey.columns.is_empty() => {
                    tell_missing(&Missing {
                        message: format!(
                            "`--kernel` is the version of one kernel, and `{}` is another",
                            kernel.name
                        ),
                        hint: Some("name the files after their kernels, such as 6.1.0-18-amd64.btf".into()),
                    });
                    return Ok(USAGE);
                }
                Ok(kernel) => survey.add(&kernel, &config.probes),
                Err(missing) => {
                    tell_missing(&missing);
                    unread += 1;
                }
            }
        }
    }
    survey.tell();
    print(&survey.text()?)?;
    let worst = survey.columns.iter().flat_map(|column| &column.verdicts).max();
    Ok(match worst {
        _ if survey.is_wrong || unread > 0 => USAGE,
        Some(ProbeVerdict::Fails) => USAGE,
        Some(ProbeVerdict::Unknown) => FAILURE,
        Some(ProbeVerdict::Compiled | ProbeVerdict::Elsewhere) | None => 0,
    })
}

/// Each name once: a probe may have variants.
fn names(probes: &[Probe]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for probe in probes {
        if !names.contains(&probe.name.value) {
            names.push(probe.name.value.clone());
        }
    }
    names
}

impl KernelSurvey {
    /// Compiles the probes for a kernel.
    fn add(&mut self, kernel: &OfflineKernel, probes: &[Probe]) {
        let target = kernel.target();
        let (chosen, diagnostics) = tapster_ebpf::check::select(probes.to_vec(), &target);
        let refused: Vec<Diagnostic> = diagnostics.into_iter().filter(Diagnostic::is_error).collect();
        let mut verdicts = vec![ProbeVerdict::Elsewhere; self.names.len()];
        for probe in &chosen {
            kernel.forget();
            let name = &probe.name.value;
            let mut absent = Vec::new();
            let mut errors = match tapster_ebpf::compile(probe, &target) {
                Ok(program) => {
                    absent.extend(program.absent.iter().map(ToString::to_string));
                    let refusal = kernel.refuses(&program);
                    refusal
                        .into_iter()
                        .map(|why| Diagnostic::error(&probe.file, probe.name.span.clone(), why))
                        .collect()
                }
                Err(errors) => errors,
            };
            let of_probe = |error: &&Diagnostic| error.file == probe.file && error.span == probe.name.span;
            errors.extend(refused.iter().filter(of_probe).cloned());
            errors.retain(Diagnostic::is_error);
            let verdict = match (errors.first(), kernel.doubt_of(&errors)) {
                (Some(_), Some(doubt)) => {
                    self.reason(name, ProbeVerdict::Unknown, doubt, kernel);
                    ProbeVerdict::Unknown
                }
                (Some(error), None) => {
                    self.reason(name, ProbeVerdict::Fails, error.message.clone(), kernel);
                    for error in errors {
                        self.errors.add(error, &kernel.name);
                    }
                    ProbeVerdict::Fails
                }
                (None, _) => {
                    let doubts = kernel.doubts().into_iter();
                    let passed = doubts.map(|doubt| format!("by the next alternative: {doubt}"));
                    for remark in passed.chain(kernel.beliefs()).chain(absent) {
                        self.remarks.add((name.clone(), remark), &kernel.name);
                    }
                    ProbeVerdict::Compiled
                }
            };
            if let Some(place) = self.names.iter().position(|known| known == name) {
                verdicts[place] = verdict;
            }
        }
        self.is_wrong |= !refused.is_empty();
        for error in refused {
            self.errors.add(error, &kernel.name);
        }
        self.believes |= kernel.believes_categories();
        self.columns.push(KernelVerdicts { kernel: kernel.name.clone(), verdicts });
    }

    fn reason(&mut self, name: &str, verdict: ProbeVerdict, why: String, kernel: &OfflineKernel) {
        self.reasons.add((name.to_owned(), verdict, why), &kernel.name);
    }

    /// Reports what is wrong, each error once, with the kernels on which it is one.
    fn tell(&self) {
        for (error, kernels) in &self.errors.0 {
            tell!("on {}:\n{error}", listed(kernels));
        }
    }

    /// The verdicts and their reasons.
    fn text(&self) -> Result<String, std::fmt::Error> {
        if self.columns.is_empty() {
            return Ok(String::new());
        }
        let mut text = self.verdicts()?;
        for ((name, verdict, why), kernels) in &self.reasons.0 {
            writeln!(text, "{name}: {} on {}: {why}", verdict.word(), listed(kernels))?;
        }
        for ((name, remark), kernels) in &self.remarks.0 {
            writeln!(text, "{name}: compiled on {}, {remark}", listed(kernels))?;
        }
        if self.believes {
            text.push_str("categories of tracepoints are not in BTF, and are taken as they are written\n");
        }
        text.push_str(
                "compiled only: whether a kernel's verifier takes a program, and whether it attaches, is found out on a host with it\n",
        );
        Ok(text)
    }

    /// A table of probes and kernels, or a line for each kernel where they are many.
    fn verdicts(&self) -> Result<String, std::fmt::Error> {
        let header =
            std::iter::once(String::new()).chain(self.columns.iter().map(|column| column.kernel.clone()));
        let row = |(index, name): (usize, &String)| {
            let words = self.columns.iter().map(|column| column.verdicts[index].word().to_owned());
            std::iter::once(name.clone()).chain(words).collect::<Vec<_>>()
        };
        let mut rows: Vec<Vec<String>> = vec![header.collect()];
        rows.extend(self.names.iter().enumerate().map(row));
        if table::width(&rows) <= WIDEST {
            return Ok(table::table(&rows, &vec![false; self.columns.len() + 1]));
        }
        let mut text = String::new();
        for KernelVerdicts { kernel, verdicts } in &self.columns {
            let of = |verdict: ProbeVerdict| -> Vec<&str> {
                let named = self.names.iter().zip(verdicts).filter(|(_, own)| **own == verdict);
                named.map(|(name, _)| name.as_str()).collect()
            };
            write!(text, "  {kernel}: {} compiled", of(ProbeVerdict::Compiled).len())?;
            for verdict in [ProbeVerdict::Fails, ProbeVerdict::Unknown, ProbeVerdict::Elsewhere] {
                let names = of(verdict);
                if !names.is_empty() {
                    write!(text, "; {}: {}", verdict.word(), names.join(", "))?;
                }
            }
            text.push('\n');
        }
        Ok(text)
    }
}
