//! The command line: its arguments, and what each command does.

/// Writes a message to standard error. A failure to write must not stop the command, so unlike `eprintln` it does not panic.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::tell(format_args!($($text)*)) };
}

mod build;
mod callgraph;
mod check;
mod command;
mod compile;
mod generate;
mod import;
mod list;
mod otlp;
mod output;
mod raid;
mod report;
mod rights;
mod rules;
mod run;
mod stop;
mod web;

pub use callgraph::CallgraphArgs;
pub use check::CheckArgs;
pub use compile::{CompileArgs, Emit};
pub use import::{FormatName, ImportArgs};
pub use list::ListArgs;
pub use output::answer;
pub use raid::RaidArgs;
pub use report::ReportArgs;
pub use rules::RulesArgs;
pub use run::{RunArgs, RunCommand};

use crate::{
    config::ProbeSelection,
    host::Host,
    kernel::{Kernel, Missing},
    owner::Trust,
};
use clap::{Args, Parser, Subcommand};
use output::print;
use std::{
    collections::HashSet,
    fmt,
    io::{self, Write},
    path::PathBuf,
};
use stop::Stop;
use tapster_ebpf::diagnostic::Diagnostic;

/// Exit status of a failure at run time.
pub const FAILURE: u8 = 1;
/// Exit status of wrong usage or configuration.
pub const USAGE: u8 = 2;

/// A Prometheus and OpenTelemetry exporter for the Linux kernel: probes in YAML, compiled in process to eBPF.
///
/// Without a command it runs: it attaches the shipped probes, or those of the files given, and serves
/// `/metrics` on port 18277. It needs root, or `CAP_BPF`, `CAP_PERFMON` and
/// `CAP_DAC_READ_SEARCH`.
#[derive(Debug, Parser)]
#[command(name = "tapster", version, long_version = build::LONG, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `run` where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach the probes, serve /metrics, and push by OTLP where an endpoint is given
    Run(Box<RunCommand>),
    /// Say whether the probes would run here: compile them and let this kernel verify them
    Check(CheckArgs),
    /// Show what there is to attach to, with its arguments, or the shipped probes
    List(ListArgs),
    /// Show what a probe is compiled to
    Compile(CompileArgs),
    /// Make probes of a script of bpftrace, or of the YAML of `ebpf_exporter`
    #[command(after_help = import::AFTER_HELP)]
    Import(ImportArgs),
    /// Run probes for a while or as long as a command runs, then print what they counted
    #[command(after_help = report::AFTER_HELP)]
    Report(ReportArgs),
    /// Show the arrays of this host, watch their members for a while, and name the slow one
    #[command(after_help = raid::AFTER_HELP)]
    Raid(RaidArgs),
    /// Run a command and show the calls of its functions: entries and returns, times, arguments, results
    Callgraph(CallgraphArgs),
    /// Print the rules for Prometheus, with thresholds, selectors and links of your own
    #[command(after_help = rules::AFTER_HELP)]
    Rules(Box<RulesArgs>),
    /// Print the JSON Schema of probe files, for editors
    Schema,
    /// Write the files that packages bring along
    #[command(subcommand, hide = true)]
    Generate(generate::Generate),
}

/// Which probes.
#[derive(Args, Debug, Clone)]
pub struct ProbeArgs {
    /// File of probes in YAML, directory of such files (`*.yaml`, `*.yml`), or `-` for standard input; may be given several
    /// times [default: the shipped probes]
    #[arg(short, long = "config", value_name = "FILE|DIR|-")]
    pub config: Vec<PathBuf>,
    /// Only these probes, or groups of shipped ones such as `sched`, separated by commas; `tapster list --library` shows
    /// the shipped ones
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub probes: Vec<String>,
    /// Change a shipped probe, or all of a group, as `overrides` of a file does, and before it:
    /// `block.devices.exclude=loop*`, `block.classic=false`; may be given several times
    #[arg(long = "override", value_name = "NAME.KEY=VALUE")]
    pub overrides: Vec<String>,
}

impl ProbeArgs {
    /// The selection with these additional words; `trust` decides whose files are accepted.
    fn selection(&self, words: &[String], trust: Trust) -> ProbeSelection {
        ProbeSelection {
            words: words.to_vec(),
            files: self.config.clone(),
            probes: self.probes.clone(),
            overrides: self.overrides.clone(),
            trust,
            ..ProbeSelection::default()
        }
    }
}

