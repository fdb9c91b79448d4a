//! Where a command ends before it has done what it was asked for.

use super::{FAILURE, USAGE, report, tell};
use crate::{
    config::{self, Config, Request},
    kernel::Kernel,
};
use tapster_ebpf::probe::Probe;

/// Why a command does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// It was said already; the exit status for it.
    Said(u8),
    /// It is still to be said.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Stop {
    /// Wrong usage or configuration, in a sentence.
    #[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
    pub(super) fn usage(error: impl std::fmt::Display) -> Self {
        tell(format_args!("error: {error}"));
        Self::Said(USAGE)
    }

    /// The command's end.
    pub(super) fn status(result: Result<u8, Self>) -> anyhow::Result<u8> {
        match result {
            Ok(status) | Err(Self::Said(status)) => Ok(status),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}

/// Reads the probes that are asked for, without mistakes.
pub(super) fn configured(request: &Request) -> Result<Config, Stop> {
    let config = config::load(request).map_err(Stop::usage)?;
    if report(&config.diagnostics) {
        return Err(Stop::Said(USAGE));
    }
    Ok(config)
}

/// The kernel, if it can run probes.
pub(super) fn capable(kernel: Kernel) -> Result<Kernel, Stop> {
    if super::lacks(&kernel) { Err(Stop::Said(FAILURE)) } else { Ok(kernel) }
}

/// Those of the probes that are for this kernel.
pub(super) fn selected(probes: Vec<Probe>, kernel: &Kernel) -> Result<Vec<Probe>, Stop> {
    let (probes, diagnostics) = tapster_ebpf::check::select(probes, &kernel.target());
    if report(&diagnostics) { Err(Stop::Said(USAGE)) } else { Ok(probes) }
}
