//! The landing page: the state of every probe for a person with a browser. Complete in itself, without scripts or
//! other files, so that it works on a host that reaches nothing else.
//!
//! `html!` escapes every value, so names and messages of kernels and files stay text.

use super::sizes::ScrapeSizes;
use crate::exposition::{Format, ScrapeSize};
use crate::status::{ConfigStatus, LastPush, ProbeStatus, ProgramStatus, PushStatus, UnreadyReason};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::time::{Duration, SystemTime};

const STYLE: &str = include_str!("page.css");
/// Attach points of a probe that are shown; the rest is folded away.
const SHOWN_POINTS: usize = 3;
const COLUMNS: [&str; 10] =
    ["Probe", "State", "Attach points", SERIES, SCRAPED, RUNS, MISSED, TIME_PER_RUN, DROPPED, MEMORY];
// Names of numeric columns: in the head of the table and, on narrow screens, beside each number.
const SERIES: &str = "Series";
const SCRAPED: &str = "Last scrape";
const RUNS: &str = "Runs";
const MISSED: &str = "Missed";
const TIME_PER_RUN: &str = "Time per run";
const DROPPED: &str = "Dropped";
const MEMORY: &str = "Memory";
/// The columns before this one hold text.
const FIRST_NUMBER: usize = 3;

/// What the page shows.
pub(super) struct Page<'a> {
    pub(super) probes: &'a [ProbeStatus],
    pub(super) push: Option<&'a PushStatus>,
    pub(super) configuration: Option<&'a ConfigStatus>,
    /// Why the present web configuration is not used.
    pub(super) web: Option<&'a str>,
    /// Rights that were given up.
    pub(super) rights: &'a [(&'static str, String)],
    pub(super) telemetry_path: &'a str,
    pub(super) unready: Option<UnreadyReason>,
    /// What the last scrape had.
    pub(super) sizes: &'a ScrapeSizes,
}

impl Page<'_> {
    /// The page as HTML.
    pub(super) fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "tapster" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { "tapster" }
                        span.muted { (env!("CARGO_PKG_VERSION")) }
                        nav {
                            a href=(self.telemetry_path) { "Metrics" }
                            a href="/-/healthy" { "Health" }
                            a href="/-/ready" { "Readiness" }
                        }
                    }
                    main {
                        (self.summary())
                        (self.notes())
                        (self.table())
                        @if let Some(push) = self.push { (pushes(push)) }
                        @if let Some(status) = self.configuration { (configuration(status)) }
                        @if !self.rights.is_empty() {
                            h2 { "Rights" }
                            ul {
                                @for (name, text) in self.rights { li { b { (name) } " " (text) } }
                            }
                        }
                    }
                }
            }
        };
        page.into_string()
    }

    fn summary(&self) -> Markup {
        let probes = self.probes;
        let up = probes.iter().filter(|probe| probe.down.is_none()).count();
        let sum = |value: fn(&ProbeStatus) -> u64| probes.iter().map(value).sum::<u64>();
        let programs: usize = probes.iter().map(|probe| probe.programs.len()).sum();
        let is_counted = sum(|probe| total(probe, |program| program.runs)) > 0;
        let run_ns = sum(|probe| total(probe, |program| program.run_ns));
        let dropped = sum(dropped);
        html! {
            dl {
                (figure("Probes up", up < probes.len(), &format!("{up} of {}", probes.len())))
                (figure("Programs", false, &programs.to_string()))
                (figure("Series", false, &count(sum(|probe| probe.series))))
                (figure("Last scrape", false, &self.scraped()))
                (figure("Time in probes", false, &if is_counted { nanos(run_ns) } else { "not counted".into() }))
                (figure("Dropped events", dropped > 0, &count(dropped)))
                (figure("Map memory", false, &bytes(sum(|probe| probe.memory_bytes))))
            }
        }
    }

    /// What the last scrape had, with its format: the native form of a histogram is one series, the classic one many.
    fn scraped(&self) -> String {
        let format = match self.sizes.format {
            None => return "none yet".into(),
            Some(Format::Text) => "text",
            Some(Format::OpenMetrics) => "OpenMetrics",
            Some(Format::Protobuf) => "protobuf",
        };
        let ScrapeSize { series, bytes: length } = self.sizes.all();
        format!("{} series, {} as {format}", count(series), bytes(length))
    }

    /// What needs attention.
    fn notes(&self) -> Markup {
        let mut programs = self.probes.iter().flat_map(|probe| &probe.programs).peekable();
        let is_uncounted = programs.peek().is_some() && programs.all(|program| program.runs == 0);
        html! {
            @if let Some(status) = self.configuration {
                @if !status.problem.is_empty() {
                    div.note {
                        p {
                            b { "Not all of the configuration runs." }
                            " It was read " (ago(status.tried)) " ago, and what ran before goes on:"
                        }
                        pre { (status.problem.trim_end()) }
                    }
                }
                @if !status.pending.is_empty() { p.note { (status.pending) } }
            }
            @if let Some(problem) = self.web {
                div.note {
                    p { b { "The web configuration is not used" } " as it is now; what held before goes on:" }
                    pre { (problem) }
                }
            }
            @if let Some(why) = &self.unready { p.note { b { "Not ready" } ": " (why.to_string()) } }
            @if is_uncounted {
                p.note {
                    "No runs are counted. The kernel counts them, and the time they take, with "
                    code { "tapster run --run-stats" }
                    ", and while the setting " code { "kernel.bpf_stats_enabled" } " is 1."
                }
            }
        }
    }

    fn table(&self) -> Markup {
        if self.probes.is_empty() {
            return html! { p.note { "No probes are configured." } };
        }
        // Probes that need attention come first; otherwise the order is the source's.
        let (down, up): (Vec<_>, Vec<_>) = self.probes.iter().partition(|probe| probe.down.is_some());
        html! {
            table {
                thead {
                    tr {
                        @for (index, column) in COLUMNS.iter().enumerate() {
                            th scope="col" class=[(index >= FIRST_NUMBER).then_some("num")] { (column) }
                        }
                    }
                }
                tbody { @for probe in down.into_iter().chain(up) { (row(probe, self.sizes.together(&probe.families))) } }
            }
        }
    }
}

