//! Tapster: an exporter whose probes are declared in YAML and compiled in process to eBPF.

pub mod exposition;
pub mod family;
pub mod kernel;
pub mod label;
pub mod server;
pub mod status;
pub mod sys;
pub mod telemetry;
