//! The landing page: the state of every probe for a person with a browser. Complete in itself, without scripts or
//! other files, so that it works on a host that reaches nothing else.

use std::fmt::{self, Display, Formatter, Write};
use std::time::{Duration, SystemTime};

use crate::status::{ConfigStatus, LastPush, ProbeStatus, ProgramStatus, PushStatus, UnreadyReason};

const STYLE: &str = include_str!("page.css");
/// Attach points of a probe that are shown; the rest is folded away.
const SHOWN_POINTS: usize = 3;
const COLUMNS: [&str; 9] =
    ["Probe", "State", "Attach points", SERIES, RUNS, MISSED, TIME_PER_RUN, DROPPED, MEMORY];
// Names of numeric columns: in the head of the table and, on narrow screens, beside each number.
const SERIES: &str = "Series";
const RUNS: &str = "Runs";
const MISSED: &str = "Missed";
const TIME_PER_RUN: &str = "Time per run";
const DROPPED: &str = "Dropped";
const MEMORY: &str = "Memory";
/// The columns before this one hold text.
const FIRST_NUMBER: usize = 3;

/// The page; its `Display` is HTML.
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
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>tapster</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>tapster</h1><span class=\"muted\">{}</span>\
             <nav><a href=\"{}\">Metrics</a><a href=\"/-/healthy\">Health</a>\
             <a href=\"/-/ready\">Readiness</a></nav></header>\n<main>\n",
            env!("CARGO_PKG_VERSION"),
            Escaped(self.telemetry_path)
        )?;
        self.summary(f)?;
        if let Some(status) = self.configuration {
            problems(f, status)?;
        }
        if let Some(problem) = self.web {
            writeln!(
                f,
                "<div class=\"note\"><p><b>The web configuration is not used</b> as it is now; what held before goes on:\
                 </p><pre>{}</pre></div>",
                Escaped(problem)
            )?;
        }
        if let Some(why) = &self.unready {
            writeln!(f, "<p class=\"note\"><b>Not ready</b>: {}</p>", Escaped(&why.to_string()))?;
        }
        let programs = || self.probes.iter().flat_map(|probe| &probe.programs);
        if programs().next().is_some() && programs().all(|program| program.runs == 0) {
            f.write_str(
                "<p class=\"note\">No runs are counted. The kernel counts them, and the time they take, with \
                 <code>tapster run --run-stats</code>, and while the setting <code>kernel.bpf_stats_enabled</code> is 1.</p>\n",
            )?;
        }
        self.table(f)?;
        if let Some(push) = self.push {
            pushes(f, push)?;
        }
        if let Some(status) = self.configuration {
            configuration(f, status)?;
        }
        if !self.rights.is_empty() {
            f.write_str("<h2>Rights</h2>\n<ul>\n")?;
            for (name, text) in self.rights {
                writeln!(f, "<li><b>{}</b> {}</li>", Escaped(name), Escaped(text))?;
            }
            f.write_str("</ul>\n")?;
        }
        f.write_str("</main>\n</body>\n</html>\n")
    }
}

impl Page<'_> {
    fn summary(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let probes = self.probes;
        let up = probes.iter().filter(|probe| probe.down.is_none()).count();
        let sum = |value: fn(&ProbeStatus) -> u64| probes.iter().map(value).sum::<u64>();
        let programs: usize = probes.iter().map(|probe| probe.programs.len()).sum();
        let dropped = sum(dropped);
        f.write_str("<dl>")?;
        figure(f, "Probes up", up < probes.len(), format_args!("{up} of {}", probes.len()))?;
        figure(f, "Programs", false, programs)?;
        figure(f, "Series", false, RoundCount(sum(|probe| probe.series)))?;
        if sum(|probe| total(probe, |program| program.runs)) > 0 {
            figure(f, "Time in probes", false, Nanos(sum(|probe| total(probe, |program| program.run_ns))))?;
        } else {
            figure(f, "Time in probes", false, "not counted")?;
        }
        figure(f, "Dropped events", dropped > 0, RoundCount(dropped))?;
        figure(f, "Map memory", false, ByteSize(sum(|probe| probe.memory_bytes)))?;
        f.write_str("</dl>\n")
    }

    fn table(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.probes.is_empty() {
            return f.write_str("<p class=\"note\">No probes are configured.</p>\n");
        }
        f.write_str("<table>\n<thead><tr>")?;
        for (index, column) in COLUMNS.iter().enumerate() {
            let class = if index < FIRST_NUMBER { "" } else { " class=\"num\"" };
            write!(f, "<th scope=\"col\"{class}>{column}</th>")?;
        }
        f.write_str("</tr></thead>\n<tbody>\n")?;
        // Probes that need attention come first; otherwise the order is the source's.
        let (down, up): (Vec<_>, Vec<_>) = self.probes.iter().partition(|probe| probe.down.is_some());
        for probe in down.into_iter().chain(up) {
            row(f, probe)?;
        }
        f.write_str("</tbody>\n</table>\n")
    }
}

