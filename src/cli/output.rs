//! Where results go: standard output, or a file. What cannot be written is an error with a sentence; that a reader has
//! gone (`tapster list | head`) is none.

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

/// A write to standard output, to which a reader that has gone is no error.
fn heard(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}

/// Makes a file that something is written to later.
pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| cannot(path))
}

/// Writes to such a file.
pub(super) fn fill(mut file: &File, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    file.write_all(bytes).with_context(|| cannot(path))
}

/// Writes a file as a whole.
pub(super) fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fill(&create(path)?, path, bytes)
}

fn cannot(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}

/// Says what the flags' reader has to say: help, the version, or what is wrong with them. The exit status for that.
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
