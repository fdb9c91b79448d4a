//! Random probes over a little kernel, for every test that holds one way of running them against another.
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