/// Where the host's files are.
#[derive(Args, Debug, Clone)]
pub struct HostArgs {
    /// Where procfs is mounted
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    pub procfs: PathBuf,
    /// Where sysfs is mounted
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    pub sysfs: PathBuf,
    /// Where devtmpfs is mounted; device-mapper arrays are asked about through its `mapper/control`
    #[arg(long = "path.devfs", value_name = "DIR", default_value = "/dev")]
    pub devfs: PathBuf,
    /// Where udev keeps what it knows of devices: what sysfs does not tell of disks
    #[arg(long = "path.udev.data", value_name = "DIR", default_value = "/run/udev/data")]
    pub udev: PathBuf,
    /// Where the root of the host is mounted: names of users are in its `etc/passwd`, those of PCI devices in its `pci.ids`
    /// [default: the root of process 1]
    #[arg(long = "path.rootfs", value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Where the kubelet puts links to the logs of containers, which tell the names of pods
    /// [default: /var/log/containers below the root of the host]
    #[arg(long = "path.containers", value_name = "DIR")]
    pub containers: Option<PathBuf>,
}

impl HostArgs {
    fn host(&self) -> Host {
        Host {
            proc: self.procfs.clone(),
            sys: self.sysfs.clone(),
            dev: self.devfs.clone(),
            udev: self.udev.clone(),
            root: self.rootfs.clone(),
            containers: self.containers.clone(),
            ..Host::default()
        }
        .rooted()
    }
}

/// Runs the command; returns its exit status.
pub fn main(cli: Cli) -> anyhow::Result<u8> {
    let Some(command) = cli.command else { return Stop::status(run::run(&cli.run, &[])) };
    match command {
        Command::Run(args) => Stop::status(run::run(&args.run, &args.what)),
        Command::Check(args) => check::check(&args),
        Command::List(args) => Stop::status(list::list(&args)),
        Command::Compile(args) => Stop::status(compile::compile(&args)),
        Command::Import(args) => Stop::status(import::import(&args)),
        Command::Report(args) => Stop::status(report::main(&args)),
        Command::Raid(args) => raid::main(&args),
        Command::Callgraph(args) => Stop::status(callgraph::callgraph(&args)),
        Command::Rules(args) => Stop::status(rules::rules(&args)),
        Command::Generate(what) => generate::generate(&what),
        Command::Schema => {
            print(&format!("{:#}\n", tapster_ebpf::declaration::schema()))?;
            Ok(0)
        }
    }
}

/// Prints diagnostics in the order of their places, with a blank line between two; returns whether there was an error. An error
/// in what several probes share by an anchor of YAML is printed once.
fn report(diagnostics: &[Diagnostic]) -> bool {
    let mut files: Vec<&str> = Vec::new();
    let mut seen = HashSet::new();
    let mut ordered: Vec<(usize, &Diagnostic)> = Vec::new();
    for diagnostic in diagnostics {
        let name = diagnostic.file.name.as_str();
        if !seen.insert((name, diagnostic.span.clone(), diagnostic.message.as_str())) {
            continue;
        }
        let file = files.iter().position(|known| *known == name).unwrap_or_else(|| {
            files.push(name);
            files.len() - 1
        });
        ordered.push((file, diagnostic));
    }
    ordered.sort_by_key(|(file, diagnostic)| (*file, diagnostic.span.start));
    let errors = ordered.iter().filter(|(_, diagnostic)| diagnostic.is_error()).count();
    for (_, diagnostic) in ordered {
        tell!("{diagnostic}");
    }
    if errors > 1 {
        tell!("{errors} errors");
    }
    errors > 0
}

/// Reports what this host lacks to run any probe; returns whether it lacks something.
fn lacks(kernel: &Kernel) -> bool {
    let Err(missing) = kernel.requirements() else { return false };
    missing.iter().for_each(tell_missing);
    true
}

/// Reports what is missing, and what to do.
fn tell_missing(missing: &Missing) {
    tell!("error: {}", missing.message);
    if let Some(hint) = &missing.hint {
        tell!("  hint: {hint}");
    }
}

/// Implements `tell!`.
pub fn tell(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
