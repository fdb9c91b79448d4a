//! A declared probe × a kernel → a typed probe, or its mistakes.

mod bytes;
mod call;
mod cast;
mod cgroup;
mod enumeration;
mod event;
mod expression;
mod family;
mod lvalue;
mod meeting;
mod packet;
mod part;
mod path;
mod pattern;
mod program_memory;
mod scope;
mod several;
mod stack;
mod state;
mod target_label;
mod text;
mod variable;
mod waiting;
mod walk;
mod words;

use crate::{
    attach::{self, Place, Site},
    declaration::{INFLIGHT_TIMEOUT, MAX_FUNCTIONS},
    diagnostic::{Diagnostic, SourceFile},
    missing::AbsentEvent,
    probe::{AttachPoint, Decoder, KernelVersion, Probe, StateScope},
    target::Target,
    typed::{Role, Type, Typed, TypedEvent, TypedProbe},
    usdt::FileId,
};
use scope::{Problem, Problems, SavedValue, is_reserved};
use state::KnownStates;
use std::collections::{HashMap, HashSet};
pub use target_label::overruled;

/// The first kernel that keeps values with tasks, for programs of all kinds, in memory that it has set aside
/// (`bpf_mem_cache_alloc` in `bpf_local_storage.c`). From 5.13 on it allocates, which may wake a task, and that must not be at events
/// like `sched_switch`, which come while a run queue is locked.
const TASK_STORAGE: KernelVersion = KernelVersion(6, 4, 0);

/// Largest key of a row or a start, bytes; a program has 512 bytes of stack.
pub const MAX_KEY: u32 = 256;

/// Checks a probe against a kernel.
pub fn check(probe: &Probe, target: &Target<'_>) -> Result<TypedProbe, Vec<Diagnostic>> {
    let mut states = KnownStates::of(probe);
    let (typed, mut diagnostics) = (1..)
        .find_map(|passes| {
            let mut checker = Checker {
                probe,
                target,
                diagnostics: Vec::new(),
                saved: Vec::new(),
                unsaved: HashSet::new(),
                functions: Vec::new(),
                let_worked: HashSet::new(),
                let_problems: Vec::new(),
                states: &states,
                defaults: Vec::new(),
                absent: probe.left_out.clone(),
            };
            let typed = checker.probe();
            let Checker { diagnostics, defaults, functions, .. } = checker;
            let diagnostics = once(probe, &functions, diagnostics);
            let is_wrong = diagnostics.iter().any(Diagnostic::is_error);
            let again = states.learn(passes, is_wrong, &defaults);
            (!again).then_some((typed, diagnostics))
        })
        .expect("the number of passes is bounded");
    if typed.is_none() && diagnostics.is_empty() {
        let message = "the types of the state depend on each other without end";
        diagnostics.push(Diagnostic::error(&probe.file, probe.name.span.clone(), message));
    }
    typed.filter(|_| !diagnostics.iter().any(Diagnostic::is_error)).ok_or(diagnostics)
}

/// Joins what one expression, typed for several events, says for each: messages about one place that differ at most in the attach
/// point become the first of them, with the number of the others.
fn once(probe: &Probe, sites: &[(Option<FileId>, Site)], diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut points: Vec<String> = probe.attach_points().map(|at| format!("`{}`", at.value)).collect();
    points.extend(sites.iter().filter_map(|(_, site)| match &site.place {
        Place::Tracepoint { category, name } => Some(format!("`tracepoint:{category}:{name}`")),
        Place::Kernel { .. } | Place::File { .. } => None,
    }));
    // One may be the beginning of another.
    points.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
    let mut known: Vec<(Diagnostic, String, HashSet<String>)> = Vec::new();
    for diagnostic in diagnostics {
        let plain = points.iter().fold(diagnostic.message.clone(), |text, point| text.replace(point, "`…`"));
        let same = known.iter_mut().find(|(first, text, _)| first.span == diagnostic.span && *text == plain);
        match same {
            Some((_, _, messages)) => drop(messages.insert(diagnostic.message)),
            None => {
                let messages = HashSet::from([diagnostic.message.clone()]);
                known.push((diagnostic, plain, messages));
            }
        }
    }
    let told = known.into_iter().map(|(mut first, _, messages)| {
        let message = match messages.len() - 1 {
            0 => return first,
            1 => format!("{} (and so at another event)", first.message),
            others => format!("{} (and so at {others} other events)", first.message),
        };
        first.message = message;
        first
    });
    told.collect()
}

