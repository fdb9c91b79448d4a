//! Files whose functions are not named: the reason, their number, and one log line each.

use crate::{
    elf,
    family::{FamilyKind, MetricFamily},
    sys::ForeignError,
};
use std::path::Path;

/// Most files of one reason that are logged; others are only counted.
const TOLD: u64 = 8;

/// Why the symbols of a file are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnreadReason {
    /// There is nothing left from which it could be read.
    Gone,
    /// Its process has ended, and the file that has its name was not installed by root for everybody.
    Private,
    /// Its name belongs to a pipe, a device or the like.
    NotAFile,
    /// Reading it would exceed its budget.
    TooLarge,
    /// It is no program, or damaged.
    Damaged,
    /// The kernel refuses access.
    Refused,
    /// It does not answer.
    Slow,
}

impl UnreadReason {
    const ALL: [Self; 7] =
        [Self::Gone, Self::Private, Self::NotAFile, Self::TooLarge, Self::Damaged, Self::Refused, Self::Slow];

    fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Private => "private",
            Self::NotAFile => "not_a_file",
            Self::TooLarge => "too_large",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Slow => "slow",
        }
    }
}

impl From<&ForeignError> for UnreadReason {
    fn from(error: &ForeignError) -> Self {
        match error {
            ForeignError::NotAFile(_) => Self::NotAFile,
            ForeignError::Private => Self::Private,
            ForeignError::Io(_) if error.is_absent() => Self::Gone,
            ForeignError::Served | ForeignError::Io(_) => Self::Refused,
        }
    }
}

impl From<&elf::Unread> for UnreadReason {
    fn from(error: &elf::Unread) -> Self {
        match error {
            elf::Unread::Damaged(_) => Self::Damaged,
            elf::Unread::TooLarge(_) => Self::TooLarge,
            elf::Unread::Io(_) => Self::Refused,
        }
    }
}

/// The number of files by reason.
#[derive(Debug, Default)]
pub(super) struct UnreadCounts {
    counts: [u64; UnreadReason::ALL.len()],
}

impl UnreadCounts {
    pub(super) fn count(&mut self, reason: UnreadReason, path: &Path) {
        let Some(place) = UnreadReason::ALL.iter().position(|other| *other == reason) else { return };
        self.counts[place] += 1;
        let (path, reason, count) = (path.display(), reason.label(), self.counts[place]);
        // Programs that end are normal.
        if matches!(reason, "gone" | "private") || count > TOLD {
            tracing::debug!(%path, reason, "functions of a file are not named");
        } else {
            let more = if count == TOLD { "; further ones of this reason are only counted" } else { "" };
            tracing::warn!(%path, reason, "functions of a file are not named{more}");
        }
    }

    pub(super) fn family(&self) -> MetricFamily {
        let mut family = MetricFamily::new(
            "tapster_symbols_unread_total",
            "Files in stacks of programs whose functions are not named, by reason.",
            FamilyKind::Counter,
            &["reason"],
        );
        for (reason, count) in UnreadReason::ALL.iter().zip(self.counts) {
            #[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
            family.push(&[reason.label()], count as f64);
        }
        family
    }
}
