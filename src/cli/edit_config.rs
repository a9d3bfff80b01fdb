//! `edit-config`: changes the dynamic configuration, after showing the difference, if nobody else changed it meanwhile.

use super::config_change::{Setting, difference, merge};
use super::console::{Outcome, Stop, Verdict};
use super::session::{Session, deadline};
use super::{editor, pager, yaml_text};
use clap::Args;
use pgherd_types::{DcsWrite, Refused};
use serde_json::{Map, Value};

/// What to change. Without any of the first four an editor opens.
#[derive(Args)]
pub struct EditConfigArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// A setting by its dotted path, with a YAML value; null removes it.
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same for a PostgreSQL parameter by its name.
    #[arg(short, long = "pg", value_name = "NAME=VALUE")]
    pg: Vec<String>,
    /// Merge the YAML of a file (`-`: of standard input) into the configuration.
    #[arg(long, value_name = "FILE")]
    apply: Option<String>,
    /// Replace the configuration by the YAML of a file (`-`: of standard input).
    #[arg(long, value_name = "FILE")]
    replace: Option<String>,
    /// Do not show the difference.
    #[arg(short, long)]
    quiet: bool,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

impl EditConfigArguments {
    fn names_a_change(&self) -> bool {
        self.apply.is_some() || self.replace.is_some() || !self.set.is_empty() || !self.pg.is_empty()
    }
    fn reads_input(&self) -> bool {
        [&self.apply, &self.replace].into_iter().flatten().any(|file| file == "-")
    }
}

/// Runs the command.
pub async fn edit_config(session: &Session<'_>, arguments: &EditConfigArguments) -> Outcome {
    let scope = session.scope(arguments.cluster.as_ref())?;
    let cluster = session.cluster(&scope).await?;
    let Some(stored) = &cluster.config else {
        return Err(Stop::Error(format!("The config key does not exist in the cluster {scope}")));
    };
    let old: Value = serde_json::from_str(&stored.text).unwrap_or(Value::Null);
    let old_text = yaml_text::block(&old);
    let new = match arguments.names_a_change() {
        true => Value::Object(changed(session, arguments, old.as_object().cloned().unwrap_or_default()).await?),
        false => map("the edited text", &editor::edit(&session.variables, &scope, &old_text)?)?.into(),
    };
    if new == old {
        session.console.say("Not changed")?;
        return Ok(Verdict::Done);
    }
    if !arguments.quiet {
        let shown = difference(&old_text, &yaml_text::block(&new), session.console.terminal);
        match session.console.terminal {
            true => pager::show(&session.variables, &shown)?,
            false => session.console.write(&shown)?,
        }
    }
    if arguments.reads_input() && !arguments.force {
        session.console.say("Use --force option to apply changes")?;
        return Ok(Verdict::Refused);
    }
    if !arguments.force && !session.console.confirm("Apply these changes?").await? {
        return Ok(Verdict::Done);
    }
    let write = DcsWrite::ReplaceConfig { text: new.to_string(), seen: stored.mod_revision };
    match session.dcs(&scope)?.write(None, write, deadline()).await {
        Ok(()) => session.console.say("Configuration changed")?,
        Err(Refused::Compare) => return Err(Stop::error("Config modification aborted due to concurrent changes")),
        Err(why) => return Err(session.dcs_error("write the configuration", why)),
    }
    Ok(Verdict::Done)
}

/// Replace, then apply, then set.
async fn changed(
    session: &Session<'_>,
    arguments: &EditConfigArguments,
    mut config: Map<String, Value>,
) -> Result<Map<String, Value>, Stop> {
    if let Some(file) = &arguments.replace {
        config = read(session, file).await?;
    }
    if let Some(file) = &arguments.apply {
        merge(&mut config, &read(session, file).await?);
    }
    let own = arguments.set.iter().map(|text| Setting::parse(text));
    for setting in own.chain(arguments.pg.iter().map(|text| Setting::parse_parameter(text))) {
        setting.and_then(|setting| setting.apply(&mut config)).map_err(Stop::Error)?;
    }
    Ok(config)
}

async fn read(session: &Session<'_>, file: &str) -> Result<Map<String, Value>, Stop> {
    let text = match file {
        "-" => session.console.rest_of_input().await?,
        file => std::fs::read_to_string(file).map_err(|e| Stop::Error(format!("cannot read {file}: {e}")))?,
    };
    map(if file == "-" { "standard input" } else { file }, &text)
}

fn map(origin: &str, text: &str) -> Result<Map<String, Value>, Stop> {
    match yaml_text::read(origin, text).map_err(Stop::Error)? {
        Value::Object(map) => Ok(map),
        _ => Err(Stop::Error(format!("{origin}: a configuration is a map of settings"))),
    }
}
