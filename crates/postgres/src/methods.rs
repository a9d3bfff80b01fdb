//! The ways to make a replica (spec/bootstrap-and-replicas.md 3.2): pg_basebackup, and programs of the user's. Which and
//! in what order comes from the local configuration, else from the dynamic one, and in a standby cluster from its section.

use crate::options::PostgresOptions;
use crate::standby_section::{StandbySection, method_names};
use serde_json::{Map, Value};

/// The name that stands for pg_basebackup.
const BASEBACKUP: &str = "basebackup";

/// A program that makes the data directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplicaMethod {
    /// Its name in the list.
    pub name: String,
    /// The command line; by default the name.
    pub command: String,
    /// It works on what is there.
    pub keep_data: bool,
    /// It needs no source.
    pub no_leader: bool,
    /// It is not told scope, role, directory and source.
    pub no_params: bool,
    /// What else is in its section, in that order, as `--key=value`.
    pub arguments: Vec<(String, String)>,
}

impl ReplicaMethod {
    /// From its section. An error names the key.
    pub fn from_section(name: &str, section: &Map<String, Value>) -> Result<Self, String> {
        let flag = |key: &str| section.get(key).is_some_and(is_true);
        let no_params = flag("no_params");
        let left_out = |key: &str| {
            matches!(key, "command" | "no_params") || (no_params && matches!(key, "no_leader" | "keep_data"))
        };
        let arguments = section.iter().filter(|(key, _)| !left_out(key));
        let arguments = arguments.map(|(key, value)| Ok((key.clone(), text(key, value)?)));
        let arguments = arguments.collect::<Result<Vec<_>, String>>()?;
        let command = section.get("command").map(|value| text("command", value)).transpose()?;
        Ok(Self {
            name: name.to_owned(),
            command: command.unwrap_or_else(|| name.to_owned()),
            keep_data: flag("keep_data"),
            no_leader: flag("no_leader"),
            no_params,
            arguments,
        })
    }

    /// The arguments of a run.
    pub(crate) fn all_arguments(&self, options: &PostgresOptions, connstring: &str) -> Vec<String> {
        let mut all: Vec<String> = self.arguments.iter().map(|(key, value)| format!("--{key}={value}")).collect();
        if !self.no_params {
            all.push(format!("--scope={}", options.scope));
            all.push("--role=replica".to_owned());
            all.push(format!("--datadir={}", options.data_dir.display()));
            all.push(format!("--connstring={connstring}"));
        }
        all
    }
}

/// A value as an argument; truth values are written as the tools of Patroni's users expect them.
pub(crate) fn text(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok("None".to_owned()),
        Value::Bool(true) => Ok("True".to_owned()),
        Value::Bool(false) => Ok("False".to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(_) | Value::Object(_) => Err(format!("{key} must be a single value")),
    }
}

/// True, also as text.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1"),
        _ => false,
    }
}

/// One way, as the operation takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Basebackup,
    Tool(ReplicaMethod),
}

impl Way {
    pub fn name(&self) -> &str {
        match self {
            Self::Basebackup => BASEBACKUP,
            Self::Tool(method) => &method.name,
        }
    }
    /// Does it work without a source?
    pub fn needs_no_source(&self) -> bool {
        matches!(self, Self::Tool(method) if method.no_leader)
    }
}

/// The ways in their order, by the local and the dynamic configuration (JSON text).
pub(crate) fn ways(options: &PostgresOptions, dynamic: &str) -> Vec<Way> {
    let dynamic: Value = serde_json::from_str(dynamic).unwrap_or(Value::Null);
    let shared = &dynamic["postgresql"];
    let names = match StandbySection::read(&dynamic).unwrap_or_default() {
        Some(section) => section.create_replica_methods,
        None if options.create_replica_methods.is_empty() => method_names(shared),
        None => options.create_replica_methods.clone(),
    };
    let way = |name: &String| match name.as_str() {
        BASEBACKUP => Some(Way::Basebackup),
        _ => Some(Way::Tool(tool(options, shared, name)?)),
    };
    let ways: Vec<Way> = names.iter().filter_map(way).collect();
    if ways.is_empty() { vec![Way::Basebackup] } else { ways }
}

fn tool(options: &PostgresOptions, shared: &Value, name: &str) -> Option<ReplicaMethod> {
    if let Some(method) = options.replica_methods.iter().find(|method| method.name == name) {
        return Some(method.clone());
    }
    let empty = Map::new();
    let made = ReplicaMethod::from_section(name, shared[name].as_object().unwrap_or(&empty));
    made.inspect_err(|e| log::error!("the replica method {name} is left out: {e}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn method(name: &str, section: &str) -> ReplicaMethod {
        ReplicaMethod::from_section(name, serde_json::from_str::<Value>(section).unwrap().as_object().unwrap()).unwrap()
    }

    #[test]
    fn arguments_are_those_that_tools_know() {
        let options = PostgresOptions::new("a".into(), "demo", Path::new("/data"));
        let section = r#"{"command":"restore --fast","no_leader":true,"stanza":"x y","keep_data":1,"n":7}"#;
        let it = method("backrest", section);
        let known = ["--scope=demo", "--role=replica", "--datadir=/data", "--connstring=host=b"];
        let own = ["--no_leader=True", "--stanza=x y", "--keep_data=1", "--n=7"];
        assert_eq!(it.all_arguments(&options, "host=b"), [&own[..], &known].concat());
        assert_eq!((it.command.as_str(), it.no_leader, it.keep_data), ("restore --fast", true, false));
        let it = method("own", r#"{"no_params":true,"no_leader":"yes","keep_data":true,"x":"1"}"#);
        assert_eq!(it.all_arguments(&options, ""), ["--x=1"]);
        assert_eq!((it.command.as_str(), it.no_leader, it.keep_data), ("own", true, true));
        let wrong = serde_json::json!({"list": []});
        assert!(ReplicaMethod::from_section("x", wrong.as_object().unwrap()).unwrap_err().contains("list"));
    }

    #[test]
    fn the_list_comes_from_the_first_place_that_has_one() {
        let mut options = PostgresOptions::new("a".into(), "demo", Path::new("/data"));
        let named = |options: &PostgresOptions, dynamic: &str| {
            ways(options, dynamic).iter().map(|w| w.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(named(&options, "{}"), ["basebackup"]);
        let shared =
            r#"{"postgresql":{"create_replica_method":["walg","basebackup"],"walg":{"command":"w","no_leader":1}}}"#;
        assert_eq!(named(&options, shared), ["walg", "basebackup"]);
        options.create_replica_methods = vec!["own".to_owned()];
        assert_eq!(named(&options, shared), ["own"]);
        let standby = r#"{"standby_cluster":{"host":"h","create_replica_methods":["walg"]}}"#;
        assert_eq!(named(&options, standby), ["walg"]);
        assert_eq!(named(&options, r#"{"standby_cluster":{"port":5432}}"#), ["basebackup"]);
        assert_eq!(named(&options, r#"{"standby_cluster":{"host":""}}"#), ["own"]);
    }
}
