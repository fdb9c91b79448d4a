//! A report for people: a table for each metric, and below them what was lost and what was down.

use super::{
    Report,
    measure::{Kind, Measured, Row, Source, Table},
};
use crate::{
    cli::{
        table::{table, width},
        watch::{End, seconds},
    },
    family::Bucket,
};
use std::{fmt::Write, os::unix::process::ExitStatusExt};

/// Most columns of a distribution.
const MOST_BARS: usize = 40;
/// A distribution narrower than this goes to a line of its own.
const LEAST_BARS: usize = 16;
/// Narrower terminals are taken for this wide.
const NARROWEST: usize = 20;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How the report is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Columns of the terminal; `None` where lines may have any length.
    pub(super) columns: Option<usize>,
    /// Whether distributions are shown.
    pub(super) bars: bool,
}

/// The whole report.
pub(super) fn text(report: &Report, layout: Layout) -> String {
    let mut text = format!("In {}:\n\n", seconds(report.elapsed));
    let mut tables = report.tables.iter().filter(|table| !table.rows.is_empty()).peekable();
    if tables.peek().is_none() {
        text += "nothing was counted\n\n";
    }
    let mut has_bounds = false;
    for table in tables {
        has_bounds |= table.rows.iter().chain(&table.rest).chain(&table.all).any(is_bounded);
        one(table, layout, &mut text);
        text.push('\n');
    }
    for note in notes(report, has_bounds) {
        wrap(note.split(' '), layout.columns, "", "  ", &mut text);
    }
    text
}

fn is_bounded(row: &Row) -> bool {
    row.largest().is_some_and(|largest| largest.source == Source::Bucket)
}

/// Sentences below the tables.
fn notes(report: &Report, has_bounds: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if has_bounds {
        notes.push("max: after ≤ stands the upper bound of the highest bucket that holds a value".to_owned());
    }
    let empty: Vec<&str> = report
        .tables
        .iter()
        .filter(|table| table.rows.is_empty())
        .map(|table| table.metric.name.as_str())
        .collect();
    if !empty.is_empty() {
        notes.push(format!("nothing in {}", empty.join(", ")));
    }
    for (name, down) in report.down() {
        let first = down.message.lines().next().unwrap_or_default();
        notes.push(format!("the probe `{name}` was down ({}): {}", down.reason, printable(first)));
    }
    notes.extend(report.losses.iter().map(|loss| printable(&loss.sentence())));
    if let End::Command(status) = report.end {
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => notes.push(format!("the command ended with status {code}")),
            (None, Some(signal)) => notes.push(format!("the command was ended by signal {signal}")),
            (None, None) => {}
        }
    }
    notes
}

/// Columns of a table, without those of distributions.
struct Cells {
    titles: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

fn cells(table: &Table) -> Cells {
    let numbers: &[&str] = match table.metric.kind {
        Kind::Histogram => &["total", "count", "average", "p50", "p99", "max", "percent"],
        Kind::Counter => &["total", "per second", "percent"],
        Kind::Gauge => &["value"],
        Kind::Max => &["max"],
    };
    let labels = table.label_names.len();
    let titles =
        table.label_names.iter().map(|name| printable(name)).chain(numbers.iter().map(ToString::to_string));
    let line = |first: Option<String>, row: Option<&Row>| {
        let mut line: Vec<String> = match (first, row) {
            (Some(first), _) => {
                let mut line = vec![String::new(); labels];
                line.iter_mut().take(1).for_each(|cell| cell.clone_from(&first));
                line
            }
            (None, Some(row)) => row.labels.iter().map(|label| printable(label)).collect(),
            (None, None) => Vec::new(),
        };
        line.extend(row.map(|row| figures(table, row)).unwrap_or_default());
        line.resize(labels + numbers.len(), String::new());
        line
    };
    let mut rows: Vec<Vec<String>> = table.rows.iter().map(|row| line(None, Some(row))).collect();
    if table.left_out > 0 {
        rows.push(line(Some(format!("{} more", table.left_out)), table.rest.as_ref()));
    }
    if let Some(all) = &table.all {
        rows.push(line(Some("all".into()), Some(all)));
    }
    Cells {
        titles: titles.collect(),
        right: (0..labels + numbers.len()).map(|column| column >= labels).collect(),
        rows,
    }
}

/// The numbers of a row.
fn figures(table: &Table, row: &Row) -> Vec<String> {
    let unit = table.metric.unit;
    let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| unit.text(value));
    let percent = row.share.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0));
    match (&row.measured, table.metric.kind) {
        (Measured::Histogram(histogram, largest), _) => {
            let largest = largest.map(|largest| {
                let sign = match largest.source {
                    Source::Bucket => "≤ ",
                    Source::Above => "> ",
                    Source::Metric => "",
                };
                format!("{sign}{}", unit.text(largest.value))
            });
            vec![
                unit.text(histogram.sum),
                histogram.count().to_string(),
                shown(histogram.mean()),
                shown(row.quantile(0.5)),
                shown(row.quantile(0.99)),
                largest.unwrap_or_else(|| "-".into()),
                percent,
            ]
        }
        (Measured::Number(total), Kind::Counter) => {
            vec![unit.text(*total), unit.rate(total / table.seconds.max(1e-9)), percent]
        }
        (Measured::Number(value), _) => vec![unit.text(*value)],
    }
}