/// Shows where the configuration is, and since when it runs.
fn configuration(status: &ConfigStatus) -> Markup {
    html! {
        h2 { "Configuration" }
        p {
            @if status.files.is_empty() { "The shipped probes" }
            @for (index, file) in status.files.iter().enumerate() {
                @if index > 0 { ", " }
                code { (breakable(file)) }
            }
            ", as read " (ago(status.loaded)) " ago."
        }
    }
}

/// Shows the push to an OTLP receiver: its endpoint and its results.
fn pushes(push: &PushStatus) -> Markup {
    let PushStatus { endpoint, protocol, temporality, interval, results, .. } = push;
    let last = push.last_success.map_or_else(|| "never".to_owned(), |time| format!("{} ago", ago(time)));
    let is_late = push.last_success.is_none() && push.last.is_some();
    let sum = |wanted: bool| {
        let is_good = |result: &str| matches!(result, "taken" | "partial");
        results.iter().filter(|(result, _)| is_good(result) == wanted).map(|(_, count)| count).sum::<u64>()
    };
    html! {
        h2 { "Push" }
        p {
            "To " code { (breakable(endpoint)) }
            " by OTLP over " (protocol) ", " (temporality) ", every " (nanos(of(*interval))) "."
        }
        dl {
            (figure("Last taken", is_late, &last))
            (figure("Pushes taken", false, &count(sum(true))))
            (figure("Pushes not taken", sum(false) > 0, &count(sum(false))))
            (figure("Points", false, &count(push.points)))
            (figure("Rejected points", push.rejected > 0, &count(push.rejected)))
            (figure("Sent", false, &bytes(push.bytes)))
        }
        @if let Some(LastPush { time, result, message, took }) = &push.last_problem {
            p.note {
                "The last push that was not taken whole, " (ago(*time)) " ago, ended after " (nanos(of(*took)))
                " as " b { (result) } ": " (message)
            }
        }
    }
}

fn figure(name: &str, alarm: bool, value: &str) -> Markup {
    html! { div { dt { (name) } dd class=[alarm.then_some("warn")] { (value) } } }
}

