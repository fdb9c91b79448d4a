//! Shipped probes that a configuration adjusts: what `overrides:` says of a probe, and what that makes of it.
//!
//! Some of it changes the programs (which metrics, how many label sets, how fine buckets are), some only what is shown of
//! their counts ([`Shown`]): that may change while the probe runs, without ending its counts.

use super::{Decoder, Metric, MetricKind, Probe, Unit};
use crate::{
    diagnostic::{Diagnostic, SourceFile, Span, Spanned, nearest},
    glob::Glob,
    histogram::{Buckets, Exponential, Nearby},
    metric::TypedMetricKind,
};
use std::{collections::HashMap, sync::Arc};

/// What a probe shows of its counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Which block devices, by name; all where it is not said.
    pub devices: Option<Names>,
    /// Buckets of the classic form of histograms that have a native one as well.
    pub classic: Classic,
}

impl Shown {
    /// Whether a block device of this name is shown.
    pub fn takes(&self, device: &str) -> bool {
        self.devices.as_ref().is_none_or(|names| names.takes(device))
    }
}

/// Buckets of the classic form of a histogram that has a native one as well.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Classic {
    /// Those that the probe declares: powers of two.
    #[default]
    Declared,
    /// Those that end at these bounds, in base units: bounds of the native form.
    Bounds(Arc<[f64]>),
    /// None.
    No,
}

/// Names that are taken, by patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
}

impl Names {
    /// Names that one of `include` matches (all where there is none), and none of `exclude`.
    pub fn new<'p>(
        include: impl IntoIterator<Item = &'p str>,
        exclude: impl IntoIterator<Item = &'p str>,
    ) -> Self {
        Self {
            include: include.into_iter().map(Glob::new).collect(),
            exclude: exclude.into_iter().map(Glob::new).collect(),
        }
    }

    /// Whether a name is taken.
    pub fn takes(&self, name: &str) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// A value, and the place in a file where it was written.
#[derive(Clone, Debug)]
pub struct Said<T> {
    /// The value.
    pub value: T,
    /// The file.
    pub file: Arc<SourceFile>,
    /// Where it is in the file.
    pub span: Span,
}

/// `include` and `exclude`.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Patterns of what is taken; all where there is none.
    pub include: Vec<Spanned<String>>,
    /// Patterns of what is left out of that.
    pub exclude: Vec<Spanned<String>>,
}

impl Choice {
    fn names<'c>(&'c self, pattern: impl Fn(&'c str) -> &'c str) -> Names {
        let of = |patterns: &'c [Spanned<String>]| patterns.iter().map(|glob| glob.value.as_str());
        Names::new(of(&self.include).map(&pattern), of(&self.exclude).map(&pattern))
    }
}

/// What `overrides:` says of a probe or a group of probes.
#[derive(Clone, Debug)]
pub struct Override {
    /// The file.
    pub file: Arc<SourceFile>,
    /// The name of the probe or the group.
    pub name: Spanned<String>,
    /// The values.
    pub values: Values,
}

/// Values of `overrides:`, as far as they are written.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Whether it runs with the library as a whole; if not, only where it is named.
    pub enabled: Option<Said<bool>>,
    /// Most label sets.
    pub max_series: Option<Said<u32>>,
    /// Which block devices.
    pub devices: Option<Said<Choice>>,
    /// Which metrics.
    pub metrics: Option<Said<Choice>>,
    /// Bounds of the classic form.
    pub bounds: Option<Said<Vec<Spanned<f64>>>>,
    /// Buckets for each power of two, as a power of two.
    pub schema: Option<Said<u8>>,
    /// Whether there is a classic form.
    pub classic: Option<Said<bool>>,
}

impl Values {
    /// The values of `stronger`, and the own ones where it has none.
    #[must_use]
    pub fn under(self, stronger: &Self) -> Self {
        Self {
            enabled: stronger.enabled.clone().or(self.enabled),
            max_series: stronger.max_series.clone().or(self.max_series),
            devices: stronger.devices.clone().or(self.devices),
            metrics: stronger.metrics.clone().or(self.metrics),
            bounds: stronger.bounds.clone().or(self.bounds),
            schema: stronger.schema.clone().or(self.schema),
            classic: stronger.classic.clone().or(self.classic),
        }
    }

    /// Whether it only says that the probe is off.
    pub fn is_off(&self) -> bool {
        self.enabled.as_ref().is_some_and(|enabled| !enabled.value) && self.keys().len() == 1
    }

