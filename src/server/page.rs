//! The landing page: the state of every probe for a person with a browser. Complete in itself, without scripts or
//! other files, so that it works on a host that reaches nothing else.

use std::fmt::{self, Display, Formatter, Write};

use crate::status::{Down, ProbeStatus, ProgramStatus};

const STYLE: &str = include_str!("page.css");
/// Attach points shown before the rest of a probe's is folded away.
const SHOWN_POINTS: usize = 3;
const COLUMNS: usize = 9;

/// The page as HTML.
pub(super) fn render(probes: &[ProbeStatus], ready: bool) -> String {
    Page { probes, ready }.to_string()
}

struct Page<'a> {
    probes: &'a [ProbeStatus],
    ready: bool,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>tapster</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header><h1>tapster</h1><span class=\"muted\">{}</span>\
             <nav><a href=\"/metrics\">Metrics</a><a href=\"/-/healthy\">Health</a>\
             <a href=\"/-/ready\">Readiness</a></nav></header>\n<main>\n",
            env!("CARGO_PKG_VERSION")
        )?;
        self.summary(f)?;
        if !self.ready {
            f.write_str("<p class=\"note\">Starting: probes are still being attached.</p>\n")?;
        }
        let programs = || self.probes.iter().flat_map(|probe| &probe.programs);
        if programs().next().is_some() && programs().all(|program| program.runs == 0) {
            f.write_str(
                "<p class=\"note\">No runs are counted. The kernel counts them, and the time they take, while \
                 the setting <code>kernel.bpf_stats_enabled</code> is 1.</p>\n",
            )?;
        }
        self.table(f)?;
        f.write_str("</main>\n</body>\n</html>\n")
    }
}

impl Page<'_> {
    fn summary(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let probes = self.probes;
        let up = probes.iter().filter(|probe| probe.down.is_none()).count();
        let sum = |value: fn(&ProbeStatus) -> u64| probes.iter().map(value).sum::<u64>();
        let programs: usize = probes.iter().map(|probe| probe.programs.len()).sum();
        let alarm = if up < probes.len() { " class=\"warn\"" } else { "" };
        write!(f, "<dl><div><dt>Probes up</dt><dd{alarm}>{up} of {}</dd></div>", probes.len())?;
        write!(f, "<div><dt>Programs</dt><dd>{programs}</dd></div>")?;
        write!(f, "<div><dt>Series</dt><dd>{}</dd></div>", Count(sum(|probe| probe.series)))?;
        write!(f, "<div><dt>Time in probes</dt><dd>{}</dd></div>", Nanos(sum(|p| total(p, |x| x.run_ns))))?;
        write!(f, "<div><dt>Dropped events</dt><dd>{}</dd></div>", Count(sum(dropped)))?;
        writeln!(f, "<div><dt>Map memory</dt><dd>{}</dd></div></dl>", Bytes(sum(|probe| probe.memory_bytes)))
    }

    fn table(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.probes.is_empty() {
            return f.write_str("<p class=\"note\">No probes are configured.</p>\n");
        }
        f.write_str(
            "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Probe</th><th scope=\"col\">State</th>\
             <th scope=\"col\">Attach points</th><th scope=\"col\" class=\"num\">Series</th>\
             <th scope=\"col\" class=\"num\">Runs</th><th scope=\"col\" class=\"num\">Missed</th>\
             <th scope=\"col\" class=\"num\">Time per run</th><th scope=\"col\" class=\"num\">Dropped</th>\
             <th scope=\"col\" class=\"num\">Memory</th></tr></thead>\n<tbody>\n",
        )?;
        // What needs attention comes first; otherwise the order is the source's.
        let (down, up): (Vec<_>, Vec<_>) = self.probes.iter().partition(|probe| probe.down.is_some());
        for probe in down.into_iter().chain(up) {
            row(f, probe)?;
        }
        f.write_str("</tbody>\n</table></div>\n")
    }
}

fn row(f: &mut Formatter<'_>, probe: &ProbeStatus) -> fmt::Result {
    write!(
        f,
        "<tr><th scope=\"row\">{}<div class=\"muted small\" style=\"font-weight:400\">{}</div>",
        Escaped(&probe.name),
        Escaped(&probe.help)
    )?;
    let noun = if probe.families.len() == 1 { "metric" } else { "metrics" };
    write!(f, "<details><summary class=\"muted\">{} {noun}</summary><ul>", probe.families.len())?;
    for family in &probe.families {
        write!(f, "<li><code>{}</code></li>", Escaped(family))?;
    }
    write!(f, "<li class=\"muted\">from {}</li></ul></details></th>", Escaped(&probe.source))?;
    match &probe.down {
        None => f.write_str("<td><span class=\"state\">up</span></td>")?,
        Some(Down { reason, .. }) => {
            write!(f, "<td><span class=\"state down\">down: {}</span></td>", Escaped(reason))?;
        }
    }
    points(f, &probe.programs)?;
    series(f, probe.series, probe.max_series)?;
    let runs = total(probe, |program| program.runs);
    let run_ns = total(probe, |program| program.run_ns);
    number(f, Count(runs), runs == 0, "")?;
    let missed = total(probe, |program| program.missed);
    number(f, Count(missed), missed == 0, " warn")?;
    match run_ns.checked_div(runs) {
        Some(per_run) => number(f, Nanos(per_run), false, "")?,
        None => f.write_str("<td class=\"num muted\">–</td>")?,
    }
    drops(f, probe)?;
    writeln!(f, "<td class=\"num\">{}</td></tr>", Bytes(probe.memory_bytes))?;
    if let Some(Down { message, .. }) = &probe.down {
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        writeln!(
            f,
            "<tr class=\"message\"><td colspan=\"{COLUMNS}\"><details><summary>{}</summary>\
             <pre>{}</pre></details></td></tr>",
            Escaped(first.trim()),
            Escaped(message.trim_end())
        )?;
    }
    Ok(())
}

