//! Where PostgreSQL's programs and files are, when they are not where they usually are, and what counts only while the
//! server has a role.

use super::error::SettingsError;
use super::section::Section;
use pgherd_postgres::{Overlay, RoleClass, is_server_name};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Programs that may have another name.
const PROGRAMS: &[&str] =
    &["pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready", "pg_rewind", "pg_waldump"];

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFiles {
    /// Names of programs that differ: the usual one, the other.
    pub bin_name: BTreeMap<String, String>,
    /// Where the configuration files are; `None` is the data directory.
    pub config_dir: Option<PathBuf>,
    /// The main configuration file without `.conf`.
    pub config_base_name: String,
    /// A file of the user's that is included instead of the one initdb made.
    pub custom_conf: Option<String>,
}

/// Reads these keys of the section `postgresql`.
pub fn read(section: &Section) -> Result<ServerFiles, SettingsError> {
    let directory = section.text("config_dir")?.filter(|text| !text.is_empty());
    let absolute = |text| {
        std::path::absolute(text)
            .map_err(|e| section.error("config_dir", format!("cannot be made an absolute path: {e}")))
    };
    Ok(ServerFiles {
        bin_name: bin_name(section)?,
        config_dir: directory.map(absolute).transpose()?,
        config_base_name: base_name(section)?,
        custom_conf: section.text("custom_conf")?.filter(|text| !text.is_empty()),
    })
}

fn bin_name(section: &Section) -> Result<BTreeMap<String, String>, SettingsError> {
    let names = section.section("bin_name")?;
    let mut found = BTreeMap::new();
    for program in PROGRAMS {
        let Some(name) = names.text(program)?.filter(|name| !name.is_empty()) else { continue };
        if name.contains('/') {
            return Err(names.error(program, "must be a name, not a path; set bin_dir for the directory"));
        }
        if *program == "postgres" && !is_server_name(&name) {
            return Err(names.error(
                program,
                "must be postgres with a version behind it or a name and `-` before it: other processes would not be \
                 recognised as PostgreSQL's",
            ));
        }
        found.insert((*program).to_owned(), name);
    }
    names.finish();
    Ok(found)
}

fn base_name(section: &Section) -> Result<String, SettingsError> {
    let key = "config_base_name";
    let name = section.text(key)?.filter(|name| !name.is_empty()).unwrap_or_else(|| "postgresql".to_owned());
    match name.contains('/') {
        true => Err(section.error(key, "must be a name, not a path; set config_dir for the directory")),
        false => Ok(name),
    }
}

/// `parameters_<role>`, `pg_hba_<role>`, `pg_ident_<role>`.
pub fn overlays(section: &Section) -> Result<BTreeMap<RoleClass, Overlay>, SettingsError> {
    let mut overlays = BTreeMap::new();
    for role in RoleClass::ALL {
        let key = |name: &str| format!("{name}_{}", role.suffix());
        let parameters = match section.raw(&key("parameters")) {
            None => None,
            Some(_) => Some(section.parameters(&key("parameters"))?.into_iter().collect()),
        };
        let overlay =
            Overlay { parameters, pg_hba: section.texts(&key("pg_hba"))?, pg_ident: section.texts(&key("pg_ident"))? };
        if overlay != Overlay::default() {
            overlays.insert(role, overlay);
        }
    }
    Ok(overlays)
}
