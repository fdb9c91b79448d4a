//! The kernel's accounting of delays (`kernel.task_delayacct`), which is off on most hosts.

use super::cases::Skip;
use std::fs;

const SETTING: &str = "/proc/sys/kernel/task_delayacct";

/// Turns accounting on, for tasks that begin while this lives.
#[derive(Debug)]
pub struct DelayAccounting {
    before: String,
}

impl DelayAccounting {
    pub fn on() -> Result<Self, Skip> {
        let before = fs::read_to_string(SETTING).map_err(|error| Skip(format!("{SETTING}: {error}")))?;
        fs::write(SETTING, "1").map_err(|error| Skip(format!("{SETTING}: {error}")))?;
        Ok(Self { before })
    }
}

impl Drop for DelayAccounting {
    fn drop(&mut self) {
        let _ = fs::write(SETTING, &self.before);
    }
}
