//! Real answers: every query is asked of a Prometheus that scrapes an exporter, and panels of the fleet say what is true of it.

use super::FLEET;
use crate::support::{
    cases::Outcome,
    durations,
    prometheus::{Prometheus, text_only},
    queries::{self, Query},
    source,
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tapster::{
    family::{FamilyKind, MetricFamily, Sample, SampleValue},
    source::{Selection, Source},
    status::{ProbeStatus, UnreadyReason},
};

/// Asks until there is an answer; whether one came.
fn answered(prometheus: &Prometheus, query: &Query, deadline: Instant) -> bool {
    loop {
        if !prometheus.query(&query.expr).is_empty() {
            return true;
        }
        if Instant::now() > deadline || query.may_be_empty().is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// What the dashboard of all hosts has to say of one host whose probes are all up, beside a node that has no tapster.
const TRUTHS: [(&str, f64); 6] = [
    ("Hosts with tapster", 1.0),
    ("Targets that are down", 0.0),
    ("Nodes without tapster", 1.0),
    ("Which nodes have none", 1.0),
    ("Probes that are up", 1.0),
    ("Versions", 1.0),
];

/// What kube-state-metrics says of nodes: one that has a tapster, and one that has none.
struct Nodes;

impl Source for Nodes {
    fn select(&self, _: &Selection) -> Vec<MetricFamily> {
        let mut family = MetricFamily::new("kube_node_info", "Nodes.", FamilyKind::Gauge, &["node"]);
        for node in ["127.0.0.1", "lonely"] {
            family
                .samples
                .push(Sample { labels: vec![node.to_owned()].into(), value: SampleValue::Number(1.0) });
        }
        vec![family]
    }

    fn status(&self) -> Vec<ProbeStatus> {
        Vec::new()
    }

    fn unready(&self) -> Option<UnreadyReason> {
        None
    }
}

/// Every query of every dashboard and rule has an answer, with classic and with native histograms.
pub(super) fn all(directory: &Path) -> Outcome {
    let exporter = source::serve();
    let nodes = source::serve_source(Arc::new(Nodes));
    let rules = queries::changed_rule_files(&directory.join("rules"), durations::step_of_a_second);
    let classic = Prometheus::start(
        &directory.join("classic"),
        &[("tapster", text_only(exporter)), ("nodes", nodes)],
        &[],
        &rules,
    )?;
    let native = Prometheus::start(
        &directory.join("native"),
        &[("tapster", exporter), ("nodes", nodes)],
        &["--enable-feature=native-histograms"],
        &rules,
    )?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut answers, mut empty) = (0, BTreeSet::new());
    for mut query in queries::all(&[]) {
        query.expr = durations::step_of_a_second(&query.expr);
        for (form, prometheus) in [("classic", &classic), ("native", &native)] {
            if answered(prometheus, &query, deadline) {
                answers += 1;
                // A heat map is drawn from one kind of histogram.
                if query.expr.starts_with("sum by (le)") {
                    let results = prometheus.query(&query.expr);
                    let classic = results.iter().filter(|(labels, _)| !labels["le"].is_null()).count();
                    assert_eq!(classic, if form == "classic" { results.len() } else { 0 }, "{}", query.place);
                }
            } else {
                let reason = query.may_be_empty();
                let reason =
                    reason.unwrap_or_else(|| panic!("{}: {form}: nothing\n{}", query.place, query.expr));
                empty.insert(format!("{}: {reason}", query.place));
            }
        }
    }
    for (panel, truth) in TRUTHS {
        let place = format!("dashboards/{FLEET}: {panel}");
        let query = queries::all(&[]).into_iter().find(|query| query.place == place).unwrap();
        for (form, prometheus) in [("classic", &classic), ("native", &native)] {
            let values: Vec<f64> =
                prometheus.query(&query.expr).into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, [truth], "{place}: {form}");
        }
    }
    Ok(format!("{answers} answers; none, for good reason, for {}", empty.len()))
}
