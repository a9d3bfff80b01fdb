//! `PATRONI_*` environment variables, a layer over the files. The names cannot be split by rule (`DATA_DIR` is one key,
//! `SUPERUSER_PASSWORD` three levels), so there is a table.

use super::environment_table::Kind::{self, Text};
use super::environment_table::{OLD_NAMES, OTHER_STORES, TABLE};
use super::error::SettingsError;
use super::yaml;
use config::{ConfigError, Map, Source, Value, ValueKind};

/// The variables, read; a layer of the settings.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// As nested keys.
    pub entries: Map<String, Value>,
}

impl Source for Environment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }
    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.entries.clone())
    }
}

/// Reads the `PATRONI_*` variables among `variables`. Empty ones count as not set. Warnings are appended.
pub fn read(
    variables: impl IntoIterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Result<Environment, SettingsError> {
    let mut environment = Environment::default();
    let mut ours: Vec<_> =
        variables.into_iter().filter(|(name, text)| name.starts_with("PATRONI_") && !text.is_empty()).collect();
    ours.sort();
    for (name, text) in ours {
        match target(&name) {
            Some((path, kind)) => {
                let value = Value::new(Some(&name), read_text(&name, &text, kind)?);
                put(&mut environment.entries, &path, value);
            }
            None if name == "PATRONI_CONFIGURATION" => {
                warnings.push(format!("{name} has no effect: the settings come from the file that was named"));
            }
            None => warnings.push(format!("{name}: unknown environment variable, ignored")),
        }
    }
    Ok(environment)
}

fn target(name: &str) -> Option<(Vec<String>, Kind)> {
    if let Some((_, key)) = OLD_NAMES.iter().find(|(old, _)| *old == name) {
        return Some((vec!["log".into(), (*key).into()], Text));
    }
    for group in TABLE {
        let Some(rest) = name.strip_prefix(group.prefix) else { continue };
        if let Some((_, kind)) = group.names.iter().find(|(n, _)| *n == rest) {
            let path = group.path.iter().map(|p| (*p).to_owned()).chain([rest.to_lowercase()]).collect();
            return Some((path, *kind));
        }
    }
    let rest = name.strip_prefix("PATRONI_")?.to_lowercase();
    let (section, key) = rest.split_once('_')?;
    OTHER_STORES.contains(&section).then(|| (vec![section.to_owned(), key.to_owned()], Text))
}

fn put(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            map.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let child = map.entry(key.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if let ValueKind::Table(child) = &mut child.kind {
                put(child, rest, value);
            }
        }
    }
}

fn read_text(name: &str, text: &str, kind: Kind) -> Result<ValueKind, SettingsError> {
    let trimmed = text.trim();
    match kind {
        Kind::Text => Ok(ValueKind::String(text.to_owned())),
        Kind::Int => trimmed
            .parse()
            .map(ValueKind::I64)
            .map_err(|_| SettingsError::at(name, format!("must be a whole number, not {trimmed}"))),
        Kind::Bool => super::section::boolean(trimmed)
            .map(ValueKind::Boolean)
            .ok_or_else(|| SettingsError::at(name, format!("must be true or false, not {trimmed}"))),
        Kind::List if !trimmed.starts_with('-') && !trimmed.contains('[') => {
            Ok(ValueKind::Array(comma_list(name, trimmed)))
        }
        Kind::List => match parse_yaml(name, text)? {
            list @ ValueKind::Array(_) => Ok(list),
            _ => Err(SettingsError::at(name, "must be a list: `a,b` or `[a, b]`")),
        },
        Kind::Map => {
            let braced = if trimmed.starts_with('{') { trimmed.to_owned() } else { format!("{{{trimmed}}}") };
            match parse_yaml(name, &braced)? {
                map @ ValueKind::Table(_) => Ok(map),
                _ => Err(SettingsError::at(name, "must be a map: `k: v` or `{k: v}`")),
            }
        }
    }
}

fn comma_list(name: &str, text: &str) -> Vec<Value> {
    let unquoted = |item: &str| item.trim().trim_matches(['\'', '"']).to_owned();
    let items = text.split(',').map(unquoted).filter(|item| !item.is_empty());
    items.map(|item| Value::new(Some(&name.to_owned()), ValueKind::String(item))).collect()
}

fn parse_yaml(name: &str, text: &str) -> Result<ValueKind, SettingsError> {
    let document = yaml::parse(name, text).map_err(|why| SettingsError::at(name, format!("not valid YAML: {why}")))?;
    Ok(document.root.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(variables: &[(&str, &str)]) -> (String, Vec<String>) {
        let mut warnings = Vec::new();
        let variables = variables.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned()));
        let environment = read(variables, &mut warnings).unwrap();
        let built = config::Config::builder().add_source(environment).build().unwrap();
        (built.try_deserialize::<serde_json::Value>().unwrap().to_string(), warnings)
    }

    #[test]
    fn names_lead_to_their_keys() {
        let (tree, warnings) = json(&[
            ("PATRONI_POSTGRESQL_DATA_DIR", "/data"),
            ("PATRONI_RESTAPI_CONNECT_ADDRESS", "h:8008"),
            ("PATRONI_REPLICATION_PASSWORD", "0123"),
            ("PATRONI_ETCD3_HOSTS", "'a:2379', b:2379"),
            ("PATRONI_LOGLEVEL", "DEBUG"),
            ("PATRONI_SCOPE", ""),
            ("HOME", "/root"),
        ]);
        assert_eq!(
            tree,
            r#"{"etcd3":{"hosts":["a:2379","b:2379"]},"log":{"level":"DEBUG"},"#.to_owned()
                + r#""postgresql":{"data_dir":"/data","authentication":{"replication":{"password":"0123"}}},"#
                + r#""restapi":{"connect_address":"h:8008"}}"#
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn unknown_names_are_reported_and_bad_values_refused() {
        let (tree, warnings) = json(&[("PATRONI_SCOEP", "x"), ("PATRONI_CONFIGURATION", "scope: x")]);
        assert_eq!(tree, "{}");
        assert!(warnings.iter().any(|w| w.starts_with("PATRONI_SCOEP: unknown")), "{warnings:?}");
        let bad = read([("PATRONI_LOG_FILE_NUM".to_owned(), "x".to_owned())], &mut Vec::new()).unwrap_err();
        assert_eq!(bad.to_string(), "PATRONI_LOG_FILE_NUM: must be a whole number, not x");
    }

    #[test]
    fn lists_and_maps_may_be_yaml() {
        let (tree, _) =
            json(&[("PATRONI_ETCD3_HOSTS", "['a:1', 'b:2']"), ("PATRONI_LOG_LOGGERS", "a: INFO, b: DEBUG")]);
        assert_eq!(tree, r#"{"etcd3":{"hosts":["a:1","b:2"]},"log":{"loggers":{"a":"INFO","b":"DEBUG"}}}"#);
    }
}
