//! Cases of one test: each runs whatever became of those before it, or skips and says why.

use super::command::root;
use std::{
    fmt::Display,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Why a case cannot run on this host.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

/// A case's figures in one line, or why it was skipped. A failure is a panic.
pub(crate) type Outcome = Result<String, Skip>;

/// Counts what ran.
#[derive(Debug)]
pub(crate) struct Cases {
    suite: &'static str,
    ran: usize,
    skipped: usize,
    failed: Vec<String>,
}

/// Prints a line past the test harness, which keeps what passing tests print to itself.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Cases {
    pub(crate) fn new(suite: &'static str) -> Self {
        Self { suite, ran: 0, skipped: 0, failed: Vec::new() }
    }

    /// Those that attach programs. Where this process may not, it says so, and there are none.
    pub(crate) fn as_root(suite: &'static str) -> Option<Self> {
        match root() {
            Ok(()) => Some(Self::new(suite)),
            Err(Skip(reason)) => {
                say(format_args!("{suite}: skipped: {reason}"));
                None
            }
        }
    }

    pub(crate) fn run(&mut self, name: &str, case: impl FnOnce() -> Outcome) {
        match catch_unwind(AssertUnwindSafe(case)) {
            Ok(Ok(figures)) => {
                self.ran += 1;
                say(format_args!("{}: {name}: {figures}", self.suite));
            }
            Ok(Err(Skip(reason))) => {
                self.skipped += 1;
                say(format_args!("{}: {name}: skipped: {reason}", self.suite));
            }
            Err(_) => {
                self.ran += 1;
                self.failed.push(name.to_owned());
                say(format_args!("{}: {name}: FAILED", self.suite));
            }
        }
    }

    /// The last line.
    pub(crate) fn finish(self) {
        let Self { suite, ran, skipped, failed } = self;
        say(format_args!("{suite}: {ran} cases ran, {skipped} skipped, {} failed", failed.len()));
        assert!(failed.is_empty(), "failed: {failed:?}");
    }
}
