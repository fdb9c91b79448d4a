//! `tapster list`: attach points and shipped probes.

mod events;
mod functions;
mod objects;
mod packets;
mod tracepoints;
mod usdt;
mod wanted;

use super::{
    FAILURE, HostArgs, USAGE, print,
    stop::{Stop, configured},
    tell_missing,
};
use crate::{
    config::{self, ProbeSelection},
    kernel::{Kernel, Missing},
};
use clap::Args;
use functions::{FunctionQuery, Listing};
use std::{borrow::Cow, cell::OnceCell, fmt::Write, path::PathBuf};
use tapster_ebpf::{
    attach::{self, PerfEvent},
    check, diagnostic,
    probe::{Probe, Root},
    tracefs::Tracepoints,
};
use wanted::NameFilter;

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

pub(super) fn list(args: &ListArgs) -> Result<u8, Stop> {
    let pattern = args.pattern.as_deref();
    if let Some(message) = useless(args) {
        tell!("error: {message}");
        return Ok(USAGE);
    }
    if args.library {
        return probes(args, &config::library()?, pattern);
    }
    if !args.config.is_empty() {
        let selection = ProbeSelection { files: args.config.clone(), ..ProbeSelection::default() };
        return probes(args, &configured(&selection)?.probes, pattern);
    }
    let host = args.host.host();
    let root = match (args.pid, &args.container) {
        (Some(pid), _) => Root::Process(pid),
        (None, Some(container)) => Root::Container(container.clone()),
        (None, None) => Root::Host,
    };
    if let Some((binary, wanted)) = pattern.and_then(usdt::wanted) {
        return shown(usdt::list(&host.proc, &root, binary, wanted));
    }
    match pattern.and_then(functions::asked) {
        Some(FunctionQuery::Program(kind, binary, wanted)) => {
            return shown(functions::of_program(&host.proc, &root, (kind, binary, wanted)));
        }
        Some(FunctionQuery::Kernel(kind, wanted)) => {
            return shown(functions::of_kernel(&Kernel::detect(&host), kind, wanted));
        }
        None => {}
    }
    points(args, &Kernel::detect(&host))
}

/// The error for flags about programs without a program, which would have no effect.
fn useless(args: &ListArgs) -> Option<String> {
    let flag = match (args.pid, &args.container) {
        (Some(_), _) => "--pid",
        (None, Some(_)) => "--container",
        (None, None) => return None,
    };
    let is_of_program = |pattern: &str| {
        usdt::wanted(pattern).is_some()
            || matches!(functions::asked(pattern), Some(FunctionQuery::Program(..)))
    };
    let is_used =
        !args.library && args.config.is_empty() && args.pattern.as_deref().is_some_and(is_of_program);
    (!is_used).then(|| {
        format!(
            "`{flag}` says where a program or library is looked for: give a pattern of one, `uprobe:BINARY:PATTERN` or \
             `usdt:BINARY`, or leave it out"
        )
    })
}

/// Prints the list, then its notes.
fn shown(listed: Result<Listing, Missing>) -> Result<u8, Stop> {
    match listed {
        Ok(Listing { text, notes }) => {
            print(&text)?;
            for note in notes {
                tell!("note: {note}");
            }
            Ok(0)
        }
        Err(missing) => {
            tell_missing(&missing);
            Ok(FAILURE)
        }
    }
}

/// Tracepoints, timers and counters, and what can be walked over.
fn points(args: &ListArgs, kernel: &Kernel) -> Result<u8, Stop> {
    let pattern = args.pattern.as_deref();
    let target = kernel.target();
    let events = events::asked(&args.host.sysfs, pattern);
    if let Err(missing) = &kernel.tracefs
        && (events.is_empty() || pattern.is_none())
    {
        return shown(Err(missing.clone()));
    }
    let all = kernel.all();
    let mut text = String::new();
    let points = tracepoints::asked(&all, pattern).into_iter();
    let packets = packets::asked(&args.host.host().proc, &target, pattern);
    let points = points.chain(events.iter().map(PerfEvent::point)).chain(objects::asked(&target, pattern));
    for point in points.chain(packets) {
        if !attach::is_listed(&point, &target) {
            continue;
        }
        writeln!(text, "{point}")?;
        // For all of them, arguments would hide the names.
        if pattern.is_some() {
            for (argument, ctype) in check::describe(&point, &target).unwrap_or_default() {
                writeln!(text, "    {ctype} args.{argument}")?;
            }
        }
    }
    print(&text)?;
    if text.is_empty() {
        let pattern = pattern.unwrap_or_default();
        tell!("error: no attach point matches `{pattern}`{}", hint(pattern, args, &all)?);
        return Ok(FAILURE);
    }
    Ok(0)
}

