//! Every query that the project ships has an answer: of two real Prometheus, one with classic and one with native
//! histograms, that scrape a guest whose arrays, or whose tasks, are in every state that a rule or a panel asks for.
//!
//! What would take days is made short in the rules, and nothing else is changed there: `for` and the steps of subqueries
//! are a sixtieth, and `offset 1d` and `1w` are seconds. An answer is a number; a query with only NaN has none.

use crate::{
    kernel::Kernel,
    machine::Machine,
    support::{
        cases::Outcome,
        durations::{self, Place},
        prometheus::{Prometheus, free_port, text_only},
        queries::{self, Query, Role},
    },
};
use std::{
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// After that a query that has no answer has none.
const LIMIT: Duration = Duration::from_mins(3);
const DAY: Duration = Duration::from_hours(24);

/// Alerts that no guest can bring about; they are asked without their last comparison, and must not have an answer with it.
const UNREACHED: [(&str, &str); 5] = [
    ("TapsterFamiliesLeftOut", "only a mistake in the exporter makes a malformed family"),
    ("TapsterScrapeSlow", "no guest of this size makes a scrape of five seconds"),
    ("TapsterSourceSilent", "all arrays of the guests answer"),
    (
        "TapsterReloadFailed",
        "no guest changes its configuration while the exporter runs; it fires in tests/prometheus.rs",
    ),
    ("TapsterPointsRejected", "only a receiver rejects points, and nobody takes the pushes of the guest"),
];

fn change(place: Place, duration: Duration) -> Duration {
    match place {
        Place::Window => duration,
        Place::For | Place::Step | Place::Every => duration / 60,
        Place::Offset if duration == DAY => Duration::from_secs(10),
        Place::Offset => Duration::from_secs(14),
    }
}

/// A guest, and which queries it has answers for.
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    script: &'static str,
    is_asked: fn(&Query) -> bool,
}

fn is_of_tasks(query: &Query) -> bool {
    ["config/rules/sched.yaml", "dashboards/sched.json"].iter().any(|file| query.place.starts_with(file))
}

/// What takes groups of devices, several hosts, other exporters, days, or probes that the guests have not on: `tests/rules/clusters.rs`
/// and `tests/dashboards.rs` have it from a real Prometheus, and `tests/events.rs` what these probes count.
fn is_elsewhere(query: &Query) -> bool {
    let fires = ["TapsterBlockPeerSlow", "TapsterProbeDownOnMany", "TapsterProbeSilent"];
    let off = ["container", "cgroup", "command", "access", "request_errors"];
    ["config/rules/optional/", "config/rules/events.yaml", "dashboards/events.json"]
        .iter()
        .any(|of| query.place.starts_with(of))
        || off.iter().any(|name| query.expr.contains(&format!("tapster_block_{name}_")))
        || match &query.role {
            Role::Alert(name) => fires.contains(&name.as_str()),
            Role::Record(name) => {
                ["group_device_operation:", "device_group:"].iter().any(|of| name.starts_with(of))
            }
            // Of kube-state-metrics; `tests/dashboards.rs` has it answered.
            Role::Panel => query.expr.contains("kube_node_info"),
            Role::Variable | Role::Annotation => false,
        }
}

/// Two, because an emulated processor has no time for the loads of both.
pub(crate) const GUESTS: [Guest; 2] = [
    Guest {
        name: "arrays",
        script: include_str!("scenarios/queries_arrays.sh"),
        is_asked: |query| !is_of_tasks(query),
    },
    Guest { name: "tasks", script: include_str!("scenarios/queries_tasks.sh"), is_asked: is_of_tasks },
];

/// A question for one of the two Prometheus.
struct Question {
    form: usize,
    place: String,
    expr: String,
    /// It has an answer only when the guest has ended.
    is_last: bool,
}

