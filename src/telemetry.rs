//! Set-up of the log: tracing events to standard error, filtered by `--log.level`. It is done once, by `main`.
//!
//! A log that cannot be written must not end or block the process: the reader of a pipe may be gone or asleep, a disk full.
//! Lines that cannot be written are lost, and counted.

use crate::{
    family::{FamilyKind, MetricFamily},
    sys,
};
use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

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
        /// The level as given.
        level: String,
        /// The parser's error.
        #[source]
        source: ParseError,
    },
    /// There is one log per process.
    #[error("the log is already set up")]
    Twice(#[source] TryInitError),
}

/// How long a line waits for the reader of the log; later lines do not wait for a reader that does not read.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes that a pipe accepts at once if it accepts any.
const PIECE: usize = 4096;

/// The log of this process, on standard error.
#[derive(Debug)]
pub struct Log {
    began: SystemTime,
    lost: AtomicU64,
    /// Whether the last line could not be written.
    is_stuck: AtomicBool,
    /// Whether the last line was written in part.
    is_torn: AtomicBool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            began: SystemTime::now(),
            lost: AtomicU64::new(0),
            is_stuck: AtomicBool::new(false),
            is_torn: AtomicBool::new(false),
        }
    }
}

impl Log {
    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The families about the log.
    pub fn families(&self) -> Vec<MetricFamily> {
        let help = "Lines of the log that could not be written: nobody reads it, or the disk is full.";
        #[expect(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
        let lost = self.lost() as f64;
        vec![
            MetricFamily::single("tapster_log_lines_lost_total", help, FamilyKind::Counter, lost)
                .since(self.began),
        ]
    }

    /// Writes a line, as much of it as possible.
    fn line(&self, to: &mut (impl Write + AsFd), line: &[u8]) -> io::Result<()> {
        let is_torn = self.is_torn.load(Ordering::Relaxed);
        let pieces = is_torn.then_some(&b"\n"[..]).into_iter().chain(line.chunks(PIECE));
        let mut patience = if self.is_stuck.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
        for (number, piece) in pieces.enumerate() {
            if !sys::is_writable(to.as_fd(), patience)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            to.write_all(piece)?;
            self.is_torn.store(number > 0 || !is_torn, Ordering::Relaxed);
            patience = PATIENCE;
        }
        self.is_torn.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, to: &mut (impl Write + AsFd), line: &[u8]) {
        let is_lost = self.line(to, line).is_err();
        self.is_stuck.store(is_lost, Ordering::Relaxed);
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
    }
}

/// Writes each line as a whole, and never fails.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // One line at a time.
        Log::write(self, &mut io::stderr().lock(), line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log. `level` is a level or a list of directives as in `RUST_LOG`.
pub fn init(level: &str, format: LogFormat) -> Result<Arc<Log>, TelemetryError> {
    let filter = filter(level)?;
    let log = Arc::<Log>::default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.clone())
        // There would be no place to report that standard error cannot be written.
        .log_internal_errors(false)
        // The convention of https://no-color.org: set and not empty.
        .with_ansi(
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        );
    match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(TelemetryError::Twice)?;
    Ok(log)
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let directives = match level.trim().to_ascii_lowercase().as_str() {
        // A user who wants more of tapster's log does not want every event of its HTTP and ELF libraries.
        level @ ("debug" | "trace") => format!("info,tapster={level},tapster_ebpf={level}"),
        level @ ("info" | "warn" | "error" | "off") => level.to_owned(),
        // The parser takes a bare word for the name of a module, so that a typing error would mean silence.
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

    /// Writes to a file without a buffer, as standard error is.
    fn full() -> std::fs::File {
        std::fs::File::options().write(true).open("/dev/full").unwrap()
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let log = Log::default();
        log.write(&mut full(), b"lost\n");
        let (reader, mut writer) = io::pipe().unwrap();
        log.write(&mut writer, b"read\n");
        assert_eq!(log.lost(), 1);
        drop(reader);
        log.write(&mut writer, b"lost\n");
        assert_eq!(log.lost(), 2);
        assert_eq!(log.families()[0].samples[0].value, crate::family::SampleValue::Number(2.0));
    }

    #[test]
    fn a_reader_that_sleeps_holds_nobody_up_and_finds_whole_lines_when_it_wakes() {
        let log = Log::default();
        let (mut reader, mut writer) = io::pipe().unwrap();
        let line = [vec![b'x'; 9_999], vec![b'\n']].concat();
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            log.write(&mut writer, &line);
        }
        // Two megabytes into a pipe of 64 KiB. Only the first line that did not fit was waited for.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let lost = log.lost();
        assert!((190..200).contains(&lost), "{lost}");
        let read = std::thread::spawn(move || {
            let mut text = Vec::new();
            io::Read::read_to_end(&mut reader, &mut text).map(|_| text)
        });
        while log.is_stuck.load(Ordering::Relaxed) {
            log.write(&mut writer, b"again\n");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(writer);
        let text = read.join().unwrap().unwrap();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let whole = lines.iter().filter(|text| text.len() == 9_999).count();
        assert_eq!(whole as u64, 200 - lost);
        assert!(
            lines.ends_with(&[b"again", b""]),
            "{:?}",
            lines.iter().map(|line| line.len()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_second_log_is_an_error() {
        init("error", LogFormat::Json).unwrap();
        assert_eq!(init("info", LogFormat::Text).unwrap_err().to_string(), "the log is already set up");
    }
}
