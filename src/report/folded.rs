//! Stacks for flame graphs: one line for each, its functions from the outermost on, joined by `;`, and a number.

use super::{
    Report,
    measure::{MetricTable, TableRow},
    text::printable,
    unit::BaseUnit,
};
use std::fmt::Write;
use tapster_ebpf::typed::Side;

/// The stacks of all tables that have some. Other labels come outermost, and before them, if there are several tables, the
/// table's name.
pub fn folded(report: &Report) -> String {
    let tables: Vec<&MetricTable> =
        report.tables.iter().filter(|table| table.metric.has_stacks() && !table.rows.is_empty()).collect();
    let mut text = String::new();
    for table in &tables {
        for row in &table.rows {
            let mut frames: Vec<String> = Vec::new();
            if tables.len() > 1 {
                frames.push(table.metric.name.clone());
            }
            // Functions of the program come before those of the kernel, because the program called the kernel.
            for wanted in [None, Some(Side::User), Some(Side::Kernel)] {
                let labels = row.labels.iter().enumerate();
                for (_, label) in labels.filter(|(place, _)| table.metric.stack(*place) == wanted) {
                    match wanted {
                        None => frames.push(printable(label).replace(';', ":")),
                        Some(_) if label.is_empty() => {}
                        Some(_) => frames.push(label.clone()),
                    }
                }
            }
            let value = value(table, row);
            if value > 0 && !frames.is_empty() {
                let _ = writeln!(text, "{} {value}", frames.join(";"));
            }
        }
    }
    text
}

/// The total as a whole number, as programs for flame graphs read it: seconds become microseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut at the ends of the range")]
fn value(table: &MetricTable, row: &TableRow) -> u64 {
    let scale = if table.metric.unit == BaseUnit::Seconds { 1e6 } else { 1.0 };
    (row.total() * scale).round() as u64
}
