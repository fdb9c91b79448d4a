//! What an event is to its probe.

/// The role of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A start: keeps the time.
    Start,
    /// An end: takes the start and counts.
    End,
    /// A single event: counts.
    Single,
    /// An end of what the event before it began, which it counts, and a start for the event after it.
    Between,
    /// An event that only changes the state.
    Note,
}

impl Role {
    /// Whether the event keeps a start.
    pub fn keeps_start(self) -> bool {
        matches!(self, Self::Start | Self::Between)
    }

    /// Whether the event takes a start, so that it knows the duration and what was saved.
    pub fn takes_start(self) -> bool {
        matches!(self, Self::End | Self::Between)
    }
}
