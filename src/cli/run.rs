//! `pgherd run CONFIG`: reads the settings, refuses what can only go wrong, and runs the node.

use super::{fail, variables};
use crate::settings::Source;
use crate::{logging, panics, wire};
use std::path::Path;
use std::process::ExitCode;

/// Runs the node agent. Nothing is touched before the settings are known to be usable.
pub fn run(config: &Path) -> ExitCode {
    let source = Source { path: config.to_owned(), variables: variables().collect() };
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(error),
    };
    if rustix::process::geteuid().is_root() {
        return fail(
            "must not run as root: PostgreSQL refuses to; run it as the user that owns the data directory, such as postgres",
        );
    }
    logging::start(loaded.settings.log.level);
    panics::install();
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    wire::run(source, loaded.settings)
}
