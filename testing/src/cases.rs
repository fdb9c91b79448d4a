//! Cases of one test: each runs whatever became of those before it, or skips and says why.

use super::command::root;
use std::{
    fmt::Display,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Why a case cannot run on this host.
#[derive(Debug)]
pub struct Skip(pub String);

/// A case's figures in one line, or why it was skipped. A failure is a panic.
pub type Outcome = Result<String, Skip>;

/// Counts what ran.
#[derive(Debug)]
pub struct Cases {
    suite: &'static str,
    ran: usize,
    skipped: usize,
    failed: Vec<String>,
}

/// Prints a line past the test harness, which keeps what passing tests print to itself.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What became of one attempt at a case.
#[derive(Debug)]
pub enum Attempt<T> {
    Done(T),
    /// Something was not counted.
    Short {
        /// What.
        why: String,
        /// Events that a control at the same place did not see either.
        lost: u64,
    },
}

/// Tries a case again that was short where the kernel hid events from the control as well (see [`super::control`]), and
/// says so in a form that `./test` repeats at its end. Short where the control lost nothing is a failure at once.
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

    /// Those that attach programs. Where this process may not, it says so, and there are none.
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

    /// How many there were so far, whatever became of them.
    pub fn count(&self) -> usize {
        self.ran + self.skipped
    }

    /// The last line.
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