fn row(probe: &ProbeStatus, scraped: ScrapeSize) -> Markup {
    let is_down = probe.down.is_some();
    let runs = total(probe, |program| program.runs);
    let missed = total(probe, |program| program.missed);
    let per_run = total(probe, |program| program.run_ns).checked_div(runs);
    html! {
        tr class=[is_down.then_some("down")] {
            th scope="row" {
                details {
                    summary { span.name { (probe.name) } span.help { (probe.help) } }
                    ul {
                        @for family in &probe.families { li { code { (family) } } }
                        li { "from " code { (breakable(&probe.source)) } }
                    }
                }
            }
            td { span.state { (if is_down { "down" } else { "up" }) } }
            td.points { (points(&probe.programs)) }
            (series(probe.series, probe.max_series))
            td.num.muted[scraped == ScrapeSize::default()] data-label=(SCRAPED) {
                (count(scraped.series)) " "
                span.muted.small { (bytes(scraped.bytes)) }
            }
            (number(RUNS, &count(runs), runs == 0))
            td.num.muted[missed == 0].warn[missed > 0] data-label=(MISSED) { (count(missed)) }
            (number(TIME_PER_RUN, &per_run.map_or_else(|| "–".into(), nanos), per_run.is_none()))
            (drops(probe))
            (number(MEMORY, &bytes(probe.memory_bytes), probe.memory_bytes == 0))
        }
        @for passed in &probe.passed { (message("message", "alternative", passed)) }
        @for absent in &probe.absent { (message("message", "without", absent)) }
        @match (&probe.down, &probe.limit) {
            (Some(down), _) => (message("down message", down.cause.word(), &down.message)),
            (None, Some(limit)) => (message("message", limit.reason, &limit.message)),
            (None, None) => {}
        }
    }
}

/// The row below a probe that is down, or up with a reason. It unfolds to the whole message if that is more than a line.
fn message(class: &str, reason: &str, message: &str) -> Markup {
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or("no message").trim();
    html! {
        tr class=(class) {
            td colspan=(COLUMNS.len()) {
                @if lines.next().is_some() {
                    details {
                        summary { b { (reason) } " " (first) }
                        pre { (message.trim_matches('\n')) }
                    }
                } @else {
                    p { b { (reason) } " " (first) }
                }
            }
        }
    }
}

fn points(programs: &[ProgramStatus]) -> Markup {
    // Folding a single one away would save nothing.
    let shown = if programs.len() <= SHOWN_POINTS + 1 { programs.len() } else { SHOWN_POINTS };
    let (shown, folded) = programs.split_at(shown);
    html! {
        @for program in shown { (point(program)) }
        @if !folded.is_empty() {
            details {
                summary { (folded.len()) " more" }
                @for program in folded { (point(program)) }
            }
        }
    }
}

fn point(program: &ProgramStatus) -> Markup {
    let ProgramStatus { attach_point, mechanism, functions, instructions, runs, run_ns, missed } = program;
    let time = nanos(*run_ns);
    let what = if attach_point.starts_with("tracepoint:") { "tracepoints" } else { "functions" };
    let title = format!("{instructions} instructions, {runs} runs, {missed} missed, {time}");
    html! {
        div.point title=(title) {
            code { (breakable(attach_point)) }
            @if !mechanism.is_empty() { " " span.chip { (mechanism) } }
            @if *functions > 1 { " " span.muted.small { (functions) " " (what) } }
        }
    }
}

fn series(used: u64, max: u64) -> Markup {
    let percent = used.saturating_mul(100).checked_div(max).unwrap_or(0).min(100);
    html! {
        td.num data-label=(SERIES) {
            (count(used)) " " span.muted { "/ " (count(max)) }
            span.meter.full[percent >= 80] { i style={ "width:" (percent) "%" } {} }
        }
    }
}

fn drops(probe: &ProbeStatus) -> Markup {
    let all = dropped(probe);
    if all == 0 {
        return number(DROPPED, &count(0), true);
    }
    html! {
        td.num data-label=(DROPPED) {
            span.warn { (count(all)) }
            @for (reason, dropped) in probe.dropped.iter().filter(|(_, dropped)| *dropped > 0) {
                div.muted.small { (reason) " " (count(*dropped)) }
            }
        }
    }
}

