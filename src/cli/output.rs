//! Writes results to standard output or a file. A failure is an error with a sentence, except that the reader has closed the
//! pipe (`tapster list | head`).

use super::{FAILURE, USAGE};
use anyhow::Context;
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::Path,
};

/// Prints a text to standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints bytes to standard output.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    heard(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Treats a closed pipe on standard output as success.
fn heard(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}

/// Creates a file for [`fill`].
pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| cannot(path))
}

/// Writes to a file from [`create`].
pub(super) fn fill(mut file: &File, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    file.write_all(bytes).with_context(|| cannot(path))
}

/// Writes a whole file.
pub(super) fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fill(&create(path)?, path, bytes)
}

fn cannot(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

/// Prints what the parser of flags returned: help, the version, or an error. Returns the exit status.
pub fn answer(error: &clap::Error) -> u8 {
    let written = error.print();
    if error.use_stderr() {
        return super::raid::usage(std::env::args_os(), error).unwrap_or(USAGE);
    }
    match heard(written.and_then(|()| io::stdout().flush())) {
        Ok(()) => 0,
        Err(error) => {
            tell!("error: {error:#}");
            FAILURE
        }
    }
}
