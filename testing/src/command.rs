//! Other programs: finds them and returns their output.

use super::{cases::Skip, fixture::repository};
use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// The path of a program; some hosts leave `/usr/sbin` out of `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|directory| PathBuf::from(directory).join(program))
        .find(|path| path.is_file())
}

/// A command for an installed program; skips if it is not installed.
pub fn tool(program: &str) -> Result<Command, Skip> {
    find(program).map(Command::new).ok_or_else(|| Skip(format!("`{program}` is not installed")))
}

/// A Python that has these modules: that of `./test`, or the host's own; skips if neither has. `packages` names what has them.
pub fn python(modules: &str, packages: &str) -> Result<Command, Skip> {
    let own = repository().join("target/python/bin/python3");
    let path = if own.is_file() { own } else { "python3".into() };
    let imported = Command::new(&path).args(["-c", &format!("import {modules}")]).output();
    if imported.is_ok_and(|output| output.status.success()) {
        Ok(Command::new(path))
    } else {
        Err(Skip(format!("no python3 with {packages}; `./test` makes one")))
    }
}

/// Whether programs with USDT probes can be built: Debian has the header in `systemtap-sdt-dev`.
pub fn sdt_header() -> bool {
    let machine = format!("/usr/include/{}-linux-gnu/sys/sdt.h", std::env::consts::ARCH);
    ["/usr/include/sys/sdt.h", &machine].iter().any(|header| std::path::Path::new(header).is_file())
}

/// Skips unless the test runs as root.
pub fn root() -> Result<(), Skip> {
    // SAFETY: it only returns a number.
    if unsafe { libc::geteuid() } == 0 { Ok(()) } else { Err(Skip("needs root".into())) }
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The output of a command, which must succeed.
pub fn text(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
