//! `pg_hba.conf` and `pg_ident.conf`: written whole, and put back when the server finds a mistake in them, because a
//! server does not start with a mistake in the first, and a mistaken line of the second shuts somebody out.

use crate::config_files::HEAD;
use crate::config_place::ConfigPlace;
use crate::error::Outcome;
use crate::server::Postgres;
use crate::server_config::ServerConfig;
use std::fs;
use std::path::PathBuf;

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AccessFile {
    /// Who may connect.
    Hba,
    /// Who is who.
    Ident,
}

/// A file that was just replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Replaced {
    /// Which.
    pub file: AccessFile,
    /// Where it is.
    pub path: PathBuf,
    /// What it said before; `None` if it was not there.
    old: Option<String>,
    /// What it says now.
    new: String,
}

impl AccessFile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hba, Self::Ident];

    /// The parameter that says where it is.
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Hba => "hba_file",
            Self::Ident => "ident_file",
        }
    }
    /// Where ours is.
    pub fn path(self, place: &ConfigPlace) -> PathBuf {
        match self {
            Self::Hba => place.hba(),
            Self::Ident => place.ident(),
        }
    }
    fn lines(self, config: &ServerConfig) -> &[String] {
        match self {
            Self::Hba => &config.pg_hba,
            Self::Ident => &config.pg_ident,
        }
    }
    /// Where a text is kept that the server has refused.
    fn refused(self, server: &Postgres) -> PathBuf {
        let name = match self {
            Self::Hba => "pg_hba.refused",
            Self::Ident => "pg_ident.refused",
        };
        server.state.path().join(name)
    }
}

/// Writes both, as far as they are ours; those that changed. A text that was refused is not tried again.
pub(crate) fn write(server: &Postgres, place: &ConfigPlace, config: &ServerConfig) -> Outcome<Vec<Replaced>> {
    let mut replaced = Vec::new();
    for file in AccessFile::ALL {
        let (path, lines) = (file.path(place), file.lines(config));
        if lines.is_empty() || place.users_own(config, file.parameter(), &path).is_some() {
            continue;
        }
        let new = format!("{HEAD}\n{}\n", lines.join("\n"));
        if fs::read_to_string(file.refused(server)).is_ok_and(|refused| refused == new) && path.exists() {
            continue;
        }
        let old = fs::read_to_string(&path).ok();
        if old.as_ref() != Some(&new) {
            place.write(server, &path, &new)?;
            replaced.push(Replaced { file, path, old, new });
        }
    }
    Ok(replaced)
}

/// Puts the old text back and remembers the new one as refused. `false` if there was none, or if the file was
/// written again meanwhile.
pub(crate) fn put_back(server: &Postgres, replaced: &Replaced) -> Outcome<bool> {
    let _one_writer = server.lock_files();
    server.state.write(&replaced.file.refused(server), &replaced.new)?;
    let Some(old) = &replaced.old else { return Ok(false) };
    if fs::read_to_string(&replaced.path).ok().as_ref() != Some(&replaced.new) {
        return Ok(false);
    }
    ConfigPlace::of(server).write(server, &replaced.path, old).map(|()| true)
}

/// A server that was not running could not be asked. If it does not start and blames our file, the copy from when it last
/// ran well is put back, and the next start has it.
pub(crate) fn put_back_after_failed_start(server: &Postgres, why: &str) {
    let (file, path) = (AccessFile::Hba, ConfigPlace::of(server).hba());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copy = server.options.data_dir.join(format!("{name}.backup"));
    let (Ok(new), Ok(old)) = (fs::read_to_string(&path), fs::read_to_string(copy)) else { return };
    if !why.contains(&name) || !new.starts_with(HEAD) || old == new {
        return;
    }
    match put_back(server, &Replaced { file, path, old: Some(old), new }) {
        Ok(_) => log::error!("PostgreSQL did not start with the new {name}: the last good one was put back"),
        Err(e) => {
            log::error!("PostgreSQL did not start with the new {name}, and the last good one was not put back: {e}")
        }
    }
}

/// The text was found good: nothing is refused any more.
pub(crate) fn forget_refused(server: &Postgres, file: AccessFile) {
    let _ = fs::remove_file(file.refused(server));
}
