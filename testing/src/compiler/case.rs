//! Compiles many expressions in one probe, each as the value of a gauge: a gauge holds any 64-bit number.

use super::expression::Grammar;
use tapster_ebpf::{
    attach::Target,
    check, declaration,
    diagnostic::{Diagnostic, SourceFile},
    eval::{Inputs, StateValues, Value, evaluate},
    host::HostFacts,
    lower,
    probe::Probe,
    program::{MapDef, MapKind, Program, ROWS},
    typed::{Role, TypedEvent, TypedProbe, TypedValue},
    vm::{self, Environment, Vm, VmMap},
};

/// Most expressions in a probe.
pub const BATCH: usize = 60;

/// The parts of a probe around the expressions.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Lines of YAML of the probe, such as `at:` and `let:`.
    pub head: String,
}

impl Frame {
    pub fn at(point: &str) -> Self {
        Self { head: format!("    at: \"rawtracepoint:{point}\"\n") }
    }

    /// The probe as YAML.
    pub fn yaml(&self, expressions: &[String]) -> String {
        let metrics: String = expressions
            .iter()
            .enumerate()
            .map(|(index, text)| {
                format!("      - gauge: g{index}\n        value: '{}'\n", text.replace('\'', "''"))
            })
            .collect();
        format!("probes:\n  - name: case\n{}    metrics:\n{metrics}", self.head)
    }
}

/// The first probe of a YAML text.
pub fn parse(yaml: &str) -> Result<Probe, Vec<Diagnostic>> {
    let (mut file, diagnostics) = declaration::parse(&SourceFile::new("case.yaml", yaml));
    if diagnostics.is_empty() { Ok(file.probes.remove(0)) } else { Err(diagnostics) }
}

/// A walk from `from` over values from outside and inside of its loop; adds `item` to the grammar.
pub fn walk_head(grammar: &mut Grammar, at: &str, from: &str, filter: &str) -> String {
    let (outside, text, limit) = (grammar.number(2), grammar.text(1), 1 + grammar.random.below(4));
    grammar.numbers.push("outside".into());
    grammar.texts.push("text".into());
    let within = grammar.random.one_in(3).then(|| grammar.number(1));
    grammar.nodes.push("item".into());
    grammar.numbers.extend(["item.sa".into(), "item.big".into()]);
    let budget = within.map_or(String::new(), |within| {
        format!(", size: '({}) & 0xff', within: '({within}) & 0xfff'", grammar.number(1))
    });
    let inside = grammar.number(2);
    grammar.numbers.push("inside".into());
    format!(
        "    at: \"rawtracepoint:test:{at}\"\n    let: {{ outside: '{outside}', text: '{text}', inside: '{inside}' }}\n    each: {{ name: item, from: {from}, next: item.next, limit: {limit}{budget} }}\n    labels: {{ item: item, name: item.name, text: text }}\n    where: 'item.ua || item.big > 9 || ({filter})'\n"
    )
}

/// A probe in its two forms.
#[derive(Clone, Debug)]
pub struct Case {
    pub yaml: String,
    pub expressions: Vec<String>,
    pub typed: TypedProbe,
    pub program: Program,
}

/// Compiles one probe with all these expressions.
pub fn compile(frame: &Frame, expressions: &[String], target: &Target<'_>) -> Result<Case, String> {
    let yaml = frame.yaml(expressions);
    let show =
        |diagnostics: Vec<Diagnostic>| diagnostics.iter().map(|one| format!("{one:?}\n")).collect::<String>();
    let probe = parse(&yaml).map_err(show)?;
    let typed = check::check(&probe, target).map_err(show)?;
    let program = lower::lower(typed.clone(), HostFacts::of(target)).map_err(|error| error.to_string())?;
    Ok(Case { yaml, expressions: expressions.to_vec(), typed, program })
}

