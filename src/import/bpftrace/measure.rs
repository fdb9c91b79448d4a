//! What an action does → metrics: those of its maps, and where it only prints, a count of what it prints.

use super::super::sheet::YamlValue;
use super::{
    condition::spelt,
    flow::{Act, Deed},
    label,
    maps::{MapRole, Roles, StateRead},
    names::FileNames,
    plan::Played,
    said::{SayingScope, Unsaid},
    script::{Term, TermKind},
    tick,
};
use std::collections::{BTreeMap, BTreeSet};
use tapster_ebpf::diagnostic::Span;

/// Most bounds of a histogram.
const MAX_BOUNDS: u64 = 512;

/// What one set of keys and conditions measures.
#[derive(Clone, Debug)]
pub(super) struct ScriptMeasure {
    pub(super) conditions: Vec<Term>,
    pub(super) keys: Vec<Term>,
    pub(super) gauged: Vec<Gauged>,
    /// The maps of state that it reads.
    pub(super) states: Vec<StateRead>,
    /// Whether the keys are what a line shows: then those that are no label are no loss of a metric.
    pub(super) is_shown: bool,
    /// Whether the values are shown each so often.
    pub(super) is_tick: bool,
    /// Numbers of the line that are no labels, by name.
    pub(super) unlabelled: BTreeSet<String>,
    pub(super) span: Span,
}

/// One metric.
#[derive(Clone, Debug)]
pub(super) struct Gauged {
    pub(super) map: String,
    pub(super) function: String,
    pub(super) arguments: Vec<Term>,
    pub(super) span: Span,
}

/// The measures of an action.
pub(super) fn measures(action: &Played, roles: &Roles) -> Vec<ScriptMeasure> {
    let deeds = &action.deeds[..];
    if action.is_tick {
        return tick::shown(deeds, roles).into_iter().collect();
    }
    let mut found: Vec<ScriptMeasure> = Vec::new();
    // By what is the same of all metrics of one probe.
    let mut known = BTreeMap::new();
    for deed in deeds {
        let (map, keys, function, arguments) = match &deed.act {
            Act::Gather { map, keys, function, arguments } => {
                (map, keys, function.as_str(), arguments.clone())
            }
            Act::Add { map, keys, by, is_minus } if !roles.is_state(map) => {
                let function = match (is_minus, by.as_number()) {
                    (true, _) => "minus",
                    (false, Some(1)) => "count",
                    (false, _) => "sum",
                };
                (map, keys, function, vec![by.clone()])
            }
            Act::Keep { map, keys, value } if *roles.of(map) == MapRole::LastValue => {
                (map, keys, "last", vec![value.clone()])
            }
            _ => continue,
        };
        let gauged =
            Gauged { map: map.clone(), function: function.to_owned(), arguments, span: deed.span.clone() };
        let states = states(roles, deed.terms());
        let same = (spelt(&deed.conditions), spelt(keys), maps(&states));
        let at = *known.entry(same).or_insert(found.len());
        match found.get_mut(at) {
            Some(measure) => measure.gauged.push(gauged),
            None => found.push(ScriptMeasure {
                conditions: deed.conditions.clone(),
                keys: keys.clone(),
                gauged: vec![gauged],
                states,
                is_shown: false,
                is_tick: false,
                unlabelled: BTreeSet::new(),
                span: deed.span.clone(),
            }),
        }
    }
    if found.is_empty() { shown(deeds, roles).into_iter().collect() } else { found }
}

pub(super) fn states(roles: &Roles, terms: Vec<&Term>) -> Vec<StateRead> {
    terms.into_iter().flat_map(|term| roles.states(term)).collect()
}

fn maps(states: &[StateRead]) -> BTreeSet<String> {
    states.iter().map(|read| read.map.clone()).collect()
}

