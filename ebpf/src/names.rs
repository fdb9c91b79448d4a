//! Names of metric families, and the names that readers derive from them. Two families that share one of these would be
//! mixed up by some reader in some format.

/// What kind of metric a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows, until the exporter restarts; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution, with classic and, where the scheme allows, native buckets.
    Histogram,
}

impl FamilyKind {
    /// What stands behind the base name in names of series: `_created` is what `OpenMetrics` adds to say when counting
    /// began, whether that is written or not.
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