/// A suggestion for a pattern that nothing matches.
fn hint(pattern: &str, args: &ListArgs, all: &[(String, String)]) -> anyhow::Result<String> {
    if config::library()?.iter().any(|probe| config::is_called(probe, pattern)) {
        return Ok(format!(
            ", but there are shipped probes of that name: `tapster list --library {pattern}`"
        ));
    }
    if spelled_out(pattern).starts_with("hardware") && !events::has_counters(&args.host.sysfs) {
        return Ok(": this CPU shows no counters, as in most virtual machines".into());
    }
    let near = diagnostic::near(pattern, all.iter().map(|(_, name)| name.as_str()), 3);
    Ok(if near.is_empty() {
        "\n  hint: `tapster list fentry:PATTERN` and `kprobe:PATTERN` show functions of the kernel, \
         `uprobe:BINARY:PATTERN` those of a program"
            .into()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    })
}

/// Optional events that this kernel does not have. The kernel is read only if there is an optional event.
fn absent(probe: &Probe, kernel: &OnceCell<Kernel>, args: &ListArgs) -> Vec<String> {
    if !probe.events().any(|event| event.optional) {
        return Vec::new();
    }
    let kernel = kernel.get_or_init(|| Kernel::detect(&args.host.host()));
    // What is wrong with a probe is said by `tapster check`.
    let absent = check::check(probe, &kernel.target()).map(|typed| typed.absent).unwrap_or_default();
    absent.iter().map(|event| format!("    {event}")).collect()
}

/// Probes with their metrics. Probes with the same name are variants for other kernels or arrays, and count as one.
fn probes(args: &ListArgs, all: &[Probe], pattern: Option<&str>) -> Result<u8, Stop> {
    let kernel = OnceCell::new();
    let mut named: Vec<(&str, Vec<&Probe>)> = Vec::new();
    let wanted = pattern.map(|pattern| (NameFilter::new(pattern), pattern));
    for probe in all {
        let is_meant = |(wanted, word): &(NameFilter<'_>, &str)| {
            wanted.means(&probe.name.value) || config::is_called(probe, word)
        };
        if !wanted.as_ref().is_none_or(is_meant) {
            continue;
        }
        let name = probe.name.value.as_str();
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, variants)) => variants.push(probe),
            None => named.push((name, vec![probe])),
        }
    }
    let mut text = String::new();
    for (name, variants) in &named {
        let group =
            variants.iter().find_map(|probe| config::group(probe)).map(|group| format!("group {group}"));
        let state = variants.iter().all(|probe| !probe.enabled).then(|| "off by default".to_owned());
        let notes = group.into_iter().chain(state).collect::<Vec<_>>().join(", ");
        let notes = if notes.is_empty() { notes } else { format!(" ({notes})") };
        writeln!(text, "{name}{notes}")?;
        let mut lines: Vec<String> = Vec::new();
        for probe in variants {
            let labels: Vec<&str> = probe.labels.iter().map(|label| label.name.value.as_str()).collect();
            let families = probe.families();
            let families =
                families.map(|(name, _)| format!("    tapster_{}{{{}}}", name.value, labels.join(",")));
            let help = (!probe.help.is_empty()).then(|| format!("    {}", probe.help));
            for line in help.into_iter().chain(families).chain(absent(probe, &kernel, args)) {
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        for line in lines {
            writeln!(text, "{line}")?;
        }
    }
    print(&text)?;
    if text.is_empty() {
        tell!("error: no probe matches `{}`", pattern.unwrap_or_default());
        return Ok(FAILURE);
    }
    Ok(0)
}

/// A word with the abbreviated attach kind at its beginning written out, as the list shows it.
fn spelled_out(word: &str) -> Cow<'_, str> {
    let spelled = word.split_once(':').and_then(|(kind, rest)| {
        let long = attach::kind(kind)?.name;
        (long != kind).then(|| format!("{long}:{rest}"))
    });
    spelled.map_or(Cow::Borrowed(word), Cow::Owned)
}
