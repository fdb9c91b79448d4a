//! `tapster generate`: files for packages, generated from the definitions of the flags.

use super::{Cli, output};
use anyhow::Context;
use clap::{CommandFactory, Subcommand};
use clap_complete::{Generator, Shell};
use std::{fs, path::PathBuf};

/// The name of the command.
const NAME: &str = "tapster";

/// What is made.
#[derive(Clone, Debug, Subcommand)]
pub enum Generate {
    /// Manual pages, one for each command
    Man {
        /// Where to
        directory: PathBuf,
    },
    /// Completions for bash, zsh and fish
    Completions {
        /// Where to
        directory: PathBuf,
    },
}

pub(super) fn generate(what: &Generate) -> anyhow::Result<u8> {
    let (Generate::Man { directory } | Generate::Completions { directory }) = what;
    fs::create_dir_all(directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    let failed = || format!("cannot write to `{}`", directory.display());
    match what {
        Generate::Man { .. } => clap_mangen::generate_to(Cli::command(), directory).with_context(failed)?,
        Generate::Completions { .. } => {
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                // Written to memory first, because the writer panics if a disk is full.
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), NAME, &mut text);
                output::save(&directory.join(shell.file_name(NAME)), &text)?;
            }
        }
    }
    Ok(0)
}
