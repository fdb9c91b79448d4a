//! The table of docs/scale.md.

use super::{
    server::QueryCost,
    survey::{FleetSurvey, PanelRow, RuleRow},
};
use std::{fmt::Write as _, fs, path::Path, time::Duration};

/// A number with a space between thousands.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds, with two digits.
fn milliseconds(time: Duration) -> String {
    let value = time.as_secs_f64() * 1000.0;
    match value {
        ..1.0 => format!("{value:.2}"),
        ..10.0 => format!("{value:.1}"),
        _ => number(time.as_millis().try_into().unwrap()),
    }
}

fn rules(survey: &FleetSurvey) -> String {
    let mut text = String::from(
        "| rule | every | series | samples | samples of a node | peak | CPU ms | wall ms |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    if survey.rules.is_empty() {
        return String::new();
    }
    for RuleRow { place, every, cost, .. } in &survey.rules {
        let every = every.map_or_else(String::new, |seconds| format!("{} m", seconds / 60));
        let (cpu, wall) = (milliseconds(cost.cpu), milliseconds(cost.wall));
        let (series, samples, peak) = (number(cost.series as u64), number(cost.samples), number(cost.peak));
        let each = cost.samples as f64 / survey.nodes as f64;
        match &cost.error {
            None => {
                writeln!(
                    text,
                    "| {place} | {every} | {series} | {samples} | {each:.1} | {peak} | {cpu} | {wall} |"
                )
            }
            Some(error) => writeln!(text, "| {place} | {every} | refused: {error} | | | | {cpu} | {wall} |"),
        }
        .unwrap();
    }
    text
}

fn cells(cost: &QueryCost) -> String {
    let (cpu, wall) = (milliseconds(cost.cpu), milliseconds(cost.wall));
    match &cost.error {
        None => format!(
            "{} | {} | {} | {cpu} | {wall}",
            number(cost.series as u64),
            number(cost.samples),
            number(cost.peak)
        ),
        Some(error) if error == "not asked" => {
            format!("not asked | ~{} | ~{} | | ", number(cost.samples), number(cost.peak))
        }
        Some(error) if error.contains("too many samples") => format!("too many samples | | | {cpu} | {wall}"),
        Some(error) if error.contains("timed out") => format!("no answer in time | | | {cpu} | {wall}"),
        Some(error) => format!("refused: {error} | | | {cpu} | {wall}"),
    }
}

fn panels(survey: &FleetSurvey) -> String {
    let mut text = String::from(
        "| query | | one host: series | samples | peak | CPU ms | wall ms | all hosts: series | samples | peak | CPU ms | wall ms |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for PanelRow { place, kind, folded, one, all } in &survey.panels {
        let folded = if *folded { ", folded" } else { "" };
        writeln!(text, "| {place} | {kind}{folded} | {} | {} |", cells(one), cells(all)).unwrap();
    }
    text
}

/// What was measured, in words and tables.
pub(crate) fn text(survey: &FleetSurvey) -> String {
    let mut text = String::new();
    let of_rules = |optional: bool| {
        let chosen = || survey.rules.iter().filter(move |row| row.optional == optional);
        let samples: u64 = chosen().map(|row| row.cost.samples).sum();
        // Groups with an interval of their own are not evaluated each time.
        let seconds = |interval: i64| {
            let share = |row: &RuleRow| interval as f64 / row.every.unwrap_or(interval).max(interval) as f64;
            chosen().map(|row| row.cost.cpu.as_secs_f64() * share(row)).sum::<f64>()
        };
        format!(
            "{:.2} s of a processor in each interval of a minute, {:.2} s in each of half a minute, {:.2} s and {} samples if all are \
             evaluated at once",
            seconds(60),
            seconds(30),
            seconds(i64::MAX),
            number(samples)
        )
    };
    let shown = || survey.panels.iter().filter(|row| !row.folded);
    let slowest = |cost: fn(&PanelRow) -> &QueryCost| {
        shown().max_by_key(|row| cost(row).wall).map(|row| (row.place.clone(), cost(row).clone())).unwrap()
    };
    let (one, all) = (slowest(|row| &row.one), slowest(|row| &row.all));
    let largest = |cost: fn(&PanelRow) -> &QueryCost| shown().map(|row| cost(row).peak).max().unwrap_or(0);
    let refused = shown().filter(|row| row.all.error.is_some()).count();
    write!(
        text,
        "{} series of a node, {} in the block ({} MiB). {}Slowest query of what a dashboard shows first, for one host: {} ms ({}), at most {} samples at a time; \
         for all hosts: {} ms ({}), at most {} samples at a time, {refused} too large to be asked, or refused.\n\n",
        number(survey.node_series as u64),
        number(survey.block.series),
        number(survey.block.bytes >> 20),
        if survey.rules.is_empty() {
            String::new()
        } else {
            format!("All rules: {}. The optional ones besides: {}. ", of_rules(false), of_rules(true))
        },
        milliseconds(one.1.wall),
        one.0,
        number(largest(|row| &row.one)),
        milliseconds(all.1.wall),
        all.0,
        number(largest(|row| &row.all)),
    )
    .unwrap();
    writeln!(text, "{}\n{}", rules(survey), panels(survey)).unwrap();
    text
}

/// Puts it between the marks of its number of nodes.
pub(crate) fn write(file: &Path, survey: &FleetSurvey) {
    let document = fs::read_to_string(file).unwrap();
    let (begin, end) =
        (format!("<!-- {} nodes -->\n", survey.nodes), format!("<!-- end of {} nodes -->", survey.nodes));
    let (before, rest) =
        document.split_once(&begin).unwrap_or_else(|| panic!("{} has no `{begin}`", file.display()));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{} has no `{end}`", file.display()));
    fs::write(file, format!("{before}{begin}\n{}{end}{after}", text(survey))).unwrap();
}
