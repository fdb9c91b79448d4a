//! `tapster raid`: the arrays, and which member is slow.

use super::{FAILURE, HostArgs, USAGE, lacks, print, report as report_diagnostics};
use crate::{
    config::{self, ProbeSelection},
    duration,
    exporter::{Exporter, StartOptions},
    kernel::Kernel,
    raid::{self, Arrays, Check, CheckState, Interval, Rule},
    telemetry::{self, LogFormat},
    topology::Array,
    watch::seconds,
};
use clap::Args;
use std::{ffi::OsString, time::Duration};

/// What follows the flags in `--help`.
pub(super) const AFTER_HELP: &str = "\
Exit status: 0 if the arrays were watched, however they are; 1 if that cannot be; 2 for wrong usage. With `--check` it is \
that of a plugin for Nagios: 0 ok, 1 warning, 2 critical, 3 unknown, which includes wrong usage and a host without arrays.";

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
    #[arg(long, value_name = "NUMBER", default_value_t = Rule::default().ratio, value_parser = ratio)]
    pub ratio: f64,
    /// … and at least this much above it
    #[arg(long, value_name = "TIME", default_value = "0.8ms", value_parser = duration::parse)]
    pub floor: Duration,
    /// With `--check`, a slow member is critical if its average is more than this many times that of the others
    #[arg(long = "critical-ratio", value_name = "NUMBER", default_value_t = Rule::default().critical_ratio, value_parser = ratio, requires = "check")]
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

fn rule(args: &RaidArgs) -> Rule {
    Rule {
        ratio: args.ratio,
        floor_seconds: args.floor.as_secs_f64(),
        critical_ratio: args.critical_ratio,
        min_count: args.min_count,
        stuck_seconds: args.stuck.as_secs_f64(),
    }
}

pub(super) fn main(args: &RaidArgs) -> anyhow::Result<u8> {
    telemetry::init("warn", LogFormat::Text)?;
    if args.check {
        let check = check(args).unwrap_or_else(|error| Check::unknown(&format!("{error:#}")));
        let printed = print(&check.line());
        // The line is the result: without it the check has failed.
        return Ok(printed.map_or_else(
            |error| {
                tell!("error: {error:#}");
                CheckState::Unknown.status()
            },
            |()| check.worst().status(),
        ));
    }
    let arrays = match Arrays::read(&args.host.host(), &args.arrays) {
        Ok(arrays) => arrays,
        Err(message) => {
            tell!("error: {message}");
            return Ok(USAGE);
        }
    };
    let there = arrays.now();
    let silence: Vec<String> = arrays.silence().collect();
    if there.is_empty() && silence.is_empty() {
        print(if args.json { "{\"arrays\":[]}\n" } else { "this host has no arrays\n" })?;
        return Ok(0);
    }
    if there.is_empty() {
        if args.json {
            let all = serde_json::json!({ "arrays": [], "unanswered": arrays.unanswered() });
            print(&format!("{all:#}\n"))?;
        } else {
            print(&(silence.join("\n") + "\n"))?;
        }
        return Ok(FAILURE);
    }
    if !args.json {
        print(&raid::listing(&there, &raid::mdstat(&args.host.procfs)))?;
    }
    let Ok(exporter) = attach(&there, args)? else { return Ok(FAILURE) };
    tell!("watching for {}; Ctrl-C ends it early", seconds(args.interval));
    let interval = Interval::watch(&exporter, &arrays, &args.host.sysfs, args.interval)?;
    let rule = rule(args);
    let measurements = interval.measurements(&rule);
    let mut notes = interval.gone();
    notes.extend(silence);
    notes.extend(interval.losses());
    if args.json {
        let mdstat = raid::mdstat(&args.host.procfs);
        let measured: Vec<_> =
            measurements.iter().map(|measurement| measurement.json(&rule, &mdstat)).collect();
        let all = serde_json::json!({
            "seconds": interval.time().as_secs_f64(),
            "arrays": measured,
            "unanswered": arrays.unanswered(),
            "notes": notes,
        });
        print(&format!("{all:#}\n"))?;
    } else {
        print(&raid::text(&measurements, &rule, interval.time(), &notes))?;
    }
    Ok(0)
}

/// The exit status for wrong flags of a check, for whose caller 2 means critical; prints the error in its form. `None` for
/// another command line.
pub(super) fn usage(mut words: impl Iterator<Item = OsString>, error: &clap::Error) -> Option<u8> {
    let is_check = words.any(|word| word == "raid") && words.any(|word| word == "--check");
    is_check.then(|| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        // If it cannot be printed, the exit status remains.
        let _ = print(&Check::unknown(first.strip_prefix("error: ").unwrap_or(first)).line());
        CheckState::Unknown.status()
    })
}

/// Watches and judges.
fn check(args: &RaidArgs) -> anyhow::Result<Check> {
    let arrays = match Arrays::read(&args.host.host(), &args.arrays) {
        Ok(arrays) => arrays,
        Err(message) => return Ok(Check::unknown(&message)),
    };
    let there = arrays.now();
    if there.is_empty() {
        let is_silent = !arrays.unanswered().is_empty();
        return Ok(if is_silent {
            Check::silent(&arrays)
        } else {
            Check::unknown("this host has no arrays")
        });
    }
    Ok(match attach(&there, args)? {
        Ok(exporter) => {
            let interval = Interval::watch(&exporter, &arrays, &args.host.sysfs, args.interval)?;
            Check::of(&interval, &rule(args))
        }
        // The state of the arrays is known all the same.
        Err(why) => Check::unwatched(&arrays, &why),
    })
}

/// Attaches the probes for these arrays. The inner error is why that failed, which is on standard error already.
fn attach(arrays: &[&Array], args: &RaidArgs) -> anyhow::Result<Result<Exporter, String>> {
    let probes = raid::probes(arrays).iter().map(ToString::to_string).collect();
    let config = config::load(&ProbeSelection { probes, ..ProbeSelection::default() })?;
    let kernel = Kernel::detect(&args.host.host());
    if lacks(&kernel) {
        let first = kernel.requirements().err().and_then(|missing| Some(missing.first()?.message.clone()));
        return Ok(Err(first.unwrap_or_else(|| "this host lacks what probes need".into())));
    }
    let (probes, diagnostics) = tapster_ebpf::check::select(config.probes, &kernel.target());
    if report_diagnostics(&diagnostics) {
        return Ok(Err("the shipped probes do not fit this kernel".into()));
    }
    let options = StartOptions { run_stats: false, attach: true, command: false };
    let (exporter, failures, _) = Exporter::start(&probes, &kernel, &args.host.host(), Vec::new(), options);
    for failure in &failures {
        tell!("error: the probe `{}` cannot run: {}", failure.name, failure.down.message);
    }
    Ok(match failures.first() {
        None => Ok(exporter),
        Some(failure) => Err(format!("the probe `{}` cannot run ({})", failure.name, failure.down.cause)),
    })
}

/// Reads a ratio: a number of 1 or more.
fn ratio(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if number.is_finite() && number >= 1.0 {
        Ok(number)
    } else {
        Err("expected a number of 1 or more".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_of_flags() {
        assert_eq!(ratio("2.5"), Ok(2.5));
        for text in ["0.9", "-2", "inf", "nan", "x", ""] {
            assert!(ratio(text).is_err(), "{text}");
        }
        assert_eq!(
            Rule::default().floor_seconds.to_bits(),
            duration::parse("0.8ms").map(|floor| floor.as_secs_f64()).unwrap().to_bits()
        );
    }
}