/// Selects, from probes of one name, the first for this kernel; refuses two variants that are both for one kernel.
pub fn select(probes: Vec<Probe>, target: &Target<'_>) -> (Vec<Probe>, Vec<Diagnostic>) {
    let mut chosen: Vec<Probe> = Vec::new();
    let mut diagnostics = Vec::new();
    let mut others: Vec<Probe> = Vec::new();
    diagnostics.extend(shadowed(&probes));
    for probe in probes {
        if !probe.kernel.as_ref().is_none_or(|range| range.contains(target.kernel)) {
            others.push(probe);
            continue;
        }
        if let Some(first) = chosen.iter().find(|other| other.name.value == probe.name.value) {
            if first.kernel.is_none() && probe.kernel.is_none() {
                let (line, _) = first.file.position(first.name.span.start);
                let message = format!("there are two probes called `{}`", probe.name.value);
                diagnostics.push(
                    Diagnostic::error(&probe.file, probe.name.span.clone(), message)
                        .hint(format!("the first is in {}:{line}; variants need `kernel`", first.file.name)),
                );
            }
            continue;
        }
        chosen.push(probe);
    }
    let mut seen = HashSet::new();
    for probe in others {
        let name = &probe.name;
        if chosen.iter().all(|other| other.name.value != name.value) && seen.insert(name.value.clone()) {
            let message =
                format!("the probe `{}` is not for kernel {} and does not run", name.value, target.kernel);
            diagnostics.push(
                Diagnostic::warning(&probe.file, name.span.clone(), message)
                    .hint("add a variant of the same name without `kernel`"),
            );
        }
    }
    diagnostics.extend(collisions(&chosen));
    (chosen, diagnostics)
}

/// Reports variants that no kernel gets, because one before them is for all kernels.
fn shadowed(probes: &[Probe]) -> Vec<Diagnostic> {
    let mut for_all: HashMap<&str, &Probe> = HashMap::new();
    let mut diagnostics = Vec::new();
    for probe in probes {
        let Some(first) = for_all.get(probe.name.value.as_str()) else {
            if probe.kernel.is_none() {
                for_all.insert(&probe.name.value, probe);
            }
            continue;
        };
        if probe.kernel.is_some() {
            let (line, _) = first.file.position(first.name.span.start);
            let message = format!("this variant of `{}` is never used", probe.name.value);
            let hint = format!("the one in {}:{line} is for all kernels: put it last", first.file.name);
            diagnostics.push(Diagnostic::error(&probe.file, probe.name.span.clone(), message).hint(hint));
        }
    }
    diagnostics
}

/// Refuses metrics that readers could not tell apart.
fn collisions(probes: &[Probe]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut owners: HashMap<String, (&str, &Probe)> = HashMap::new();
    for probe in probes {
        for (spanned, family) in probe.families() {
            let name = spanned.value.as_str();
            let names: Vec<String> = family.taken(name).collect();
            let clash = names.iter().find_map(|taken| Some((taken, owners.get(taken)?)));
            if let Some((taken, (other, first))) = clash {
                let (message, hint) = if *other == name {
                    (
                        format!("the metric `{name}` is fed by two places"),
                        format!("also in probe `{}`; one family belongs to one probe", first.name.value),
                    )
                } else {
                    (
                        format!("the metrics `{name}` and `{other}` collide: readers know both as `{taken}`"),
                        format!("`{other}` is in probe `{}`; choose another name", first.name.value),
                    )
                };
                diagnostics.push(Diagnostic::error(&probe.file, spanned.span.clone(), message).hint(hint));
            }
            for taken in names {
                owners.entry(taken).or_insert((name, probe));
            }
        }
    }
    diagnostics
}

