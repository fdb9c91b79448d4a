//! The exposition: turns metric families into the bytes of a scrape, in the format the scraper asked for.
//! It does not collect and does not speak HTTP. A family that cannot be written is left out and reported; the
//! rest of the scrape is as if it had never been there. The parts are
//!
//! - `check`: refuses what a reader would refuse;
//! - `text`: Prometheus text 0.0.4, a writer of our own;
//! - `collector`: `OpenMetrics` and Prometheus protobuf, written by `prometheus-client`;
//! - `native`: the span and delta form of native histogram buckets, for protobuf;
//! - `negotiate`: which of them an `Accept` header asks for.

mod check;
mod collector;
mod native;
mod negotiate;
mod size;
mod text;

pub use check::ExpositionError;
pub(crate) use negotiate::parse_quality;
pub use size::ScrapeSize;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use crate::family::{FamilyKind, MetricFamily};

/// Bytes of a buffer that is kept for the next family. A large family must not hold its memory until the scrape ends.
const KEPT: usize = 64 << 10;

/// A format of a scrape's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// `OpenMetrics` text 1.0.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages, the only one with native histograms.
    Protobuf,
}

impl Format {
    /// Value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Checks which families may be exposed together: each well-formed, and each name once.
#[derive(Debug, Default)]
pub struct Admission {
    /// Names of families and their series so far, and the family of each: a gauge `x` and a counter `x_total` are one family
    /// to `OpenMetrics`, and a histogram `x` has series `x_count`.
    names: HashMap<String, Arc<str>>,
}

impl Admission {
    /// Whether the family may be exposed beside those before it.
    pub fn check(&self, family: &MetricFamily) -> Result<(), ExpositionError> {
        let clash = |taken: String| self.names.get(&taken).map(|other| (taken, Arc::clone(other)));
        let name = || family.name.to_string();
        match family.kind.taken(&family.name).find_map(clash) {
            Some((taken, other))
                if taken == base_name(family) && taken == other.strip_suffix("_total").unwrap_or(&other) =>
            {
                Err(ExpositionError::DuplicateFamily { name: name() })
            }
            Some((taken, other)) => Err(ExpositionError::Collision { name: name(), other, taken }),
            None => check::family(family),
        }
    }

    /// Registers the family's names, if the family may be exposed.
    pub fn admit(&mut self, family: &MetricFamily) -> Result<(), ExpositionError> {
        self.check(family)?;
        self.take(family.kind, &family.name);
        Ok(())
    }

    fn take(&mut self, kind: FamilyKind, name: &Arc<str>) {
        self.names.extend(kind.taken(name).map(|taken| (taken, Arc::clone(name))));
    }
}

/// A scrape being written, family by family.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    body: Vec<u8>,
    admission: Admission,
}

impl Exposition {
    /// An empty scrape.
    pub fn new(format: Format) -> Self {
        Self { format, body: Vec::new(), admission: Admission::default() }
    }

    /// Writes one family, all of it or nothing, and says what it takes. It is taken by value because `prometheus-client` wants to own what
    /// it writes, and a copy of every count of every scrape is not free.
    pub fn add(&mut self, family: MetricFamily) -> Result<ScrapeSize, ExpositionError> {
        self.admission.check(&family)?;
        let (kind, name) = (family.kind, Arc::clone(&family.name));
        let (series, before) = (size::series(&family, self.format), self.body.len());
        match self.format {
            Format::Text => text::write(&mut self.body, &family),
            Format::OpenMetrics => collector::open_metrics(&mut self.body, family)?,
            Format::Protobuf => collector::protobuf(&mut self.body, family)?,
        }
        self.admission.take(kind, &name);
        let bytes = u64::try_from(self.body.len() - before).expect("bytes that are in memory");
        Ok(ScrapeSize { series, bytes })
    }

    /// Passes on what has been written since the last call, so that a scrape of many families is never whole in memory.
    /// The errors are those of `sink`.
    pub fn drain(&mut self, sink: &mut impl Write) -> io::Result<()> {
        sink.write_all(&self.body)?;
        if self.body.capacity() > KEPT {
            self.body = Vec::new();
        } else {
            self.body.clear();
        }
        Ok(())
    }

    /// The complete scrape, or the rest of it after the last call of `drain`.
    pub fn finish(mut self) -> Vec<u8> {
        match self.format {
            Format::OpenMetrics => self.body.extend_from_slice(b"# EOF\n"),
            Format::Text | Format::Protobuf => {}
        }
        self.body
    }
}

/// A scrape and the families that are missing from it.
#[derive(Debug)]
pub struct EncodedScrape {
    /// The scrape, valid even if families were left out.
    pub body: Vec<u8>,
    /// Why families were left out, in their order.
    pub left_out: Vec<ExpositionError>,
}

/// Writes `families` as one complete scrape.
pub fn encode(families: impl IntoIterator<Item = MetricFamily>, format: Format) -> EncodedScrape {
    let mut exposition = Exposition::new(format);
    let left_out = families.into_iter().filter_map(|family| exposition.add(family).err()).collect();
    EncodedScrape { body: exposition.finish(), left_out }
}

/// Name of a family without the `_total` of a counter, which is how `OpenMetrics` names it.
fn base_name(family: &MetricFamily) -> &str {
    family.kind.base(&family.name)
}
