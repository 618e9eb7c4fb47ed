//! The `deferring` tool: reads the command line and hands over.
//!
//! Not: what a command does (`cp/`), nor what it takes (`args.rs`). The tool uses the library's
//! public API and nothing below it.

mod args;
mod cp;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match args::Args::parse().command {
        args::Command::Cp(args) => cp::run(&args),
    }
}