/// An action that prints lines: each is counted, by what it shows of texts; a time that it shows is a distribution.
fn shown(deeds: &[Deed], roles: &Roles) -> Option<ScriptMeasure> {
    let lines: Vec<(&Deed, &[Term])> = deeds
        .iter()
        .filter_map(|deed| match &deed.act {
            Act::Show { arguments } => Some((deed, &arguments[..])),
            _ => None,
        })
        .collect();
    let (first, _) = lines.first()?;
    let conditions = common(lines.iter().map(|(deed, _)| &deed.conditions[..]));
    let (mut keys, mut latency, mut unlabelled) = (Vec::<Term>::new(), None::<Term>, BTreeSet::new());
    let is_time = |term: &Term| term.has(&|part| part.is_name("nsecs") || part.is_name("elapsed"));
    for argument in lines.iter().flat_map(|(_, arguments)| texts(arguments)) {
        match argument {
            // When it was is no label.
            ShownValue::Text(term) if term.as_call().is_some_and(|(name, _)| name == "strftime") => {}
            ShownValue::Text(term) if !keys.iter().any(|key| key.spelling() == term.spelling()) => {
                keys.push(term);
            }
            ShownValue::Number(term) if latency.is_none() && is_latency(&term, roles) => latency = Some(term),
            ShownValue::Number(term) if !is_time(&term) => drop(unlabelled.insert(label::name_of(&term))),
            _ => {}
        }
    }
    let gauged = Gauged {
        map: String::new(),
        function: if latency.is_some() { "hist" } else { "count" }.into(),
        arguments: latency.into_iter().collect(),
        span: first.span.clone(),
    };
    let read: Vec<&Term> = conditions.iter().chain(&keys).chain(&gauged.arguments).collect();
    let states = states(roles, read);
    let span = first.span.start..lines.last().map_or(first.span.end, |(last, _)| last.span.end);
    Some(ScriptMeasure {
        conditions,
        keys,
        gauged: vec![gauged],
        states,
        is_shown: true,
        is_tick: false,
        unlabelled,
        span,
    })
}

/// What all lines have in common: parts of one line are printed under conditions of their own.
pub(super) fn common<'d>(mut conditions: impl Iterator<Item = &'d [Term]>) -> Vec<Term> {
    let mut common = conditions.next().map(<[Term]>::to_vec).unwrap_or_default();
    for other in conditions {
        let same = common.iter().zip(other).take_while(|(a, b)| a.spelling() == b.spelling()).count();
        common.truncate(same);
    }
    common
}

/// A value in a printed line.
pub(super) enum ShownValue {
    Text(Term),
    Number(Term),
}

/// The values of a line, as its format says what they are. Few numbers are labels: those that are names of something.
pub(super) fn texts(arguments: &[Term]) -> Vec<ShownValue> {
    let Some((format, values)) = arguments.split_first() else { return Vec::new() };
    let TermKind::Text(format) = &format.kind else {
        return arguments.iter().cloned().map(ShownValue::Text).collect();
    };
    let mut conversions = Vec::new();
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            continue;
        }
        let conversion = characters.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '%');
        // `%ld`
        while conversion == Some('l') && characters.peek().is_some_and(char::is_ascii_alphabetic) {
            characters.next();
        }
        conversions.extend(conversion.filter(|c| *c != '%'));
    }
    let is_name =
        |term: &Term| term.is_name("uid") || term.is_name("cpu") || label::name_of(term).contains("errno");
    values
        .iter()
        .zip(conversions.into_iter().chain(std::iter::repeat('d')))
        .map(|(value, conversion)| match conversion {
            's' | 'S' => ShownValue::Text(value.clone()),
            // Contents are no name of anything.
            'r' => ShownValue::Number(value.clone()),
            _ if is_name(value) => ShownValue::Text(value.clone()),
            _ => ShownValue::Number(value.clone()),
        })
        .collect()
}

/// Whether a term is the time since a start, in whatever unit.
fn is_latency(term: &Term, roles: &Roles) -> bool {
    match &term.kind {
        TermKind::Binary("/", a, b) => b.as_number().is_some() && is_latency(a, roles),
        TermKind::Binary("-", a, b) => {
            a.is_name("nsecs") && b.as_map().is_some_and(|(map, _)| roles.is_time(map))
        }
        TermKind::Cast(_, inner) => is_latency(inner, roles),
        _ => false,
    }
}

/// A metric as it is written, and what it is not.
pub(super) struct SaidMetric {
    pub(super) metrics: Vec<YamlValue>,
    pub(super) notes: Vec<String>,
}

/// A value of a metric, with the unit of one of it.
pub(super) struct SaidValue {
    pub(super) text: String,
    pub(super) unit: Option<&'static str>,
    /// The end of a name for it.
    pub(super) suffix: &'static str,
    /// How many of the value's own unit one of the script's is.
    scale: u64,
}

