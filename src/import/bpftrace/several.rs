//! Events that feed one metric: the points of one action, and actions that add to the same map.

use super::super::{
    remark::Remark,
    sheet::{SheetItem, YamlValue},
};
use super::{
    condition::conjuncts,
    label::{self, SaidLabel, free_name},
    measure::{ScriptMeasure, measured},
    plan::{Keys, Planner, Played, written_lets},
    points::CarriedPoint,
    said::{SaidTerm, Unsaid, literal},
};
use std::collections::BTreeSet;
use tapster_ebpf::glob::is_pattern;

/// Most attach points behind one `at`, and most events of a probe.
const MAX_POINTS: usize = 16;
const MAX_EVENTS: usize = 64;

/// `at` of points, each of which is an event; more than there may be in one have several. Those that a kernel does not have are
/// passed over where the script says so.
pub(super) fn heads(points: &[CarriedPoint], passes_missing: bool) -> Vec<Keys> {
    let is_optional = passes_missing && points.len() > 1;
    let head = |points: &[CarriedPoint]| {
        let at = match points {
            [only] => YamlValue::text(&only.at),
            all => {
                let all = all.iter().map(|point| YamlValue::text(&point.at)).collect();
                YamlValue::Map(vec![("all_of".into(), YamlValue::List(all))])
            }
        };
        let mut keys = vec![("at".to_owned(), at)];
        if is_optional {
            keys.push(("optional".into(), YamlValue::Bare("true".into())));
        }
        keys
    };
    points.chunks(MAX_POINTS).map(head).collect()
}

/// The points of an action as the event of a probe: `at` alone where that says it, else a list of events. With `names_probe` each
/// gives its own name as this label.
pub(super) fn events(
    points: &[CarriedPoint],
    condition: Option<String>,
    passes_missing: bool,
    names_probe: Option<&str>,
    changes: &Keys,
) -> Result<Keys, String> {
    if points.len() > MAX_EVENTS {
        return Err(format!("a probe has at most {MAX_EVENTS} events"));
    }
    let condition = condition.map(|condition| ("where".to_owned(), YamlValue::text(condition)));
    let Some(label) = names_probe else {
        let mut heads = heads(points, passes_missing);
        if heads.len() == 1 && heads.iter().flatten().count() == 1 {
            return Ok(heads.remove(0).into_iter().chain(changes.clone()).chain(condition).collect());
        }
        let events = heads.into_iter().map(|head| {
            YamlValue::Map(head.into_iter().chain(condition.clone()).chain(changes.clone()).collect())
        });
        return Ok(vec![("events".into(), YamlValue::List(events.collect()))]);
    };
    let events = points.iter().map(|point| {
        let mut keys = vec![("at".to_owned(), YamlValue::text(&point.at))];
        if passes_missing {
            keys.push(("optional".into(), YamlValue::Bare("true".into())));
        }
        keys.extend(condition.clone());
        let text = YamlValue::text(literal(&point.written));
        keys.push(("labels".into(), YamlValue::Map(vec![(label.to_owned(), text)])));
        keys.extend(changes.clone());
        YamlValue::Map(keys)
    });
    Ok(vec![("events".into(), YamlValue::List(events.collect()))])
}

/// Whether all are at functions, and whether all are tracepoints of one category: then `func`, or `tracepoint`, says which it was.
pub(super) fn named_sites(points: &[CarriedPoint]) -> (bool, bool) {
    let first = points.first().and_then(CarriedPoint::category).filter(|category| !is_pattern(category));
    let is_one = first.is_some() && points.iter().all(|point| point.category() == first);
    (points.iter().all(CarriedPoint::is_function), is_one)
}

/// Whether measures of several actions can be one metric: each adds to the same map.
pub(super) fn are_sums(measures: &[(&Played, ScriptMeasure)]) -> bool {
    let adds = |measure: &ScriptMeasure| match &measure.gauged[..] {
        [only] => matches!(only.function.as_str(), "count" | "sum" | "minus"),
        _ => false,
    };
    let parts = |measure: &ScriptMeasure| measure.keys.len();
    let Some((_, first)) = measures.first() else { return false };
    measures.iter().all(|(_, one)| one.states.is_empty() && adds(one) && parts(one) == parts(first))
}

