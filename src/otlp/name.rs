//! Names. A metric has the name that it has at `/metrics`, suffixes included: every strategy of Prometheus' translation
//! of OTLP gives that name back, and so does a receiver that translates nothing. The unit is the one in the name,
//! because Prometheus adds a unit that the name lacks.

use super::setting::AttributeNames;
use crate::family::{FamilyKind, MetricFamily};

/// Suffixes of names, and their units in UCUM.
const UNITS: [(&str, &str); 5] =
    [("seconds", "s"), ("bytes", "By"), ("ratio", "1"), ("celsius", "Cel"), ("volts", "V")];

/// Labels for which the semantic conventions of OpenTelemetry have a name. `operation` is not among them: the values of
/// `disk.io.direction` are `read` and `write` only.
const ATTRIBUTES: [(&str, &str); 4] = [
    ("device", "system.device"),
    ("namespace", "k8s.namespace.name"),
    ("pod", "k8s.pod.name"),
    ("container", "k8s.container.name"),
];

/// The unit of a family in UCUM: `s`, `By`, `1`; for a counter of things their name in braces; empty if unknown.
pub(super) fn unit(family: &MetricFamily) -> String {
    let (base, last) = suffix(family);
    if let Some((_, unit)) = UNITS.iter().find(|(suffix, _)| *suffix == last && base != last) {
        // Prometheus gives `_ratio` to gauges only.
        return if *unit == "1" && family.kind != FamilyKind::Gauge {
            String::new()
        } else {
            (*unit).to_owned()
        };
    }
    match family.kind {
        FamilyKind::Counter if !last.is_empty() => format!("{{{last}}}"),
        FamilyKind::Counter | FamilyKind::Gauge | FamilyKind::Histogram => String::new(),
    }
}

/// Whether a family counts things or bytes, which are whole numbers, and not time.
pub(super) fn is_of_things(family: &MetricFamily) -> bool {
    family.kind == FamilyKind::Counter && suffix(family).1 != "seconds"
}

/// The name without the suffix of its kind, and the last word of that.
fn suffix(family: &MetricFamily) -> (&str, &str) {
    let name = &*family.name;
    let base = match family.kind {
        FamilyKind::Counter => name.strip_suffix("_total").unwrap_or(name),
        FamilyKind::Gauge | FamilyKind::Histogram => name,
    };
    (base, base.rsplit('_').next().unwrap_or(base))
}

/// The key of the attribute for a label.
pub(super) fn attribute(label: &str, names: AttributeNames) -> &str {
    match names {
        AttributeNames::Prometheus => label,
        AttributeNames::Semconv => {
            ATTRIBUTES.iter().find(|(known, _)| *known == label).map_or(label, |(_, attribute)| attribute)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_names() {
        for (name, kind, expected) in [
            ("tapster_block_io_duration_seconds", FamilyKind::Histogram, "s"),
            ("tapster_block_io_bytes_total", FamilyKind::Counter, "By"),
            ("tapster_probe_run_seconds_total", FamilyKind::Counter, "s"),
            ("tapster_probe_memory_bytes", FamilyKind::Gauge, "By"),
            ("tapster_raid_array_sync_completed_ratio", FamilyKind::Gauge, "1"),
            ("tapster_hit_ratio_total", FamilyKind::Counter, ""),
            ("tapster_block_io_errors_total", FamilyKind::Counter, "{errors}"),
            ("tapster_probe_up", FamilyKind::Gauge, ""),
            ("tapster_queue_depth", FamilyKind::Histogram, ""),
            // The suffix of another kind, or no suffix at all.
            ("tapster_seconds_spent", FamilyKind::Gauge, ""),
            ("seconds", FamilyKind::Gauge, ""),
            ("x_total", FamilyKind::Gauge, ""),
        ] {
            assert_eq!(unit(&MetricFamily::new(name, "", kind, &[])), expected, "{name}");
        }
    }

    #[test]
    fn attributes_keep_the_label_unless_asked() {
        assert_eq!(attribute("pod", AttributeNames::Prometheus), "pod");
        assert_eq!(attribute("pod", AttributeNames::Semconv), "k8s.pod.name");
        assert_eq!(attribute("device", AttributeNames::Semconv), "system.device");
        assert_eq!(attribute("operation", AttributeNames::Semconv), "operation");
    }
}
