//! `tapster check`: would these probes run here?

mod cost;
mod kernels;
mod reasons;

use super::{FAILURE, HostArgs, ProbeArgs, USAGE, lacks, print, report};
use crate::{
    config,
    exporter::{Exporter, StartFailure},
    kernel::Kernel,
    otlp::setting::{Exports, SettingError, SettingSources},
    owner::{Owners, Trust},
    status::{Limit, ProgramStatus},
};
use clap::Args;
use std::{collections::BTreeSet, fmt::Write};
use tapster_ebpf::{
    diagnostic::Diagnostic,
    point::Subject,
    probe::{Decoder, Otlp, Probe},
    program::Program,
};

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
    /// Kernels that do not run here.
    #[command(flatten)]
    pub kernels: kernels::KernelArgs,
}

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let selection = args.probes.selection(&args.what, Trust::Told(Owners::of_process(&[])));
    let config = match config::survey(&selection) {
        Ok(config) => config,
        Err(error) => {
            tell!("error: {error}");
            return Ok(USAGE);
        }
    };
    for stranger in &config.strangers {
        tell!("warning: `tapster run` would not take this file: {stranger}");
    }
    for error in &config.unread {
        tell!("error: {error}");
    }
    let settings = config.otlp.as_ref().map_or(Ok(()), pushes);
    if !args.kernels.btf.is_empty() {
        if let Err(error) = &settings {
            tell!("{}", error.to_string().trim_end());
        }
        let is_right = settings.is_ok() && config.unread.is_empty();
        return kernels::check(&args.kernels, &config, is_right);
    }
    let kernel = Kernel::detect(&args.host.host());
    let is_right = !config.diagnostics.iter().any(Diagnostic::is_error) && config.unread.is_empty();
    // Without the right to read them, nearly everything would seem to be missing.
    if is_right && !args.offline && lacks(&kernel) {
        tell!("  hint: `tapster check --offline` only compiles");
        return Ok(FAILURE);
    }
    let target = kernel.target();
    let mut diagnostics = config.diagnostics;
    let (probes, more) = tapster_ebpf::check::select(config.probes, &target);
    diagnostics.extend(more);
    diagnostics.extend(tapster_ebpf::check::overruled(&probes));
    // Every probe is compiled even after an error, so that all errors are reported at once.
    let mut typeless = Vec::new();
    let mut compiled = Vec::new();
    for probe in probes {
        match tapster_ebpf::compile(&probe, &target) {
            Ok(program) => {
                diagnostics.extend(program.warnings.iter().cloned());
                compiled.push((probe, program));
            }
            Err(more) => match kernel.typeless(&more) {
                Some(why) => typeless.push((probe.name.value.clone(), why)),
                None => diagnostics.extend(more),
            },
        }
    }
    if let Err(error) = &settings {
        tell!("{}", error.to_string().trim_end());
    }
    // Reported once for all probes with the same cause.
    typeless.dedup_by(|(name, why), (names, known)| {
        let is_same = why == known;
        if is_same {
            names.push_str(", ");
            names.push_str(name);
        }
        is_same
    });
    for (names, why) in &typeless {
        tell!("error: {names}: {why}");
    }
    let is_wrong = report(&diagnostics) || settings.is_err() || !config.unread.is_empty();
    // Valid probes are reported all the same: one bad file does not affect the others.
    let started = if args.offline || compiled.is_empty() || kernel.requirements().is_err() {
        None
    } else {
        let (exporter, failures) = Exporter::attempt(&compiled, &kernel, &args.host.host());
        Some(LoadedProbes { loaded: exporter.loaded(), limits: exporter.limits(), failures, exporter })
    };
    let mut text = String::new();
    let disks = cost::disks(&args.host.host());
    told(&compiled, started.as_ref(), kernel.possible_cpus, &disks, &mut text)?;
    for probe in &config.off {
        writeln!(text, "{}  off       runs when it is named: --probes {0}", probe.name.value)?;
    }
    let asks = |probe: &Probe| {
        let mut decoders = probe.labels.iter().filter_map(|label| label.decoder.as_ref());
        decoders.any(|decoder| decoder.value == Decoder::Reason)
    };
    if !is_wrong && (!config.reasons.is_empty() || compiled.iter().any(|(probe, _)| asks(probe))) {
        reasons::told(&config.reasons, &kernel, args.verbose, &mut text)?;
    }
    print(&text)?;
    let has_failed = started.is_some_and(|started| !started.failures.is_empty()) || !typeless.is_empty();
    Ok(match (is_wrong, has_failed) {
        (true, _) => USAGE,
        (false, true) => FAILURE,
        (false, false) => 0,
    })
}

/// Probes that were loaded without being attached.
struct LoadedProbes {
    exporter: Exporter,
    failures: Vec<StartFailure>,
    loaded: Vec<(String, Vec<ProgramStatus>)>,
    limits: Vec<(String, Limit)>,
}

