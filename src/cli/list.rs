//! `list` and `topology`: the members of one or more clusters, read from the DCS. Standard error stays empty on success.

use super::console::{Outcome, Stop, Verdict};
use super::members::{members_json, members_table, members_tsv, members_yaml, topology_table};
use super::schedule;
use super::session::Session;
use clap::{Args, ValueEnum};
use pgherd_types::Cluster;
use std::time::Duration;

/// What to list, and how.
#[derive(Args)]
pub struct ListArguments {
    /// The clusters; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Show pending and scheduled restarts and tags even if no member has any.
    #[arg(short, long)]
    extended: bool,
    /// Print the local time first.
    #[arg(short, long)]
    timestamp: bool,
    #[command(flatten)]
    again: Again,
}

/// What to show.
#[derive(Args)]
pub struct TopologyArguments {
    /// The clusters; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
    #[command(flatten)]
    again: Again,
}

/// Whether to look again.
#[derive(Args)]
pub struct Again {
    /// Repeat every so many seconds, until Ctrl-C.
    #[arg(short = 'w', long, value_name = "SECONDS")]
    watch: Option<f64>,
    /// Repeat every 2 seconds.
    #[arg(short = 'W')]
    watch_2s: bool,
}

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// A table.
    Pretty,
    /// One line of JSON for each cluster.
    Json,
    /// Tab-separated lines.
    Tsv,
    /// YAML.
    #[value(alias = "yml")]
    Yaml,
}

/// Clears the screen and puts the cursor into its corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

impl Again {
    fn pause(&self) -> Result<Option<Duration>, Stop> {
        let seconds = self.watch.or_else(|| self.watch_2s.then_some(2.0));
        let bad = |_| Stop::error("--watch must be a number of seconds, not below zero");
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(bad)
    }
}

/// Runs `list`.
pub async fn list(session: &Session<'_>, arguments: &ListArguments) -> Outcome {
    let scopes = session.scopes(&arguments.clusters);
    shown_again(session, &scopes, &arguments.again, arguments.timestamp, |scope, cluster| {
        members_text(session, scope, cluster, arguments.format, arguments.extended)
    })
    .await
}

/// Runs `topology`.
pub async fn topology(session: &Session<'_>, arguments: &TopologyArguments) -> Outcome {
    let scopes = session.scopes(&arguments.clusters);
    shown_again(session, &scopes, &arguments.again, false, |scope, cluster| {
        with_lines_below(session, topology_table(scope, cluster).to_string(), cluster)
    })
    .await
}

/// The members in that form.
pub fn members_text(session: &Session, scope: &str, cluster: &Cluster, format: Format, extended: bool) -> String {
    match format {
        Format::Json => members_json(scope, cluster, extended),
        Format::Tsv => members_tsv(scope, cluster, extended),
        Format::Yaml => members_yaml(scope, cluster, extended),
        Format::Pretty => with_lines_below(session, members_table(scope, cluster, extended).to_string(), cluster),
    }
}

fn with_lines_below(session: &Session, table: String, cluster: &Cluster) -> String {
    [table].into_iter().chain(session.lines_below(cluster)).collect::<Vec<_>>().join("\n")
}

async fn shown_again(
    session: &Session<'_>,
    scopes: &[String],
    again: &Again,
    timestamp: bool,
    text: impl Fn(&str, &Cluster) -> String,
) -> Outcome {
    let pause = again.pause()?;
    if scopes.is_empty() {
        session.console.complain("Warning: no cluster was named, and the settings have no scope");
        return Ok(Verdict::Done);
    }
    loop {
        if pause.is_some() && session.console.terminal {
            session.console.write(CLEAR)?;
        }
        if timestamp {
            session.console.say(schedule::stamp_seconds())?;
        }
        for scope in scopes {
            session.console.say(text(scope, &session.cluster(scope).await?))?;
        }
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Ok(Verdict::Done),
        }
    }
}
