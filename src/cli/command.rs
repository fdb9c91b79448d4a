//! Exit statuses for a command, as shells define them.

use super::FAILURE;
use std::{
    io::{self, ErrorKind},
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
};

/// Exit statuses if the command does not exist, and if it cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// Added to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// The exit status for a command with this status.
pub(super) fn exit_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(SIGNALLED + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE)
}

/// The exit status for a command that cannot be started.
pub(super) fn not_started(error: &io::Error) -> u8 {
    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The exit status for a command that still runs when this signal ends the wait for it.
pub(super) fn signalled(signal: i32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        let statuses = [3 << 8, 9, 0, 64].map(|raw| exit_status(ExitStatus::from_raw(raw)));
        assert_eq!(statuses, [3, 137, 0, 192]);
        assert_eq!(signalled(libc::SIGINT), 130);
        for (kind, status) in [(ErrorKind::NotFound, 127), (ErrorKind::PermissionDenied, 126)] {
            assert_eq!(not_started(&kind.into()), status);
        }
    }
}
