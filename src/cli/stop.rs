//! Commands that end early.

use super::{FAILURE, USAGE, report, tell};
use crate::{
    config::{self, Config, ProbeSelection},
    kernel::Kernel,
};
use tapster_ebpf::probe::Probe;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The error is reported already; the exit status.
    Said(u8),
    /// The error is still to be reported.
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

    /// The result of a command as its exit status.
    pub(super) fn status(result: Result<u8, Self>) -> anyhow::Result<u8> {
        match result {
            Ok(status) | Err(Self::Said(status)) => Ok(status),
            Err(Self::Failed(error)) => Err(error),
        }
    }
}

/// Reads the requested probes; fails if there is an error in them.
pub(super) fn configured(selection: &ProbeSelection) -> Result<Config, Stop> {
    let config = config::load(selection).map_err(Stop::usage)?;
    if report(&config.diagnostics) {
        return Err(Stop::Said(USAGE));
    }
    Ok(config)
}

/// The kernel, if it can run probes.
pub(super) fn capable(kernel: Kernel) -> Result<Kernel, Stop> {
    if super::lacks(&kernel) { Err(Stop::Said(FAILURE)) } else { Ok(kernel) }
}

/// The probes that are for this kernel.
pub(super) fn selected(probes: Vec<Probe>, kernel: &Kernel) -> Result<Vec<Probe>, Stop> {
    let (probes, diagnostics) = tapster_ebpf::check::select(probes, &kernel.target());
    if report(&diagnostics) { Err(Stop::Said(USAGE)) } else { Ok(probes) }
}
