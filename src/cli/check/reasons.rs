//! How much of the table of reasons matches this kernel: a name that the kernel lacks may be correct or a mistake.

use crate::{
    kernel::Kernel,
    reason::{shipped, unmatched},
};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};
use tapster_ebpf::probe::{Reason, ReasonPattern};

/// Reports the patterns that match nothing: each of the site's own, and the number of shipped ones, or which they are with
/// `verbose`.
pub(super) fn told(site: &[Reason], kernel: &Kernel, verbose: bool, text: &mut String) -> fmt::Result {
    let Some(functions) = kernel.function_names().filter(|functions| !functions.is_empty()) else {
        return writeln!(
            text,
            "reasons: the functions of this kernel cannot be read, so it is not known which it has"
        );
    };
    for (entry, patterns) in unmatched(site, &functions) {
        for ReasonPattern { pattern, .. } in patterns {
            let (line, _) = entry.file.position(pattern.span.start);
            writeln!(
                text,
                "reasons: `{}` of `{}` matches no function of this kernel and its loaded modules ({}:{line})",
                pattern.value, entry.reason.value, entry.file.name
            )?;
        }
    }
    let (shipped, _) = shipped();
    // A reason may have several entries; it can occur if any of their patterns matches.
    let mut reasons: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for (entry, patterns) in unmatched(&shipped, &functions) {
        let (all, missing) = reasons.entry(&entry.reason.value).or_default();
        *all += entry.patterns.len();
        missing.extend(patterns.iter().map(|pattern| pattern.pattern.value.as_str()));
    }
    let all: usize = reasons.values().map(|(all, _)| all).sum();
    let missing: usize = reasons.values().map(|(_, missing)| missing.len()).sum();
    let told = reasons.values().filter(|(all, missing)| missing.len() < *all).count();
    writeln!(
        text,
        "reasons: {told} of {} can be told here, by {} of {all} patterns; the others are of other kernels, of modules that are not loaded, or part of their callers{}",
        reasons.len(),
        all - missing,
        if verbose || missing == 0 { "" } else { " (--verbose lists them)" }
    )?;
    if verbose {
        for (reason, (all, missing)) in reasons.iter().filter(|(_, (_, missing))| !missing.is_empty()) {
            let none = if missing.len() == *all { ", so it cannot be told" } else { "" };
            writeln!(text, "    {reason}: nothing matches {}{none}", missing.join(", "))?;
        }
    }
    Ok(())
}
