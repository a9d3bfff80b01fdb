//! Which scripts there are: the local configuration counts over the dynamic one, key by key (spec/configuration.md 2).

use pgherd_types::CallbackAction;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a callback may take where nothing is said.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(60);
/// Longer times are mistakes.
const SECONDS_MAX: u64 = 86_400;

/// The commands of `postgresql.callbacks`, each as program and arguments.
pub type CallbackCommands = BTreeMap<CallbackAction, Vec<String>>;

/// The scripts in force, each as program and arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scripts {
    /// `postgresql.callbacks`.
    pub callbacks: CallbackCommands,
    /// How long one of them may take.
    pub callback_timeout: Duration,
    /// `postgresql.pre_promote`; empty when there is none.
    pub pre_promote: Vec<String>,
    /// `postgresql.before_stop`; empty when there is none.
    pub before_stop: Vec<String>,
}

impl Default for Scripts {
    fn default() -> Self {
        LocalScripts::default().over(Self::none())
    }
}

/// What the local configuration says of them; what it does not say is left to the dynamic one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalScripts {
    /// As in [`Scripts`].
    pub callbacks: Option<CallbackCommands>,
    /// As in [`Scripts`].
    pub callback_timeout: Option<Duration>,
    /// As in [`Scripts`].
    pub pre_promote: Option<Vec<String>>,
    /// As in [`Scripts`].
    pub before_stop: Option<Vec<String>>,
}

impl LocalScripts {
    /// The scripts in force.
    pub(crate) fn over(&self, shared: Scripts) -> Scripts {
        let local = self.clone();
        Scripts {
            callbacks: local.callbacks.unwrap_or(shared.callbacks),
            callback_timeout: local.callback_timeout.unwrap_or(shared.callback_timeout),
            pre_promote: local.pre_promote.unwrap_or(shared.pre_promote),
            before_stop: local.before_stop.unwrap_or(shared.before_stop),
        }
    }
}

impl Scripts {
    fn none() -> Self {
        let (callbacks, none) = (BTreeMap::new(), Vec::new());
        Self { callbacks, callback_timeout: CALLBACK_TIMEOUT, pre_promote: none.clone(), before_stop: none }
    }

    /// Those of the section `postgresql` of the dynamic configuration; the error begins with the key.
    pub(crate) fn of_section(section: &Map<String, Value>) -> Result<Self, String> {
        let none = Self::none();
        Ok(Self {
            callbacks: callbacks(section.get("callbacks"))?,
            callback_timeout: timeout(section.get("callback_timeout"))?.unwrap_or(none.callback_timeout),
            pre_promote: command("pre_promote", section.get("pre_promote"))?,
            before_stop: command("before_stop", section.get("before_stop"))?,
        })
    }
}

fn callbacks(value: Option<&Value>) -> Result<CallbackCommands, String> {
    let section = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(section)) => section,
        Some(_) => return Err("callbacks must be an object".to_owned()),
    };
    let mut commands = BTreeMap::new();
    for action in CallbackAction::ALL {
        let name = action.as_str();
        let words = command(&format!("callbacks.{name}"), section.get(name))?;
        commands.extend((!words.is_empty()).then_some((action, words)));
    }
    Ok(commands)
}

fn command(key: &str, value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => {
            shlex::split(text).ok_or_else(|| format!("{key} has a quote or a backslash without its end"))
        }
        Some(_) => Err(format!("{key} must be a command")),
    }
}

fn timeout(value: Option<&Value>) -> Result<Option<Duration>, String> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(other) => other.as_u64(),
    };
    let usable = seconds.filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
    let wrong = || format!("callback_timeout must be between 1 and {SECONDS_MAX} seconds");
    usable.map(|seconds| Some(Duration::from_secs(seconds))).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(section: &str) -> Result<Scripts, String> {
        Scripts::of_section(serde_json::from_str::<Value>(section).unwrap().as_object().unwrap())
    }

    #[test]
    fn each_key_of_the_local_configuration_counts_as_a_whole() {
        let text =
            r#"{"callbacks":{"on_start":"/x start","on_stop":"/x 'a b'"},"callback_timeout":"5","before_stop":"/s"}"#;
        let section = shared(text).unwrap();
        assert_eq!(LocalScripts::default().over(section.clone()), section);
        assert_eq!(section.callbacks[&CallbackAction::OnStop], ["/x", "a b"]);
        assert_eq!((section.callback_timeout, section.pre_promote.len()), (Duration::from_secs(5), 0));
        let callbacks = [(CallbackAction::OnReload, vec!["/own".to_owned()])];
        let local = LocalScripts {
            callbacks: Some(callbacks.clone().into()),
            before_stop: Some(Vec::new()),
            ..LocalScripts::default()
        };
        let scripts = local.over(section);
        assert_eq!(scripts.callbacks, callbacks.into(), "no merge of single actions");
        assert!(scripts.before_stop.is_empty(), "an empty one means none");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (section, key) in [
            (r#"{"callbacks":[]}"#, "callbacks must"),
            (r#"{"callbacks":{"on_start":1}}"#, "callbacks.on_start must"),
            (r#"{"before_stop":"'"}"#, "before_stop has"),
            (r#"{"callback_timeout":0}"#, "callback_timeout must"),
        ] {
            let why = shared(section).unwrap_err();
            assert!(why.starts_with(key), "{why}");
        }
        assert_eq!(shared("{}").unwrap(), Scripts::default());
    }
}
