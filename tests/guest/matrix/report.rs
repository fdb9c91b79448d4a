//! What became of the cells: as tables for people, and as lines.

use super::{Answer, Fault, Truth};
use std::{collections::BTreeSet, fmt::Write as _};

/// A table for people.
pub(super) fn table(answers: &[Answer]) -> String {
    let mut text = String::new();
    let sizes: BTreeSet<usize> = answers.iter().map(|answer| answer.cell.members).collect();
    let loads: Vec<&str> = {
        let mut loads: Vec<&str> = answers.iter().map(|answer| answer.load.as_str()).collect();
        loads.dedup();
        loads
    };
    for load in &loads {
        write!(text, "\n**{load}**\n\n| delay on | ms |").unwrap();
        for size in &sizes {
            write!(text, " n = {size} |").unwrap();
        }
        writeln!(text, "\n|---|---:|{}", "---|".repeat(sizes.len())).unwrap();
        let kinds: BTreeSet<(Fault, u64)> =
            answers.iter().map(|answer| (answer.cell.fault, answer.cell.delay_us)).collect();
        for (fault, delay) in kinds {
            write!(text, "| {} | {} |", fault.name(), delay as f64 / 1000.0).unwrap();
            for size in &sizes {
                let answer = answers
                    .iter()
                    .find(|answer| {
                        answer.load == *load
                            && answer.cell.members == *size
                            && answer.cell.fault == fault
                            && answer.cell.delay_us == delay
                    })
                    .expect("all cells ran");
                write!(
                    text,
                    " {} {:.1}× +{:.2} |",
                    answer.verdict(),
                    answer.slow_ms / answer.others_ms,
                    answer.slow_ms - answer.others_ms
                )
                .unwrap();
            }
            text.push('\n');
        }
    }
    text.push_str(
        "\n| load | cells | must alert | found | must not | false alerts | undecided | of these found | precision | recall |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for load in loads.iter().copied().chain(["all"]) {
        let of: Vec<&Answer> = answers.iter().filter(|answer| load == "all" || answer.load == load).collect();
        let count = |is: &dyn Fn(&Answer) -> bool| of.iter().filter(|answer| is(answer)).count();
        let must = count(&|answer| answer.truth == Truth::Must);
        let found = count(&|answer| answer.truth == Truth::Must && !answer.right.is_empty());
        let must_not = count(&|answer| answer.truth == Truth::MustNot);
        let wrong = count(&|answer| answer.verdict() == "FALSE ALERT");
        let undecided = count(&|answer| answer.truth == Truth::Undecided);
        let open = count(&|answer| answer.truth == Truth::Undecided && !answer.right.is_empty());
        let part = |part: usize, whole: usize| {
            if whole == 0 { "–".to_owned() } else { format!("{:.2}", part as f64 / whole as f64) }
        };
        writeln!(
            text,
            "| {load} | {} | {must} | {found} | {must_not} | {wrong} | {undecided} | {open} | {} | {} |",
            of.len(),
            part(found, found + wrong),
            part(found, must),
        )
        .unwrap();
    }
    text
}

/// In how many arrays an alert named a member, by what was injected and by nothing else.
pub(super) fn by_delay(answers: &[Answer]) -> String {
    let mut loads: Vec<&str> = answers.iter().map(|answer| answer.load.as_str()).collect();
    loads.dedup();
    let mut text = "| delay on | ms |".to_owned();
    for load in &loads {
        write!(text, " {load} |").unwrap();
    }
    writeln!(text, " all |\n|---|---:|{}---:|", "---:|".repeat(loads.len())).unwrap();
    let kinds: BTreeSet<(Fault, u64)> =
        answers.iter().map(|answer| (answer.cell.fault, answer.cell.delay_us)).collect();
    for (fault, delay) in kinds {
        write!(text, "| {} | {} |", fault.name(), delay as f64 / 1000.0).unwrap();
        for load in loads.iter().copied().chain(["all"]) {
            let of: Vec<&Answer> = answers
                .iter()
                .filter(|answer| answer.cell.fault == fault && answer.cell.delay_us == delay)
                .filter(|answer| load == "all" || answer.load == load)
                .collect();
            let named = of.iter().filter(|answer| !answer.right.is_empty()).count();
            let wrong = of.iter().filter(|answer| !answer.wrong.is_empty()).count();
            write!(text, " {}", if fault == Fault::One { named } else { wrong }).unwrap();
            if fault == Fault::One && wrong > 0 {
                write!(text, " (+ {wrong} wrong)").unwrap();
            }
            write!(text, " of {} |", of.len()).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Every cell in a line.
pub(super) fn csv(answers: &[Answer]) -> String {
    let mut text =
        "load,members,delay_on,delay_ms,slow_ms,others_ms,ratio,excess_ms,demanded,verdict,alerts\n"
            .to_owned();
    for answer in answers {
        let Answer { cell, load, slow_ms, others_ms, truth, right, wrong } = answer;
        let alerts: Vec<&str> = right.iter().chain(wrong).map(String::as_str).collect();
        writeln!(
            text,
            "{load},{},{},{},{slow_ms:.3},{others_ms:.3},{:.2},{:.3},{},{},{}",
            cell.members,
            cell.fault.name(),
            cell.delay_us as f64 / 1000.0,
            slow_ms / others_ms,
            slow_ms - others_ms,
            match truth {
                Truth::Must => "alert",
                Truth::MustNot => "none",
                Truth::Undecided => "undecided",
            },
            answer.verdict(),
            alerts.join("; "),
        )
        .unwrap();
    }
    text
}
