//! The pgherd binary: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

mod cli;
mod logging;
mod panics;
mod reaper;
mod service_manager;
mod settings;
mod wire;

fn main() -> ExitCode {
    cli::main()
}
