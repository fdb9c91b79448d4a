//! The `tapster` command.

use clap::Parser;
use std::process::ExitCode;
use tapster::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::main(Cli::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            cli::tell(format_args!("error: {error:#}"));
            ExitCode::from(cli::FAILURE)
        }
    }
}
