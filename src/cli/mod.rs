//! The command line: one file a command.

pub mod demo;
pub mod list;
pub mod members;
pub mod python_json;
pub mod run;
pub mod table;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A PostgreSQL high-availability agent.
#[derive(Parser)]
#[command(name = "pgherd", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node agent of one PostgreSQL server, until SIGTERM or SIGINT.
    Run {
        /// The YAML file, or a directory of *.yml files; PATRONI_* environment variables count over it.
        config: PathBuf,
    },
    /// Show a three-node cluster on this machine.
    Demo(demo::DemoArguments),
    /// Print the members of a cluster.
    List(list::ListArguments),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    if let Some(data_dir) = pgherd_guard::wanted(std::env::args_os()) {
        return pgherd_guard::run(&data_dir).map_or_else(fail, |()| ExitCode::SUCCESS);
    }
    match Arguments::parse().command {
        Command::Run { config } => run::run(&config),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::List(arguments) => list::list(&arguments),
    }
}

/// The `PATRONI_*` variables, and any other that is text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
}

/// A failure that ends the program: one line on standard error, exit code 1.
pub fn fail(what: impl std::fmt::Display) -> ExitCode {
    eprintln!("pgherd: {what}");
    ExitCode::FAILURE
}