/// One table with its name.
fn one(of: &Table, layout: Layout, text: &mut String) {
    let name = format!("{}:", of.metric.name);
    wrap(name.split(' ').chain(of.help.split_whitespace()), layout.columns, "", "  ", text);
    let Cells { titles, right, rows } = cells(of);
    let shown: Vec<&Row> =
        of.rows.iter().chain(of.rest.as_ref().filter(|_| of.left_out > 0)).chain(of.all.as_ref()).collect();
    let distributions: Vec<Vec<Bucket>> = shown.iter().map(|row| buckets(row)).collect();
    let has_bars = layout.bars && of.metric.kind == Kind::Histogram;
    let mut lines: Vec<Vec<String>> = [titles.clone()].into_iter().chain(rows.clone()).collect();
    let columns = layout.columns.map(|columns| columns.max(NARROWEST));
    let taken = width(&lines);
    let room = columns.map_or(MOST_BARS, |columns| columns.saturating_sub(taken + 2));
    let fits = columns.is_none_or(|columns| taken <= columns);
    if fits && (!has_bars || room >= LEAST_BARS) {
        let mut right = right;
        if let Some(scale) = Scale::new(&distributions, room.min(MOST_BARS)).filter(|_| has_bars) {
            let cells = [scale.title(of.metric.unit)]
                .into_iter()
                .chain(distributions.iter().map(|row| scale.bars(row)));
            for (line, cell) in lines.iter_mut().zip(cells) {
                line.push(cell);
            }
            right.push(false);
        }
        *text += &table(&lines, &right);
        return;
    }
    let room = columns.unwrap_or(MOST_BARS).saturating_sub(4).min(MOST_BARS);
    let scale = Scale::new(&distributions, room).filter(|_| has_bars);
    let bars = |line: usize, text: &mut String| {
        if let (Some(scale), Some(row)) = (&scale, distributions.get(line)) {
            let _ = writeln!(text, "    {}", scale.bars(row).trim_end());
        }
    };
    if fits {
        // A line of bars below each line of numbers.
        let all = table(&lines, &right);
        let mut all = all.lines();
        let _ = writeln!(text, "{}", all.next().unwrap_or_default());
        for (index, line) in all.enumerate() {
            let _ = writeln!(text, "{line}");
            bars(index, text);
        }
    } else {
        // Each row by itself: labels, then numbers with their names, as many as fit into a line.
        for (index, row) in rows.iter().enumerate() {
            let pairs: Vec<String> = titles
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.is_empty())
                .zip(&right)
                .map(|((title, cell), _)| format!("{title} {cell}"))
                .collect();
            let labels = right.iter().filter(|right| !**right).count();
            let is_sum = row.iter().take(labels).any(String::is_empty) || index >= of.rows.len();
            let (labels, numbers) = if is_sum {
                (vec![row.first().cloned().unwrap_or_default()], pairs.get(1..).unwrap_or_default().to_vec())
            } else {
                let (labels, numbers) = pairs.split_at(labels.min(pairs.len()));
                (labels.to_vec(), numbers.to_vec())
            };
            wrap(labels.iter().map(String::as_str), columns, "  ", "  ", text);
            let numbers: Vec<String> = numbers.iter().map(|pair| format!("{pair} ")).collect();
            wrap(numbers.iter().map(String::as_str), columns, "    ", "    ", text);
            bars(index, text);
        }
    }
    if let Some(scale) = scale {
        let _ = writeln!(text, "    {}", scale.title(of.metric.unit).trim_end());
    }
}