fn points(f: &mut Formatter<'_>, programs: &[ProgramStatus]) -> fmt::Result {
    f.write_str("<td>")?;
    // Folding a single one away would save nothing.
    let shown = if programs.len() <= SHOWN_POINTS + 1 { programs.len() } else { SHOWN_POINTS };
    let (shown, folded) = programs.split_at(shown);
    for program in shown {
        point(f, program)?;
    }
    if !folded.is_empty() {
        write!(f, "<details><summary class=\"muted\">{} more</summary>", folded.len())?;
        for program in folded {
            point(f, program)?;
        }
        f.write_str("</details>")?;
    }
    f.write_str("</td>")
}

fn point(f: &mut Formatter<'_>, program: &ProgramStatus) -> fmt::Result {
    let ProgramStatus { attach_point, mechanism, instructions, runs, run_ns, missed } = program;
    write!(
        f,
        "<div class=\"point\" title=\"{instructions} instructions, {runs} runs, {missed} missed, {}\">\
         <code>{}</code>",
        Nanos(*run_ns),
        Escaped(attach_point)
    )?;
    if !mechanism.is_empty() {
        write!(f, " <span class=\"chip\">{}</span>", Escaped(mechanism))?;
    }
    f.write_str("</div>")
}

fn series(f: &mut Formatter<'_>, used: u64, max: u64) -> fmt::Result {
    let percent = used.saturating_mul(100).checked_div(max).unwrap_or(0).min(100);
    let full = if percent >= 80 { " full" } else { "" };
    write!(
        f,
        "<td class=\"num\">{} <span class=\"muted\">/ {}</span>\
         <span class=\"meter{full}\"><i style=\"width:{percent}%\"></i></span></td>",
        Count(used),
        Count(max)
    )
}

fn drops(f: &mut Formatter<'_>, probe: &ProbeStatus) -> fmt::Result {
    let all = dropped(probe);
    if all == 0 {
        return number(f, Count(0), true, "");
    }
    write!(f, "<td class=\"num\"><span class=\"warn\">{}</span>", Count(all))?;
    for (reason, count) in probe.dropped.iter().filter(|(_, count)| *count > 0) {
        write!(f, "<div class=\"muted small\">{} {}</div>", Escaped(reason), Count(*count))?;
    }
    f.write_str("</td>")
}

/// A cell of one number: `quiet` if it is no news, else of `class`.
fn number(f: &mut Formatter<'_>, value: impl Display, quiet: bool, class: &str) -> fmt::Result {
    let class = if quiet { " muted" } else { class };
    write!(f, "<td class=\"num{class}\">{value}</td>")
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

/// A count: exact below ten thousand, then three digits and a unit.
struct Count(u64);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            exact @ 0..1000 => write!(f, "{exact}"),
            exact @ 1000..10_000 => write!(f, "{},{:03}", exact / 1000, exact % 1000),
            large => scaled(f, large, 1000, &["", "k", "M", "G", "T", "P", "E"]),
        }
    }
}

/// A size in binary units.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
    }
}

/// A duration.
struct Nanos(u64);

impl Display for Nanos {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        scaled(f, self.0, 1000, &["ns", "µs", "ms", "s", "ks", "Ms", "Gs"])
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
            assert_eq!(Count(number).to_string(), text);
        }
        for (number, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(Bytes(number).to_string(), text);
        }
        for (number, text) in [(412, "412 ns"), (1250, "1.25 µs"), (3_600_000_000_000, "3.60 ks")] {
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
            down: Some(Down { reason: "verifier", message: evil() }),
            programs: vec![ProgramStatus { attach_point: evil(), mechanism: evil(), ..Default::default() }],
            families: vec![evil()],
            dropped: vec![(evil(), 1)],
            ..Default::default()
        };
        let html = render(&[probe], true);
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;&quot;&#39;&amp;").count(), 9);
    }

    #[test]
    fn what_is_down_comes_first_with_its_message() {
        let up = ProbeStatus { name: "fine".into(), ..Default::default() };
        let message = "\nprogram refused\n0: (79) r1 = *(u64 *)(r1 +0)".into();
        let down = ProbeStatus {
            name: "broken".into(),
            down: Some(Down { reason: "verifier", message }),
            ..Default::default()
        };
        let html = render(&[up, down], true);
        assert!(html.find("broken") < html.find("fine"));
        assert!(html.contains("1 of 2") && html.contains("<summary>program refused</summary>"), "{html}");
    }

    #[test]
    fn runs_that_are_not_counted_are_not_shown_as_fast() {
        let probe = ProbeStatus { programs: vec![ProgramStatus::default()], ..Default::default() };
        let html = render(&[probe], true);
        assert!(html.contains("kernel.bpf_stats_enabled") && html.contains("<td class=\"num muted\">–</td>"));
        assert!(render(&[], true).contains("No probes are configured."));
    }
}
