//! The command line `forebay`.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser as _;
use forebay::commands::ForebayCommand;
use forebay::{ending, output};

#[tokio::main]
async fn main() -> ExitCode {
    // Boxed: the future of all commands is large.
    match Box::pin(ForebayCommand::parse().run()).await {
        Ok(ending) => ExitCode::from(ending.code()),
        Err(error) => {
            if output::OutputError::exit_of(&error).is_none() {
                output::complain(format_args!("error: {error:#}"));
            }
            ExitCode::from(ending::status_of(&error))
        }
    }
}