struct Checker<'a> {
    probe: &'a Probe,
    target: &'a Target<'a>,
    diagnostics: Vec<Diagnostic>,
    saved: Vec<SavedValue>,
    /// Names of saved values that are wrong themselves: uses of such a name are not reported again.
    unsaved: HashSet<String>,
    /// Functions of all events, by number, with their file.
    functions: Vec<(Option<FileId>, Site)>,
    /// Named expressions that had a meaning in some event, by the places of their names.
    let_worked: HashSet<usize>,
    let_problems: Vec<(usize, Problems)>,
    /// Optional events that this kernel does not have.
    absent: Vec<AbsentEvent>,
    states: &'a KnownStates<'a>,
    /// What is read of each state where nothing was set, if that is declared.
    defaults: Vec<Option<Typed>>,
}

/// The common type of two values at one place in a key: numbers, the larger of two texts, equally many bytes, or stacks of
/// one side; `None` if there is none.
fn common(a: &Type, b: &Type) -> Option<Type> {
    match (a, b) {
        (Type::Text { capacity: x }, Type::Text { capacity: y }) => Some(Type::Text { capacity: *x.max(y) }),
        (Type::Stack { .. }, Type::Stack { .. }) => a.longer_stack(b),
        (Type::Bytes { .. }, _) | (_, Type::Bytes { .. }) => (a == b).then(|| a.clone()),
        (Type::Text { .. } | Type::Stack { .. }, _) | (_, Type::Text { .. } | Type::Stack { .. }) => None,
        _ if a == b => Some(a.clone()),
        _ if a.is_signed() || b.is_signed() => Some(Type::S64),
        _ => Some(Type::U64),
    }
}

