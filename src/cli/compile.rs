//! `tapster compile`: shows the stages of the compiler.

use super::{
    HostArgs, ProbeArgs, USAGE,
    output::{print, print_bytes, save},
    report,
    stop::{Stop, selected},
};
use crate::{config, kernel::Kernel, owner::Trust};
use clap::{Args, ValueEnum};
use std::{fmt::Write, io::IsTerminal, path::PathBuf};
use tapster_ebpf::{check, object, probe::Probe};

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

pub(super) fn compile(args: &CompileArgs) -> Result<u8, Stop> {
    let selection = args.probes.selection(&args.what, Trust::Everybody);
    let config = match config::load(&selection) {
        Ok(config) => config,
        Err(error) => {
            tell!("error: {error}");
            tell!("  hint: `tapster list --library` shows the names of shipped probes");
            return Ok(USAGE);
        }
    };
    if report(&config.diagnostics) {
        return Ok(USAGE);
    }
    let kernel = Kernel::detect(&args.host.host());
    let target = kernel.target();
    let probes = selected(config.probes, &kernel)?;
    let mut text = String::new();
    let mut objects = Vec::new();
    let mut failed = false;
    for probe in &probes {
        match args.emit {
            Emit::Ast => ast(probe, &mut text)?,
            Emit::Typed => match check::check(probe, &target) {
                Ok(typed) => writeln!(text, "{typed:#?}")?,
                Err(diagnostics) => failed |= report(&diagnostics),
            },
            Emit::Asm | Emit::Obj => match tapster_ebpf::compile(probe, &target) {
                Ok(program) if args.emit == Emit::Asm => {
                    for code in &program.codes {
                        let listing = code.assembled.listing();
                        writeln!(text, "{} ({}):\n{listing}", code.at, code.mechanism.name)?;
                    }
                    if let Some(session) = &program.session {
                        writeln!(
                            text,
                            "both, where the kernel takes it (kprobe_session):\n{}",
                            session.listing()
                        )?;
                    }
                }
                Ok(program) => objects.push(object::write(&program)?),
                Err(diagnostics) => failed |= report(&diagnostics),
            },
        }
    }
    if failed {
        return Ok(USAGE);
    }
    if args.emit == Emit::Obj {
        let [object] = objects.as_slice() else {
            tell!(
                "error: an object holds one probe, and there are {}\n  hint: pick one with --probes NAME",
                objects.len()
            );
            return Ok(USAGE);
        };
        if let Some(path) = &args.output {
            save(path, object)?;
        } else if std::io::stdout().is_terminal() {
            tell!("error: an object is not for a terminal\n  hint: give --output FILE, or a pipe");
            return Ok(USAGE);
        } else {
            print_bytes(object)?;
        }
        return Ok(0);
    }
    match &args.output {
        Some(path) => save(path, text.as_bytes())?,
        None => print(&text)?,
    }
    Ok(0)
}

/// Every expression of a probe as parsed.
fn ast(probe: &Probe, text: &mut String) -> std::fmt::Result {
    writeln!(text, "probe {}", probe.name.value)?;
    for (name, value) in &probe.lets {
        writeln!(text, "  let {} = {}", name.value, value.ast)?;
    }
    let counting = if probe.between { "between" } else { "end" };
    for state in &probe.states {
        let default = state.default.as_ref().map_or_else(String::new, |value| format!(" = {}", value.ast));
        writeln!(text, "  state {} per {}{default}", state.name.value, state.per.word())?;
    }
    for (role, events) in [("note", &probe.notes), ("start", &probe.starts), (counting, &probe.ends)] {
        for event in events {
            let points: Vec<String> = event.at.iter().map(|at| at.value.to_string()).collect();
            writeln!(text, "  {role} {}", points.join(" or "))?;
            for key in &event.key {
                writeln!(text, "    key {}", key.ast)?;
            }
            if let Some(filter) = &event.filter {
                writeln!(text, "    where {}", filter.ast)?;
            }
            for (name, value) in &event.saves {
                writeln!(text, "    save {} = {}", name.value, value.ast)?;
            }
            let own = &event.own;
            let values = own.metrics.iter().flatten().map(|value| ("metric", value));
            let of = |what| move |value| (what, value);
            for (what, (name, value)) in
                own.lets.iter().map(of("let")).chain(own.labels.iter().map(of("label"))).chain(values)
            {
                writeln!(text, "    {what} {} = {}", name.value, value.ast)?;
            }
            if let Some(each) = &event.each {
                writeln!(
                    text,
                    "    each {} from {} next {} limit {}",
                    each.name.value, each.from.ast, each.next.ast, each.limit
                )?;
            }
            for change in &event.changes {
                write!(text, "    {} {}", change.effect.word(), change.name.value)?;
                for part in &change.key {
                    write!(text, "[{}]", part.ast)?;
                }
                if let Some(value) = change.effect.value() {
                    write!(text, " = {}", value.ast)?;
                }
                writeln!(text)?;
            }
        }
    }
    for label in &probe.labels {
        if let Some(value) = &label.value {
            writeln!(text, "  label {} = {}", label.name.value, value.ast)?;
        }
    }
    for metric in &probe.metrics {
        let value = metric.value.as_ref().map_or("1".to_owned(), |value| value.ast.to_string());
        writeln!(text, "  metric {} = {value}", metric.name.value)?;
    }
    for metric in &probe.waiting {
        writeln!(text, "  metric {} = {}", metric.name.value, metric.kind.name())?;
    }
    Ok(())
}
