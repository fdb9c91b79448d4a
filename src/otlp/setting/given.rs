//! A given text, its source, and the error for a wrong one.

use crate::duration;
use std::{fmt, sync::Arc, time::Duration};
use tapster_ebpf::diagnostic::{Diagnostic, SourceFile, Span, nearest};

/// Keys whose texts may hold secrets.
const SECRET: [&str; 3] = ["headers", "endpoint", "metrics_endpoint"];

/// Where a text was given.
#[derive(Clone, Debug)]
pub(super) enum SettingSource {
    Flag(&'static str),
    Variable(&'static str),
    File(Arc<SourceFile>, Span, &'static str),
}

/// A setting that cannot be used: where it was given, and the reason.
#[derive(Debug)]
pub struct SettingError(SettingProblem);

#[derive(Debug)]
enum SettingProblem {
    Named { place: String, message: String, hint: Option<String> },
    File(Box<Diagnostic>),
}

impl SettingError {
    pub(super) fn new(source: &SettingSource, message: String, hint: Option<String>) -> Self {
        Self(match source {
            SettingSource::Flag(place) | SettingSource::Variable(place) => {
                SettingProblem::Named { place: format!("`{place}`"), message, hint }
            }
            // The line is not drawn: it may contain a password.
            SettingSource::File(file, span, key) if SECRET.contains(key) => {
                let (line, column) = file.position(span.start);
                let place = format!("`{key}` ({}:{line}:{column})", file.name);
                SettingProblem::Named { place, message, hint }
            }
            SettingSource::File(file, span, key) => {
                let diagnostic = Diagnostic::error(file, span.clone(), format!("`{key}`: {message}"));
                SettingProblem::File(Box::new(match hint {
                    Some(hint) => diagnostic.hint(hint),
                    None => diagnostic,
                }))
            }
        })
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SettingProblem::Named { place, message, hint } => {
                write!(f, "error: {place}: {message}")?;
                hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
            }
            SettingProblem::File(diagnostic) => write!(f, "{diagnostic}"),
        }
    }
}

impl std::error::Error for SettingError {}

/// A given text and its source.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: SettingSource,
}

impl Given {
    pub(super) fn wrong(&self, message: impl Into<String>) -> SettingError {
        SettingError::new(&self.source, message.into(), None)
    }

    pub(super) fn wrong_hint(&self, message: impl Into<String>, hint: impl Into<String>) -> SettingError {
        SettingError::new(&self.source, message.into(), Some(hint.into()))
    }

    /// Reads one of these words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, SettingError> {
        let text = self.text.trim();
        if let Some((_, value)) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let names: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let lower = text.to_ascii_lowercase();
        let hint = match nearest(&lower, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it is one of {}", names.join(", ")),
        };
        Err(self.wrong_hint(format!("`{text}` is not known here"), hint))
    }

    /// Reads a time limit, of which 0 is none.
    pub(super) fn limit(&self) -> Result<Duration, SettingError> {
        if self.text.trim() == "0" { Ok(LONGEST) } else { self.time() }
    }

    /// Reads a time: in milliseconds in a variable, elsewhere with its unit.
    pub(super) fn time(&self) -> Result<Duration, SettingError> {
        let text = self.text.trim();
        let (time, expected) = match self.source {
            SettingSource::Variable(_) => {
                (text.parse().ok().map(Duration::from_millis), "a whole number of milliseconds: `10000`")
            }
            SettingSource::Flag(_) | SettingSource::File(..) => {
                (duration::parse(text).ok(), "a number and a unit: `10s`, `500ms`, `1m`")
            }
        };
        match time {
            Some(time) if time < SHORTEST => Err(self.wrong("it must be a millisecond or more")),
            Some(time) if time <= LONGEST => Ok(time),
            Some(_) => Err(self.wrong("it is longer than a day")),
            None => Err(self.wrong(format!("`{text}` is no time: expected {expected}"))),
        }
    }
}

/// Shortest and longest interval and time limit.
const SHORTEST: Duration = Duration::from_millis(1);
pub(super) const LONGEST: Duration = Duration::from_hours(24);
