//! The probe compiler: YAML in, an eBPF object out. No kernel, no root, no unsafe code.
//!
//! The stages, in order; each is a function from one owned type to the next:
//!
//! 1. [`yaml`]: text → a tree that knows its places.
//! 2. [`declaration`]: tree → [`probe::Probe`], the declaration as written.
//! 3. [`expr`]: the text of an expression → its syntax tree.
//! 4. [`mod@check`]: a probe × what the kernel has ([`mod@target`], [`attach`]) → [`typed::TypedProbe`].
//! 5. [`mod@lower`]: typed probe × [`host::HostFacts`] → [`program::Program`]: instructions ([`asm`], [`insn`]) and their
//!    [`layout`].
//! 6. [`object`]: program → an ELF object that any eBPF loader accepts.
//!
//! [`mod@callgraph`] and [`follow`] are independent of these stages: fixed programs, written with the same assembler.
//! `callgraph` has the programs of `tapster callgraph`, `follow` those that maintain the processes of a command.
//!
//! [`vm`] and [`eval`] run a program and a typed expression without a kernel, for tests.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod arch;
pub mod asm;
pub mod attach;
pub mod btf;
pub mod callgraph;
pub mod check;
pub mod declaration;
pub mod diagnostic;
pub mod eval;
pub mod expr;
pub mod follow;
pub mod glob;
pub mod histogram;
pub mod host;
pub mod insn;
mod key;
pub mod layout;
pub mod lower;
pub mod map;
pub mod metric;
pub mod missing;
pub mod names;
pub mod object;
pub mod point;
pub mod probe;
pub mod program;
mod reader;
mod row;
pub mod site;
pub mod stack;
pub mod target;
pub mod tracefs;
pub mod typed;
pub mod unit;
pub mod usdt;
pub mod vm;
pub mod waiting;
pub mod yaml;

use diagnostic::Diagnostic;

/// Compiles one declared probe for a kernel: check, then lower.
pub fn compile(
    probe: &probe::Probe,
    target: &target::Target<'_>,
) -> Result<program::Program, Vec<Diagnostic>> {
    let typed = check::check(probe, target)?;
    let session = target.btf.filter(|_| lower::joins_ends(&typed)).and_then(host::Session::find);
    let host = host::HostFacts { session, ..host::HostFacts::of(target) };
    lower::lower(typed, host).map_err(|error| {
        vec![Diagnostic::error(&probe.file, probe.name.span.clone(), error.to_string()).hint(error.hint())]
    })
}
