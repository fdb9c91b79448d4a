//! A report for people: a table for each metric, and below them losses and probes that were down.

use super::{
    Report,
    measure::{LargestBasis, Measurement, MetricForm, MetricTable, TableRow},
    unit::BaseUnit,
};
use crate::{
    family::Bucket,
    table::{table, width},
    watch::WatchEnd,
};
use std::{fmt::Write, os::unix::process::ExitStatusExt};

/// Most columns of a distribution.
const MOST_BARS: usize = 40;
/// A distribution narrower than this goes to a line of its own.
const LEAST_BARS: usize = 16;
/// Narrower terminals are treated as this wide.
const NARROWEST: usize = 20;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The layout of the report.
#[derive(Clone, Copy, Debug)]
pub struct ReportLayout {
    /// Columns of the terminal; `None` if lines may have any length.
    pub columns: Option<usize>,
    /// Whether distributions are shown.
    pub bars: bool,
}

/// The whole report.
pub fn text(report: &Report, layout: ReportLayout) -> String {
    let mut text = format!("In {}:\n\n", BaseUnit::Seconds.text(report.elapsed.as_secs_f64()));
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

fn is_bounded(row: &TableRow) -> bool {
    row.largest().is_some_and(|largest| largest.source == LargestBasis::Bucket)
}

/// Sentences below the tables.
fn notes(report: &Report, has_bounds: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if has_bounds {
        let note = "max: after ≤ stands the upper bound of the highest bucket that holds a value, or what total, count and time \
                    leave to it if that is less";
        notes.push(note.to_owned());
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
        let first = first.strip_prefix("error: ").unwrap_or(first);
        notes.push(format!("the probe `{name}` was down ({}): {}", down.cause, printable(first)));
    }
    notes.extend(report.losses.iter().map(|loss| printable(&loss.sentence())));
    if let WatchEnd::Command(status) = report.end {
        match (status.code(), status.signal()) {
            (Some(0), _) | (None, None) => {}
            (Some(code), _) => notes.push(format!("the command ended with status {code}")),
            (None, Some(signal)) => notes.push(format!("the command was ended by signal {signal}")),
        }
    }
    notes
}

/// A row as cells.
struct TextRow {
    /// A cell for each label that is no stack; of a sum, only the first.
    labels: Vec<String>,
    /// Name of the label and functions, outermost first, for each stack that is not empty.
    stacks: Vec<(String, String)>,
    numbers: Vec<String>,
    distribution: Vec<Bucket>,
    /// Whether it is the sum of several rows.
    is_sum: bool,
}

impl TextRow {
    fn new(table: &MetricTable, labels: Vec<String>, row: &TableRow, is_sum: bool) -> Self {
        let distribution = match &row.measured {
            Measurement::Histogram(histogram, _) => histogram.buckets(),
            Measurement::Number(_) => Vec::new(),
        };
        let mut line =
            Self { labels, stacks: Vec::new(), numbers: figures(table, row), distribution, is_sum };
        if !is_sum && table.metric.has_stacks() {
            let names = table.label_names.iter().map(|name| printable(name));
            for (label, (name, text)) in names.zip(std::mem::take(&mut line.labels)).enumerate() {
                if table.metric.stack(label).is_none() {
                    line.labels.push(text);
                } else if row.labels.get(label).is_some_and(|stack| !stack.is_empty()) {
                    line.stacks.push((name, text));
                }
            }
        }
        line
    }
}

/// The rows of a table, followed by the sum of those left out and the sum of all.
fn lines(table: &MetricTable) -> Vec<TextRow> {
    let text = |(place, label): (usize, &String)| {
        let sentence = table.sentences.get(label).filter(|_| table.metric.is_reason(place));
        printable(sentence.unwrap_or(label))
    };
    let texts = |row: &TableRow| row.labels.iter().enumerate().map(text).collect();
    let mut lines: Vec<TextRow> =
        table.rows.iter().map(|row| TextRow::new(table, texts(row), row, false)).collect();
    if table.left_out > 0 {
        let labels = vec![format!("{} more", table.left_out)];
        lines.push(match &table.rest {
            Some(rest) => TextRow::new(table, labels, rest, true),
            None => TextRow {
                labels,
                stacks: Vec::new(),
                numbers: Vec::new(),
                distribution: Vec::new(),
                is_sum: true,
            },
        });
    }
    lines.extend(table.all.as_ref().map(|all| TextRow::new(table, vec!["all".into()], all, true)));
    lines
}

fn titles(kind: MetricForm) -> &'static [&'static str] {
    match kind {
        MetricForm::Histogram => &["total", "count", "average", "p50", "p99", "max", "percent"],
        MetricForm::Counter => &["total", "per second", "percent"],
        MetricForm::Gauge => &["value"],
        MetricForm::Waiting => &["waiting"],
        MetricForm::Max => &["max"],
    }
}

