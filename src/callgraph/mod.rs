//! `tapster callgraph`: which function of a program calls which, when, and for how long.
//!
//! In order: [`plan()`] finds functions and where each begins and ends, [`attach()`] sets probes there, [`Graph`] makes calls of
//! their records, [`Summary`] adds them up, and [`Printer`] writes. Starting and waiting for the command is what the caller
//! does.

mod attach;
mod pairing;
mod plan;
mod print;
mod summary;
#[cfg(test)]
mod tests;

pub use crate::load::places::Means;
pub use attach::{AttachError, Attached, Losses, attach};
pub use pairing::{Graph, Line, Step};
pub use plan::{Followed, Place, Plan, Request, plan};
pub use print::{Output, Printer};
pub use summary::{Ending, Summary, Sums, Unreturned};