/// The metrics for one of a measure. `help` says where it is from.
pub(super) fn metric(
    gauged: &Gauged,
    scope: &mut SayingScope<'_>,
    names: &mut FileNames,
    words: &[&str],
    help: &str,
) -> Result<SaidMetric, Unsaid> {
    let mut notes = Vec::new();
    let words: Vec<&str> = words.iter().copied().chain([gauged.map.as_str()]).collect();
    let help = |what: &str| ("help".to_owned(), YamlValue::text(format!("{what}{help}.")));
    let value = match gauged.arguments.first() {
        Some(value) if gauged.function != "count" => Some(measured(value, scope)?),
        _ => None,
    };
    let needed =
        || Unsaid { span: gauged.span.clone(), text: format!("`{}()` needs a value", gauged.function) };
    let mut metrics = Vec::new();
    let mut metric =
        |kind: &str, name: String, help: (String, YamlValue), value: Option<&SaidValue>, more| {
            let mut keys = vec![(kind.to_owned(), YamlValue::text(name)), help];
            if let Some(value) = value {
                keys.push(("value".into(), YamlValue::text(&value.text)));
                keys.extend(value.unit.map(|unit| ("unit".to_owned(), YamlValue::text(unit))));
            }
            keys.extend::<Option<(String, YamlValue)>>(more);
            metrics.push(YamlValue::Map(keys));
        };
    match gauged.function.as_str() {
        "count" => metric("counter", names.metric(&words, "_total"), help("Count"), None, None),
        "sum" => {
            let value = value.ok_or_else(needed)?;
            let name = names.metric(&words, &format!("{}_total", value.suffix));
            metric("counter", name, help("Sum"), Some(&value), None);
            notes.push("a counter does not go down: negative values are not added".to_owned());
            if value.suffix == "_seconds" {
                notes.pop();
            }
        }
        "avg" | "stats" => {
            let value = value.ok_or_else(needed)?;
            let sum = names.metric(&words, &format!("{}_total", value.suffix));
            let events = names.metric(&[&words[..], &["events"]].concat(), "_total");
            metric("counter", sum.clone(), help("Sum"), Some(&value), None);
            metric("counter", events.clone(), help("Count"), None, None);
            notes.push(format!("the average is rate(tapster_{sum}[5m]) / rate(tapster_{events}[5m])"));
        }
        "hist" => {
            let value = value.ok_or_else(needed)?;
            let name = names.metric(&words, value.suffix);
            metric("histogram", name, help("Distribution"), Some(&value), None);
        }
        "lhist" => {
            let value = value.ok_or_else(needed)?;
            let name = names.metric(&words, value.suffix);
            let buckets = linear(gauged, &value, &mut notes)?;
            metric(
                "histogram",
                name,
                help("Distribution"),
                Some(&value),
                Some(("buckets".to_owned(), buckets)),
            );
        }
        "max" => {
            let value = value.ok_or_else(needed)?;
            let name = names.metric(&words, &format!("_max{}", value.suffix));
            metric("max", name, help("Largest of the last minute"), Some(&value), None);
            notes.push("the largest value is that of the last `window`, a minute here: an exporter has no end at which it would be told".into());
        }
        "last" => {
            let value = value.ok_or_else(needed)?;
            let name = names.metric(&words, value.suffix);
            // A number of fixed point is told in parts.
            let parts = gauged.arguments.get(1).and_then(Term::as_number);
            let unit = parts.map(|parts| ("unit".to_owned(), YamlValue::text(format!("1/{parts}"))));
            let value = SaidValue { unit: value.unit.filter(|_| parts.is_none()), ..value };
            metric("gauge", name, help("Last value"), Some(&value), unit);
        }
        other => {
            let text = match other {
                "min" => {
                    "no metric keeps the smallest value; a histogram shows it as its lowest bucket".to_owned()
                }
                "minus" => "a counter does not go down".to_owned(),
                _ => format!("`{other}()` has no counterpart"),
            };
            return Err(Unsaid { span: gauged.span.clone(), text });
        }
    }
    Ok(SaidMetric { metrics, notes })
}