/// The verdict on each probe.
fn told(
    compiled: &[(Probe, Program)],
    started: Option<&LoadedProbes>,
    cpus: u32,
    disks: &[cost::Disk],
    text: &mut String,
) -> std::fmt::Result {
    let width = compiled.iter().map(|(_, program)| program.name.len()).max().unwrap_or(0);
    let running = started.map(|started| started.exporter.probes()).unwrap_or_default();
    let mut untried = BTreeSet::new();
    for (probe, program) in compiled {
        let name = &program.name;
        let own = running.iter().find(|running| running.name() == name);
        // The program with the alternatives that the kernel accepted.
        let program = own.and_then(|running| running.program()).unwrap_or(program);
        let insns: usize = program.codes.iter().map(|code| code.assembled.insns.len()).sum();
        let failure =
            started.and_then(|started| started.failures.iter().find(|failure| failure.name == *name));
        let state = match failure {
            Some(failure) => failure.down.cause.word(),
            None if started.is_none() => "compiled",
            None => "ok",
        };
        let memory = kibibytes(program.memory_bytes(cpus));
        let programs = if program.codes.len() == 1 { "program" } else { "programs" };
        writeln!(
            text,
            "{name:width$}  {state:8}  {} {programs}, {insns} instructions, at most {} label sets and {memory} of kernel memory",
            program.codes.len(),
            program.layout.max_rows,
        )?;
        let shared_by = program.layout.shared_by(cpus);
        if shared_by > 1 {
            writeln!(text, "{:width$}            rows are shared by {shared_by} processors each", "")?;
        }
        let state = &program.layout.state;
        if state.task_size > 0 && state.with_task {
            writeln!(
                text,
                "{:width$}            state per task is kept with each task, {} bytes and what the kernel adds",
                "", state.task_size
            )?;
        }
        for line in cost::lines(program, &probe.shown, disks) {
            writeln!(text, "{:width$}            {line}", "")?;
        }
        let loaded = started.and_then(|started| started.loaded.iter().find(|(loaded, _)| loaded == name));
        for AttachedPoint { at, mechanism, functions, places, what } in
            ways(program, loaded.map_or(&[][..], |(_, all)| all.as_slice()))
        {
            let count = match (functions, places) {
                (0 | 1, 0 | 1) => String::new(),
                (0 | 1, places) => format!(", {places} places"),
                (functions, _) => format!(", {functions} {what}"),
            };
            writeln!(text, "{:width$}            {at} by {mechanism}{count}", "")?;
        }
        if failure.is_none() {
            untried.extend(program.codes.iter().filter_map(|code| code.mechanism.untried));
        }
        // Both ends of calls leave out the same functions.
        let mut left_out: Vec<&String> = Vec::new();
        for what in program.codes.iter().flat_map(|code| &code.sites.left_out) {
            if !left_out.contains(&what) {
                left_out.push(what);
            }
        }
        for what in left_out {
            writeln!(text, "{:width$}            left out {what}", "")?;
        }
        for passed in own.map(|running| running.passed()).unwrap_or_default() {
            writeln!(text, "{:width$}            {passed}", "")?;
        }
        for absent in &program.absent {
            writeln!(text, "{:width$}            {absent}", "")?;
        }
        for (_, limit) in
            started.iter().flat_map(|started| &started.limits).filter(|(limited, _)| limited == name)
        {
            writeln!(text, "{:width$}            but {}", "", limit.message)?;
        }
        if let Some(failure) = failure {
            writeln!(text, "{}", failure.down.message)?;
        }
    }
    if started.is_some() && !untried.is_empty() {
        let kinds = untried.into_iter().collect::<Vec<_>>().join(", ");
        writeln!(
            text,
            "nothing was attached: whether the kernel takes {kinds} at these places is found out by `tapster run`"
        )?;
    }
    Ok(())
}

/// How a probe attaches to an attach point.
struct AttachedPoint {
    at: String,
    mechanism: String,
    functions: usize,
    /// Number of places of a USDT probe.
    places: usize,
    /// What there are several of, in words.
    what: &'static str,
}

/// One for each attach point. A USDT probe may need several programs for one, because its arguments differ between places, and so
/// may a pattern of tracepoints.
fn ways(program: &Program, loaded: &[ProgramStatus]) -> Vec<AttachedPoint> {
    let mut ways: Vec<AttachedPoint> = Vec::new();
    for code in &program.codes {
        let at = code.at.to_string();
        // The mechanism that was used, if the program was loaded: sometimes only the kernel can decide.
        let taken = loaded.iter().find(|status| status.attach_point == at && code.usdt.is_none());
        let mechanism =
            taken.map_or_else(|| code.mechanism.name.to_owned(), |status| status.mechanism.clone());
        let (functions, places) =
            (code.sites.list.len(), code.usdt.as_ref().map_or(0, |sites| sites.list.len()));
        let is_tracepoint = code.at.kind.subject == Subject::Tracepoint;
        let may_be_several = code.usdt.is_some() || is_tracepoint && code.at.may_be_several();
        match ways.iter_mut().find(|known| known.at == at && known.mechanism == mechanism && may_be_several) {
            Some(known) => {
                known.places += places;
                known.functions += functions;
            }
            None => {
                let what = if is_tracepoint { "tracepoints" } else { "functions" };
                ways.push(AttachedPoint { at, mechanism, functions, places, what });
            }
        }
    }
    ways
}

fn kibibytes(bytes: u64) -> String {
    let kib = bytes.div_ceil(1024);
    if kib < 10_240 { format!("{kib} KiB") } else { format!("{} MiB", kib.div_ceil(1024)) }
}

/// Checks the section of a file about pushes. Flags and variables belong to another process, which may enable pushes.
fn pushes(file: &Otlp) -> Result<(), SettingError> {
    let read = |flags| Exports::read(&SettingSources { flags, variable: &|_| None, file: Some(file) });
    read(Vec::new())?;
    read(vec![("--exporters", Some("otlp".to_owned()))]).map(|_| ())
}
