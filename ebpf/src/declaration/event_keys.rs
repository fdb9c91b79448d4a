//! Keys of events that are one of several: of `events`, of `between`, and those that all events have.

use super::keys::{ADD, ATTACH, CLEAR, EACH, ONE_OR_MORE_EXPRESSIONS, SET};
use crate::key::{Fallback, Form, Key};

/// Keys of `at`, where there are several attach points.
pub(super) const POINTS: &[Key] = &[
    Key::new(
        "one_of",
        Form::List(&Form::Text),
        "[Alternatives](#alternatives): the first that the kernel has and takes is used.",
    ),
    Key::new(
        "all_of",
        Form::List(&Form::Text),
        "All of these: each is an event of its own, and the keys beside `at` are those of each.",
    ),
];

/// `at` of an event.
pub(super) const AT: Key = Key::required(
    "at",
    ATTACH,
    "[Attach point](#attach-points). For several write [`one_of` or `all_of`](#one-of-them-or-all-of-them).",
);
/// `kernel` of an event.
pub(super) const ON_KERNELS: Key = Key::new(
    "kernel",
    Form::Text,
    "Kernels that this event is for; on others it is as if it were not there.",
)
.or(Fallback::Told("all"));
/// `optional` of an event.
pub(super) const OPTIONAL: Key = Key::new(
    "optional",
    Form::Boolean,
    "Whether the others run without it where the kernel or the program [does not have it](#optional-events).",
)
.or(Fallback::Boolean(false));

/// Keys of an item of `events`.
pub(super) const SINGLE: &[Key] = &[
    AT,
    ON_KERNELS,
    OPTIONAL,
    Key::new(
        "let",
        Form::Named(&Form::Expression),
        "[Named expressions](#let) of this event, before those of the probe, which may use them.",
    ),
    Key::new("where", Form::Expression, "[Which of these events count](#where).").or(Fallback::Told("all")),
    Key::new("each", Form::Mapping(EACH), "Runs the action once for each element of [a list](#each)."),
    Key::new("labels", Form::Named(&Form::Expression), "What labels are at this event: name → expression.")
        .or(Fallback::Told("the probe's")),
    Key::new(
        "values",
        Form::Named(&Form::Expression),
        "What this event adds to metrics: name → expression. It feeds those that are named, and no others.",
    )
    .or(Fallback::Told("every metric with its own `value`")),
    SET,
    ADD,
    CLEAR,
];

/// Keys of an event of `between`.
pub(super) const BETWEEN: &[Key] = &[
    AT,
    ON_KERNELS,
    OPTIONAL,
    Key::new(
        "key",
        ONE_OR_MORE_EXPRESSIONS,
        "What the events have in common between which the time is measured: an expression, or a list of up to 8.",
    )
    .or(Fallback::Told("required")),
    Key::new(
        "where",
        Form::Expression,
        "[Which events count](#where). Without `duration` and `start.NAME` in it: others are as if they were not there.",
    )
    .or(Fallback::Told("all")),
    Key::new(
        "save",
        Form::Named(&Form::Expression),
        "[Values kept](#save) for the next event, which reads them as `start.NAME`.",
    ),
];
