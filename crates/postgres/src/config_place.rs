//! Where the configuration files are, and how they come there: `config_dir` and `config_base_name` may put them
//! elsewhere than initdb and pg_basebackup do (spec/postgres-control.md 5.3, 5.4).

use crate::config_files::HEAD;
use crate::error::{Outcome, Tried};
use crate::server::Postgres;
use crate::server_config::ServerConfig;
use crate::state_dir::write_private;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What initdb calls the main file without `.conf`.
const USUAL_NAME: &str = "postgresql";

/// The files of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConfigPlace {
    data_dir: PathBuf,
    dir: PathBuf,
    name: String,
}

impl ConfigPlace {
    /// Of the data directory in its place.
    pub fn of(server: &Postgres) -> Self {
        let options = &server.options;
        let dir = options.config_dir.as_ref().unwrap_or(&options.data_dir).clone();
        Self { data_dir: options.data_dir.clone(), dir, name: options.config_base_name.clone() }
    }

    /// Of this directory: a copy that is being made has everything in itself.
    pub fn within(server: &Postgres, dir: &Path) -> Self {
        if dir == server.options.data_dir {
            return Self::of(server);
        }
        Self { data_dir: dir.to_owned(), dir: dir.to_owned(), name: server.options.config_base_name.clone() }
    }

    /// The file the server is started with.
    pub fn main(&self) -> PathBuf {
        self.dir.join(format!("{}.conf", self.name))
    }
    /// The option by which PostgreSQL's programs are told of it.
    pub fn main_argument(&self) -> String {
        format!("--config-file={}", self.main().display())
    }
    /// Is it where the programs look for it?
    pub fn is_usual(&self) -> bool {
        self.main() == self.data_dir.join(format!("{USUAL_NAME}.conf"))
    }
    /// The user's original, which it includes.
    pub fn base(&self) -> PathBuf {
        self.dir.join(self.base_name())
    }
    /// Its name alone.
    pub fn base_name(&self) -> String {
        format!("{}.base.conf", self.name)
    }
    /// Who may connect.
    pub fn hba(&self) -> PathBuf {
        self.dir.join("pg_hba.conf")
    }
    /// Who is who.
    pub fn ident(&self) -> PathBuf {
        self.dir.join("pg_ident.conf")
    }

    /// All of them.
    pub fn files(&self) -> [PathBuf; 4] {
        [self.main(), self.base(), self.hba(), self.ident()]
    }

    /// The parameter that names one of the last two, if the user points it elsewhere: that file is then not ours.
    pub fn users_own(&self, config: &ServerConfig, parameter: &str, ours: &Path) -> Option<PathBuf> {
        let named = self.dir.join(config.parameters.get(parameter)?);
        (named != ours).then_some(named)
    }

    /// Before the first generated file: the original becomes the included one, and what initdb or a copy put into the
    /// data directory is brought here.
    pub fn prepare(&self, server: &Postgres) -> Outcome<()> {
        if self.dir != self.data_dir {
            self.bring(server, &self.data_dir.join("pg_hba.conf"), &self.hba())?;
            self.bring(server, &self.data_dir.join("pg_ident.conf"), &self.ident())?;
        }
        if server.current().custom_conf.is_some() {
            return Ok(());
        }
        let in_data = |name: String| self.data_dir.join(name);
        let originals = [
            self.main(),
            in_data(self.base_name()),
            in_data(format!("{USUAL_NAME}.base.conf")),
            in_data(format!("{USUAL_NAME}.conf")),
        ];
        let is_original = |path: &&PathBuf| fs::read_to_string(path).is_ok_and(|text| !text.starts_with(HEAD));
        match originals.iter().find(is_original) {
            Some(original) => self.bring(server, original, &self.base()),
            None => Ok(()),
        }
    }

    /// Copies a file unless it is there already.
    fn bring(&self, server: &Postgres, from: &Path, to: &Path) -> Outcome<()> {
        if to.exists() || !from.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(from).tried(|| format!("read {}", from.display()))?;
        self.write(server, to, &text)
    }

    /// Writes a configuration file whole or not at all, readable by those who may read the data directory.
    pub fn write(&self, server: &Postgres, path: &Path, text: &str) -> Outcome<()> {
        write_private(path, text, server.options.run_as)?;
        if group_may_read(&self.data_dir) {
            let widened = fs::set_permissions(path, Permissions::from_mode(0o640));
            widened.tried(|| format!("let the group read {}", path.display()))?;
        }
        Ok(())
    }

    /// The same, if it says something else now.
    pub fn write_if_changed(&self, server: &Postgres, path: &Path, text: &str) -> Outcome<bool> {
        if fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        self.write(server, path, text).map(|()| true)
    }
}

fn group_may_read(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o040 != 0)
}
