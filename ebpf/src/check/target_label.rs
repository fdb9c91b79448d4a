//! Labels that Prometheus gives to the target it scrapes, which with default settings win over those of a probe.

use crate::{diagnostic::Diagnostic, probe::Probe};

/// Labels of targets: those that every scrape has, then those that the Prometheus Operator adds for a `PodMonitor` or a
/// `ServiceMonitor`; each with a name that no target has.
const TARGET: [(&str, Option<&str>); 8] = [
    ("instance", None),
    ("job", None),
    ("namespace", Some("k8s_namespace_name")),
    ("pod", Some("k8s_pod_name")),
    ("container", Some("k8s_container_name")),
    ("node", Some("k8s_node_name")),
    ("service", None),
    ("endpoint", None),
];

/// Warnings about labels that Prometheus renames to `exported_…`, so that a query of the name gets the exporter's own pod.
pub fn overruled(probes: &[Probe]) -> Vec<Diagnostic> {
    let labels = probes.iter().flat_map(|probe| probe.labels.iter().map(move |label| (probe, label)));
    let warnings = labels.filter_map(|(probe, label)| {
        let name = &label.name;
        let (known, other) = TARGET.iter().find(|(known, _)| *known == name.value)?;
        let other = other.map_or_else(|| "rename it".to_owned(), |other| format!("name it `{other}`"));
        let message = format!(
            "with its defaults Prometheus shows the label `{known}` as `exported_{known}`, because the scraped target has a label of that name"
        );
        let hint = format!("{other}, or set `honor_labels: true` in Prometheus (`honorLabels` of a monitor)");
        Some(Diagnostic::warning(&probe.file, name.span.clone(), message).hint(hint))
    });
    warnings.collect()
}
