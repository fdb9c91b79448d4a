//! Scripts of bpftrace → probes.
//!
//! A script is parsed, its macros are put in, and each action is walked through: what it does under which conditions. What
//! all actions do with a map says what the map is for; then each map that counts becomes a metric, and one that carries a
//! time or a value from event to event becomes the start and end of a probe.

mod call;
mod change;
mod condition;
mod cursor;
mod flow;
mod label;
mod macros;
mod maps;
mod measure;
mod names;
mod operand;
mod pair;
mod parser;
mod plan;
mod points;
mod prepare;
mod said;
mod script;
mod several;
mod state;
#[cfg(test)]
mod tests;
mod tick;
mod value;

use super::{remark::Remark, sheet::SheetItem};
use flow::{Act, ActionFlow};
use macros::Substitution;
use names::FileNames;
use plan::{Planner, Played};
use points::Occasion;
use script::Action;
use std::{collections::BTreeMap, sync::Arc};
use tapster_ebpf::diagnostic::{Diagnostic, SourceFile, Span};

/// What a script became: probes with the places they are from, and remarks.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) items: Vec<(Span, SheetItem)>,
    pub(super) remarks: Vec<Remark>,
    /// Places of the script's actions.
    pub(super) actions: Vec<Span>,
}

/// Translates a script. `parameters` are its `$1` and so on.
pub(super) fn translate(file: &Arc<SourceFile>, parameters: &[String]) -> Result<Translated, Diagnostic> {
    let prepared = prepare::prepare(file);
    let (script, parsed) = parser::parse(file, &prepared.text)?;
    let mut remarks = prepared.remarks;
    remarks.extend(parsed);
    let constants = prepared.constants.into_iter();
    let constants =
        constants.filter_map(|(name, text)| Some((name, parser::parse_term(file, &text)?))).collect();
    let mut substitution = Substitution::new(&script, constants, parameters);
    let actions: Vec<Action> = script.actions.iter().map(|action| substitution.action(action)).collect();
    remarks.append(&mut substitution.remarks);
    let (mut begin, mut played, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
    for action in &actions {
        let flow = flow::walk(action, &mut names);
        match points::occasion(&action.points) {
            Occasion::Begin => {
                begin.extend(flow.deeds.iter().filter(|deed| matches!(deed.act, Act::Keep { .. })).cloned());
                quiet(action, flow, "begin of a script prints a heading: an exporter has none", &mut remarks);
            }
            Occasion::End => {
                quiet(
                    action,
                    flow,
                    "end of a script prints and clears its maps: a scrape reads them",
                    &mut remarks,
                );
            }
            Occasion::Tick if !flow.deeds.iter().any(|deed| !matches!(deed.act, Act::Show { .. })) => {
                let is_tick = shows_values(&flow);
                if !is_tick {
                    let said = "what is printed and cleared at each tick is read by scrapes, and counters go on: `rate()` is their rate";
                    remarks.push(Remark::note(action.span.clone(), said));
                }
                remarks.extend(flow.remarks);
                if is_tick {
                    let points = carried(action, &mut remarks);
                    played.push(Played { points, deeds: flow.deeds, span: action.span.clone(), is_tick });
                }
            }
            Occasion::Tick | Occasion::Event => {
                remarks.extend(flow.remarks);
                let points = carried(action, &mut remarks);
                if let Some(first) = flow.printing.first() {
                    let said = "what only prints or clears has no counterpart: counts are read by scrapes";
                    remarks.push(Remark::note(first.clone(), said));
                }
                played.push(Played { points, deeds: flow.deeds, span: action.span.clone(), is_tick: false });
            }
        }
    }
    let events: Vec<_> = played.iter().flat_map(|action| &action.deeds).collect();
    let roles = maps::roles(&begin, &events);
    let shown = file.name.rsplit('/').next().unwrap_or(&file.name);
    let names = FileNames::new(&file.name);
    let planner = Planner::new(&played, &roles, names, shown, script.passes_missing);
    let planned = planner.plan();
    remarks.extend(planned.remarks);
    let actions = actions.into_iter().map(|action| action.span).collect();
    Ok(Translated { items: planned.items, remarks, actions })
}

/// The begin and the end of a script measure nothing.
fn quiet(action: &Action, flow: ActionFlow, said: &str, remarks: &mut Vec<Remark>) {
    let prints =
        !flow.printing.is_empty() || flow.deeds.iter().any(|deed| matches!(deed.act, Act::Show { .. }));
    if prints {
        remarks.push(Remark::note(action.span.clone(), format!("the {said}")));
    }
    remarks.extend(flow.remarks);
}

/// The attach points of an action that probes have.
fn carried(action: &Action, remarks: &mut Vec<Remark>) -> Vec<points::CarriedPoint> {
    action.points.iter().filter_map(|point| points::carried(point, remarks)).collect()
}

/// Whether a tick shows values that it reads, and not only maps, which are read by scrapes.
fn shows_values(flow: &ActionFlow) -> bool {
    let is_read =
        |term: &script::Term| term.parts().is_empty() && !matches!(term.kind, script::TermKind::Name(_));
    let shows = |act: &Act| matches!(act, Act::Show { arguments } if !arguments.iter().all(is_read));
    flow.deeds.iter().any(|deed| shows(&deed.act))
}
