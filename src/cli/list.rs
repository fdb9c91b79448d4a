//! `tapster list`: what there is to attach to, and what is shipped.

mod usdt;

use super::{FAILURE, ListArgs, print};
use crate::{config, kernel::Kernel};
use std::fmt::Write;
use tapster_ebpf::{
    check, diagnostic,
    probe::{AttachPoint, Root},
    tracefs::Tracepoints,
};

pub(super) fn list(args: &ListArgs) -> anyhow::Result<u8> {
    if args.library {
        return library(args.pattern.as_deref());
    }
    if let Some((binary, wanted)) = args.pattern.as_deref().and_then(usdt::wanted) {
        let root = match (args.pid, &args.container) {
            (Some(pid), _) => Root::Process(pid),
            (None, Some(container)) => Root::Container(container.clone()),
            (None, None) => Root::Host,
        };
        return Ok(match usdt::list(&args.host.paths().proc, &root, binary, wanted) {
            Ok(text) => {
                print(&text)?;
                0
            }
            Err(missing) => usdt::refuse(&missing),
        });
    }
    let kernel = Kernel::detect(&args.host.paths());
    if let Err(missing) = &kernel.tracefs {
        tell!("error: {}", missing.message);
        if let Some(hint) = &missing.hint {
            tell!("  hint: {hint}");
        }
        return Ok(FAILURE);
    }
    let target = kernel.target();
    let all = kernel.all();
    let mut text = String::new();
    // A name without `*` is wanted with its arguments only where it narrows the list to what fits a screen.
    let mut shown = 0;
    for (category, name) in &all {
        let points = [
            AttachPoint::Tracepoint { category: category.clone(), name: name.clone() },
            AttachPoint::RawTracepoint { category: Some(category.clone()), name: name.clone() },
        ];
        for point in points {
            let full = point.to_string();
            if !args.pattern.as_deref().is_none_or(|pattern| matches(pattern, &full)) {
                continue;
            }
            if matches!(point, AttachPoint::RawTracepoint { .. }) && !check::has_prototype(name, &target) {
                continue;
            }
            shown += 1;
            writeln!(text, "{full}")?;
            if args.pattern.is_some() {
                for (argument, ctype) in check::describe(&point, &target).unwrap_or_default() {
                    writeln!(text, "    {ctype} args.{argument}")?;
                }
            }
        }
    }
    print(&text)?;
    if shown == 0 {
        let pattern = args.pattern.as_deref().unwrap_or("");
        let near = diagnostic::near(pattern, all.iter().map(|(_, name)| name.as_str()), 3);
        let hint =
            if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) };
        tell!("error: no attach point matches `{pattern}`{hint}");
        return Ok(FAILURE);
    }
    Ok(0)
}

fn library(pattern: Option<&str>) -> anyhow::Result<u8> {
    let mut text = String::new();
    for probe in config::library()? {
        let is_meant = |pattern| matches(pattern, &probe.name.value) || config::is_called(&probe, pattern);
        if !pattern.is_none_or(is_meant) {
            continue;
        }
        let group = config::group(&probe).map(|group| format!("group {group}"));
        let state = (!probe.enabled).then(|| "off by default".to_owned());
        let notes = group.into_iter().chain(state).collect::<Vec<_>>().join(", ");
        writeln!(text, "{} ({notes})\n    {}", probe.name.value, probe.help)?;
        for (name, _) in probe.families() {
            let labels: Vec<&str> = probe.labels.iter().map(|label| label.name.value.as_str()).collect();
            writeln!(text, "    tapster_{}{{{}}}", name.value, labels.join(","))?;
        }
    }
    print(&text)?;
    Ok(0)
}

/// `*` stands for anything; without one the pattern may be anywhere in the name.
fn matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("block", "tracepoint:block:block_rq_issue", true),
            ("tracepoint:block:*", "tracepoint:block:block_rq_issue", true),
            ("tracepoint:block:*", "rawtracepoint:block:block_rq_issue", false),
            ("*:block_rq_*e", "tracepoint:block:block_rq_issue", true),
            ("*:block_rq_*t", "tracepoint:block:block_rq_issue", false),
            ("a*b*a", "aba", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
