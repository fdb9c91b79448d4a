//! What a person types, and what each word does.

/// Says something on standard error. Who cannot hear it must not be the reason that what was asked for is not done, so unlike
/// `eprintln` it does not panic.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::tell(format_args!($($text)*)) };
}

mod build;
mod callgraph;
mod check;
mod command;
mod compile;
mod generate;
mod list;
mod otlp;
mod output;
mod raid;
mod report;
mod rights;
mod run;
mod stop;
mod web;

pub use output::answer;

use crate::{
    callgraph::Output, config::Request, duration, host::Host, kernel::Kernel, owner::Trust, raid::Rule,
    report::Sort, telemetry::LogFormat,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use output::print;
use std::{
    collections::HashSet,
    ffi::OsString,
    fmt,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
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
    /// Run probes for a while or as long as a command runs, then print what they counted
    #[command(after_help = report::AFTER_HELP)]
    Report(ReportArgs),
    /// Show the arrays of this host, watch their members for a while, and name the slow one
    #[command(after_help = raid::AFTER_HELP)]
    Raid(RaidArgs),
    /// Run a command and show the calls of its functions: entries and returns, times, arguments, results
    Callgraph(CallgraphArgs),
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
}

impl ProbeArgs {
    /// The request with these words besides, of which files are taken as `trust` says.
    fn request(&self, words: &[String], trust: Trust) -> Request {
        Request {
            words: words.to_vec(),
            files: self.config.clone(),
            probes: self.probes.clone(),
            trust,
            ..Request::default()
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
    /// Where the kubelet puts links to the logs of containers, which tell the names of pods
    /// [default: /var/log/containers below the root of process 1]
    #[arg(long = "path.containers", value_name = "DIR")]
    pub containers: Option<PathBuf>,
}

impl HostArgs {
    fn host(&self) -> Host {
        Host {
            proc: self.procfs.clone(),
            sys: self.sysfs.clone(),
            dev: self.devfs.clone(),
            containers: self.containers.clone(),
            ..Host::default()
        }
    }
}

/// `run` as it is written out.
#[derive(Args, Debug, Clone)]
pub struct RunCommand {
    /// Shipped probes, groups of them such as `sched`, files of probes in YAML, directories of such files, or `-` for standard
    /// input [default: the shipped probes]
    #[arg(value_name = "NAME|FILE|DIR|-")]
    pub what: Vec<String>,
    /// Its flags.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// Which probes.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// How it serves.
    #[command(flatten)]
    pub web: web::WebArgs,
    /// When the configuration is read again.
    #[command(flatten)]
    pub auto_reload: web::AutoReloadArgs,
    /// Exit if any probe does not come up at the start, instead of running the others
    #[arg(long)]
    pub strict: bool,
    /// Be ready (`/-/ready`, `tapster_ready`) only while these probes, or all of these groups of shipped ones, are up;
    /// separated by commas [default: while any probe is]
    #[arg(long = "ready.require", value_name = "NAME", value_delimiter = ',')]
    pub ready_require: Vec<String>,
    /// What is given up after the start.
    #[command(flatten)]
    pub rights: rights::RightsArgs,
    /// Have the kernel count the runs of all programs of this host and their time. This adds about six tenths to what the
    /// shipped programs cost, and needs `CAP_SYS_ADMIN`
    #[arg(long = "run-stats", overrides_with = "no_run_stats")]
    pub run_stats: bool,
    /// Do not ask the kernel to count runs; the default
    #[arg(long = "no-run-stats", overrides_with = "run_stats")]
    pub no_run_stats: bool,
    /// Least severe messages to log: error, warn, info, debug, or a filter such as `tapster=debug`
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Form of log messages
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Where metrics go.
    #[command(flatten)]
    pub otlp: otlp::OtlpArgs,
}

/// Flags of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Shipped probes, groups of them such as `sched`, files of probes in YAML, directories of such files, or `-` for standard
    /// input [default: the shipped probes]
    #[arg(value_name = "NAME|FILE|DIR|-")]
    pub what: Vec<String>,
    /// Which probes.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// Only compile, without asking the kernel's verifier; needs nothing but to read tracefs
    #[arg(long)]
    pub offline: bool,
    /// List the patterns of the table of reasons that match no function of this kernel
    #[arg(short, long)]
    pub verbose: bool,
}

/// Flags of `list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Text to find in names, `*` for anything; with it the arguments are shown too. Functions of the kernel: `fentry:vfs_*`,
    /// `kprobe:vfs_*`; of a program or library: `uprobe:BINARY:PATTERN`, and its own probes: `usdt:BINARY` or
    /// `usdt:BINARY:PROVIDER:NAME`; timers and counters: `profile`, `interval`, `software`, `hardware`
    pub pattern: Option<String>,
    /// Look for BINARY among the files that this process sees
    #[arg(long, conflicts_with = "container")]
    pub pid: Option<u32>,
    /// Look for BINARY among the files of the container whose id begins so, or of that name
    #[arg(long)]
    pub container: Option<String>,
    /// Show the shipped probes instead
    #[arg(long)]
    pub library: bool,
    /// Show the probes of this file, directory or `-` for standard input instead; may be given several times
    #[arg(short, long = "config", value_name = "FILE|DIR|-", conflicts_with = "library")]
    pub config: Vec<PathBuf>,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Flags of `compile`.
#[derive(Args, Debug)]
pub struct CompileArgs {
    /// Shipped probes, groups of them such as `sched`, files of probes in YAML, directories of such files, or `-` for standard
    /// input [default: the shipped probes]
    #[arg(value_name = "NAME|FILE|DIR|-")]
    pub what: Vec<String>,
    /// Which probes.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// What to print
    #[arg(long, default_value = "asm")]
    pub emit: Emit,
    /// File to write instead of the terminal; needed for `obj`
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Flags of `report`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct ReportArgs {
    /// Shipped probes, groups of them such as `sched`, files of probes in YAML, directories of such files, or `-` for standard
    /// input [default: the shipped probes]
    #[arg(value_name = "NAME|FILE|DIR|-")]
    pub what: Vec<String>,
    /// Which probes.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// How long to count: `10s`, `2m`, or a number of seconds; without it and without a command, until Ctrl-C. A command that
    /// lasts longer goes on without being counted
    #[arg(long = "for", value_name = "TIME", value_parser = duration::or_seconds)]
    pub interval: Option<Duration>,
    /// Count the whole host while the command runs, also with probes that keep to the command
    #[arg(long = "system-wide", requires = "command")]
    pub system_wide: bool,
    /// Most rows of a table; what is left out is added up in one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// What rows are sorted by, the highest first; counters and gauges have one value, which is their total
    #[arg(long, value_name = "COLUMN", default_value = "total")]
    pub sort: Sort,
    /// Show distributions also where the output is not a terminal
    #[arg(long, conflicts_with = "json")]
    pub bars: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print only stacks, in the form that flame graphs are made of: `OUTERMOST;…;INNERMOST TOTAL`
    #[arg(long, conflicts_with_all = ["json", "bars"])]
    pub folded: bool,
    /// File for the report, which otherwise goes to standard output, behind what the command writes there
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// Count as long as this command runs; its exit status becomes that of `tapster report`. The scheduler's probes
    /// (`sched`) count the command and its children, the others the whole host
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Flags of `raid`.
///
/// The rules for Prometheus in `config/rules/raid.yaml` have the same thresholds.
#[derive(Args, Debug)]
pub struct RaidArgs {
    /// Only these arrays: `md0`, `vg-lv`, or a path of theirs
    #[arg(value_name = "ARRAY")]
    pub arrays: Vec<String>,
    /// How long to watch: `10s`, `2m`, or a number of seconds; Ctrl-C ends it early
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration::or_seconds)]
    pub interval: Duration,
    /// A member is slow if its average is more than this many times that of the others …
    #[arg(long, value_name = "NUMBER", default_value_t = Rule::default().ratio, value_parser = raid::ratio)]
    pub ratio: f64,
    /// … and at least this much above it
    #[arg(long, value_name = "TIME", default_value = "0.8ms", value_parser = duration::parse)]
    pub floor: Duration,
    /// With `--check`, a slow member is critical if its average is more than this many times that of the others
    #[arg(long = "critical-ratio", value_name = "NUMBER", default_value_t = Rule::default().critical_ratio, value_parser = raid::ratio, requires = "check")]
    pub critical_ratio: f64,
    /// Members with fewer I/Os of an operation are not compared
    #[arg(long, value_name = "COUNT", default_value_t = Rule::default().min_count)]
    pub min_count: u64,
    /// A member that has not completed an I/O for this long does not answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration::parse)]
    pub stuck: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// For cron, Nagios and its kin: print one line with figures, and end with status 0 if all is well, 1 for a warning, 2 if it
    /// is critical, 3 if it cannot be told
    #[arg(long, conflicts_with = "json")]
    pub check: bool,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
}

/// Flags of `callgraph`.
#[derive(Args, Debug)]
pub struct CallgraphArgs {
    /// The program or library whose functions are followed, by path or name, and a pattern of their names: `*` is any
    /// text, `?` one character [default pattern: *]
    #[arg(value_name = "BINARY[:GLOB]")]
    pub what: String,
    /// Show only the calls of this function, and calls made beneath it
    #[arg(long, value_name = "FUNCTION")]
    pub trigger: Option<String>,
    /// Form of the graph [default: text]
    #[arg(long, value_name = "FORM")]
    pub format: Option<Output>,
    /// File for the graph, apart from the command's output. Without `--format`, the words `text`, `folded` and `json` choose
    /// the form
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What `--output` was called when that was the form
    #[arg(long, value_name = "FILE", hide = true)]
    pub file: Option<PathBuf>,
    /// How many arguments are shown; without type information nobody knows how many a function has
    #[arg(long, value_name = "COUNT", default_value = "2", default_value_ifs = NO_ARGUMENTS, value_parser = arguments)]
    pub args: Option<usize>,
    /// Most functions that are followed
    #[arg(long, value_name = "COUNT", default_value_t = 4096)]
    pub limit: usize,
    /// Size of the ring between the kernel and this program, MiB: a power of 2
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = buffer)]
    pub buffer: u32,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The folded form shows no arguments: with it there is no number of them but one that was given, which can be refused.
const NO_ARGUMENTS: [(&str, &str, Option<&str>); 2] =
    [("format", "folded", None), ("output", "folded", None)];

fn arguments(text: &str) -> Result<usize, String> {
    let most = tapster_ebpf::callgraph::ARGUMENTS;
    text.parse().ok().filter(|count| *count <= most).ok_or_else(|| format!("expected 0 to {most}"))
}

fn buffer(text: &str) -> Result<u32, String> {
    let power = |size: &u32| size.is_power_of_two() && *size <= 1024;
    text.parse().ok().filter(power).ok_or_else(|| "expected a power of 2 up to 1024".into())
}

/// Stages of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// Expressions as they were read
    Ast,
    /// Expressions with types, offsets and the way they are read
    Typed,
    /// eBPF instructions
    Asm,
    /// An ELF object
    Obj,
}

