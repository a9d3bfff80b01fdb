//! The command line: one file a command.

pub mod client;
pub mod config_change;
pub mod console;
pub mod dcs_url;
pub mod demo;
pub mod dsn;
pub mod edit_config;
pub mod editor;
pub mod event_stream;
pub mod events;
pub mod explain;
pub mod flush;
pub mod history;
pub mod list;
pub mod members;
pub mod pager;
pub mod pause;
pub mod python_json;
pub mod reinit;
pub mod reload;
pub mod remove;
pub mod rest;
pub mod restart;
pub mod run;
pub mod schedule;
pub mod selection;
pub mod session;
pub mod show_config;
pub mod standby_cluster;
pub mod switchover;
pub mod table;
#[cfg(test)]
mod tests;
pub mod version;
pub mod yaml_text;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use client::{Call, ClientCommand};
use console::Console;
use session::{CalledAs, Connection};
use std::path::PathBuf;
use std::process::ExitCode;

/// A PostgreSQL high-availability agent.
#[derive(Parser)]
#[command(name = "pgherd", version, about, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
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
    #[command(flatten)]
    Client(ClientCommand),
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    if let Some(data_dir) = pgherd_guard::wanted(std::env::args_os()) {
        return pgherd_guard::run(&data_dir).map_or_else(fail, |()| ExitCode::SUCCESS);
    }
    let Arguments { connection, command } = Arguments::parse();
    if !matches!(command, Command::Client(_)) && connection != Connection::default() {
        let text = "options before the command are for those that ask a cluster";
        Arguments::command().error(ErrorKind::ArgumentConflict, text).exit();
    }
    match command {
        Command::Run { config } => run::run(&config),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Client(command) => {
            let (called_as, console) = (CalledAs::of(std::env::args_os().next().as_deref()), Console::process());
            let call = Call { called_as, connection: &connection, variables: variables(), console: &console };
            ExitCode::from(client::run(&command, call, client::ctrl_c()))
        }
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
