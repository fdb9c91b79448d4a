//! Files whose functions are not named: why, how many, and said once.

use crate::{
    elf,
    family::{Kind, MetricFamily},
    sys::ForeignError,
};
use std::path::Path;

/// Most files of one reason that the log speaks of; others are only counted.
const TOLD: u64 = 8;

/// Why the symbols of a file are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is nothing any more that it could be read from.
    Gone,
    /// Its process has ended, and what has its name is not what root has put there for everybody.
    Private,
    /// A pipe, a device or the like has its name.
    NotAFile,
    /// It would cost more than it may.
    TooLarge,
    /// It is no program, or not whole.
    Damaged,
    /// The kernel refuses.
    Refused,
    /// It does not answer.
    Slow,
}

impl Reason {
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

impl From<&ForeignError> for Reason {
    fn from(error: &ForeignError) -> Self {
        match error {
            ForeignError::NotAFile(_) => Self::NotAFile,
            ForeignError::Private => Self::Private,
            ForeignError::Io(_) if error.is_absent() => Self::Gone,
            ForeignError::Served | ForeignError::Io(_) => Self::Refused,
        }
    }
}

impl From<&elf::Unread> for Reason {
    fn from(error: &elf::Unread) -> Self {
        match error {
            elf::Unread::Damaged(_) => Self::Damaged,
            elf::Unread::TooLarge(_) => Self::TooLarge,
            elf::Unread::Io(_) => Self::Refused,
        }
    }
}

/// How many there were.
#[derive(Debug, Default)]
pub(super) struct Unread {
    counts: [u64; Reason::ALL.len()],
}

impl Unread {
    pub(super) fn count(&mut self, reason: Reason, path: &Path) {
        let Some(place) = Reason::ALL.iter().position(|other| *other == reason) else { return };
        self.counts[place] += 1;
        let (path, reason, count) = (path.display(), reason.label(), self.counts[place]);
        // Programs that end are no news.
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
            Kind::Counter,
            &["reason"],
        );
        for (reason, count) in Reason::ALL.iter().zip(self.counts) {
            #[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
            family.push(&[reason.label()], count as f64);
        }
        family
    }
}
