//! Checks labels and metrics, which the events of a probe share.

use super::{Checker, common, expression::number};
use crate::{
    diagnostic::Spanned,
    probe::{ADDRESS_BYTES, Decoder, DecoderInput, Metric, PROGRAM_ADDRESS_BYTES, Unit},
    typed::{Builtin, Side, Type, Typed, TypedEvent, TypedKind, TypedLabel, TypedMetric},
};

/// Whether a value at an event is `func` or `tracepoint`: directly, through a `let`, or saved by a start.
fn is_function(typed: &Typed, event: &TypedEvent, events: &[TypedEvent]) -> bool {
    match typed.kind {
        TypedKind::Function(_) => true,
        TypedKind::Let(index) => is_function(&event.lets[index], event, events),
        TypedKind::Numbers(ref words) => words.iter().any(|word| is_function(word, event, events)),
        TypedKind::Saved(index) => events
            .iter()
            .any(|start| start.saves.get(index).is_some_and(|saved| is_function(saved, start, events))),
        _ => false,
    }
}

/// The value of a label: an address of a program is kept together with its process, because only both say which function it
/// is.
pub(super) fn with_process(typed: Typed, decoder: Option<&Spanned<Decoder>>) -> Typed {
    let takes_address = |decoder: &Spanned<Decoder>| decoder.value.takes() == DecoderInput::ProgramAddress;
    match typed.ty {
        Type::Int { .. } | Type::Pointer { .. } if decoder.is_some_and(takes_address) => {
            let process = Typed::new(TypedKind::Builtin(Builtin::Pid), Type::U32);
            let words = TypedKind::Numbers(vec![number(typed), process]);
            Typed::new(words, Type::Bytes { size: PROGRAM_ADDRESS_BYTES })
        }
        _ => typed,
    }
}

/// The reason why a decoder does not accept values of a type, and the remedy; `None` if it accepts them.
fn refusal(ty: &Type, takes: DecoderInput) -> Option<(&'static str, String)> {
    match (ty, takes) {
        (Type::Text { .. }, DecoderInput::Text)
        | (Type::Stack { side: Side::Kernel, .. }, DecoderInput::Sleep) => None,
        (Type::Stack { side, .. }, DecoderInput::Stack(taken)) if *side == taken => None,
        (Type::Bytes { size }, DecoderInput::Bytes(taken)) => {
            let taken = taken.filter(|taken| taken != size)?;
            Some(("so many bytes", format!("it takes {taken}: bytes(pointer, {taken})")))
        }
        (Type::Bytes { size }, DecoderInput::Address) => (!ADDRESS_BYTES.contains(size)).then(|| {
            ("so many bytes", "an address has 4 or 16, a `sockaddr_in6` 28: bytes(pointer, 16)".to_owned())
        }),
        (Type::Bytes { .. }, _) => Some(("bytes", "leave `as` out, or use `bytes`".to_owned())),
        (Type::Text { .. }, _) => Some(("a text", "leave `as` out, or use `string`".to_owned())),
        (Type::Stack { side, .. }, _) => {
            Some(("a stack", format!("leave `as` out, or use `{}`", side.name())))
        }
        (Type::Int { .. } | Type::Pointer { .. }, takes) => {
            let hint = match takes {
                DecoderInput::Number | DecoderInput::Address | DecoderInput::ProgramAddress => return None,
                DecoderInput::Bytes(size) => format!("read them with bytes(pointer, {})", size.unwrap_or(16)),
                DecoderInput::Text => "read a text with str(pointer)".to_owned(),
                DecoderInput::Stack(side) => format!("a stack is taken by `{}`", side.name()),
                DecoderInput::Sleep => {
                    "a reason is told from a stack: `kstack`, or `kstack(args.p)` of another task".to_owned()
                }
            };
            Some(("a number", hint))
        }
    }
}