/// What is asked for a query, and what must have no answer.
fn asked(query: &Query) -> (Vec<String>, Option<String>) {
    let expr = durations::replace(&query.expr, change);
    match &query.role {
        Role::Alert(name) if UNREACHED.iter().any(|(unreached, _)| unreached == name) => {
            let at = expr.rfind([' ']).and_then(|at| expr[..at].rfind(' ')).expect("it ends in a comparison");
            assert!([" > ", " == "].iter().any(|sign| expr[at..].starts_with(sign)), "`{expr}`");
            (vec![expr[..at].to_owned()], Some(expr))
        }
        // Prometheus evaluates it as well.
        Role::Alert(name) => (vec![format!("ALERTS{{alertname=\"{name}\"}}"), expr], None),
        Role::Record(name) => (vec![name.clone(), expr], None),
        Role::Panel | Role::Variable | Role::Annotation => (vec![expr], None),
    }
}

fn has_number(prometheus: &Prometheus, expr: &str) -> bool {
    prometheus.query(expr).iter().any(|(_, value)| !value.is_nan())
}

pub(crate) fn answered(asked_of: &Guest, kernel: &Kernel, base: &Path, modules: &Path) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let exporter: SocketAddr = ([127, 0, 0, 1], port).into();
    let rules = queries::changed_rule_files(directory.path(), |rules| durations::replace(rules, change));
    let start = |name: &str, target, features: &[&str]| {
        Prometheus::start(&directory.path().join(name), &[("tapster", target)], features, &rules)
    };
    let forms = [
        ("classic", start("classic", text_only(exporter), &[])?),
        ("native", start("native", exporter, &["--enable-feature=native-histograms"])?),
    ];
    let machine = Machine {
        kernel,
        base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 1536,
        port: Some(port),
        arguments: &[(LIMIT + LIMIT).as_secs().to_string()],
    };
    let mut guest = machine.boot(asked_of.script)?;

    let mut shipped = queries::all(&[]);
    shipped.retain(|query| (asked_of.is_asked)(query) && !is_elsewhere(query));
    let (mut waiting, mut silent, mut unreached) = (Vec::new(), Vec::new(), 0);
    for query in &shipped {
        let (exprs, without) = asked(query);
        for (form, (name, _)) in forms.iter().enumerate() {
            let question = |expr: &String| Question {
                form,
                place: format!("{}: {}", query.place, name),
                expr: expr.clone(),
                is_last: query.role == Role::Alert("TapsterDown".into()),
            };
            waiting.extend(exprs.iter().map(question));
            silent.extend(without.iter().map(question));
            unreached += usize::from(form == 0 && without.is_some());
        }
    }
    let total = waiting.len();
    let begun = Instant::now();
    while waiting.iter().any(|question| !question.is_last) && begun.elapsed() < LIMIT {
        assert!(guest.is_up(), "the guest ended:\n{}", guest.console());
        waiting.retain(|question| question.is_last || !has_number(&forms[question.form].1, &question.expr));
        thread::sleep(Duration::from_millis(500));
    }
    let took = begun.elapsed();
    for question in &silent {
        let found = forms[question.form].1.query(&question.expr);
        assert!(found.is_empty(), "{} has an answer, so it is no exception: {found:?}", question.place);
    }
    let console = guest.console();
    assert!(!console.contains("@@ failed"), "{console}");
    drop(guest);
    let ended = Instant::now();
    while waiting.iter().any(|question| question.is_last) && ended.elapsed() < Duration::from_secs(30) {
        waiting.retain(|question| !question.is_last || !has_number(&forms[question.form].1, &question.expr));
        thread::sleep(Duration::from_millis(500));
    }
    let empty: Vec<String> =
        waiting.iter().map(|question| format!("{}\n{}", question.place, question.expr)).collect();
    assert!(
        empty.is_empty(),
        "{} of {total} have no answer:\n\n{}\n\n{console}",
        empty.len(),
        empty.join("\n\n")
    );
    Ok(format!(
        "{} queries, {total} questions answered in {:.0} s; {unreached} of {} alerts only without their comparison",
        shipped.len(),
        took.as_secs_f64(),
        shipped.iter().filter(|query| matches!(query.role, Role::Alert(_))).count(),
    ))
}
