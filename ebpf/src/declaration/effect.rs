//! Refuses keys that have no effect where they stand: a user who wrote one expects an effect.

use crate::{
    probe::{Event, Metric},
    reader::{Fields, Reader},
    yaml::{Data, Node},
};

impl Reader {
    /// Refuses keys that have no effect.
    pub(super) fn without_effect(
        &mut self,
        fields: &Fields<'_>,
        starts: &[Event],
        ends: &[Event],
        notes: &[Event],
        metrics: &[Metric],
    ) {
        let leave_out = "leave it out";
        let mut found: Vec<(&Node, String, &str)> = Vec::new();
        if (fields.get("at").is_some() || fields.get("events").is_some()) && starts.is_empty() {
            for key in ["max_inflight", "inflight_timeout"] {
                if let Some(node) = fields.get(key) {
                    let message = format!(
                        "`{key}` is about starts that wait for their end, and the probe has no start"
                    );
                    found.push((node, message, leave_out));
                }
            }
        }
        let has_labels = !fields.lacks("labels") || ends.iter().any(|event| !event.own.labels.is_empty());
        if let (Some(node), false) = (fields.get("max_series"), has_labels) {
            let message = "`max_series` limits label sets, and a probe without labels has one";
            found.push((node, message.into(), leave_out));
        }
        let mut points = starts.iter().chain(ends).chain(notes).flat_map(|event| &event.at).peekable();
        if let (Some(node), true) = (fields.get("max_functions"), points.peek().is_some())
            && !points.any(|point| point.value.may_be_several())
        {
            let message = "`max_functions` limits what a pattern matches, and no attach point is one";
            found.push((node, message.into(), leave_out));
        }
        let has_copies = |metric: &&Metric| metric.kind.has_time();
        if let (Some(metric), Some(rows)) = (metrics.iter().find(has_copies), fields.get("rows"))
            && matches!(&rows.data, Data::Scalar { text, .. } if text == "shared")
        {
            let message = format!("`{}` is kept by each CPU, so the rows are not shared", metric.name.value);
            found.push((rows, message, "leave it out, or give the metric a probe of its own"));
        }
        for (node, message, hint) in found {
            // One that is wrong in another way as well is told so.
            if self.diagnostics.iter().all(|known| known.span != node.span) {
                self.error_hint(node.span.clone(), message, hint);
            }
        }
    }
}