impl Checker<'_> {
    pub(super) fn labels(&mut self, ends: &[&TypedEvent], events: &[TypedEvent]) -> Vec<TypedLabel> {
        let mut labels = Vec::new();
        for (index, label) in self.probe.labels.iter().enumerate() {
            let mut types = ends.iter().map(|event| &event.labels[index].ty);
            let Some(first) = types.next().cloned() else { continue };
            let Some(ty) = types.try_fold(first, |joined, ty| common(&joined, ty)) else {
                let found =
                    |wanted: fn(&Type) -> bool| ends.iter().any(|event| wanted(&event.labels[index].ty));
                let kinds = if found(|ty| matches!(ty, Type::Bytes { .. })) {
                    "not as many bytes at every event"
                } else if !found(|ty| matches!(ty, Type::Stack { .. })) {
                    "a text at one event and a number at another"
                } else if ends.iter().all(|event| matches!(event.labels[index].ty, Type::Stack { .. })) {
                    "the kernel's stack at one event and the program's at another"
                } else {
                    "a stack at one event and none at another"
                };
                self.error(
                    label.name.span.clone(),
                    format!("the label `{}` is {kinds}", label.name.value),
                    "make it the same",
                );
                continue;
            };
            let is_function = ends.iter().any(|end| is_function(&end.labels[index], end, events));
            if let (true, Some(decoder)) = (is_function, &label.decoder) {
                self.error(
                    decoder.span.clone(),
                    "the name of a function or tracepoint is a text by itself",
                    "leave `as` out",
                );
                continue;
            }
            let decoder = match &label.decoder {
                Some(decoder) => {
                    let has_process =
                        |end: &&TypedEvent| matches!(end.labels[index].kind, TypedKind::Numbers(_));
                    if !ends.iter().all(has_process)
                        && let Some((found, hint)) = refusal(&ty, decoder.value.takes())
                    {
                        self.error(decoder.span.clone(), format!("this decoder does not take {found}"), hint);
                    }
                    self.reachable(&ty, decoder);
                    let values = ends.iter().map(|end| &end.labels[index]);
                    self.known(decoder, &values.map(|value| value.enumeration).collect())
                }
                None if is_function => self.function_names(),
                None => match ty {
                    Type::Text { .. } => Decoder::Text,
                    Type::Bytes { .. } => Decoder::Bytes,
                    Type::Stack { side, .. } => Decoder::Stack(side),
                    Type::Pointer { .. } => Decoder::Hex,
                    Type::Int { signed: true, .. } => Decoder::Signed,
                    Type::Int { signed: false, .. } => Decoder::Unsigned,
                },
            };
            labels.push(TypedLabel { name: label.name.value.clone(), decoder, ty });
        }
        labels
    }

    /// Refuses a table that contains a number outside the value's range.
    fn reachable(&mut self, ty: &Type, decoder: &Spanned<Decoder>) {
        let (Type::Int { bits, signed }, Decoder::Table { rows, .. }) = (ty, &decoder.value) else { return };
        if *bits == 64 {
            return;
        }
        let most = (1_i64 << (bits - u8::from(*signed))) - 1;
        let least = if *signed { -most - 1 } else { 0 };
        if let Some(never) = rows.keys().find(|number| !(least..=most).contains(*number)) {
            let message = format!("the value is never {never}, which the table has");
            self.error(decoder.span.clone(), message, format!("it lies between {least} and {most}"));
        }
    }

    /// A table of the names of functions by their numbers.
    fn function_names(&self) -> Decoder {
        let names = self.functions.iter().map(|(_, site)| site.name.clone());
        Decoder::Table { rows: (0..).zip(names).collect(), named: Vec::new(), default: None }
    }

    pub(super) fn metrics(&mut self, ends: &[&TypedEvent]) -> Vec<TypedMetric> {
        let mut metrics = Vec::new();
        for (index, metric) in self.probe.metrics.iter().enumerate() {
            let values = ends.iter().filter_map(|event| event.metrics[index].as_ref());
            let values: Vec<&Typed> = values.map(|value| &value.value).collect();
            let is_time = values.iter().any(|value| value.is_time);
            let has_own = self.probe.ends.iter().any(|event| event.own_value(&metric.name.value).is_some());
            if has_own && metric.unit.is_none() && is_time && values.iter().any(|value| !value.is_time) {
                let message =
                    format!("`{}` is a time at one event and a number at another", metric.name.value);
                self.error(metric.name.span.clone(), message, "say what one of it is: unit: ns, or none");
            }
            let signed = values
                .iter()
                .any(|value| value.ty.is_signed() && !matches!(value.kind, TypedKind::Constant(1)));
            let unit = metric
                .unit
                .as_ref()
                .map_or(if is_time { Unit::Nanoseconds } else { Unit::One }, |unit| unit.value);
            // Without a value, because what feeds it is optional and not there, nothing can be said.
            if !values.is_empty() {
                self.check_unit(metric, unit, has_own);
            }
            let kind = match metric.kind.typed(self.file(), unit) {
                Ok(kind) => kind,
                Err(diagnostics) => {
                    self.diagnostics.extend(diagnostics);
                    continue;
                }
            };
            metrics.push(TypedMetric {
                name: format!("tapster_{}", metric.name.value),
                help: metric.help.clone(),
                kind,
                unit,
                signed,
            });
        }
        metrics
    }

    /// Refuses a metric whose name promises seconds and whose value is no time, and likewise for bytes.
    pub(super) fn check_unit(&mut self, metric: &Metric, unit: Unit, has_own_value: bool) {
        let name = metric.name.value.trim_end_matches("_total");
        let mut wrong = |message: &str, hint: &str| {
            self.error(metric.name.span.clone(), format!("`{}` promises {message}", metric.name.value), hint);
        };
        // What `unit` says was compared with the name when it was read.
        if metric.unit.is_some() {
        } else if name.ends_with("_seconds") && metric.value.is_none() && !has_own_value {
            wrong("seconds, but counts events", "add `value: duration`, or call it by what it counts");
        } else if name.ends_with("_seconds") && !unit.is_time() {
            wrong(
                "seconds, but its value has no unit",
                "say what one of the value is: unit: ns, us, ms or s",
            );
        } else if name.ends_with("_bytes") && unit.is_time() {
            wrong(
                "bytes, but its value is a time",
                "times are exposed in seconds: end the name in `_seconds`",
            );
        }
    }
}
