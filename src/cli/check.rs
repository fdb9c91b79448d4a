//! `tapster check`: would these probes run here?

mod reasons;

use super::{CheckArgs, FAILURE, USAGE, lacks, print, report};
use crate::{
    config,
    exporter::{Exporter, Options},
    kernel::Kernel,
    otlp::setting::{Exports, SettingError, Sources},
    owner::{Owners, Trust},
    status::ProgramStatus,
};
use std::fmt::Write;
use tapster_ebpf::{
    probe::{Decoder, Otlp, Probe},
    program::Program,
};

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let mut request = args.probes.request(Trust::Told(Owners::of_process(&[])));
    request.files.extend(args.files.iter().cloned());
    let config = match config::load(&request) {
        Ok(config) => config,
        Err(error) => {
            tell!("error: {error}");
            return Ok(USAGE);
        }
    };
    for stranger in &config.strangers {
        eprintln!("warning: `tapster run` would not take this file: {stranger}");
    }
    let settings = config.otlp.as_ref().map_or(Ok(()), pushes);
    let kernel = Kernel::detect(&args.host.paths());
    // Without the right to look, nearly everything would seem to be missing.
    if config.diagnostics.is_empty() && !args.offline && lacks(&kernel) {
        tell!("  hint: `tapster check --offline` only compiles");
        return Ok(FAILURE);
    }
    let target = kernel.target();
    let mut diagnostics = config.diagnostics;
    let (probes, more) = tapster_ebpf::check::select(config.probes, &target);
    diagnostics.extend(more);
    // Every probe is compiled even after a mistake, so that all mistakes are told at once.
    let (mut programs, mut typeless) = (Vec::new(), Vec::new());
    let mut compiled = Vec::new();
    for probe in probes {
        match tapster_ebpf::compile(&probe, &target) {
            Ok(program) => {
                programs.push(program);
                compiled.push(probe);
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
    // Said once for all that need the same.
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
    if report(&diagnostics) || settings.is_err() {
        return Ok(USAGE);
    }
    let mut failed = Vec::new();
    let (mut loaded, mut limits) = (Vec::new(), Vec::new());
    if !args.offline {
        let options = Options { run_stats: false, attach: false, command: false };
        let (exporter, failures, _) =
            Exporter::start(&compiled, &kernel, &args.host.host(), Vec::new(), options);
        failed = failures;
        loaded = exporter.loaded();
        limits = exporter.limits();
    }
    let width = programs.iter().map(|program| program.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for program in &programs {
        let insns: usize = program.codes.iter().map(|code| code.assembled.insns.len()).sum();
        let failure = failed.iter().find(|failure| failure.name == program.name);
        let state = match failure {
            Some(failure) => failure.down.reason,
            None if args.offline => "compiled",
            None => "ok",
        };
        let memory = kibibytes(program.memory_bytes(kernel.possible_cpus));
        writeln!(
            text,
            "{:width$}  {state:8}  {} programs, {insns} instructions, at most {} series and {memory} of kernel memory",
            program.name,
            program.codes.len(),
            program.layout.max_rows,
        )?;
        let shared_by = program.layout.shared_by(kernel.possible_cpus);
        if shared_by > 1 {
            writeln!(text, "{:width$}            rows are shared by {shared_by} processors each", "")?;
        }
        // Both ends of calls leave out the same.
        let mut left_out: Vec<&String> = Vec::new();
        let status = loaded.iter().find(|(name, _)| *name == program.name).map(|(_, programs)| programs);
        for Way { at, mechanism, functions, places } in ways(program, status.map_or(&[], Vec::as_slice)) {
            let count = match (functions, places) {
                (0 | 1, 0 | 1) => String::new(),
                (0 | 1, places) => format!(", {places} places"),
                (functions, _) => format!(", {functions} functions"),
            };
            writeln!(text, "{:width$}            {at} by {mechanism}{count}", "")?;
        }
        for what in program.codes.iter().flat_map(|code| &code.sites.left_out) {
            if !left_out.contains(&what) {
                left_out.push(what);
            }
        }
        for what in left_out {
            writeln!(text, "{:width$}            left out {what}", "")?;
        }
        for (_, limit) in limits.iter().filter(|(name, _)| *name == program.name) {
            writeln!(text, "{:width$}            but {}", "", limit.message)?;
        }
        if let Some(failure) = failure {
            writeln!(text, "{}", failure.down.message)?;
        }
    }
    let asks = |probe: &Probe| {
        let mut decoders = probe.labels.iter().filter_map(|label| label.decoder.as_ref());
        decoders.any(|decoder| decoder.value == Decoder::Reason)
    };
    if !config.reasons.is_empty() || compiled.iter().any(asks) {
        reasons::told(&config.reasons, &kernel, args.verbose, &mut text)?;
    }
    print(&text)?;
    Ok(if failed.is_empty() && typeless.is_empty() { 0 } else { FAILURE })
}

/// How a probe gets to an attach point.
struct Way {
    at: String,
    mechanism: String,
    functions: usize,
    /// Where a program passes its own probe.
    places: usize,
}

/// One for each attach point, of which a program's own probe may need several programs: its arguments are elsewhere at each
/// place that passes it.
fn ways(program: &Program, loaded: &[ProgramStatus]) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for code in &program.codes {
        let at = code.at.to_string();
        // The way that was taken, where it was loaded: some have a choice only the kernel can tell.
        let taken = loaded.iter().find(|status| status.attach_point == at && code.usdt.is_none());
        let mechanism =
            taken.map_or_else(|| code.mechanism.name().to_owned(), |status| status.mechanism.clone());
        let (functions, places) =
            (code.sites.list.len(), code.usdt.as_ref().map_or(0, |sites| sites.list.len()));
        match ways
            .iter_mut()
            .find(|known| known.at == at && known.mechanism == mechanism && code.usdt.is_some())
        {
            Some(known) => known.places += places,
            None => ways.push(Way { at, mechanism, functions, places }),
        }
    }
    ways
}

fn kibibytes(bytes: u64) -> String {
    let kib = bytes.div_ceil(1024);
    if kib < 10_240 { format!("{kib} KiB") } else { format!("{} MiB", kib.div_ceil(1024)) }
}

/// Whether a file says rightly where metrics go. Flags and variables are those of another process, so that pushes may be
/// asked for there.
fn pushes(file: &Otlp) -> Result<(), SettingError> {
    let read = |flags| Exports::read(&Sources { flags, variable: &|_| None, file: Some(file) });
    read(Vec::new())?;
    read(vec![("--exporters", Some("otlp".to_owned()))]).map(|_| ())
}
