//! Random probes over a little kernel, for every test that holds one way of running them against another.
//! Included by the tests of the compiler and, by its path, by those that have a real kernel.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

pub mod btf;
pub mod case;
pub mod expression;
pub mod random;
pub mod world;
