//! Cases of a test: each runs regardless of earlier failures, or skips with a reason.

use super::command::root;
use std::{
    fmt::Display,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Why a case cannot run on this host.
#[derive(Debug)]
pub struct Skip(pub String);

/// A case's figures in one line, or why it was skipped. A failure panics.
pub type Outcome = Result<String, Skip>;

/// Counts the cases that ran.
#[derive(Debug)]
pub struct Cases {
    suite: &'static str,
    ran: usize,
    skipped: usize,
    failed: Vec<String>,
}

/// Prints a line past the test harness, which hides the output of passing tests.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The result of one attempt at a case.
#[derive(Debug)]
pub enum Attempt<T> {
    Done(T),
    /// Some events were not counted.
    Short {
        /// What was missing.
        why: String,
        /// Number of events that a control at the same place did not see either.
        lost: u64,
    },
}

/// Tries a case again if events are missing that the kernel hid from the control as well (see [`super::control`]), and prints
/// that in a form that `./test` repeats at its end. If the control lost nothing, the case fails at once.
pub fn unless_hidden<T>(
    name: &str,
    attempts: usize,
    attempt: impl FnMut() -> Result<Attempt<T>, Skip>,
) -> Result<T, Skip> {
    tried(name, attempts, attempt, |line| say(format_args!("retried: {line}")))
}

fn tried<T>(
    name: &str,
    attempts: usize,
    mut attempt: impl FnMut() -> Result<Attempt<T>, Skip>,
    tell: impl Fn(String),
) -> Result<T, Skip> {
    for _ in 0..attempts {
        match attempt()? {
            Attempt::Done(done) => return Ok(done),
            Attempt::Short { why, lost: 0 } => panic!("{name}: {why}, and the control lost nothing"),
            Attempt::Short { why, lost } => {
                tell(format!("{name}: {why}, the control lost {lost}"));
            }
        }
    }
    panic!("{name}: short each time of {attempts}");
}

impl Cases {
    pub fn new(suite: &'static str) -> Self {
        Self { suite, ran: 0, skipped: 0, failed: Vec::new() }
    }

    /// Cases that attach programs. If this process may not do that, it prints so, and there are no cases.
    pub fn as_root(suite: &'static str) -> Option<Self> {
        match root() {
            Ok(()) => Some(Self::new(suite)),
            Err(Skip(reason)) => {
                say(format_args!("{suite}: skipped: {reason}"));
                None
            }
        }
    }

    pub fn run(&mut self, name: &str, case: impl FnOnce() -> Outcome) {
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

    /// How many cases there were so far, including skipped and failed ones.
    pub fn count(&self) -> usize {
        self.ran + self.skipped
    }

    /// Prints the last line.
    pub fn finish(self) {
        let Self { suite, ran, skipped, failed } = self;
        say(format_args!("{suite}: {ran} cases ran, {skipped} skipped, {} failed", failed.len()));
        assert!(failed.is_empty(), "failed: {failed:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(lost: u64) -> Attempt<()> {
        Attempt::Short { why: "9 of 10".into(), lost }
    }

    #[test]
    fn only_what_a_control_lost_is_tried_again() {
        let mut attempts = vec![Attempt::Done(()), short(1), short(2)];
        assert!(tried("a", 4, || Ok(attempts.pop().unwrap()), drop).is_ok());
        for mut attempts in [vec![Attempt::Done(()), short(0)], vec![Attempt::Done(()), short(1), short(1)]] {
            let short = || tried("a", 2, || Ok(attempts.pop().unwrap()), drop);
            assert!(catch_unwind(AssertUnwindSafe(short)).is_err());
        }
    }
}