impl Checker<'_> {
    fn file(&self) -> &std::sync::Arc<SourceFile> {
        &self.probe.file
    }

    fn keep<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        result
            .map_err(|problems| {
                self.diagnostics.extend(problems.into_iter().map(|Problem { diagnostic, .. }| diagnostic));
            })
            .ok()
    }

    fn error(&mut self, span: std::ops::Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        let diagnostic = Diagnostic::error(self.file(), span, message).hint(hint);
        self.diagnostics.push(diagnostic);
    }

    fn probe(&mut self) -> Option<TypedProbe> {
        let probe = self.probe;
        let own = probe.ends.iter().flat_map(|event| &event.own.lets);
        for (name, _) in probe.lets.iter().chain(own) {
            if is_reserved(&name.value) || !probe.states.is_empty() && name.value == "state" {
                self.error(
                    name.span.clone(),
                    format!("`{}` is a name of the language", name.value),
                    "choose another name",
                );
            }
        }
        self.defaults = self.state_defaults();
        let mut notes = Vec::new();
        for event in &probe.notes {
            notes.extend(self.event(event, Role::Note, &mut None).into_iter().map(|typed| (event, typed)));
        }
        let mut events = Vec::new();
        let mut key: Option<Vec<Type>> = None;
        let mut starts = Vec::new();
        for event in &probe.starts {
            for typed in self.event(event, Role::Start, &mut key) {
                starts.push((event, typed.saves.len()));
                events.push((event, typed));
            }
        }
        // A later start may have added a value, which is not there after an earlier one.
        for (event, saves) in starts {
            if let Some(SavedValue { name, .. }) = self.saved.get(saves) {
                let message = format!("every start must save `{name}`, and this one does not");
                self.error(event.span.clone(), message, "save the same names at each start");
            }
        }
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            let saves = probe.starts.iter().flat_map(|start| &start.saves);
            self.unsaved = saves.map(|(name, _)| name.value.clone()).collect();
        }
        let (role, at) = if probe.between {
            self.saves_between(&probe.ends);
            (Role::Between, "between")
        } else if probe.is_pair() {
            (Role::End, "end")
        } else {
            (Role::Single, if probe.ends.len() > 1 { "events" } else { "at" })
        };
        for event in &probe.ends {
            let typed = self.event(event, role, &mut key);
            events.extend(typed.into_iter().map(|typed| (event, typed)));
        }
        if probe.is_pair() {
            self.meetings(&events);
            self.frames(&events);
        }
        notes.extend(events);
        let mut warnings = pattern::patterns(probe);
        warnings
            .extend(notes.iter().filter_map(|(event, typed)| program_memory::at_entry(probe, event, typed)));
        self.state_meetings(&notes);
        let mut events: Vec<TypedEvent> = notes.into_iter().map(|(_, typed)| typed).collect();
        self.walks(&events);
        self.packets(&events);
        let of_task = probe.states.iter().position(|state| state.per == StateScope::Task);
        let task_storage =
            of_task.is_some() && self.target.kernel >= TASK_STORAGE && self.target.btf.is_some();
        if let Some(state) = of_task.filter(|_| !task_storage) {
            events.splice(0..0, self.forgetting(state));
        }
        for (name, problems) in std::mem::take(&mut self.let_problems) {
            if !self.let_worked.contains(&name) {
                self.diagnostics.extend(problems.into_iter().map(|problem| problem.diagnostic));
            }
        }
        for (role, name) in [(Role::Start, "start"), (role, at)] {
            let wanted = role != Role::Start || !probe.starts.is_empty();
            if wanted
                && !self.diagnostics.iter().any(Diagnostic::is_error)
                && !events.iter().any(|event| event.role == role)
            {
                self.none_is_there(name);
            }
        }
        if self.diagnostics.iter().any(Diagnostic::is_error) || self.states.are_open() {
            return None;
        }
        let states = self.typed_states(&self.defaults.clone());
        let ends: Vec<&TypedEvent> = events.iter().filter(|event| event.role == role).collect();
        let labels = self.labels(&ends, &events);
        let metrics = self.metrics(&ends);
        let size: u32 = labels.iter().map(|label| label.ty.room()).sum();
        if size > MAX_KEY {
            self.error(
                probe.labels[0].name.span.clone(),
                format!("the labels take {size} bytes, more than {MAX_KEY}"),
                "shorten texts with str(pointer, SIZE), or drop a label",
            );
        }
        let is_device =
            |index: &usize| probe.shown.devices.is_some() && labels[*index].decoder == Decoder::BlockDevice;
        let chosen = (0..labels.len()).filter(is_device).collect();
        let waiting = self.waiting(&events, &labels, key.as_deref().unwrap_or_default());
        Some(TypedProbe {
            name: probe.name.value.clone(),
            help: probe.help.clone(),
            events,
            absent: std::mem::take(&mut self.absent),
            states,
            task_storage,
            waiting,
            key: key.unwrap_or_default(),
            saved: self.saved.iter().map(|kept| (kept.name.clone(), kept.ty.clone())).collect(),
            labels,
            metrics,
            max_series: probe.max_series,
            max_inflight: probe.max_inflight,
            inflight_timeout_ns: probe.inflight_timeout_ns.unwrap_or_else(|| INFLIGHT_TIMEOUT.default_ns()),
            per_cpu: probe.per_cpu,
            chosen,
            warnings,
        })
    }
}

/// Attach points of a kernel with their arguments, for `tapster list`.
pub fn describe(at: &AttachPoint, target: &Target<'_>) -> Option<Vec<(String, String)>> {
    let request =
        attach::ResolveOptions { whole: false, most: MAX_FUNCTIONS.default_number(), stacks: false };
    let resolved = attach::resolve(at, request, target).ok()?.into_iter().next()?;
    Some(resolved.arguments.into_iter().map(|argument| (argument.name, argument.ctype)).collect())
}
