//! Names of metric families, and the names that readers derive from them. If two families shared a name, some reader would
//! mix them up in some format.

/// The kind of metric that a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// A counter: it only grows until the exporter restarts; its name ends in `_total`.
    Counter,
    /// A gauge: it goes up and down.
    Gauge,
    /// A distribution, with classic and, if the scheme allows, native buckets.
    Histogram,
}

impl FamilyKind {
    /// Suffixes of the names of series. `OpenMetrics` reserves `_created` for the time when counting began, even if nobody
    /// writes it.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total", "_created"],
            Self::Gauge => &[],
            Self::Histogram => &["_bucket", "_sum", "_count", "_created"],
        }
    }

    /// The name without the `_total` of a counter, which is how `OpenMetrics` names a family.
    pub fn base(self, name: &str) -> &str {
        match self {
            Self::Counter => name.strip_suffix("_total").unwrap_or(name),
            Self::Gauge | Self::Histogram => name,
        }
    }

    /// The base name, and the names of all series that a family may have: no other family may have one of them.
    pub fn taken(self, name: &str) -> impl Iterator<Item = String> + use<> {
        let base = self.base(name).to_owned();
        std::iter::once(&"").chain(self.endings()).map(move |ending| format!("{base}{ending}"))
    }
}