/// A cell of one number, which may need no attention.
fn number(label: &str, value: &str, quiet: bool) -> Markup {
    html! { td.num.muted[quiet] data-label=(label) { (value) } }
}

/// An attach point or a path, which may break between its parts rather than within a name.
fn breakable(text: &str) -> Markup {
    html! { @for part in text.split_inclusive([':', '/']) { (part) wbr; } }
}

fn total(probe: &ProbeStatus, value: fn(&ProgramStatus) -> u64) -> u64 {
    probe.programs.iter().map(value).sum()
}

fn dropped(probe: &ProbeStatus) -> u64 {
    probe.dropped.iter().map(|(_, count)| count).sum()
}

fn ago(time: SystemTime) -> String {
    nanos(of(time.elapsed().unwrap_or_default()))
}

fn of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A count: exact below ten thousand, then three digits and a unit.
fn count(value: u64) -> String {
    match value {
        0..1000 => value.to_string(),
        1000..10_000 => format!("{},{:03}", value / 1000, value % 1000),
        10_000.. => scaled(value, 1000, &["", "k", "M", "G", "T", "P", "E"]),
    }
}

/// A size in binary units.
fn bytes(value: u64) -> String {
    scaled(value, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// A duration: three digits up to a minute, then the two largest units.
fn nanos(value: u64) -> String {
    let seconds = value / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => scaled(value, 1000, &["ns", "µs", "ms", "s"]),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        86400.. => format!("{days} d {} h", hours % 24),
    }
}

/// `value` in the largest unit that leaves a whole part, with about three digits. Integers throughout: these are
/// counters of 64 bits, and a float would lie about the large ones.
fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let mut scale = 1;
    let mut units = units.iter();
    let mut unit = units.next().unwrap_or(&"");
    while value / scale >= step
        && let Some(next) = units.next()
    {
        scale *= step;
        unit = next;
    }
    let (whole, rest) = (value / scale, u128::from(value % scale));
    let number = match whole {
        _ if scale == 1 => whole.to_string(),
        0..10 => format!("{whole}.{:02}", rest * 100 / u128::from(scale)),
        10..100 => format!("{whole}.{}", rest * 10 / u128::from(scale)),
        _ => whole.to_string(),
    };
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Cause, Down, Limit};
    use std::sync::LazyLock;

    static NO_SCRAPE: LazyLock<ScrapeSizes> = LazyLock::new(ScrapeSizes::default);

    fn page(probes: &[ProbeStatus]) -> Page<'_> {
        Page {
            probes,
            push: None,
            configuration: None,
            web: None,
            rights: &[],
            telemetry_path: "/metrics",
            unready: None,
            sizes: &NO_SCRAPE,
        }
    }

    fn render(probes: &[ProbeStatus]) -> String {
        page(probes).html()
    }

    #[test]
    fn what_is_wrong_with_the_configuration_is_said() {
        let status = ConfigStatus {
            files: vec!["/etc/<probes>".into()],
            loaded: SystemTime::now(),
            tried: SystemTime::now(),
            problem: "error: <x>".into(),
            pending: "restart & see".into(),
        };
        let html = Page { configuration: Some(&status), web: Some("no <key>"), ..page(&[]) }.html();
        for text in [
            "<pre>error: &lt;x&gt;</pre>",
            "restart &amp; see",
            "<pre>no &lt;key&gt;</pre>",
            "etc/<wbr>&lt;probes&gt;",
        ] {
            assert!(html.contains(text), "{text}: {html}");
        }
        let good =
            ConfigStatus { files: Vec::new(), problem: String::new(), pending: String::new(), ..status };
        let html = Page { configuration: Some(&good), ..page(&[]) }.html();
        assert!(
            html.contains("The shipped probes, as read ") && !html.contains("class=\"note\"><p>"),
            "{html}"
        );
    }

    #[test]
    fn what_the_last_scrape_had_is_shown_by_probe() {
        assert!(render(&[]).contains("none yet"));
        let mut sizes = ScrapeSizes::of(Format::Text);
        for (family, series, bytes) in [("a", 20, 2048), ("b_total", 3, 100), ("else", 1000, 1 << 20)] {
            sizes.add(family.into(), ScrapeSize { series, bytes });
        }
        let families = vec!["a".into(), "b_total".into()];
        let probe = ProbeStatus { families, ..Default::default() };
        let html = Page { sizes: &sizes, ..page(&[probe]) }.html();
        assert!(html.contains("1,023 series, 1.00 MiB as text"), "{html}");
        assert!(
            html.contains("data-label=\"Last scrape\">23 <span class=\"muted small\">2.09 KiB</span>"),
            "{html}"
        );
    }

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (9_999, "9,999"),
            (10_000, "10.0 k"),
            (1_234_567, "1.23 M"),
            (123_456_789_012, "123 G"),
            (u64::MAX, "18.4 E"),
        ] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(bytes(number), text);
        }
        for (number, text) in [
            (412, "412 ns"),
            (1250, "1.25 µs"),
            (59_999_999_999, "59.9 s"),
            (60_000_000_000, "1 min 0 s"),
            (3_600_000_000_000, "1 h 0 min"),
            (86_399_999_999_999, "23 h 59 min"),
            (90_000_000_000_000, "1 d 1 h"),
        ] {
            assert_eq!(nanos(number), text);
        }
    }

    #[test]
    fn everything_is_escaped() {
        let evil = || "<script>\"'&".to_owned();
        let probe = ProbeStatus {
            name: evil(),
            help: evil(),
            source: evil(),
            down: Some(Down { cause: Cause::Verifier, message: evil() }),
            programs: vec![ProgramStatus { attach_point: evil(), mechanism: evil(), ..Default::default() }],
            families: vec![evil()],
            dropped: vec![(evil(), 1)],
            ..Default::default()
        };
        let html = render(&[probe]);
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;&quot;'&amp;").count(), 8);
    }

    #[test]
    fn what_is_down_comes_first_with_its_message() {
        let up = ProbeStatus { name: "fine".into(), ..Default::default() };
        let message = "\nprogram refused\n0: (79) r1 = *(u64 *)(r1 +0)".into();
        let down = ProbeStatus {
            name: "broken".into(),
            down: Some(Down { cause: Cause::Verifier, message }),
            ..Default::default()
        };
        let html = render(&[up, down]);
        assert!(html.find("broken") < html.find("fine"));
        assert!(html.contains("1 of 2"), "{html}");
        assert!(html.contains("<summary><b>verifier</b> program refused</summary><pre>program"), "{html}");
    }

    #[test]
    fn a_message_of_one_line_does_not_unfold_to_itself() {
        let down = Some(Down { cause: Cause::Attach, message: "no such symbol\n".into() });
        let html = render(&[ProbeStatus { down, ..Default::default() }]);
        assert!(html.contains("<p><b>attach</b> no such symbol</p>"), "{html}");
    }

    #[test]
    fn what_is_up_and_cannot_tell_everything_says_so() {
        let passed = vec!["`fentry:x` is passed over".to_owned()];
        let html = render(&[ProbeStatus { passed, ..Default::default() }]);
        assert!(html.contains("<p><b>alternative</b> `fentry:x` is passed over</p>"), "{html}");
        let absent = vec!["`fentry:x` is optional".to_owned()];
        let html = render(&[ProbeStatus { absent, ..Default::default() }]);
        assert!(html.contains("<p><b>without</b> `fentry:x` is optional</p>"), "{html}");
        let limit = Some(Limit { reason: "symbols", message: "reasons are `unknown`".into() });
        let html = render(&[ProbeStatus { limit, ..Default::default() }]);
        assert!(html.contains("1 of 1"), "{html}");
        assert!(html.contains("<tr class=\"message\">") && html.contains("<b>symbols</b> reasons"), "{html}");
    }

    #[test]
    fn attach_points_break_between_their_parts() {
        assert_eq!(breakable("kprobe:<a>").into_string(), "kprobe:<wbr>&lt;a&gt;<wbr>");
    }

    #[test]
    fn runs_that_are_not_counted_are_not_shown_as_fast() {
        let probe = ProbeStatus { programs: vec![ProgramStatus::default()], ..Default::default() };
        let html = render(&[probe]);
        assert!(html.contains("kernel.bpf_stats_enabled") && html.contains(">–</td>"));
        assert!(render(&[]).contains("No probes are configured."));
    }
}
