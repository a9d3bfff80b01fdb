//! `show-config`: the dynamic configuration as YAML.

use super::console::{Outcome, Stop, Verdict};
use super::session::Session;
use super::yaml_text;
use clap::Args;

/// Of which cluster.
#[derive(Args)]
pub struct ShowConfigArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
}

/// Runs the command. Without the key nothing is printed.
pub async fn show_config(session: &Session<'_>, arguments: &ShowConfigArguments) -> Outcome {
    let cluster = session.cluster(&session.scope(arguments.cluster.as_ref())?).await?;
    let Some(config) = &cluster.config else { return Ok(Verdict::Done) };
    let value = serde_json::from_str(&config.text);
    let value = value.map_err(|e| Stop::Error(format!("the config key does not hold JSON: {e}")))?;
    session.console.write(&yaml_text::block(&value))?;
    Ok(Verdict::Done)
}