/// A value and its unit. Divisions that only change the unit of a time are left out: metrics are in seconds.
pub(super) fn measured(term: &Term, scope: &mut SayingScope<'_>) -> Result<SaidValue, Unsaid> {
    let (mut core, mut divisor) = (term, 1_u64);
    loop {
        match &core.kind {
            TermKind::Binary("/", a, b) => match b.as_number().and_then(|by| divisor.checked_mul(by)) {
                Some(product) if product > 0 => {
                    divisor = product;
                    core = a;
                }
                _ => break,
            },
            TermKind::Cast(to, inner) if !to.contains('*') && !to.contains("int8") => core = inner,
            _ => break,
        }
    }
    if let TermKind::Binary("-", a, b) = &core.kind
        && a.is_name("nsecs")
        && scope.is_time(b)
    {
        let core = scope.value(core)?;
        let text = if matches!(divisor, 1 | 1_000 | 1_000_000 | 1_000_000_000) {
            core.text
        } else {
            let text = format!("{} / {divisor}", core.within(3));
            return Ok(SaidValue { text, unit: Some("none"), suffix: "", scale: 1 });
        };
        return Ok(SaidValue { text, unit: None, suffix: "_seconds", scale: divisor });
    }
    let text = scope.value(term)?.text;
    let name = label::name_of(core);
    let (unit, suffix) = match (divisor, name.as_str()) {
        (1, name) if name.contains("bytes") => (Some("bytes"), "_bytes"),
        (1, name) if name.starts_with("nr_sector") || name == "sectors" => (Some("sectors"), "_bytes"),
        // What contains a time is one to the compiler, unless it is told what it is.
        _ if text.contains("duration") || text.contains("nsecs") => (Some("none"), ""),
        _ => (None, ""),
    };
    Ok(SaidValue { text, unit, suffix, scale: 1 })
}

/// `lhist(value, min, max, step)`: its intervals begin with a value and end before one; bounds belong to what is below them.
fn linear(gauged: &Gauged, value: &SaidValue, notes: &mut Vec<String>) -> Result<YamlValue, Unsaid> {
    let unsaid = |text: &str| Unsaid { span: gauged.span.clone(), text: text.to_owned() };
    let numbers: Vec<Option<u64>> = gauged.arguments.iter().skip(1).map(Term::as_number).collect();
    let [Some(min), Some(max), Some(step)] = numbers[..] else {
        return Err(unsaid("`lhist` needs a smallest value, a largest one and a step, as numbers"));
    };
    if step == 0 || max <= min || max > 1 << 48 {
        return Err(unsaid("`lhist` needs a step above 0, and a largest value above the smallest"));
    }
    let wanted = (max - min).div_ceil(step);
    let count = wanted.min(MAX_BOUNDS);
    if count < wanted {
        notes.push(format!(
            "a histogram has {MAX_BOUNDS} bounds at most, of {wanted}: larger values are in `+Inf`"
        ));
    }
    if value.suffix == "_seconds" {
        let bounds = (1..=count).map(|number| {
            let ns = u128::from(min + number * step) * u128::from(value.scale);
            YamlValue::number(seconds(ns))
        });
        return Ok(YamlValue::List(bounds.collect()));
    }
    let scheme = [("start", min + step - 1), ("width", step), ("count", count)];
    let scheme = scheme.into_iter().map(|(key, number)| (key.to_owned(), YamlValue::number(number)));
    Ok(YamlValue::Map(vec![("linear".into(), YamlValue::Map(scheme.collect()))]))
}

/// Nanoseconds as a decimal number of seconds.
fn seconds(ns: u128) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

/// The same measure with a value put for a map of state: what the end reads by `start.NAME` has no keys.
pub(super) fn used_maps(measure: &ScriptMeasure) -> BTreeMap<&str, &StateRead> {
    measure.states.iter().map(|read| (read.map.as_str(), read)).collect()
}

/// The condition that a start's own map has no value yet: `!@start[key]`, `@start[key] == 0`.
pub(super) fn asks_for_none(term: &Term) -> Option<&str> {
    let inner = match &term.kind {
        TermKind::Unary("!", inner) => inner,
        TermKind::Binary("==", a, b) if b.as_number() == Some(0) => a,
        _ => return None,
    };
    inner_name(inner)
}

fn inner_name(term: &Term) -> Option<&str> {
    match &term.kind {
        TermKind::Map { name, .. } => Some(name),
        TermKind::Call { name, arguments } if name == "has_key" => {
            arguments.first().and_then(Term::as_map).map(|(name, _)| name)
        }
        _ => None,
    }
}
