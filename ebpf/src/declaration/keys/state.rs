//! Keys of the state, and of what events do to it.

use super::{CHANGES, TEXTS};
use crate::declaration::event_keys::{AT, ON_KERNELS, OPTIONAL};
use crate::key::{Fallback, Form, Key};

/// The keys of every event that change the state.
pub(in crate::declaration) const SET: Key = Key::new(
    "set",
    CHANGES,
    "What becomes of the [state](#state) after the event: `NAME`, or `NAME[KEY]` → expression.",
);
pub(in crate::declaration) const ADD: Key =
    Key::new("add", CHANGES, "What is added to it, in the same form.");
pub(in crate::declaration) const CLEAR: Key = Key::new(
    "clear",
    TEXTS,
    "Which of it becomes what it was before it was set: `NAME` or `NAME[KEY]`, one or a list.",
);

/// Keys of an event that only changes the state.
pub(in crate::declaration) const NOTE: &[Key] = &[
    AT,
    ON_KERNELS,
    OPTIONAL,
    Key::new("where", Form::Expression, "[Which events](#where) change it.").or(Fallback::Told("all")),
    SET,
    ADD,
    CLEAR,
];

/// Keys of an entry of `state`.
pub(in crate::declaration) const STATE: &[Key] = &[
    Key::required(
        "per",
        Form::Word(&["cpu", "task", "key"]),
        "Whose value it is: each processor's, each task's, or that of a key, `NAME[KEY]`, which each event gives.",
    ),
    Key::new(
        "default",
        Form::Expression,
        "A number or a text that is read where nothing was set.",
    )
    .or(Fallback::Told("0, an empty text")),
    Key::new(
        "max",
        Form::Integer(1, 1_000_000),
        "With `per: key`: most keys at a time; beyond them what is set is counted as dropped.",
    )
    .or(Fallback::Integer(1024)),
    Key::new(
        "timeout",
        Form::Duration,
        "With `per: key`: a key that was not set for so long is given up, and counted. Needed where no event clears it.",
    )
    .or(Fallback::Told("never")),
];
