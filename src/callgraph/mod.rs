//! `tapster callgraph`: which function of a program calls which, when, and for how long.
//!
//! The stages: [`plan()`] finds functions and their entries and exits, [`attach()`] attaches probes there, [`Graph`] pairs
//! their records into calls, [`Summary`] adds them up, and [`Printer`] writes. The caller starts the command and waits for it.

mod attach;
mod pairing;
mod plan;
mod print;
mod summary;
#[cfg(test)]
mod tests;

pub use crate::load::places::AttachMethod;
pub use attach::{AttachError, AttachedGraph, Losses, attach};
pub use pairing::{CallStep, Graph, GraphLine};
pub use plan::{FilePlace, FollowedFunction, GraphRequest, Plan, plan};
pub use print::{Output, Printer};
pub use summary::{Ending, Summary, Sums, Unreturned};