/// Shows what is wrong with the configuration, if something is.
fn problems(f: &mut Formatter<'_>, status: &ConfigStatus) -> fmt::Result {
    if !status.problem.is_empty() {
        writeln!(
            f,
            "<div class=\"note\"><p><b>Not all of the configuration runs.</b> It was read {} ago, and what ran before goes on:\
             </p><pre>{}</pre></div>",
            ago(status.tried),
            Escaped(status.problem.trim_end())
        )?;
    }
    if !status.pending.is_empty() {
        writeln!(f, "<p class=\"note\">{}</p>", Escaped(&status.pending))?;
    }
    Ok(())
}

/// Shows where the configuration is, and since when it runs.
fn configuration(f: &mut Formatter<'_>, status: &ConfigStatus) -> fmt::Result {
    f.write_str("<h2>Configuration</h2>\n<p>")?;
    if status.files.is_empty() {
        f.write_str("The shipped probes")?;
    }
    for (index, file) in status.files.iter().enumerate() {
        write!(f, "{}<code>{}</code>", if index > 0 { ", " } else { "" }, Breakable(file))?;
    }
    writeln!(f, ", as read {} ago.</p>", ago(status.loaded))
}

fn ago(time: SystemTime) -> Nanos {
    Nanos(nanos(time.elapsed().unwrap_or_default()))
}

