//! A new cluster from what a program of the user's restores (spec/bootstrap-and-replicas.md 2.2). The program works in the
//! data directory; what it leaves is moved beside it before a server is started from it, so that nobody takes that
//! server for this node's.

use crate::aside::rename_to_new;
use crate::bootstrap::FirstLogin;
use crate::config_backup;
use crate::config_files::{self, Recovery};
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome, Tried};
use crate::in_place;
use crate::methods::{is_true, text};
use crate::options::Credentials;
use crate::private_server::PrivateServer;
use crate::server::Postgres;
use crate::sql::{identifier, literal};
use crate::state_dir::write_private;
use crate::tool::{Tool, file_name, one_time_password};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// One statement in single-user mode.
const SINGLE_USER_PATIENCE: Duration = Duration::from_secs(60);
/// Names of arguments that are given anyway.
const RESERVED: [&str; 2] = ["scope", "datadir"];

/// `bootstrap.<method>`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BootstrapMethod {
    /// Its name.
    pub name: String,
    /// The command line.
    pub command: String,
    /// It is not told scope and directory.
    pub no_params: bool,
    /// What the program wrote about recovery counts.
    pub keep_existing_recovery_conf: bool,
    /// Recovery parameters for the first start.
    pub recovery_conf: Option<BTreeMap<String, String>>,
    /// What else is in its section, in that order, as `--key=value`.
    pub arguments: Vec<(String, String)>,
}

impl BootstrapMethod {
    /// From its section; `None` if that names no command. An error names the key.
    pub fn from_section(name: &str, section: &Map<String, Value>) -> Result<Option<Self>, String> {
        let Some(command) = section.get("command").filter(|v| !v.is_null()) else { return Ok(None) };
        let known = ["command", "no_params", "keep_existing_recovery_conf", "recovery_conf"];
        let others = section.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        let others = others.filter(|(key, _)| !RESERVED.contains(&key.as_str()));
        let recovery_conf = match section.get("recovery_conf") {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => {
                Some(map.iter().map(|(k, v)| Ok((k.to_lowercase(), parameter(k, v)?))).collect::<Result<_, String>>()?)
            }
            Some(_) => return Err("recovery_conf must be a map of parameters".to_owned()),
        };
        Ok(Some(Self {
            name: name.to_owned(),
            command: text("command", command)?,
            no_params: section.get("no_params").is_some_and(is_true),
            keep_existing_recovery_conf: section.get("keep_existing_recovery_conf").is_some_and(is_true),
            recovery_conf,
            arguments: others
                .map(|(key, value)| Ok((key.clone(), text(key, value)?)))
                .collect::<Result<_, String>>()?,
        }))
    }

    fn all_arguments(&self, server: &Postgres) -> Vec<String> {
        let options = &server.options;
        let told = [format!("--scope={}", options.scope), format!("--datadir={}", options.data_dir.display())];
        let own = self.arguments.iter().map(|(key, value)| format!("--{key}={value}"));
        told.into_iter().filter(|_| !self.no_params).chain(own).collect()
    }
}

/// A value as PostgreSQL takes it.
fn parameter(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Bool(flag) => Ok(if *flag { "on" } else { "off" }.to_owned()),
        other => text(key, other),
    }
}

/// Ends with a whole, stopped cluster beside the data directory and a role to log in with.
pub(crate) fn run(
    server: &Postgres,
    method: &BootstrapMethod,
    staging: &Path,
    control: &OperationControl,
) -> Outcome<FirstLogin> {
    restore(server, method, staging, control)?;
    recover(server, method, staging, control)?;
    temporary_superuser(server, staging)
}

fn restore(server: &Postgres, method: &BootstrapMethod, staging: &Path, control: &OperationControl) -> Outcome<()> {
    log::info!("running custom bootstrap script {}", method.name);
    let work = in_place::begin(server, false, true)?;
    let ran = Tool {
        what: format!("custom bootstrap failed: the method {}", method.name),
        command: &method.command,
        arguments: method.all_arguments(server),
        env: Vec::new(),
        operation: "bootstrap",
        log: format!("bootstrap.{}.log", file_name(&method.name)),
    }
    .run(server, control)
    .and_then(|()| in_place::require_data(&server.options.data_dir, &format!("the bootstrap method {}", method.name)))
    .and_then(|()| server.require_stopped())
    .and_then(|()| rename_to_new(&server.place(), staging));
    match ran {
        Ok(()) => work.succeeded(server),
        Err(e) => {
            server.kill_all()?;
            work.failed(server).and(Err(e))
        }
    }
}

