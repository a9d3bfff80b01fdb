//! The node's settings: Patroni's YAML files and `PATRONI_*` environment variables, layered with `config`, then read into
//! plain typed data. Everything that is wrong is found here, before anything is touched: errors name the place and the
//! key, and what only looks wrong (an unknown key) becomes a warning.
//!
//! Reading order: `load` below, `node` (the result), `section` (how keys are read), `files` and `environment` (layers),
//! `yaml` and `scalar` (what a YAML text means).

pub mod address;
pub mod bootstrap;
pub mod ctl;
pub mod environment;
pub mod environment_table;
pub mod error;
pub mod etcd3;
pub mod events;
pub mod files;
pub mod log;
pub mod node;
pub mod postgresql;
pub mod restapi;
pub mod scalar;
pub mod secret;
pub mod section;
pub mod server_files;
pub mod tags;
pub mod tls;
pub mod watchdog;
pub mod yaml;

pub use error::SettingsError;
pub use node::{ClientSettings, NodeSettings};
pub use postgresql::DatabaseLogin;

use config::{Config, Map, Value, ValueKind};
use section::Reading;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Usable settings and what looks like a mistake in them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: NodeSettings,
    /// One line each, naming place and key.
    pub warnings: Vec<String>,
}

/// Where a node's settings come from; they can be read again.
#[derive(Clone)]
pub struct Source {
    /// The file or directory.
    pub path: PathBuf,
    /// The environment as it was when the process started.
    pub variables: Vec<(String, String)>,
}

impl Source {
    /// Reads them as they are now.
    pub fn load(&self) -> Result<Loaded, SettingsError> {
        load(&self.path, self.variables.iter().cloned())
    }
}

/// Reads the file or directory at `path` and the given environment variables over it.
pub fn load(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, SettingsError> {
    let (reading, tree) = read_tree(Some(path), variables)?;
    let settings = node::read(&reading, &tree)?;
    Ok(Loaded { settings, warnings: reading.warnings.into_inner() })
}

/// A DCS that a command names instead of the one in the settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherDcs {
    /// The section that it stands for: `etcd3` or `etcd`.
    pub section: &'static str,
    /// `host:port`.
    pub host: String,
    /// The namespace, unless the settings' own is meant.
    pub namespace: Option<String>,
}

/// The same for a command that works on a cluster from outside: an agent's file will do, so will one with the DCS alone, and
/// so will none.
pub fn load_client(
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    dcs: Option<OtherDcs>,
) -> Result<ClientSettings, SettingsError> {
    let (reading, mut tree) = read_tree(path, variables)?;
    if let Some(OtherDcs { section, host, namespace }) = dcs {
        tree.retain(|key, _| !["etcd", "etcd3"].contains(&key.as_str()) && !node::OTHER_STORES.contains(&key.as_str()));
        tree.insert(section.to_owned(), serde_json::json!({"hosts": [host]}));
        tree.extend(namespace.map(|namespace| ("namespace".to_owned(), namespace.into())));
    }
    node::read_client(&reading, &tree)
}

fn read_tree(
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(Reading, serde_json::Map<String, serde_json::Value>), SettingsError> {
    let mut warnings = Vec::new();
    let files = path.map(|path| files::read(path, &mut warnings)).transpose()?.unwrap_or_default();
    let environment = environment::read(variables, &mut warnings)?;

    let mut origins = HashMap::new();
    for entries in files.iter().map(|file| &file.entries).chain([&environment.entries]) {
        note_origins("", entries, &mut origins);
    }
    let name = path.map_or_else(|| "environment".to_owned(), |path| path.display().to_string());
    let unusable = |e: config::ConfigError| SettingsError::at(&name, e.to_string());
    let layers = files.into_iter().fold(Config::builder(), |layers, file| layers.add_source(file));
    let tree = layers.add_source(environment).build().map_err(unusable)?;
    let tree = tree.try_deserialize().map_err(unusable)?;
    Ok((Reading { file: name, origins, warnings: warnings.into() }, tree))
}

/// Remembers for every dotted path the file and line, or the variable, that set it.
fn note_origins(path: &str, entries: &Map<String, Value>, origins: &mut HashMap<String, String>) {
    for (key, value) in entries {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let ValueKind::Table(entries) = &value.kind {
            note_origins(&path, entries, origins);
        }
        if let Some(origin) = value.origin() {
            origins.insert(path, origin.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