fn buckets(row: &Row) -> Vec<Bucket> {
    match &row.measured {
        Measured::Histogram(histogram, _) => histogram.buckets(),
        Measured::Number(_) => Vec::new(),
    }
}

/// The columns that all distributions of a table share.
struct Scale {
    lowest: Bucket,
    highest: Bucket,
    /// Buckets in a column.
    per_column: i64,
    columns: usize,
}

impl Scale {
    /// `None` where there is nothing to show, or no room.
    fn new(rows: &[Vec<Bucket>], room: usize) -> Option<Self> {
        let all = || rows.iter().flatten();
        let lowest = *all().min_by_key(|bucket| bucket.place)?;
        let highest = *all().max_by_key(|bucket| bucket.place)?;
        let span = highest.place - lowest.place + 1;
        let per_column =
            span.saturating_add(i64::try_from(room).ok()? - 1).checked_div(i64::try_from(room).ok()?)?;
        let columns = usize::try_from(span.saturating_add(per_column - 1) / per_column).ok()?;
        Some(Self { lowest, highest, per_column, columns })
    }

    /// What the ends of the columns are.
    fn title(&self, unit: super::unit::Unit) -> String {
        let text = |bound: f64| match bound {
            f64::NEG_INFINITY => "0".to_owned(),
            f64::INFINITY => "∞".to_owned(),
            bound => unit.text(bound),
        };
        let lowest = if self.lowest.lower == f64::NEG_INFINITY && self.lowest.upper <= 0.0 {
            "-∞".to_owned()
        } else {
            text(self.lowest.lower)
        };
        let highest = text(self.highest.upper);
        let gap = self.columns.saturating_sub(lowest.chars().count() + highest.chars().count()).max(1);
        format!("{lowest}{:gap$}{highest}", "")
    }

    /// One line of bars. What holds anything has a bar, and the fullest column the highest.
    fn bars(&self, buckets: &[Bucket]) -> String {
        let mut counts = vec![0_u64; self.columns];
        for bucket in buckets {
            let column = usize::try_from((bucket.place - self.lowest.place) / self.per_column).unwrap_or(0);
            if let Some(count) = counts.get_mut(column) {
                *count = count.saturating_add(bucket.count);
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let steps = u128::try_from(BARS.len() - 1).unwrap_or(8);
        let height = |count: &u64| {
            let height = (u128::from(*count) * steps).div_ceil(u128::from(most));
            usize::try_from(height).ok().and_then(|height| BARS.get(height)).copied().unwrap_or(' ')
        };
        counts.iter().map(height).collect()
    }
}

/// Text that a terminal does not take for commands: names of processes are chosen by anybody.
fn printable(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".into();
    }
    text.chars()
        .map(
            |character| {
                if character.is_control() { character.escape_default().to_string() } else { character.into() }
            },
        )
        .collect()
}

/// Words in lines that fit, where they can.
fn wrap<'a>(
    words: impl Iterator<Item = &'a str>,
    columns: Option<usize>,
    first: &str,
    next: &str,
    text: &mut String,
) {
    let columns = columns.map_or(usize::MAX, |columns| columns.max(NARROWEST));
    let (mut line, mut is_empty) = (first.to_owned(), true);
    for word in words {
        if !is_empty && line.chars().count() + 1 + word.trim_end().chars().count() > columns {
            let _ = writeln!(text, "{}", line.trim_end());
            next.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    if !is_empty {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
