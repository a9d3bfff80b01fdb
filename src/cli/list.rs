//! `pgherd list`: the members of one or more clusters, read from the DCS. Standard error stays empty on success.

use super::{fail, members, variables};
use crate::settings::{self, ClientSettings};
use clap::{Args, ValueEnum};
use pgherd_dcs::{Dcs, Etcd3, EtcdOptions};
use pgherd_types::{Cluster, MemberName, Refused};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What to list, and how.
#[derive(Args)]
pub struct ListArguments {
    /// The agent's YAML file: it says where the DCS is, and which cluster is meant by default.
    #[arg(short = 'c', long = "config-file", value_name = "FILE", env = "PATRONICTL_CONFIG_FILE")]
    config: PathBuf,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
    /// Show pending and scheduled restarts and tags even if no member has any.
    #[arg(short, long)]
    extended: bool,
    /// The clusters; by default the one of the file.
    #[arg(value_name = "CLUSTER")]
    clusters: Vec<String>,
}

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table.
    Pretty,
    /// One line of JSON for each cluster.
    Json,
    /// Tab-separated lines.
    Tsv,
}

/// How long etcd may take for one cluster.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
pub fn list(arguments: &ListArguments) -> ExitCode {
    let settings = match settings::load_client(&arguments.config, variables()) {
        Ok(settings) => settings,
        Err(error) => return fail(error),
    };
    let scopes = match (arguments.clusters.is_empty(), &settings.scope) {
        (false, _) => arguments.clusters.clone(),
        (true, Some(scope)) => vec![scope.clone()],
        (true, None) => {
            eprintln!("pgherd: {}: names no scope; name the clusters to list", arguments.config.display());
            return ExitCode::SUCCESS;
        }
    };
    for scope in scopes {
        match actix_rt::System::new().block_on(read(&settings, &scope)) {
            // Whoever reads the list may have seen enough and gone.
            Ok(cluster) if writeln!(std::io::stdout(), "{}", text(&scope, &cluster, arguments)).is_err() => {
                return ExitCode::FAILURE;
            }
            Ok(_) => {}
            Err(why) => return fail(why),
        }
    }
    ExitCode::SUCCESS
}

async fn read(settings: &ClientSettings, scope: &str) -> Result<Cluster, String> {
    let endpoints = &settings.etcd3.endpoints;
    let options = EtcdOptions {
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse()).collect::<Result<_, _>>()?,
        namespace: settings.namespace.clone(),
        scope: scope.to_owned(),
        // Nothing is written, so no member's name is needed.
        member: MemberName::default(),
    };
    let why = match Etcd3::new(&options).read(pgherd_clock::boottime() + PATIENCE).await {
        Ok(reading) => return Ok(reading.cluster),
        Err(refused) => explain(refused),
    };
    Err(format!("cannot read the cluster {scope} from {}: {why}", endpoints.join(", ")))
}

fn explain(refused: Refused) -> String {
    match refused {
        Refused::Denied(why) | Refused::Unreachable(why) => why,
        Refused::Absent | Refused::Compare | Refused::LeaseGone => "etcd gave an answer that no reading has".to_owned(),
    }
}

fn text(scope: &str, cluster: &Cluster, arguments: &ListArguments) -> String {
    match arguments.format {
        Format::Json => members::members_json(scope, cluster, arguments.extended),
        Format::Tsv => members::members_tsv(scope, cluster, arguments.extended),
        Format::Pretty => {
            let table = members::members_table(scope, cluster, arguments.extended).to_string();
            [table].into_iter().chain(members::service_lines(cluster)).collect::<Vec<_>>().join("\n")
        }
    }
}