/// Shows the push to an OTLP receiver: its endpoint and its results.
fn pushes(f: &mut Formatter<'_>, push: &PushStatus) -> fmt::Result {
    let PushStatus { endpoint, protocol, temporality, interval, results, .. } = push;
    write!(
        f,
        "<h2>Push</h2>\n<p>To <code>{}</code> by OTLP over {protocol}, {temporality}, every {}.</p>\n<dl>",
        Breakable(endpoint),
        Nanos(nanos(*interval))
    )?;
    match push.last_success {
        Some(time) => figure(f, "Last taken", false, format_args!("{} ago", ago(time)))?,
        None => figure(f, "Last taken", push.last.is_some(), "never")?,
    }
    let count = |wanted: bool| {
        let is_good = |result: &str| matches!(result, "taken" | "partial");
        results.iter().filter(|(result, _)| is_good(result) == wanted).map(|(_, count)| count).sum::<u64>()
    };
    figure(f, "Pushes taken", false, RoundCount(count(true)))?;
    figure(f, "Pushes not taken", count(false) > 0, RoundCount(count(false)))?;
    figure(f, "Points", false, RoundCount(push.points))?;
    figure(f, "Rejected points", push.rejected > 0, RoundCount(push.rejected))?;
    figure(f, "Sent", false, ByteSize(push.bytes))?;
    f.write_str("</dl>\n")?;
    match &push.last_problem {
        Some(LastPush { time, result, message, took }) => writeln!(
            f,
            "<p class=\"note\">The last push that was not taken whole, {} ago, ended after {} as <b>{}</b>: {}</p>",
            ago(*time),
            Nanos(nanos(*took)),
            Escaped(result),
            Escaped(message)
        ),
        None => Ok(()),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn figure(f: &mut Formatter<'_>, name: &str, alarm: bool, value: impl Display) -> fmt::Result {
    let class = if alarm { " class=\"warn\"" } else { "" };
    write!(f, "<div><dt>{name}</dt><dd{class}>{value}</dd></div>")
}

fn row(f: &mut Formatter<'_>, probe: &ProbeStatus) -> fmt::Result {
    let (class, state) = match &probe.down {
        None => ("", "<span class=\"state\">up</span>"),
        Some(_) => (" class=\"down\"", "<span class=\"state\">down</span>"),
    };
    write!(
        f,
        "<tr{class}><th scope=\"row\"><details><summary><span class=\"name\">{}</span>\
         <span class=\"help\">{}</span></summary><ul>",
        Escaped(&probe.name),
        Escaped(&probe.help)
    )?;
    for family in &probe.families {
        write!(f, "<li><code>{}</code></li>", Escaped(family))?;
    }
    write!(f, "<li>from <code>{}</code></li></ul></details></th><td>{state}</td>", Breakable(&probe.source))?;
    points(f, &probe.programs)?;
    series(f, probe.series, probe.max_series)?;
    let runs = total(probe, |program| program.runs);
    let run_ns = total(probe, |program| program.run_ns);
    number(f, RUNS, RoundCount(runs), runs == 0, "")?;
    let missed = total(probe, |program| program.missed);
    number(f, MISSED, RoundCount(missed), missed == 0, " warn")?;
    match run_ns.checked_div(runs) {
        Some(per_run) => number(f, TIME_PER_RUN, Nanos(per_run), false, "")?,
        None => number(f, TIME_PER_RUN, "–", true, "")?,
    }
    drops(f, probe)?;
    number(f, MEMORY, ByteSize(probe.memory_bytes), probe.memory_bytes == 0, "")?;
    f.write_str("</tr>\n")?;
    for passed in &probe.passed {
        message(f, "message", "alternative", passed)?;
    }
    match (&probe.down, &probe.limit) {
        (Some(down), _) => message(f, "down message", down.cause.word(), &down.message),
        (None, Some(limit)) => message(f, "message", limit.reason, &limit.message),
        (None, None) => Ok(()),
    }
}

/// The row below a probe that is down, or up with a reason. It unfolds to the whole message if that is more than a line.
fn message(f: &mut Formatter<'_>, class: &str, reason: &str, message: &str) -> fmt::Result {
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or("no message").trim();
    write!(f, "<tr class=\"{class}\"><td colspan=\"{}\">", COLUMNS.len())?;
    if lines.next().is_some() {
        write!(
            f,
            "<details><summary><b>{}</b> {}</summary><pre>{}</pre></details>",
            Escaped(reason),
            Escaped(first),
            Escaped(message.trim_matches('\n'))
        )?;
    } else {
        write!(f, "<p><b>{}</b> {}</p>", Escaped(reason), Escaped(first))?;
    }
    f.write_str("</td></tr>\n")
}

fn points(f: &mut Formatter<'_>, programs: &[ProgramStatus]) -> fmt::Result {
    f.write_str("<td class=\"points\">")?;
    // Folding a single one away would save nothing.
    let shown = if programs.len() <= SHOWN_POINTS + 1 { programs.len() } else { SHOWN_POINTS };
    let (shown, folded) = programs.split_at(shown);
    for program in shown {
        point(f, program)?;
    }
    if !folded.is_empty() {
        write!(f, "<details><summary>{} more</summary>", folded.len())?;
        for program in folded {
            point(f, program)?;
        }
        f.write_str("</details>")?;
    }
    f.write_str("</td>")
}

fn point(f: &mut Formatter<'_>, program: &ProgramStatus) -> fmt::Result {
    let ProgramStatus { attach_point, mechanism, functions, instructions, runs, run_ns, missed } = program;
    write!(
        f,
        "<div class=\"point\" title=\"{instructions} instructions, {runs} runs, {missed} missed, {}\">\
         <code>{}</code>",
        Nanos(*run_ns),
        Breakable(attach_point)
    )?;
    if !mechanism.is_empty() {
        write!(f, " <span class=\"chip\">{}</span>", Escaped(mechanism))?;
    }
    if *functions > 1 {
        write!(f, " <span class=\"muted small\">{functions} functions</span>")?;
    }
    f.write_str("</div>")
}

fn series(f: &mut Formatter<'_>, used: u64, max: u64) -> fmt::Result {
    let percent = used.saturating_mul(100).checked_div(max).unwrap_or(0).min(100);
    let full = if percent >= 80 { " full" } else { "" };
    write!(
        f,
        "<td class=\"num\" data-label=\"{SERIES}\">{} <span class=\"muted\">/ {}</span>\
         <span class=\"meter{full}\"><i style=\"width:{percent}%\"></i></span></td>",
        RoundCount(used),
        RoundCount(max)
    )
}

fn drops(f: &mut Formatter<'_>, probe: &ProbeStatus) -> fmt::Result {
    let all = dropped(probe);
    if all == 0 {
        return number(f, DROPPED, RoundCount(0), true, "");
    }
    write!(f, "<td class=\"num\" data-label=\"{DROPPED}\"><span class=\"warn\">{}</span>", RoundCount(all))?;
    for (reason, count) in probe.dropped.iter().filter(|(_, count)| *count > 0) {
        write!(f, "<div class=\"muted small\">{} {}</div>", Escaped(reason), RoundCount(*count))?;
    }
    f.write_str("</td>")
}

/// A cell of one number, with the class `quiet` if it needs no attention, else with `class`.
fn number(f: &mut Formatter<'_>, label: &str, value: impl Display, quiet: bool, class: &str) -> fmt::Result {
    let class = if quiet { " muted" } else { class };
    write!(f, "<td class=\"num{class}\" data-label=\"{label}\">{value}</td>")
}

fn total(probe: &ProbeStatus, value: fn(&ProgramStatus) -> u64) -> u64 {
    probe.programs.iter().map(value).sum()
}

fn dropped(probe: &ProbeStatus) -> u64 {
    probe.dropped.iter().map(|(_, count)| count).sum()
}

/// Text in HTML, inside and outside of attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// An attach point or a path, which may break between its parts rather than within a name.
struct Breakable<'a>(&'a str);

impl Display for Breakable<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive([':', '/']) {
            write!(f, "{}<wbr>", Escaped(part))?;
        }
        Ok(())
    }
}

