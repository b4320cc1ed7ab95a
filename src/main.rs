//! The `honeycast` binary.

use std::process::ExitCode;

use clap::Parser;
use honeycast::cli;

fn main() -> ExitCode {
    cli::main(cli::Cli::parse())
}
