//! Why a probe could not be loaded or attached, in sentences.

use super::refusal::{self, RefusedObject, because};
use crate::{
    kernel::address,
    status::{Cause, Down},
    sys::LoadRefused,
};
use std::{error::Error, io};
use tapster_ebpf::{attach::PerfEvent, program::Code};

/// Most lines of the verifier's log that are shown: the refusal is at its end.
const LOG_LINES: usize = 24;

/// Why a probe could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused a map.
    #[error("the kernel refused the maps of probe `{probe}`: {message}")]
    Map {
        /// The probe.
        probe: String,
        /// The map and its error.
        message: String,
    },
    /// The verifier refused a program.
    #[error("the kernel refused the program for `{at}`: {error}\n{log}")]
    Verifier {
        /// The attach point.
        at: String,
        /// The syscall's error.
        error: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// A program could not be attached, or not loaded for a reason other than the verifier.
    #[error("the program for `{at}` could not be {action}: {message}")]
    Program {
        /// The attach point.
        at: String,
        /// `loaded` or `attached`.
        action: &'static str,
        /// The system call and its error.
        message: String,
    },
    /// The module of a function is no longer loaded.
    #[error("`{at}` is in `{modules}`, which is not loaded any more")]
    Unloaded {
        /// The attach point.
        at: String,
        /// The module; several as part of a sentence.
        modules: String,
    },
    /// Newly compiled programs would give the probe's maps another meaning.
    #[error("the file has changed so that the values of probe `{0}` are of other types: restart tapster")]
    Other(String),
    /// The probe lacks a requested map, which is a bug of tapster.
    #[error("probe `{probe}` has no map `{map}`: this is a bug in tapster")]
    NoMap {
        /// The probe.
        probe: String,
        /// The map, by its name or number.
        map: String,
    },
}

impl LoadError {
    /// The error of a program that was not loaded: from the verifier if it wrote a log, else from the system call.
    fn not_loaded(code: &Code, error: io::Error, log: &str) -> Self {
        let (at, log) = (code.at.to_string(), useful_lines(log));
        if refusal::is_verifiers(&error, &log) {
            return Self::Verifier { at, error, log };
        }
        let asked = if sees_packets(code) { RefusedObject::Packets } else { RefusedObject::Program };
        let message = refused(&error, asked);
        Self::Program { at, action: "loaded", message }
    }

    /// The error of an attach point at which a program could not be attached.
    pub(super) fn not_attached(code: &Code, error: &(dyn Error + 'static)) -> Self {
        let asked = if sees_packets(code) { RefusedObject::Packets } else { RefusedObject::Event };
        let mut message = refused(error, asked);
        if PerfEvent::of(&code.at).is_some_and(|event| event.family.is_of_processor) {
            message.push_str("; not every processor counts this, and few virtual machines do");
        }
        Self::attaching(code, message)
    }

    /// Like [`Self::not_attached`], with a message.
    pub(super) fn attaching(code: &Code, message: String) -> Self {
        Self::Program { at: code.at.to_string(), action: "attached", message }
    }

    /// The attach point that the kernel refused.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Verifier { at, .. } | Self::Program { at, .. } => Some(at),
            Self::Map { .. } | Self::Other(_) | Self::NoMap { .. } | Self::Unloaded { .. } => None,
        }
    }

    /// The state for the landing page and `tapster_probe_up`.
    pub fn down(&self) -> Down {
        if let Self::Unloaded { .. } = self {
            let message = format!("{self}; it is attached to when it is loaded again");
            return Down { cause: Cause::Waiting, message };
        }
        let cause = match self {
            Self::NoMap { .. } => Cause::Internal,
            Self::Map { .. } => Cause::Map,
            Self::Verifier { .. } => Cause::Verifier,
            Self::Program { action, .. } if *action == "attached" => Cause::Attach,
            Self::Other(_) | Self::Unloaded { .. } => Cause::Attach,
            Self::Program { .. } => Cause::Load,
        };
        Down { cause, message: self.to_string() }
    }
}

fn sees_packets(code: &Code) -> bool {
    code.mechanism.link.packets().is_some()
}

/// Makes the error of a code whose program was not loaded.
pub(super) fn not_loaded(code: &Code) -> impl Fn(LoadRefused) -> LoadError {
    |LoadRefused { error, log }| LoadError::not_loaded(code, error, &log)
}

/// The end of the verifier's log without its statistics and without addresses.
fn useful_lines(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| {
            !line.trim().is_empty()
                && !line.starts_with("processed ")
                && !line.starts_with("verification time")
        })
        .collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    // Everybody who may open the landing page sees it, and it contains addresses of maps.
    lines[from..].iter().map(|line| format!("    {}", address::hidden(line))).collect::<Vec<_>>().join("\n")
}

/// An error with its causes, and what it means on this host.
pub(super) fn refused(error: &(dyn Error + 'static), asked: RefusedObject) -> String {
    chain(error) + &because(error, asked)
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
