//! A fleet in a real Prometheus: what each rule and each query of a dashboard costs there. docs/scale.md has the result.
//!
//! ```text
//! tests/scale/measure --nodes 1000       # writes its table in docs/scale.md
//! ```
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

mod chunks;
mod fleet;
mod index;
mod scrape;
mod server;
mod survey;
mod table;

use std::{collections::BTreeSet, fs, path::PathBuf};
use survey::{FleetSurvey, PanelRow, RuleRow};
use tapster_testing::{
    cases::{Cases, say},
    fixture::repository,
};

/// Most samples that a rule may read of a node in one evaluation, and all of them together, without the optional ones. docs/scale.md
/// says so.
const RULE_SAMPLES: u64 = 12_000;
const ALL_RULES_SAMPLES: u64 = 50_000;
/// Most samples in memory for a query of a dashboard that shows one host: a hundredth of what Prometheus allows.
const PANEL_PEAK: u64 = 500_000;
/// `query.max-samples` of Prometheus, and the nodes with which no query that a dashboard shows first may reach it.
const ALLOWED: u64 = 50_000_000;
const MANY: u64 = 5000;
/// Enough for a slow member and an array without redundancy; and twice as many, which tells what grows with them.
const FEW: usize = 3;

fn rules_are_bounded(survey: &FleetSurvey) -> u64 {
    let (mut total, nodes) = (0, survey.nodes as u64);
    let mut answered = BTreeSet::new();
    for RuleRow { place, optional, cost, .. } in &survey.rules {
        assert_eq!(cost.error, None, "{place}");
        assert!(cost.samples <= RULE_SAMPLES * nodes, "{place}: {} samples of {nodes} nodes", cost.samples);
        total += if *optional { 0 } else { cost.samples };
        if cost.series > 0 {
            answered.insert(place.as_str());
        }
    }
    assert!(total <= ALL_RULES_SAMPLES * nodes, "all rules: {total} samples of {nodes} nodes");
    // The block has what it should: without an array with a slow member these rules had no answer.
    for alert in ["raid.yaml: TapsterRaidMemberSlow", "raid.yaml: TapsterRaidArrayDegraded"] {
        assert!(answered.contains(alert), "{alert} does not fire: {answered:?}");
    }
    total / nodes
}

/// What a rule or a panel reads is as bounded as docs/scale.md says. A selector too many, or a window that is longer, makes it fail.
#[test]
fn samples_are_bounded() {
    let document = fs::read_to_string(repository().join("docs/scale.md")).unwrap();
    for bound in [RULE_SAMPLES, ALL_RULES_SAMPLES, PANEL_PEAK] {
        assert!(document.contains(&table::number(bound)), "docs/scale.md does not name the bound {bound}");
    }
    let mut cases = Cases::new("scale");
    cases.run("a few nodes", || {
        let directory = tempfile::tempdir().unwrap();
        let known = survey::learn(FEW, directory.path())?;
        let few = survey::measure(FEW, &known, directory.path(), false)?;
        let twice = survey::measure(2 * FEW, &known, directory.path(), false)?;
        let samples = rules_are_bounded(&few);
        rules_are_bounded(&twice);
        for (PanelRow { place, folded, one, .. }, more) in few.panels.iter().zip(&twice.panels) {
            assert_eq!(one.error, None, "{place}");
            assert!(one.peak <= PANEL_PEAK, "{place}: {} samples at a time", one.peak);
            let growth = more.one.peak.saturating_sub(one.peak) / FEW as u64;
            assert!(
                *folded || one.peak + growth * MANY < ALLOWED,
                "{place}: with {MANY} nodes {growth} samples at a time of each"
            );
        }
        let peak = few.panels.iter().map(|row| row.one.peak).max().unwrap_or_default();
        let (rules, queries) = (few.rules.len(), few.panels.len());
        Ok(format!(
            "{rules} rules read {samples} samples of a node; {queries} queries have at most {peak} at a time"
        ))
    });
    cases.finish();
}

/// Nodes of which the rules are asked what they record. More nodes repeat it.
const ASKED: usize = 100;

/// The table for as many nodes as are asked for. What is measured is kept below a directory if one is given.
#[test]
#[ignore = "takes minutes, and gigabytes for thousands of nodes"]
fn table_of_scale() {
    let nodes =
        std::env::var("TAPSTER_SCALE_NODES").map_or(100, |text| text.parse().expect("a number of nodes"));
    let temporary = tempfile::tempdir().unwrap();
    let directory =
        std::env::var("TAPSTER_SCALE_DIRECTORY").map_or(temporary.path().to_owned(), PathBuf::from);
    let mut cases = Cases::new("scale");
    cases.run(&format!("{nodes} nodes"), || {
        let known = survey::learn(nodes.min(ASKED), &directory)?;
        let survey = survey::measure(nodes, &known, &directory, true)?;
        say(table::text(&survey));
        table::write(&repository().join("docs/scale.md"), &survey);
        Ok(format!("{} rules, {} queries", survey.rules.len(), survey.panels.len()))
    });
    cases.finish();
}
