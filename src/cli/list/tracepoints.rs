//! Tracepoints by the forms in which probes name them.

use super::{spelled_out, wanted::NameFilter};
use tapster_ebpf::{attach, point::AttachPoint};

/// The requested tracepoints, each with its raw form; only one of both if the word is an attach point as in a probe.
pub(super) fn asked(all: &[(String, String)], word: Option<&str>) -> Vec<AttachPoint> {
    let points = all.iter().flat_map(|(category, name)| {
        [attach::tracepoint(category, name), attach::raw_tracepoint(Some(category), name)]
    });
    let Some(word) = word else { return points.collect() };
    if let Ok(given) = attach::parse(word) {
        let exact: Vec<AttachPoint> = points.clone().filter(|point| is_one(&given, point)).collect();
        if !exact.is_empty() {
            return exact;
        }
    }
    let word = spelled_out(word);
    let wanted = NameFilter::new(&word);
    let is_name = wanted.is_pattern() && !word.contains(':');
    points
        .filter(|point| {
            wanted.means(&point.to_string())
                || is_name && wanted.means(point.name())
                || short(point).is_some_and(|short| wanted.means(&short.to_string()))
        })
        .collect()
}

/// Whether both are the same tracepoint; a raw one may be given without its category.
fn is_one(given: &AttachPoint, point: &AttachPoint) -> bool {
    given == point || short(point).is_some_and(|short| *given == short)
}

/// A raw tracepoint without its category.
fn short(point: &AttachPoint) -> Option<AttachPoint> {
    let short = attach::raw_tracepoint(None, point.name());
    (short.kind == point.kind).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::asked;

    #[test]
    fn forms_that_probes_take() {
        let all =
            [("block", "block_rq_issue"), ("raw_syscalls", "sys_enter"), ("syscalls", "sys_enter_kill")]
                .map(|(category, name)| (category.to_owned(), name.to_owned()));
        let found = |word: &str| {
            let points = asked(&all, Some(word));
            points.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (word, expected) in [
            ("rawtracepoint:sys_enter", &["rawtracepoint:raw_syscalls:sys_enter"][..]),
            ("rt:sys_enter", &["rawtracepoint:raw_syscalls:sys_enter"]),
            ("rt:block:block_rq_issue", &["rawtracepoint:block:block_rq_issue"]),
            ("rt:block:*", &["rawtracepoint:block:block_rq_issue"]),
            ("t:block:block_rq_issue", &["tracepoint:block:block_rq_issue"]),
            ("tracepoint:block:block_rq_issue", &["tracepoint:block:block_rq_issue"]),
            (
                "rawtracepoint:sys_*",
                &["rawtracepoint:raw_syscalls:sys_enter", "rawtracepoint:syscalls:sys_enter_kill"],
            ),
            // A part of a name.
            ("rt:block:block_rq", &["rawtracepoint:block:block_rq_issue"]),
            ("rq_issue", &["tracepoint:block:block_rq_issue", "rawtracepoint:block:block_rq_issue"]),
            ("tracepoint:*:sys_ente?", &["tracepoint:raw_syscalls:sys_enter"]),
            (
                "tracepoint:{block,syscalls}:*",
                &["tracepoint:block:block_rq_issue", "tracepoint:syscalls:sys_enter_kill"],
            ),
            // A pattern without a colon is that of a name.
            (
                "sys_ente?_ki*",
                &["tracepoint:syscalls:sys_enter_kill", "rawtracepoint:syscalls:sys_enter_kill"],
            ),
            ("rt:sched:block_rq_issue", &[]),
            ("profile:hz:50", &[]),
        ] {
            assert_eq!(found(word), expected, "{word}");
        }
        assert_eq!(asked(&all, None).len(), 6);
    }
}
