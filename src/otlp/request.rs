//! Families → requests of a bounded size, encoded.

use super::{
    delta::{self, AcceptedStates, PendingState},
    point::{self, Point, PointTimes},
    setting::{PushShape, Temporality},
};
use crate::family::MetricFamily;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use prost::Message as _;
use std::time::SystemTime;

/// Most bytes of a request before compression. Receivers accept 4 MiB by default, so a point that is larger than
/// the remaining room still fits.
pub(super) const MAX_BYTES: usize = 3 << 20;

/// Turns families into requests.
#[derive(Clone, Debug)]
pub struct RequestEncoder {
    resource: Resource,
    shape: PushShape,
    max_bytes: usize,
}

/// A request, and what counts as accepted once it is.
#[derive(Debug)]
pub(super) struct PushRequest {
    pub(super) message: ExportMetricsServiceRequest,
    pub(super) points: u64,
    pub(super) pending: Vec<PendingState>,
}

impl RequestEncoder {
    /// An encoder for families of this resource.
    pub fn new(resource: Resource, shape: PushShape) -> Self {
        Self { resource, shape, max_bytes: MAX_BYTES }
    }

    /// The same encoder with another limit of a request's bytes.
    #[cfg(test)]
    pub(super) fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Passes all families to a callback as requests, one after the other, so that there is never more than one in memory; as
    /// differences to the accepted state, if the temporality is delta.
    pub(super) fn requests(
        &self,
        families: &[MetricFamily],
        time: SystemTime,
        taken: &mut AcceptedStates,
        each: &mut dyn FnMut(PushRequest),
    ) {
        taken.begin();
        let mut cutter = Cutter::new(self, each);
        for family in families {
            let is_delta = delta::is_delta(family.kind, self.shape.temporality);
            cutter.begin(family, is_delta);
            for sample in &family.samples {
                let difference;
                let (value, start, pending) = if is_delta {
                    let Some((value, start, pending)) = taken.difference(family, sample, time) else {
                        continue;
                    };
                    difference = value;
                    (&difference, start, Some(pending))
                } else {
                    (&sample.value, family.origin.of(&sample.labels), None)
                };
                let span = PointTimes { start, time };
                let point = point::point(family, &sample.labels, value, span, self.shape);
                cutter.add(family, is_delta, point, pending);
            }
            cutter.end(family, is_delta);
        }
        cutter.finish();
        taken.forget();
    }

    /// Whether it makes differences.
    pub(super) fn has_differences(&self) -> bool {
        self.shape.temporality != Temporality::Cumulative
    }

    fn message(&self, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..InstrumentationScope::default()
        };
        let scope = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
        let resource = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![scope],
            ..ResourceMetrics::default()
        };
        ExportMetricsServiceRequest { resource_metrics: vec![resource] }
    }
}

/// Fills a request until it is full, then the next.
struct Cutter<'a> {
    encoder: &'a RequestEncoder,
    /// Size of a request without metrics, and of the one being filled.
    empty: usize,
    size: usize,
    /// Size of the family being added, without points.
    head: usize,
    metrics: Vec<Metric>,
    points: Vec<Point>,
    count: u64,
    pending: Vec<PendingState>,
    each: &'a mut dyn FnMut(PushRequest),
}

impl<'a> Cutter<'a> {
    fn new(encoder: &'a RequestEncoder, each: &'a mut dyn FnMut(PushRequest)) -> Self {
        // The lengths of the enclosing messages grow with the metrics, by less than this.
        let empty = encoder.message(Vec::new()).encoded_len() + 16;
        Self {
            encoder,
            empty,
            size: empty,
            head: 0,
            metrics: Vec::new(),
            points: Vec::new(),
            count: 0,
            pending: Vec::new(),
            each,
        }
    }

    fn begin(&mut self, family: &MetricFamily, is_delta: bool) {
        // The same for the metric and its data.
        self.head = point::metric(family, is_delta, Vec::new()).encoded_len() + 16;
    }

    fn add(&mut self, family: &MetricFamily, is_delta: bool, point: Point, pending: Option<PendingState>) {
        let size = point.size();
        let head = if self.points.is_empty() { self.head } else { 0 };
        if self.count > 0 && self.size + head + size > self.encoder.max_bytes {
            self.end(family, is_delta);
            self.cut();
        }
        if self.points.is_empty() {
            self.size += self.head;
        }
        self.size += size;
        self.count += 1;
        self.points.push(point);
        self.pending.extend(pending);
    }

    fn end(&mut self, family: &MetricFamily, is_delta: bool) {
        if !self.points.is_empty() {
            self.metrics.push(point::metric(family, is_delta, std::mem::take(&mut self.points)));
        }
    }

    fn cut(&mut self) {
        (self.each)(PushRequest {
            message: self.encoder.message(std::mem::take(&mut self.metrics)),
            points: std::mem::take(&mut self.count),
            pending: std::mem::take(&mut self.pending),
        });
        self.size = self.empty;
    }

    fn finish(mut self) {
        if self.count > 0 {
            self.cut();
        }
    }
}
