//! `pgherd list`: the members of a cluster.

use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to list, and how.
#[derive(Args)]
pub struct ListArguments {
    /// The agent's YAML file: where the DCS is, and the default cluster.
    #[arg(short = 'c', long = "config-file")]
    config: PathBuf,
}

/// Runs the command.
pub fn list(arguments: &ListArguments) -> ExitCode {
    super::fail(arguments.config.display())
}
