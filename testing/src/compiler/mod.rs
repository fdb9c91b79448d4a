//! Random probes over a small artificial kernel, for tests that compare ways of running them.
#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "it is read by who looks for a mistake"
)]

pub mod btf;
pub mod case;
pub mod expression;
pub mod random;
pub mod world;
