//! Code that the tests share: artificial kernels, programs for them in memory, and for tests of the exporter: the exporter as a
//! process, devices, load, and independent observers. It is never part of the product.
//!
//! Tests of the compiler use only [`compiler`]; the rest needs the feature `host`.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]
#![allow(clippy::new_without_default, clippy::return_self_not_must_use, reason = "nobody else calls them")]

pub mod compiler;

#[cfg(feature = "host")]
pub mod accounting;
#[cfg(feature = "host")]
pub mod cases;
#[cfg(feature = "host")]
pub mod cgroup;
#[cfg(feature = "host")]
pub mod command;
#[cfg(feature = "host")]
pub mod control;
#[cfg(feature = "host")]
pub mod device;
#[cfg(feature = "host")]
pub mod durations;
#[cfg(feature = "host")]
pub mod examples;
#[cfg(feature = "host")]
pub mod excerpt;
#[cfg(feature = "host")]
pub mod exporter;
#[cfg(feature = "host")]
pub mod families;
#[cfg(feature = "host")]
pub mod fio;
#[cfg(feature = "host")]
pub mod fixture;
#[cfg(feature = "host")]
pub mod golden;
#[cfg(feature = "host")]
pub mod http;
#[cfg(feature = "host")]
pub mod load;
#[cfg(feature = "host")]
pub mod metrics;
#[cfg(feature = "host")]
pub mod observer;
#[cfg(feature = "host")]
pub mod others;
#[cfg(feature = "host")]
pub mod pods;
#[cfg(feature = "host")]
pub mod postgres;
#[cfg(feature = "host")]
pub mod processor;
#[cfg(feature = "host")]
pub mod prometheus;
#[cfg(feature = "host")]
pub mod promql;
#[cfg(feature = "host")]
pub mod queries;
#[cfg(feature = "host")]
pub mod rule_tests;
#[cfg(feature = "host")]
pub mod series;
#[cfg(feature = "host")]
pub mod sleep;
#[cfg(feature = "host")]
pub mod slow;
#[cfg(feature = "host")]
pub mod source;
#[cfg(feature = "host")]
pub mod trace;
#[cfg(feature = "host")]
pub mod victoria;
#[cfg(feature = "host")]
pub mod waits;
#[cfg(feature = "host")]
pub mod yaml;