/// Compiles them in as few probes as possible, without those that are refused; returns the number of refused ones.
pub fn compile_all(frame: &Frame, expressions: &[String], target: &Target<'_>) -> (Vec<Case>, usize) {
    let (mut cases, mut refused) = (Vec::new(), 0);
    let mut waiting: Vec<&[String]> = expressions.chunks(BATCH).rev().collect();
    while let Some(batch) = waiting.pop() {
        match compile(frame, batch, target) {
            Ok(case) => cases.push(case),
            Err(_) if batch.len() == 1 => refused += 1,
            Err(_) => {
                let (first, second) = batch.split_at(batch.len() / 2);
                waiting.extend([second, first]);
            }
        }
    }
    (cases, refused)
}

/// Arguments as the context of a raw tracepoint.
pub fn context(arguments: &[u64]) -> Vec<u8> {
    arguments.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The value of each gauge in a row with one CPU.
pub fn gauges(program: &Program, row: &[u8]) -> Vec<u64> {
    let word = |offset: u32| {
        let start = usize::try_from(offset).unwrap() + 8;
        u64::from_le_bytes(row[start..start + 8].try_into().unwrap())
    };
    program.layout.metrics.iter().map(|slot| word(slot.offset)).collect()
}

/// Rows by key, as the last program left them on the machine's CPU.
pub type Rows = Vec<(Vec<u8>, Vec<u64>)>;

/// A machine with a program's maps and its first code.
pub fn machine(program: &Program, environment: Environment) -> Vm {
    let kind = |kind| match kind {
        MapKind::Hash => vm::VmMapKind::Hash,
        MapKind::Array | MapKind::SharedArray => vm::VmMapKind::Array,
        MapKind::PerCpuHash => vm::VmMapKind::PercpuHash,
        MapKind::PerCpuArray => vm::VmMapKind::PercpuArray,
        MapKind::TaskStorage => vm::VmMapKind::TaskStorage,
        MapKind::Ring => unreachable!("no probe has a ring"),
    };
    let map = |map: &MapDef| VmMap {
        kind: kind(map.kind),
        // By the task's address.
        key_size: if map.kind == MapKind::TaskStorage { 8 } else { map.key_size },
        value_size: map.value_size,
        max_entries: map.max_entries,
    };
    let maps: Vec<VmMap> = program.maps.iter().map(map).collect();
    let mut vm = Vm::new(&program.codes[0].assembled.insns, &maps, environment);
    for (map, index, value) in program.contents() {
        vm.map_mut(usize::try_from(map).unwrap()).insert(&index.to_le_bytes(), &value).unwrap();
    }
    vm
}

/// The value for each metric that an event feeds.
fn fed(event: &TypedEvent, now: &Inputs<'_>) -> Vec<Option<u64>> {
    let value = |metric: &TypedValue| evaluate(&metric.value, now).number();
    event.metrics.iter().map(|metric| metric.as_ref().map(value)).collect()
}

impl Case {
    /// A machine with this probe's maps.
    pub fn machine(&self, environment: Environment) -> Vm {
        machine(&self.program, environment)
    }

    /// Runs every program once, in order; `step_ns` passes between two runs.
    pub fn run(&self, vm: &mut Vm, context: &[u8], step_ns: u64) {
        for (index, code) in self.program.codes.iter().enumerate() {
            vm.load(&code.assembled.insns);
            if index > 0 {
                vm.env.ktime_ns += step_ns;
            }
            if let Err(error) = vm.run(context) {
                panic!("{error}\n{}\n{}", self.yaml, code.assembled.listing());
            }
        }
    }

    /// The rows of the machine.
    pub fn rows(&self, vm: &Vm) -> Rows {
        let map = vm.map(usize::try_from(ROWS).unwrap());
        let row = |key: Vec<u8>| {
            let values = gauges(&self.program, map.get_cpu(&key, vm.env.cpu).unwrap());
            (key, values)
        };
        let mut rows: Rows = map.iter().map(|(key, _)| row(key)).collect();
        rows.sort();
        rows
    }

    /// The expected rows after every program ran once on this context.
    pub fn expected(&self, machine: &Environment, context: &[u8], step_ns: u64) -> Rows {
        self.expected_after(machine, context, step_ns, &mut StateValues::new(&self.typed.states))
    }

    /// The same where earlier events left `state`, which becomes what these leave.
    pub fn expected_after(
        &self,
        machine: &Environment,
        context: &[u8],
        step_ns: u64,
        state: &mut StateValues,
    ) -> Rows {
        let mut saved: Vec<Value> = Vec::new();
        let mut machine = machine.clone();
        let mut rows = Rows::new();
        let mut started = false;
        // Events of one label set each leave the values that they feed.
        let feed = |rows: &mut Rows, key: Vec<u8>, fed: Vec<Option<u64>>| {
            let before = rows.iter().position(|(known, _)| *known == key).map(|index| rows.remove(index).1);
            let before = before.unwrap_or_else(|| vec![0; fed.len()]);
            let row = fed.into_iter().zip(before).map(|(now, before)| now.unwrap_or(before)).collect();
            rows.push((key, row));
        };
        let mut between: Option<(u64, Vec<Value>)> = None;
        for event in &self.typed.events {
            let before = state.clone();
            let mut now = Inputs {
                context,
                machine: &machine,
                lets: &event.lets,
                saved: &[],
                duration: 0,
                item: 0,
                state: &before,
            };
            let holds = |now: &Inputs<'_>, filters: &[tapster_ebpf::typed::Typed]| {
                filters.iter().all(|filter| evaluate(filter, now).number() != 0)
            };
            match event.role {
                Role::Start => {
                    if holds(&now, &event.filters) {
                        saved = event.saves.iter().map(|save| evaluate(save, &now)).collect();
                        started = true;
                        *state = before.after(&event.changes, &now);
                    }
                    machine.ktime_ns += step_ns;
                    continue;
                }
                Role::Note => {
                    if holds(&now, &event.filters) {
                        *state = before.after(&event.changes, &now);
                    }
                    machine.ktime_ns += step_ns;
                    continue;
                }
                Role::End if !started => continue,
                Role::Between => {
                    if holds(&now, &event.filters) {
                        let next = event.saves.iter().map(|save| evaluate(save, &now)).collect();
                        if let Some((since, before)) = between.replace((machine.ktime_ns, next)) {
                            let now = Inputs { saved: &before, duration: machine.ktime_ns - since, ..now };
                            if holds(&now, &event.late_filters) {
                                feed(&mut rows, self.key(event, &now), fed(event, &now));
                            }
                        }
                    }
                    machine.ktime_ns += step_ns;
                    continue;
                }
                Role::End | Role::Single => {}
            }
            now.saved = &saved;
            now.duration = if event.role == Role::End { step_ns } else { 0 };
            let items = event.each.as_ref().map_or_else(|| vec![0], |each| walk(each, now));
            for item in items {
                now.item = item;
                if holds(&now, &event.filters) && holds(&now, &event.late_filters) {
                    feed(&mut rows, self.key(event, &now), fed(event, &now));
                    if event.each.is_none() {
                        *state = before.after(&event.changes, &now);
                    }
                }
            }
            if event.role == Role::Single {
                machine.ktime_ns += step_ns;
            }
        }
        rows.sort();
        rows
    }

    /// The key of the row of an event.
    fn key(&self, event: &TypedEvent, now: &Inputs<'_>) -> Vec<u8> {
        if event.labels.is_empty() {
            return vec![0; 4];
        }
        let mut key = Vec::new();
        for (label, slot) in event.labels.iter().zip(&self.program.layout.labels) {
            match evaluate(label, now) {
                Value::Number(number) => key.extend(number.to_le_bytes()),
                Value::Text(text) => key.extend(text),
            }
            key.resize(usize::try_from(slot.offset + slot.size).unwrap(), 0);
        }
        key
    }
}

/// The elements that `each` visits.
fn walk(each: &tapster_ebpf::typed::TypedEach, mut now: Inputs<'_>) -> Vec<u64> {
    let mut items = Vec::new();
    let mut budget = each.budget.as_ref().map(|(_, within)| evaluate(within, &now).number());
    let mut item = evaluate(&each.from, &now).number();
    while item != 0 && items.len() < usize::try_from(each.limit).unwrap() {
        now.item = item;
        if let (Some(left), Some((size, _))) = (&mut budget, &each.budget) {
            let Some(rest) = left.checked_sub(evaluate(size, &now).number()) else { break };
            *left = rest;
        }
        items.push(item);
        item = evaluate(&each.next, &now).number();
    }
    items
}