    /// Keys that are written, and where.
    pub fn keys(&self) -> Vec<(&'static str, SourcePlace)> {
        fn place<T>(key: &'static str, said: Option<&Said<T>>) -> Option<(&'static str, SourcePlace)> {
            said.map(|said| (key, SourcePlace::of(&said.file, &said.span)))
        }
        let keys = [
            place("enabled", self.enabled.as_ref()),
            place("max_series", self.max_series.as_ref()),
            place("devices", self.devices.as_ref()),
            place("metrics", self.metrics.as_ref()),
            place("bounds", self.bounds.as_ref()),
            place("schema", self.schema.as_ref()),
            place("classic", self.classic.as_ref()),
        ];
        keys.into_iter().flatten().collect()
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourcePlace {
    file: String,
    from: usize,
    to: usize,
}

impl SourcePlace {
    /// The place of a part of a file.
    pub fn of(file: &SourceFile, span: &Span) -> Self {
        Self { file: file.name.clone(), from: span.start, to: span.end }
    }

    /// The part of the file.
    pub fn span(&self) -> Span {
        self.from..self.to
    }
}

/// What a value does to the probes that it is about; of several probes, the largest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The probe has nothing of this kind.
    Inapplicable,
    /// Another value goes before it.
    Overruled,
    /// The probe is like this anyway; how, in words.
    Same(String),
    /// It makes a difference.
    Changed,
}

/// What values do, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Effects {
    known: HashMap<SourcePlace, Effect>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
}

impl Effects {
    /// Notes what a value does to one probe.
    pub fn note(&mut self, place: SourcePlace, effect: Effect) {
        let known = self.known.entry(place).or_insert_with(|| effect.clone());
        if *known < effect {
            *known = effect;
        }
    }

    fn said<T>(&mut self, said: &Said<T>, effect: Effect) {
        self.note(SourcePlace::of(&said.file, &said.span), effect);
    }

    /// What a value does; `None` if no probe was asked.
    pub fn of(&self, place: &SourcePlace) -> Option<&Effect> {
        self.known.get(place)
    }

    fn error<T>(&mut self, said: &Said<T>, span: Span, message: String, hint: String) {
        self.diagnostics.push(Diagnostic::error(&said.file, span, message).hint(hint));
    }
}

/// The prefix of all metrics, which may be written in patterns.
const PREFIX: &str = "tapster_";

fn without_prefix(pattern: &str) -> &str {
    pattern.strip_prefix(PREFIX).unwrap_or(pattern)
}

/// Whether a value makes a difference.
fn differs<T: PartialEq + std::fmt::Display>(key: &str, now: &T, wanted: &T) -> Effect {
    if now == wanted { Effect::Same(format!("`{key}` is {now} without it")) } else { Effect::Changed }
}

/// The scheme of an exponential histogram; `None` for any other metric.
fn scheme(metric: &Metric, probe: &Probe) -> Option<Exponential> {
    // A name of a shipped metric says its unit where nothing else does; the check of names makes sure of that.
    let by_name = if metric.name.value.ends_with("_seconds") { Unit::Nanoseconds } else { Unit::One };
    let unit = metric.unit.as_ref().map_or(by_name, |unit| unit.value);
    match metric.kind.typed(&probe.file, unit) {
        Ok(TypedMetricKind::Histogram(histogram)) => match histogram.0 {
            Buckets::Exponential { thresholds, .. } => Some(thresholds),
            Buckets::Explicit { .. } | Buckets::Linear { .. } => None,
        },
        _ => None,
    }
}

