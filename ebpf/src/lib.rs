//! x
#![forbid(unsafe_code)]

pub mod insn;
pub mod vm;
