//! Tapster: an exporter whose probes are declared in YAML and compiled in process to eBPF.
//!
//! The stages of a probe: [`config`] reads its YAML, `tapster_ebpf` compiles it for this [`kernel`], [`load`] loads and
//! attaches it, [`collector`] reads its maps (through [`sys`]; [`label`] and [`topology`] decode labels, [`symbol`] names
//! functions of stacks), [`exposition`] writes the [`family`] types, [`server`] answers requests, [`otlp`] pushes. [`exporter`]
//! holds the running probes, and reads each within its [`deadline`]; [`report`] and [`raid`] evaluate what probes counted
//! during a [`watch`]; [`callgraph`] follows the calls of a program, without a probe; [`import`] makes probes of other tools'
//! files; [`cli`] is the command line, and no other room uses it.

#![forbid(unsafe_code)]

pub use tapster_sys as sys;

pub mod callgraph;
pub mod cgroup;
pub mod cli;
pub mod collector;
pub mod config;
pub mod container;
pub mod deadline;
mod disk;
pub mod disks;
pub mod duration;
pub mod elf;
pub mod exporter;
pub mod exposition;
pub mod family;
pub mod follow;
pub mod gzip;
pub mod host;
pub mod import;
pub mod kernel;
pub mod label;
pub mod load;
pub mod lock;
pub mod mark;
pub mod name;
pub mod otlp;
pub mod owner;
pub mod perf;
pub mod raid;
pub mod reason;
pub mod reload;
pub mod report;
pub mod rules;
pub mod sandbox;
pub mod server;
pub mod source;
pub mod status;
pub mod symbol;
mod table;
pub mod telemetry;
pub mod topology;
pub mod watch;
pub mod web;