fn recover(server: &Postgres, method: &BootstrapMethod, dir: &Path, control: &OperationControl) -> Outcome<()> {
    for leftover in ["postmaster.pid", "postmaster.opts", "promote"] {
        let _ = fs::remove_file(dir.join(leftover));
    }
    config_backup::restore(server, dir)?;
    let mut config = server.config();
    config.recovery = method.recovery_conf.clone().unwrap_or_default();
    let standby = config.recovery.remove("standby_mode").is_some_and(|v| is_true(&Value::String(v)));
    for name in ["recovery_target_action", "pause_at_recovery_target", "trigger_file", "promote_trigger_file"] {
        if config.recovery.remove(name).is_some_and(|value| value != "promote") {
            log::warn!(
                "{name} has no effect in bootstrap.{}.recovery_conf: recovery ends with a promotion",
                method.name
            );
        }
    }
    if method.recovery_conf.is_some() || !method.keep_existing_recovery_conf {
        config_files::clean_auto_conf(server, dir)?;
        config_files::set_standby_signal(server, dir, false)?;
    }
    if method.recovery_conf.is_some() {
        let signal = if standby { "standby.signal" } else { "recovery.signal" };
        write_private(&dir.join(signal), "", server.options.run_as)?;
    }
    config_files::write_at(server, dir, &config, Recovery::Primary)?;
    PrivateServer::recover(server, dir, control)
        .map_err(|e| e.named("custom bootstrap failed: the restored cluster did not recover"))?;
    config_files::clean_auto_conf(server, dir)?;
    config_files::set_standby_signal(server, dir, false)?;
    archive_history(server, dir)
}

/// History files that were made while nothing was archived are to be archived later.
fn archive_history(server: &Postgres, dir: &Path) -> Outcome<()> {
    let wal = dir.join("pg_wal");
    for entry in fs::read_dir(&wal).tried(|| format!("read {}", wal.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let status = wal.join("archive_status");
        let known = ["ready", "done"].iter().any(|end| status.join(format!("{name}.{end}")).exists());
        if name.ends_with(".history") && !known {
            write_private(&status.join(format!("{name}.ready")), "", server.options.run_as)?;
        }
    }
    Ok(())
}

/// Nobody's password is known in a restored cluster, and nobody is let in without: a role for this moment is made in
/// single-user mode, which no other process can reach.
fn temporary_superuser(server: &Postgres, dir: &Path) -> Outcome<FirstLogin> {
    let password = one_time_password()?;
    let name = format!("pgherd_bootstrap_{}", &one_time_password()?[..8]);
    let (role, secret) = (identifier(&name), literal(&password));
    let text = format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD{secret}\n");
    let file = server.state.path().join("single_user.sql");
    write_private(&file, &text, server.options.run_as)?;
    let input = File::open(&file).tried(|| format!("open {}", file.display()))?;
    let arguments = |command: &mut Command| {
        command.arg("--single").arg("-D").arg(dir).args(["-c", "log_statement=none", "-c", "archive_mode=off"]);
        command.args(["-c", "log_min_error_statement=panic", "-c", "log_min_duration_statement=-1", "template1"]);
        command.stdin(Stdio::from(input));
    };
    let said = server.options.run_short("postgres", arguments, SINGLE_USER_PATIENCE);
    let _ = fs::remove_file(&file);
    let said = said?;
    if !said.success {
        return Err(OperationError::failed(format!(
            "custom bootstrap failed: single-user mode did not work: {}",
            said.quote()
        )));
    }
    let who = Credentials { username: Some(name), password: Some(password), ..Credentials::default() };
    Ok(FirstLogin { who, temporary: true, unflushed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_section_is_understood() {
        let section = serde_json::json!({
            "command": "restore.sh --x", "keep_existing_recovery_conf": false, "scope": "no", "stanza": "main",
            "recovery_conf": {"recovery_target_timeline": "latest", "Standby_Mode": true, "recovery_target_lsn": "0/3"},
        });
        let it = BootstrapMethod::from_section("own", section.as_object().unwrap()).unwrap().unwrap();
        assert_eq!(it.arguments, [("stanza".to_owned(), "main".to_owned())]);
        assert_eq!(it.recovery_conf.unwrap()["standby_mode"], "on");
        assert!(!it.keep_existing_recovery_conf && !it.no_params);
        let none = serde_json::json!({"recovery_conf": {}});
        assert_eq!(BootstrapMethod::from_section("own", none.as_object().unwrap()), Ok(None));
        let wrong = serde_json::json!({"command": "x", "recovery_conf": "y"});
        assert!(
            BootstrapMethod::from_section("own", wrong.as_object().unwrap()).unwrap_err().contains("recovery_conf")
        );
    }
}