/// Does what was asked; the result is the exit status.
pub fn main(cli: Cli) -> anyhow::Result<u8> {
    let Some(command) = cli.command else { return Stop::status(run::run(&cli.run, &[])) };
    match command {
        Command::Run(args) => Stop::status(run::run(&args.run, &args.what)),
        Command::Check(args) => check::check(&args),
        Command::List(args) => Stop::status(list::list(&args)),
        Command::Compile(args) => Stop::status(compile::compile(&args)),
        Command::Report(args) => Stop::status(report::main(&args)),
        Command::Raid(args) => raid::main(&args),
        Command::Callgraph(args) => Stop::status(callgraph::callgraph(&args)),
        Command::Generate(what) => generate::generate(&what),
        Command::Schema => {
            print(&format!("{:#}\n", tapster_ebpf::declaration::schema()))?;
            Ok(0)
        }
    }
}

/// Prints diagnostics in the order of their places, a blank line between two; whether there was an error. What several probes
/// share, by an anchor of YAML, is wrong once.
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

/// Says what this host lacks to run any probe; whether it lacks something.
fn lacks(kernel: &Kernel) -> bool {
    let Err(missing) = kernel.requirements() else { return false };
    for missing in missing {
        let hint = missing.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        tell!("error: {}{hint}", missing.message);
    }
    true
}

/// What `tell!` does.
pub fn tell(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
