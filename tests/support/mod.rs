//! What the integration tests share: the exporter as a process, devices, load, and observers that are not ours.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

pub(crate) mod accounting;
pub(crate) mod cases;
pub(crate) mod command;
pub(crate) mod control;
pub(crate) mod device;
pub(crate) mod durations;
pub(crate) mod excerpt;
pub(crate) mod exporter;
pub(crate) mod families;
pub(crate) mod fio;
pub(crate) mod fixture;
pub(crate) mod golden;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod metrics;
pub(crate) mod observer;
pub(crate) mod pods;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod promql;
pub(crate) mod queries;
pub(crate) mod series;
pub(crate) mod sleep;
pub(crate) mod slow;
pub(crate) mod source;
pub(crate) mod waits;
pub(crate) mod yaml;
