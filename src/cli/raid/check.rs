//! `tapster raid --check`: one line and an exit status, as the guidelines for plugins of Nagios and its kin want them. What
//! is a warning and what is critical is as in `config/rules/raid.yaml`.

use super::{
    Rule,
    report::{Measurement, Operation},
    verdict::Compared,
};
use crate::topology::{Array, Member};
use std::fmt::Write;

/// How an array is. The worst of all is that of the check; what is known to be wrong is worse than what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Ok,
    Unknown,
    Warning,
    Critical,
}

impl State {
    /// As the exit status.
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Unknown => "UNKNOWN",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What was found, and figures for graphs.
#[derive(Debug, Default)]
pub(super) struct Check {
    findings: Vec<(State, String)>,
    figures: Vec<String>,
}

impl Check {
    /// Of which nothing is known but this.
    pub(super) fn unknown(why: &str) -> Self {
        let mut check = Self::default();
        check.add(State::Unknown, why.to_owned());
        check
    }

    pub(super) fn add(&mut self, state: State, text: String) {
        self.findings.push((state, text));
    }

    /// Takes in what was seen of an array.
    pub(super) fn array(&mut self, measurement: &Measurement<'_>, rule: &Rule) {
        let before = self.findings.len();
        for text in measurement.stuck(rule) {
            self.add(State::Critical, text);
        }
        self.state(measurement.array);
        for (place, parts) in measurement.slow() {
            let Some(member) = measurement.member(place) else { continue };
            let is_critical = parts
                .iter()
                .any(|(_, line)| line.compared.is_some_and(|compared| compared.ratio > rule.critical_ratio));
            let state = if is_critical { State::Critical } else { State::Warning };
            self.add(state, measurement.slow_sentence(member, &parts));
        }
        if self.findings.len() == before {
            for text in measurement.comparison(rule, false) {
                self.add(State::Ok, text);
            }
        }
        self.graph(measurement, rule);
    }

    /// What the array says of itself.
    pub(super) fn state(&mut self, array: &Array) {
        let name = &array.name;
        if let Some(state @ ("inactive" | "broken")) = array.state.as_deref() {
            self.add(State::Critical, format!("{name} is {state}"));
        }
        if let Some(missing @ 1..) = array.degraded {
            match bears(array) {
                Some(most) if missing >= most => self.add(
                    State::Critical,
                    format!("{name} is degraded: {missing} missing, and it may not survive another failure"),
                ),
                _ => self.add(State::Warning, format!("{name} is degraded: {missing} missing")),
            }
        }
        for Member { name: member, .. } in array.members.iter().filter(|member| member.is("faulty")) {
            self.add(State::Warning, format!("{name}: `{member}` is faulty"));
        }
    }

    /// Averages beside what they may be, and how many members are missing.
    fn graph(&mut self, measurement: &Measurement<'_>, rule: &Rule) {
        let array = measurement.array;
        for ((Operation(_, operation), place), line) in &measurement.lines {
            let Some(member) = measurement.member(*place) else { continue };
            let limits = line.compared.map(|Compared { peers_seconds, .. }| {
                let limit = |ratio: f64| (peers_seconds * ratio).max(peers_seconds + rule.floor_seconds);
                format!("{:.9};{:.9}", limit(rule.ratio), limit(rule.critical_ratio.max(rule.ratio)))
            });
            self.figures.push(format!(
                "'{}'={:.9}s;{};0",
                label(&[&array.name, &member.name, operation]),
                line.measured.mean_seconds,
                limits.unwrap_or_else(|| ";".into()),
            ));
        }
        if let (Some(degraded), Some(disks)) = (array.degraded, array.disks) {
            self.figures.push(format!("'{}'={degraded};0;;0;{disks}", label(&[&array.name, "missing"])));
        }
    }

    /// The worst that was found.
    pub(super) fn worst(&self) -> State {
        self.findings.iter().map(|(state, _)| *state).max().unwrap_or(State::Unknown)
    }

    /// `RAID WARNING - what is wrong | figures`
    pub(super) fn line(&self) -> String {
        let worst = self.worst();
        let mut found: Vec<&(State, String)> =
            self.findings.iter().filter(|(state, _)| worst == State::Ok || *state != State::Ok).collect();
        found.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
        let texts: Vec<String> = found.iter().map(|(_, text)| plain(text)).collect();
        let mut line = format!("RAID {} - {}", worst.name(), texts.join(", "));
        if !self.figures.is_empty() {
            let _ = write!(line, " | {}", self.figures.join(" "));
        }
        line.push('\n');
        line
    }
}

/// How many members an array of its level may lose and still have all data: as `TapsterRaidArrayWithoutRedundancy` has it.
fn bears(array: &Array) -> Option<u64> {
    match array.level.as_str() {
        "raid4" | "raid5" | "raid10" => Some(1),
        "raid6" => Some(2),
        "raid1" => array.disks?.checked_sub(1).filter(|most| *most > 0),
        _ => None,
    }
}

/// A text that has no line feed, and no bar, behind which figures begin.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() || character == '|' { ' ' } else { character })
        .collect()
}

/// The name of a figure, of characters that all readers of figures take.
fn label(parts: &[&str]) -> String {
    let is_plain = |character: &char| character.is_ascii_alphanumeric() || "-./:_".contains(*character);
    let text = parts.join("_");
    text.chars().map(|character| if is_plain(&character) { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        let mut check = Check::default();
        assert_eq!(check.worst(), State::Unknown, "nothing was looked at");
        for (state, status, line) in [
            (State::Ok, 0, "RAID OK - a 0\n"),
            (State::Unknown, 3, "RAID UNKNOWN - a 1\n"),
            (State::Warning, 1, "RAID WARNING - a 2, a 1\n"),
            (State::Critical, 2, "RAID CRITICAL - a 3, a 2, a 1\n"),
        ] {
            check.add(state, format!("a|{}", check.findings.len()));
            assert_eq!((check.worst().status(), check.line().as_str()), (status, line));
        }
        assert_eq!(label(&["dm-0 '=", "x|y", "read"]), "dm-0____x_y_read");
    }
}