impl Probe {
    /// Changes the probe as these values say.
    pub fn adjust(&mut self, values: &Values, effects: &mut Effects) {
        let mut changes = Vec::new();
        if let Some(enabled) = &values.enabled {
            // A probe that is off by default may be in a group that is named.
            let effect =
                if enabled.value { differs("enabled", &self.enabled, &true) } else { Effect::Changed };
            effects.said(enabled, effect);
            self.enabled = enabled.value;
        }
        if let Some(most) = &values.max_series {
            if self.labels.is_empty() {
                effects.said(most, Effect::Inapplicable);
            } else {
                effects.said(most, differs("max_series", &self.max_series, &most.value));
                self.max_series = most.value;
                changes.push(format!("max_series: {}", most.value));
            }
        }
        if let Some(metrics) = &values.metrics {
            self.choose(metrics, effects);
            let names: Vec<&str> = self.families().map(|(name, _)| name.value.as_str()).collect();
            changes.push(format!("metrics: {names:?}"));
        }
        if let Some(schema) = &values.schema
            && self.refine(schema, effects)
        {
            changes.push(format!("schema: {}", schema.value));
        }
        if let Some(devices) = &values.devices {
            let is_device = |decoder: &Option<Spanned<Decoder>>| matches!(decoder, Some(decoder) if decoder.value == Decoder::BlockDevice);
            if self.labels.iter().any(|label| is_device(&label.decoder)) {
                let names = devices.value.names(|pattern| pattern);
                let takes_all = names.exclude.is_empty()
                    && devices.value.include.iter().all(|pattern| pattern.value == "*");
                let same = || Effect::Same("this takes all devices".into());
                effects.said(devices, if takes_all { same() } else { Effect::Changed });
                self.shown.devices = Some(names).filter(|_| !takes_all);
                // Programs look devices up that are left out.
                changes.extend(self.shown.devices.as_ref().map(|_| "devices".to_owned()));
            } else {
                effects.said(devices, Effect::Inapplicable);
            }
        }
        self.classify(values, effects);
        if !changes.is_empty() {
            self.meaning.push_str("\noverrides: ");
            self.meaning.push_str(&changes.join(", "));
        }
    }

    /// Leaves out metrics.
    fn choose(&mut self, said: &Said<Choice>, effects: &mut Effects) {
        let names: Vec<String> = self.families().map(|(name, _)| name.value.clone()).collect();
        for pattern in said.value.include.iter().chain(&said.value.exclude) {
            let glob = Glob::new(without_prefix(&pattern.value));
            let matches = names.iter().any(|name| glob.matches(name));
            let effect = if matches { Effect::Changed } else { Effect::Inapplicable };
            effects.note(SourcePlace::of(&said.file, &pattern.span), effect);
        }
        let chosen = said.value.names(without_prefix);
        let left: Vec<&String> = names.iter().filter(|name| chosen.takes(name)).collect();
        if left.is_empty() {
            let message = format!("no metric of `{}` is left", self.name.value);
            let hint = format!("to leave all out: overrides: {{{}: {{enabled: false}}}}", self.name.value);
            effects.error(said, said.span.clone(), message, hint);
            return;
        }
        let same = || Effect::Same("this takes all metrics".into());
        effects.said(said, if left.len() == names.len() { same() } else { Effect::Changed });
        self.metrics.retain(|metric| chosen.takes(&metric.name.value));
        self.waiting.retain(|metric| chosen.takes(&metric.name.value));
    }

    /// Sets the schema of its exponential histograms; returns whether it has any.
    fn refine(&mut self, said: &Said<u8>, effects: &mut Effects) -> bool {
        let schemes: Vec<Option<u8>> =
            self.metrics.iter().map(|metric| scheme(metric, self).map(|scheme| scheme.schema)).collect();
        for (metric, before) in self.metrics.iter_mut().zip(&schemes) {
            if let (MetricKind::Histogram(histogram), Some(before)) = (&mut metric.kind, before) {
                effects.said(said, differs("schema", before, &said.value));
                histogram.schema = Some(said.value);
            }
        }
        let has_any = schemes.iter().any(Option::is_some);
        if !has_any {
            effects.said(said, Effect::Inapplicable);
        }
        has_any
    }

