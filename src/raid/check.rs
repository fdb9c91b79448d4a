//! `tapster raid --check`: one line and an exit status, in the form that the guidelines for plugins of Nagios and compatible
//! programs require. The thresholds for a warning and for critical are those of `config/rules/raid.yaml`.

use super::{
    Arrays, Interval, Rule,
    arrays::clause,
    report::{ArrayMeasurement, Operation},
    verdict::Comparison,
};
use crate::{
    disks::Disks,
    topology::{Array, ArrayMember},
};
use std::fmt::Write;

/// Levels that cannot lose a member.
const WITHOUT_REDUNDANCY: [&str; 3] = ["raid0", "linear", "striped"];

/// The state of an array. The check has the worst state of all arrays; a known problem is worse than an unknown state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// All is well.
    Ok,
    /// The state cannot be determined.
    Unknown,
    /// Needs attention.
    Warning,
    /// Needs attention at once.
    Critical,
}

impl CheckState {
    /// The exit status.
    pub fn status(self) -> u8 {
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

/// Findings, and figures for graphs.
#[derive(Debug, Default)]
pub struct Check {
    findings: Vec<(CheckState, String)>,
    figures: Vec<String>,
}

impl Check {
    /// A check without any result but this reason.
    pub fn unknown(why: &str) -> Self {
        let mut check = Self::default();
        check.add(CheckState::Unknown, why.to_owned());
        check
    }

    /// Adds a finding.
    pub fn add(&mut self, state: CheckState, text: String) {
        self.findings.push((state, text));
    }

    /// The check of arrays that were watched.
    pub fn of(interval: &Interval<'_>, rule: &Rule) -> Self {
        let mut check = Self::silent(interval.arrays);
        for measurement in interval.measurements(rule) {
            check.array(&measurement, rule);
        }
        for text in interval.gone() {
            check.add(CheckState::Critical, text);
        }
        // Lost events may hide a slow member.
        for text in interval.losses() {
            check.add(CheckState::Unknown, text);
        }
        check.only_containers();
        check
    }

    /// The check of arrays that cannot be watched: only their own states are known.
    pub fn unwatched(arrays: &Arrays, why: &str) -> Self {
        let mut check = Self::silent(arrays);
        for array in arrays.now() {
            check.state(array, arrays.disks());
        }
        check.add(CheckState::Unknown, format!("members cannot be watched: {why}"));
        check
    }

    /// The check of arrays that do not answer.
    pub fn silent(arrays: &Arrays) -> Self {
        let mut check = Self::default();
        for text in arrays.silence() {
            check.add(CheckState::Critical, text);
        }
        check
    }

    /// Adds the findings about one array.
    pub(super) fn array(&mut self, measurement: &ArrayMeasurement<'_>, rule: &Rule) {
        let before = self.findings.len();
        for text in measurement.stuck(rule) {
            self.add(CheckState::Critical, text);
        }
        self.state(measurement.array, measurement.disks);
        for (place, parts) in measurement.slow() {
            let Some(member) = measurement.member(place) else { continue };
            let is_critical = parts
                .iter()
                .any(|(_, line)| line.compared.is_some_and(|compared| compared.ratio > rule.critical_ratio));
            let state = if is_critical { CheckState::Critical } else { CheckState::Warning };
            self.add(state, measurement.slow_sentence(member, &parts));
        }
        if self.findings.len() == before {
            for text in measurement.comparison(rule, false) {
                self.add(CheckState::Ok, text);
            }
        }
        self.graph(measurement, rule);
    }

    /// Adds what the array reports about itself.
    pub(super) fn state(&mut self, array: &Array, disks: &Disks) {
        let name = &array.name;
        if let Some(state @ ("inactive" | "broken")) = array.state.as_deref() {
            self.add(CheckState::Critical, format!("{name} is {state}"));
        }
        let missing = missing(array);
        if bears(array).is_some_and(|most| missing > most) {
            self.add(
                CheckState::Critical,
                format!("{name} has lost more members than it bears: {missing} missing"),
            );
        } else if bare_from(array).is_some_and(|least| missing >= least) {
            self.add(
                CheckState::Critical,
                format!("{name} is degraded: {missing} missing, and it may not survive another failure"),
            );
        } else if missing > 0 {
            self.add(CheckState::Warning, format!("{name} is degraded: {missing} missing"));
        }
        for ArrayMember { name: member, .. } in array.members.iter().filter(|member| member.is("faulty")) {
            self.add(CheckState::Warning, format!("{name}: `{member}` is faulty{}", clause(disks, member)));
        }
    }

    /// Adds averages with their thresholds, and the number of missing members.
    fn graph(&mut self, measurement: &ArrayMeasurement<'_>, rule: &Rule) {
        let array = measurement.array;
        for ((Operation(_, operation), place), line) in &measurement.lines {
            let Some(member) = measurement.member(*place) else { continue };
            let limits = line.compared.map(|Comparison { peers_seconds, .. }| {
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

    /// Reports that all is well if there was no finding about any array, as is the case if all are containers.
    pub(super) fn only_containers(&mut self) {
        if self.findings.is_empty() {
            self.add(
                CheckState::Ok,
                "only containers were looked at: their volumes are arrays of their own".to_owned(),
            );
        }
    }

    /// The worst state that was found.
    pub fn worst(&self) -> CheckState {
        self.findings.iter().map(|(state, _)| *state).max().unwrap_or(CheckState::Unknown)
    }

    /// `RAID WARNING - what is wrong | figures`
    pub fn line(&self) -> String {
        let worst = self.worst();
        let mut found: Vec<&(CheckState, String)> = self
            .findings
            .iter()
            .filter(|(state, _)| worst == CheckState::Ok || *state != CheckState::Ok)
            .collect();
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

/// Number of members that an array lacks. The kernel does not count them for levels without redundancy: there, members without
/// a slot or with a fault count.
fn missing(array: &Array) -> u64 {
    if let Some(degraded) = array.degraded {
        return degraded;
    }
    if !WITHOUT_REDUNDANCY.contains(&array.level.as_str()) {
        return 0;
    }
    let is_faulty = |member: &&ArrayMember| member.is("faulty");
    let works = |member: &&ArrayMember| member.slot.parse::<u64>().is_ok() && !is_faulty(member);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let working = count(array.members.iter().filter(works).count());
    let faulty = count(array.members.iter().filter(is_faulty).count());
    // An array that has not started has no number of members yet.
    array.disks.map_or(0, |disks| disks.saturating_sub(working)).max(faulty)
}

/// Most members that an array of its level may lack without losing data: the rule `array:tapster_raid_array_bears:members`.
fn bears(array: &Array) -> Option<u64> {
    match array.level.as_str() {
        level if WITHOUT_REDUNDANCY.contains(&level) => Some(0),
        "raid4" | "raid5" => Some(1),
        "raid6" => Some(2),
        "raid1" | "raid10" | "mirror" => array.disks?.checked_sub(1),
        _ => None,
    }
}

/// The number of missing members from which on another failure may lose data: the alert `TapsterRaidArrayWithoutRedundancy`.
/// RAID 10 may have both copies of a block on the next member to fail.
fn bare_from(array: &Array) -> Option<u64> {
    match array.level.as_str() {
        "raid4" | "raid5" | "raid10" => Some(1),
        "raid6" => Some(2),
        "raid1" | "mirror" => array.disks?.checked_sub(1).filter(|least| *least > 0),
        _ => None,
    }
}

/// A text without line feeds, and without bars, which would begin the figures.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() || character == '|' { ' ' } else { character })
        .collect()
}

/// The name of a figure, with only characters that all readers of figures accept.
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
        assert_eq!(check.worst(), CheckState::Unknown, "nothing was looked at");
        for (state, status, line) in [
            (CheckState::Ok, 0, "RAID OK - a 0\n"),
            (CheckState::Unknown, 3, "RAID UNKNOWN - a 1\n"),
            (CheckState::Warning, 1, "RAID WARNING - a 2, a 1\n"),
            (CheckState::Critical, 2, "RAID CRITICAL - a 3, a 2, a 1\n"),
        ] {
            check.add(state, format!("a|{}", check.findings.len()));
            assert_eq!((check.worst().status(), check.line().as_str()), (status, line));
        }
        assert_eq!(label(&["dm-0 '=", "x|y", "read"]), "dm-0____x_y_read");
    }
}
