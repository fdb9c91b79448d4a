//! x

pub mod label;
