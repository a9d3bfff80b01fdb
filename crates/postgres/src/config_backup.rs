//! Copies of the configuration files inside the data directory, because backup tools often leave the files themselves
//! out (spec/postgres-control.md 5.4).

use crate::config_place::ConfigPlace;
use crate::error::{Outcome, Tried};
use crate::server::Postgres;
use crate::state_dir::write_private;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Copies the files of a server that runs well; a failure is only logged.
pub(crate) fn keep(server: &Postgres) {
    let dir = &server.options.data_dir;
    for file in ConfigPlace::of(server).files() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let copy = dir.join(format!("{name}.backup"));
        if fs::read_to_string(&copy).is_ok_and(|old| old == text) {
            continue;
        }
        if let Err(e) = write_private(&copy, &text, server.options.run_as) {
            log::warn!("no copy was made of {name}: {e}");
        }
    }
}

/// Brings back what is missing in a copy or a restored directory.
pub(crate) fn restore(server: &Postgres, dir: &Path) -> Outcome<()> {
    for file in ConfigPlace::of(server).files() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if dir.join(name.as_ref()).exists() {
            continue;
        }
        let copy = dir.join(format!("{name}.backup"));
        let text = match fs::read_to_string(&copy) {
            Err(e) if e.kind() == ErrorKind::NotFound && name == "pg_ident.conf" => String::new(),
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other.tried(|| format!("read {}", copy.display()))?,
        };
        write_private(&dir.join(name.as_ref()), &text, server.options.run_as)?;
    }
    Ok(())
}