/// A count: exact below ten thousand, then three digits and a unit.
struct RoundCount(u64);

impl Display for RoundCount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            exact @ 0..1000 => write!(f, "{exact}"),
            exact @ 1000..10_000 => write!(f, "{},{:03}", exact / 1000, exact % 1000),
            large => scaled(f, large, 1000, &["", "k", "M", "G", "T", "P", "E"]),
        }
    }
}

/// A size in binary units.
struct ByteSize(u64);

impl Display for ByteSize {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
    }
}

/// A duration: three digits up to a minute, then the two largest units.
struct Nanos(u64);

impl Display for Nanos {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        match seconds {
            0..60 => scaled(f, self.0, 1000, &["ns", "µs", "ms", "s"]),
            60..3600 => write!(f, "{minutes} min {} s", seconds % 60),
            3600..86400 => write!(f, "{hours} h {} min", minutes % 60),
            86400.. => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

/// `value` in the largest unit that leaves a whole part, with about three digits. Integers throughout: these are
/// counters of 64 bits, and a float would lie about the large ones.
fn scaled(f: &mut Formatter<'_>, value: u64, step: u64, units: &[&str]) -> fmt::Result {
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
    match whole {
        _ if scale == 1 => write!(f, "{whole}")?,
        0..10 => write!(f, "{whole}.{:02}", rest * 100 / u128::from(scale))?,
        10..100 => write!(f, "{whole}.{}", rest * 10 / u128::from(scale))?,
        _ => write!(f, "{whole}")?,
    }
    if unit.is_empty() { Ok(()) } else { write!(f, " {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Cause, Down, Limit};

    fn page(probes: &[ProbeStatus]) -> Page<'_> {
        Page {
            probes,
            push: None,
            configuration: None,
            web: None,
            rights: &[],
            telemetry_path: "/metrics",
            unready: None,
        }
    }

    fn render(probes: &[ProbeStatus]) -> String {
        page(probes).to_string()
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
        let html = Page { configuration: Some(&status), web: Some("no <key>"), ..page(&[]) }.to_string();
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
        let html = Page { configuration: Some(&good), ..page(&[]) }.to_string();
        assert!(
            html.contains("The shipped probes, as read ") && !html.contains("class=\"note\"><p>"),
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
            assert_eq!(RoundCount(number).to_string(), text);
        }
        for (number, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(ByteSize(number).to_string(), text);
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
            assert_eq!(Nanos(number).to_string(), text);
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
        assert_eq!(html.matches("&lt;script&gt;&quot;&#39;&amp;").count(), 8);
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
        let limit = Some(Limit { reason: "symbols", message: "reasons are `unknown`".into() });
        let html = render(&[ProbeStatus { limit, ..Default::default() }]);
        assert!(html.contains("1 of 1"), "{html}");
        assert!(html.contains("<tr class=\"message\">") && html.contains("<b>symbols</b> reasons"), "{html}");
    }

    #[test]
    fn attach_points_break_between_their_parts() {
        assert_eq!(Breakable("kprobe:<a>").to_string(), "kprobe:<wbr>&lt;a&gt;<wbr>");
    }

    #[test]
    fn runs_that_are_not_counted_are_not_shown_as_fast() {
        let probe = ProbeStatus { programs: vec![ProgramStatus::default()], ..Default::default() };
        let html = render(&[probe]);
        assert!(html.contains("kernel.bpf_stats_enabled") && html.contains(">–</td>"));
        assert!(render(&[]).contains("No probes are configured."));
    }
}
