//! The configuration file, or every `*.yml` and `*.yaml` file of a directory in the order of their names.

use super::error::SettingsError;
use super::yaml;
use config::{ConfigError, Map, Source, Value, ValueKind};
use std::path::{Path, PathBuf};

/// Larger files are refused: no configuration needs more.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One YAML file, read and parsed; a layer of the settings.
#[derive(Clone, Debug)]
pub struct YamlFile {
    /// Its top level.
    pub entries: Map<String, Value>,
}

impl Source for YamlFile {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.entries.clone())
    }
}

/// Reads the file, or the directory's files, at `path`. Warnings are appended.
pub fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<YamlFile>, SettingsError> {
    let kind = std::fs::metadata(path).map_err(|e| SettingsError::at(path.display().to_string(), plain(&e)))?;
    if !kind.is_dir() {
        return Ok(vec![read_file(path, warnings)?]);
    }
    let files = yaml_files_of(path)?;
    if files.is_empty() {
        return Err(SettingsError::at(path.display().to_string(), "the directory has no *.yml or *.yaml file"));
    }
    files.iter().map(|file| read_file(file, warnings)).collect()
}

fn yaml_files_of(directory: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let unreadable = |e: std::io::Error| SettingsError::at(directory.display().to_string(), plain(&e));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "yml" || e == "yaml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, warnings: &mut Vec<String>) -> Result<YamlFile, SettingsError> {
    let name = path.display().to_string();
    let unreadable = |e: std::io::Error| SettingsError::at(&name, plain(&e));
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(SettingsError::at(&name, "neither a file nor a directory"));
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(SettingsError::at(&name, format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| SettingsError::at(&name, "not UTF-8 text"))?;
    if text.contains('\0') {
        // The parser would take it for the end of the file.
        return Err(SettingsError::at(&name, "not valid YAML: it contains a NUL character; is it damaged, or UTF-16?"));
    }
    parse_file(&name, &text, warnings)
}

fn parse_file(name: &str, text: &str, warnings: &mut Vec<String>) -> Result<YamlFile, SettingsError> {
    let document = yaml::parse(name, text).map_err(|why| {
        let (place, what) = why.split_once(": ").unwrap_or((name, &why));
        SettingsError::at(place, format!("not valid YAML: {what}"))
    })?;
    warnings.extend(document.warnings);
    match document.root.kind {
        ValueKind::Table(entries) => Ok(YamlFile { entries: without_paths(name, entries, warnings) }),
        ValueKind::Nil => Err(SettingsError::at(name, "the file is empty; it needs at least scope and name")),
        _ => Err(SettingsError::at(name, "not a map of settings at the top level (lines of the form `key: value`)")),
    }
}

/// `config` reads a top-level key such as `a.b` or `a[0]` as a path; here it can only be a mistake.
fn without_paths(name: &str, entries: Map<String, Value>, warnings: &mut Vec<String>) -> Map<String, Value> {
    let is_path = |key: &str| key.contains(['.', '[']);
    for key in entries.keys().filter(|key| is_path(key)) {
        warnings.push(format!("{name}: {key}: unknown key, ignored; write nested keys as nested maps"));
    }
    entries.into_iter().filter(|(key, _)| !is_path(key)).collect()
}

/// An I/O error in words, without the operating system's number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory; name the configuration file".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "permission denied; the user that runs pgherd must be able to read it".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}
