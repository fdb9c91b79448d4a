//! Programs of somebody else, which a test must not take for its own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};
use tapster::sys::send_signal;

/// They run until this is dropped; told to end by their numbers.
#[derive(Debug)]
pub struct Others(Vec<Child>);

impl Others {
    /// Starts these programs with these arguments; what they leave behind is in the directory.
    pub fn new(commands: &[(&Path, &[&str])], directory: &Path) -> Self {
        let start = |(program, arguments): &(&Path, &[&str])| {
            let mut command = Command::new(program);
            command.args(*arguments).env("TMPDIR", directory).stdout(Stdio::null()).spawn().unwrap()
        };
        Self(commands.iter().map(start).collect())
    }

    /// Whether they still do what they are for.
    pub fn are_running(&mut self) -> bool {
        self.0.iter_mut().all(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = send_signal(child.id(), libc::SIGTERM);
            let _ = child.wait();
        }
    }
}