    /// Sets the classic form of its exponential histograms.
    fn classify(&mut self, values: &Values, effects: &mut Effects) {
        let schemes: Vec<Exponential> =
            self.metrics.iter().filter_map(|metric| scheme(metric, self)).collect();
        let has_classic = values.classic.as_ref().is_none_or(|classic| classic.value);
        if let Some(classic) = &values.classic {
            let effect = match (schemes.is_empty(), classic.value) {
                (true, _) => Effect::Inapplicable,
                (false, true) => Effect::Same("there is a classic form without it".into()),
                (false, false) => Effect::Changed,
            };
            effects.said(classic, effect);
            if !has_classic && !schemes.is_empty() {
                self.shown.classic = Classic::No;
            }
        }
        let Some(bounds) = &values.bounds else { return };
        if schemes.is_empty() {
            effects.said(bounds, Effect::Inapplicable);
            return;
        }
        effects.said(bounds, Effect::Changed);
        if !has_classic {
            let message =
                format!("`bounds` are those of the classic form, and `{}` has none", self.name.value);
            effects.error(
                bounds,
                bounds.span.clone(),
                message,
                "leave out `bounds`, or `classic: false`".into(),
            );
            return;
        }
        let mut exact: Vec<f64> = Vec::new();
        for bound in &bounds.value {
            let place = SourcePlace::of(&bounds.file, &bound.span);
            let found: Vec<Nearby> = schemes.iter().map(|scheme| scheme.nearby(bound.value)).collect();
            if let Some(Nearby::Between(lower, upper)) =
                found.iter().find(|found| matches!(found, Nearby::Between(..)))
            {
                effects.note(place, Effect::Changed);
                let message = format!("{} is no bound of these histograms", bound.value);
                let near = if bound.value - lower <= upper - bound.value { lower } else { upper };
                let hint = format!("the nearest is {near}; their buckets end at {lower} and {upper}");
                effects.error(bounds, bound.span.clone(), message, hint);
                continue;
            }
            let at = found.into_iter().find_map(|found| match found {
                Nearby::At(bound) => Some(bound),
                Nearby::Between(..) | Nearby::Outside => None,
            });
            effects.note(place, if at.is_some() { Effect::Changed } else { Effect::Inapplicable });
            exact.extend(at);
        }
        self.shown.classic = Classic::Bounds(exact.into());
    }

    /// The range of bounds of its exponential histograms, for messages.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        let ranges =
            self.metrics.iter().filter_map(|metric| scheme(metric, self)).map(|scheme| scheme.range());
        ranges.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
    }
}

/// Says what is wrong with values that do nothing. `probes` are those that each override is about.
pub fn without_effect(overrides: &[(&Override, Vec<&Probe>)], effects: &mut Effects) {
    let mut found = Vec::new();
    for (said, probes) in overrides {
        let name = &said.name.value;
        for (key, place) in said.values.keys() {
            let span = place.from..place.to;
            match effects.of(&place) {
                Some(Effect::Changed) | None => {}
                Some(Effect::Same(why)) => {
                    let message = format!("`{key}` of `{name}` changes nothing");
                    found.push(Diagnostic::warning(&said.file, span, message).hint(why.clone()));
                }
                Some(Effect::Overruled) => {
                    let message = format!("`{key}` of `{name}` changes nothing");
                    let hint = "what goes before it says the same key: a probe's own name before its group's, a flag before a file";
                    found.push(Diagnostic::warning(&said.file, span, message).hint(hint));
                }
                Some(Effect::Inapplicable) => {
                    let (what, hint) = match key {
                        "devices" => {
                            ("label decoded by `block_device`", "others have no devices to choose from")
                        }
                        "max_series" => ("label", "without labels there is one series of each metric"),
                        _ => ("histogram with exponential buckets", "others are counters and gauges"),
                    };
                    let message = if let [probe] = probes.as_slice() {
                        format!("`{}` has no {what}", probe.name.value)
                    } else {
                        format!("no probe of `{name}` has a {what}")
                    };
                    found.push(Diagnostic::error(&said.file, span, message).hint(hint));
                }
            }
        }
        let metrics = said.values.metrics.iter().map(|said| &said.value);
        for pattern in metrics.flat_map(|choice| choice.include.iter().chain(&choice.exclude)) {
            if effects.of(&SourcePlace::of(&said.file, &pattern.span)) == Some(&Effect::Inapplicable) {
                let names: Vec<&str> = probes
                    .iter()
                    .flat_map(|probe| probe.families().map(|(name, _)| name.value.as_str()))
                    .collect();
                let hint = match nearest(without_prefix(&pattern.value), names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", names.join(", ")),
                };
                let message = format!("`{}` matches no metric of `{name}`", pattern.value);
                found.push(Diagnostic::error(&said.file, pattern.span.clone(), message).hint(hint));
            }
        }
        for bound in said.values.bounds.iter().flat_map(|bounds| &bounds.value) {
            if effects.of(&SourcePlace::of(&said.file, &bound.span)) == Some(&Effect::Inapplicable) {
                let message = format!("{} is outside the buckets of `{name}`", bound.value);
                let range = probes.iter().filter_map(|probe| probe.bounds());
                let hint = match range.reduce(|(a, b), (c, d)| (a.min(c), b.max(d))) {
                    Some((lowest, highest)) => format!("they lie between {lowest} and {highest}"),
                    None => "they have none".to_owned(),
                };
                found.push(Diagnostic::error(&said.file, bound.span.clone(), message).hint(hint));
            }
        }
    }
    effects.diagnostics.extend(found);
}
