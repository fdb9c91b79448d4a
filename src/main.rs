//! The `tapster` command.

#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;
use tapster::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(cli::answer(&error)),
    };
    match cli::main(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            cli::tell(format_args!("error: {error:#}"));
            ExitCode::from(cli::FAILURE)
        }
    }
}