impl Planner<'_> {
    /// One metric that several actions add to.
    pub(super) fn several(&mut self, map: &str, measures: &[(&Played, ScriptMeasure)]) -> Result<(), Unsaid> {
        let Some((begin, first)) = measures.first() else { return Ok(()) };
        let falls = measures.iter().any(|(_, one)| one.gauged.iter().any(|one| one.function == "minus"));
        let mut taken = BTreeSet::new();
        let names: Vec<String> =
            first.keys.iter().map(|key| free_name(&label::name_of(key), &mut taken)).collect();
        let mut labels: Vec<Option<SaidLabel>> = vec![None; names.len()];
        let (mut events, mut suffix, mut unit) = (Vec::new(), "", None);
        for (action, measure) in measures {
            for point in &action.points {
                let mut scope = self.scope(Some(point));
                let condition =
                    scope.condition(&measure.conditions.iter().flat_map(conjuncts).collect::<Vec<_>>())?;
                let mut own = Vec::new();
                for ((name, key), shared) in names.iter().zip(&measure.keys).zip(&mut labels) {
                    let said = scope.label(name, key)?;
                    if shared.as_ref().is_some_and(|shared| shared.decoder != said.decoder) {
                        let text = "this label becomes text in another way elsewhere".to_owned();
                        return Err(Unsaid { span: key.span.clone(), text });
                    }
                    own.push((name.clone(), YamlValue::text(&said.value)));
                    shared.get_or_insert(said);
                }
                let mut value = "1".to_owned();
                for gauged in &measure.gauged {
                    if gauged.function == "count" {
                        continue;
                    }
                    let Some(term) = gauged.arguments.first() else { continue };
                    let said = measured(term, &mut scope)?;
                    (suffix, unit) = (said.suffix, said.unit);
                    let level = if term.as_number().is_some() { 1 } else { 14 };
                    let plain = SaidTerm::new(level, &said.text).within(2);
                    value = if gauged.function == "minus" { format!("-{plain}") } else { said.text };
                }
                let mut keys: Keys = vec![("at".into(), YamlValue::text(&point.at))];
                if self.passes_missing {
                    keys.push(("optional".into(), YamlValue::Bare("true".into())));
                }
                keys.extend(written_lets(&scope.lets));
                keys.extend(condition.map(|condition| ("where".to_owned(), YamlValue::text(condition))));
                if !own.is_empty() {
                    keys.push(("labels".into(), YamlValue::Map(own)));
                }
                events.push((keys, value));
            }
        }
        if events.len() > MAX_EVENTS {
            let text = format!("a probe has at most {MAX_EVENTS} events");
            return Err(Unsaid { span: first.span.clone(), text });
        }
        let suffix = if falls { suffix.to_owned() } else { format!("{suffix}_total") };
        let name = self.names.metric(&[map], &suffix);
        let events = events.into_iter().map(|(mut keys, value)| {
            let values = YamlValue::Map(vec![(name.clone(), YamlValue::text(value))]);
            keys.push(("values".into(), values));
            YamlValue::Map(keys)
        });
        let mut keys: Keys = vec![
            ("name".into(), YamlValue::text(self.names.probe(&[map]))),
            ("events".into(), YamlValue::List(events.collect())),
        ];
        let decoded =
            labels.iter().flatten().filter_map(|label| Some((label.name.clone(), label.decoder.clone()?)));
        let decoded: Keys =
            decoded.map(|(name, decoder)| (name, YamlValue::Map(vec![("as".into(), decoder)]))).collect();
        if !decoded.is_empty() {
            keys.push(("labels".into(), YamlValue::Map(decoded)));
        }
        let kind = if falls { "sum" } else { "counter" };
        let help = format!("Sum, `@{map}` of {}.", self.file);
        let mut metric: Keys =
            vec![(kind.into(), YamlValue::text(name)), ("help".into(), YamlValue::text(help))];
        metric.extend(unit.map(|unit: &str| ("unit".to_owned(), YamlValue::text(unit))));
        keys.push(("metrics".into(), YamlValue::List(vec![YamlValue::Map(metric)])));
        self.planned.items.push((begin.span.clone(), SheetItem::Probe(keys)));
        if falls {
            let said = "what goes down as well is a `sum`, which begins at 0 when the probe does";
            self.planned.remarks.push(Remark::note(first.span.clone(), said));
        }
        Ok(())
    }
}
