//! `tapster check`: would these probes run here?

use super::{CheckArgs, FAILURE, USAGE, print, report};
use crate::{
    config,
    exporter::{Exporter, Options},
    kernel::Kernel,
};
use std::fmt::Write;

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<u8> {
    let config = match config::load(&args.probes.request()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(USAGE);
        }
    };
    let kernel = Kernel::detect(&args.host.paths());
    if !args.offline
        && let Err(missing) = kernel.requirements()
    {
        // What the kernel does not show to this process would be taken for the files' mistakes.
        if report(&config.diagnostics) {
            return Ok(USAGE);
        }
        for missing in missing {
            let hint = missing.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            eprintln!("error: {}{hint}", missing.message);
        }
        eprintln!("  hint: `tapster check --offline` only compiles");
        return Ok(FAILURE);
    }
    let target = kernel.target();
    let mut diagnostics = config.diagnostics;
    let (probes, more) = tapster_ebpf::check::select(config.probes, &target);
    diagnostics.extend(more);
    // Every probe is compiled even after a mistake, so that all mistakes are told at once.
    let mut programs = Vec::new();
    let mut compiled = Vec::new();
    for probe in probes {
        match tapster_ebpf::compile(&probe, &target) {
            Ok(program) => {
                programs.push(program);
                compiled.push(probe);
            }
            Err(more) => diagnostics.extend(more),
        }
    }
    if report(&diagnostics) {
        return Ok(USAGE);
    }
    let mut failed = Vec::new();
    if !args.offline {
        let options = Options { run_stats: false, attach: false };
        let (_, failures, _) = Exporter::start(&compiled, &kernel, &args.host.host(), options);
        failed = failures;
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
        for code in &program.codes {
            writeln!(text, "{:width$}            {} by {}", "", code.at, code.mechanism.name())?;
        }
        if let Some(failure) = failure {
            writeln!(text, "{}", failure.down.message)?;
        }
    }
    print(&text);
    Ok(if failed.is_empty() { 0 } else { FAILURE })
}

fn kibibytes(bytes: u64) -> String {
    let kib = bytes.div_ceil(1024);
    if kib < 10_240 { format!("{kib} KiB") } else { format!("{} MiB", kib.div_ceil(1024)) }
}
