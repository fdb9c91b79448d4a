//! Set-up of the log: tracing events to standard error, filtered by `--log.level`. It is done once, by `main`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of text for people, coloured on a terminal.
    #[default]
    Text,
    /// An object on each line for log collectors.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is neither a level nor a list of filter directives.
    #[error(
        "`{level}` is not a log level: expected `debug`, `info`, `warn`, `error` or directives such as `info,tapster=debug`"
    )]
    Level {
        /// As given.
        level: String,
        /// What the parser said.
        #[source]
        source: ParseError,
    },
    /// There is one log per process.
    #[error("the log is already set up")]
    Twice(#[source] TryInitError),
}

/// Starts the log. `level` is a level or a list of directives as `RUST_LOG` has them.
pub fn init(level: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // The convention of https://no-color.org: set and not empty.
        .with_ansi(
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        );
    match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(TelemetryError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let directives = match level.trim().to_ascii_lowercase().as_str() {
        // Someone who asks for more of tapster does not ask for every event of its HTTP and ELF libraries.
        level @ ("debug" | "trace") => format!("info,tapster={level},tapster_ebpf={level}"),
        level @ ("info" | "warn" | "error" | "off") => level.to_owned(),
        // The parser takes a bare word for the name of a module, which would make a typing error silence.
        word if !word.contains(['=', ',', '[']) => format!("={word}"),
        _ => level.to_owned(),
    };
    EnvFilter::builder()
        .parse(&directives)
        .map_err(|source| TelemetryError::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_become_filters() {
        for (level, expected) in [
            ("info", "info"),
            ("WARN", "warn"),
            ("off", "off"),
            ("debug", "tapster_ebpf=debug,tapster=debug,info"),
            ("warn,tapster::server=trace", "tapster::server=trace,warn"),
        ] {
            assert_eq!(filter(level).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_wrong_level_is_named() {
        for level in ["loud", "", "tapster=loud"] {
            let message = filter(level).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("`{level}` is not a log level: expected `debug`")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_second_log_is_an_error() {
        init("error", LogFormat::Json).unwrap();
        assert_eq!(init("info", LogFormat::Text).unwrap_err().to_string(), "the log is already set up");
    }
}