/// The numbers of a row.
fn figures(table: &MetricTable, row: &TableRow) -> Vec<String> {
    let unit = table.metric.unit;
    let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| unit.text(value));
    let percent = row.share.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0));
    match (&row.measured, table.metric.kind) {
        (Measurement::Histogram(histogram, largest), _) => {
            let largest = largest.map(|largest| {
                let sign = match largest.source {
                    LargestBasis::Bucket => "≤ ",
                    LargestBasis::Above => "> ",
                    LargestBasis::Metric => "",
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
        (Measurement::Number(total), MetricForm::Counter) => {
            vec![unit.text(*total), unit.rate(total / table.seconds.max(1e-9)), percent]
        }
        (Measurement::Number(value), _) => vec![unit.text(*value)],
    }
}

/// One table with its name.
fn one(of: &MetricTable, layout: ReportLayout, text: &mut String) {
    let columns = layout.columns.map(|columns| columns.max(NARROWEST));
    let name = format!("{}:", of.metric.name);
    wrap([name.as_str()].into_iter().chain(of.help.split_whitespace()), columns, "", "  ", text);
    let lines = lines(of);
    let plain = of.label_names.iter().enumerate().filter(|(label, _)| of.metric.stack(*label).is_none());
    let mut names: Vec<String> = plain.map(|(_, name)| printable(name)).collect();
    if names.is_empty() && lines.iter().any(|line| line.is_sum) {
        // A column for the names of sums.
        names.push(String::new());
    }
    let numbers: Vec<String> = titles(of.metric.kind).iter().map(ToString::to_string).collect();
    let (labels, numbers_count) = (names.len(), numbers.len());
    let mut rows: Vec<Vec<String>> = vec![[names.as_slice(), numbers.as_slice()].concat()];
    rows.extend(lines.iter().map(|line| {
        let mut cells = line.labels.clone();
        cells.resize(labels, String::new());
        cells.extend_from_slice(&line.numbers);
        cells.resize(labels + numbers_count, String::new());
        cells
    }));
    let mut right: Vec<bool> = (0..labels + numbers_count).map(|column| column >= labels).collect();
    let taken = width(&rows);
    let fits = columns.is_none_or(|columns| taken <= columns);
    let beside = columns.map_or(MOST_BARS, |columns| columns.saturating_sub(taken + 2)).min(MOST_BARS);
    let below = columns.map_or(MOST_BARS, |columns| columns - 4).min(MOST_BARS);
    let scale =
        |room| Scale::new(lines.iter().flat_map(|line| &line.distribution), room).filter(|_| layout.bars);
    let narrow = |scale: &Scale| beside < LEAST_BARS && scale.per_column > 1;
    let beside =
        scale(beside).filter(|scale| fits && !narrow(scale) && scale.width(of.metric.unit) <= beside);
    let stacks = |line: &TextRow, text: &mut String| {
        for (name, stack) in &line.stacks {
            let _ = writeln!(text, "    {name}");
            for function in stack.rsplit(';') {
                let _ = writeln!(text, "        {function}");
            }
        }
    };
    if let Some(scale) = beside {
        let cells = lines.iter().map(|line| scale.bars(&line.distribution));
        for (row, cell) in rows.iter_mut().zip([scale.title(of.metric.unit)].into_iter().chain(cells)) {
            row.push(cell);
        }
        right.push(false);
        let table = table(&rows, &right);
        let mut shown = table.lines();
        let _ = writeln!(text, "{}", shown.next().unwrap_or_default());
        for (shown, line) in shown.zip(&lines) {
            let _ = writeln!(text, "{shown}");
            stacks(line, text);
        }
        return;
    }
    let scale = scale(below);
    let bars = |line: &TextRow, text: &mut String| {
        if let Some(scale) = &scale {
            let _ = writeln!(text, "    {}", scale.bars(&line.distribution).trim_end());
        }
    };
    if fits {
        let table = table(&rows, &right);
        let mut shown = table.lines();
        let _ = writeln!(text, "{}", shown.next().unwrap_or_default());
        for (shown, line) in shown.zip(&lines) {
            let _ = writeln!(text, "{shown}");
            bars(line, text);
            stacks(line, text);
        }
    } else {
        // Each row by itself: labels, then numbers with their names, as many as fit on a line.
        for line in &lines {
            let named = |(name, cell): (&String, &String)| format!("{name} {cell}");
            let titles: Vec<String> = if line.is_sum {
                line.labels.clone()
            } else {
                names.iter().zip(&line.labels).map(named).collect()
            };
            wrap(titles.iter().map(String::as_str), columns, "  ", "  ", text);
            let figures: Vec<String> =
                numbers.iter().zip(&line.numbers).map(named).map(|pair| pair + " ").collect();
            wrap(figures.iter().map(String::as_str), columns, "    ", "    ", text);
            bars(line, text);
            stacks(line, text);
        }
    }
    if let Some(scale) = scale {
        let _ = writeln!(text, "    {}", scale.title(of.metric.unit).trim_end());
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
    /// `None` if there is nothing to show, or no room.
    fn new<'a>(buckets: impl Iterator<Item = &'a Bucket> + Clone, room: usize) -> Option<Self> {
        let lowest = *buckets.clone().min_by_key(|bucket| bucket.place)?;
        let highest = *buckets.max_by_key(|bucket| bucket.place)?;
        let span = highest.place - lowest.place + 1;
        let room = i64::try_from(room.max(1)).ok()?;
        let per_column = span.saturating_add(room - 1) / room;
        let columns = usize::try_from(span.saturating_add(per_column - 1) / per_column).ok()?;
        Some(Self { lowest, highest, per_column, columns })
    }

    /// Characters that the bars and their title need.
    fn width(&self, unit: BaseUnit) -> usize {
        self.columns.max(self.title(unit).chars().count())
    }

    /// The title: the values at both ends.
    fn title(&self, unit: BaseUnit) -> String {
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

    /// One line of bars. Every column that is not empty has a bar; the fullest has the highest.
    fn bars(&self, buckets: &[Bucket]) -> String {
        let mut counts = vec![0_u64; self.columns];
        for bucket in buckets {
            let column = usize::try_from((bucket.place - self.lowest.place) / self.per_column)
                .expect("no place is below the lowest");
            if let Some(count) = counts.get_mut(column) {
                *count = count.saturating_add(bucket.count);
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let steps = (BARS.len() - 1) as u128;
        let height = |count: &u64| {
            let height = (u128::from(*count) * steps).div_ceil(u128::from(most));
            BARS[usize::try_from(height).expect("it is at most the number of steps")]
        };
        counts.iter().map(height).collect()
    }
}

/// Text with control characters escaped for terminals: anybody may choose the name of a process.
pub(super) fn printable(text: &str) -> String {
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

/// Breaks words into lines that fit, as far as possible.
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
