//! Joins the packages into a running node.

use crate::settings::NodeSettings;
use std::process::ExitCode;

/// Runs the node until it is asked to stop.
pub fn run(settings: NodeSettings) -> ExitCode {
    log::error!("{} of {} cannot run: the node is not wired", settings.name, settings.scope);
    ExitCode::FAILURE
}
