//! Every event of one raw tracepoint.

use super::{super::cases::Skip, Control, Point};
use std::ffi::CStr;
use tapster_ebpf::insn::Cond;

/// Counts the events that the kernel shows to programs.
#[derive(Debug)]
pub struct EventControl(Control);

impl EventControl {
    /// Counts from now on all events of a raw tracepoint.
    pub fn new(event: &'static CStr) -> Result<Self, Skip> {
        Self::with(event, &[])
    }

    /// The same of those of which these arguments have these numbers.
    pub fn with(event: &'static CStr, arguments: &[(i16, i32)]) -> Result<Self, Skip> {
        let arguments: Vec<(i16, Cond, i32)> =
            arguments.iter().map(|(argument, number)| (*argument, Cond::Eq, *number)).collect();
        let point = Point { event, arguments: &arguments, object: 0, members: &[], key: None, adds: None };
        Ok(Self(Control::new(&point, &[])?))
    }

    pub fn count(&self) -> u64 {
        self.0.count(&[])
    }
}
