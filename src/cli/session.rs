//! What every command over a cluster begins with: its settings, the DCS, a look at the cluster, and a client for the
//! members' REST APIs.

use super::console::{Console, Outcome, Stop, Verdict};
use super::dcs_url;
use super::members;
use super::rest::{Answer, NoAnswer, Request, Rest, SHORT};
use super::selection::{RoleFilter, select};
use crate::settings::{self, ClientSettings};
use awc::http::Method;
use clap::Args;
use pgherd_dcs::{Dcs, EtcdOptions};
use pgherd_types::{Cluster, Member, MemberName, Refused, Settings, SyncMode};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// How long etcd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name the program was called by; `patronictl` is a link to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CalledAs {
    /// A refusal by a member is a failure.
    Pgherd,
    /// A refusal by a member is printed, and is no failure.
    Patronictl,
}

impl CalledAs {
    /// From the first argument of the process.
    pub fn of(program: Option<&OsStr>) -> Self {
        let name = program.and_then(|program| Path::new(program).file_name());
        if name.is_some_and(|name| name == "patronictl") { Self::Patronictl } else { Self::Pgherd }
    }

    /// The exit code (docs/cli.md).
    pub fn exit_code(self, outcome: &Outcome) -> u8 {
        match (outcome, self) {
            (Err(Stop::Usage(_)), _) => 2,
            (Ok(Verdict::Done), _) | (Ok(Verdict::Refused), Self::Patronictl) => 0,
            (Ok(Verdict::Refused), Self::Pgherd) | (Ok(Verdict::Unreachable) | Err(_), _) => 1,
        }
    }
}

/// Where the cluster is.
#[derive(Args, Clone, Default, PartialEq, Eq, Debug)]
pub struct Connection {
    /// The YAML file that says where the DCS is and which cluster is meant by default; an agent's file will do. Without
    /// it PATRONICTL_CONFIG_FILE, else ~/.config/patroni/patronictl.yaml if that exists.
    #[arg(short = 'c', long = "config-file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The DCS, `[etcd3://][host][:port][/namespace]` (or `etcd://` for its v2 API), instead of what the file says. Without it DCS_URL.
    #[arg(short = 'd', long = "dcs-url", alias = "dcs", value_name = "URL")]
    dcs_url: Option<String>,
    /// Do not check the certificates of members.
    #[arg(short = 'k', long)]
    insecure: bool,
}

impl Connection {
    /// These, and where they say nothing those.
    pub fn or(&self, other: &Self) -> Self {
        Self {
            config: self.config.clone().or_else(|| other.config.clone()),
            dcs_url: self.dcs_url.clone().or_else(|| other.dcs_url.clone()),
            insecure: self.insecure || other.insecure,
        }
    }
}

/// Everything a command works with.
pub struct Session<'a> {
    /// Where it speaks.
    pub console: &'a Console,
    /// The environment.
    pub variables: HashMap<String, String>,
    /// The members' APIs.
    pub rest: Rest,
    called_as: CalledAs,
    settings: ClientSettings,
}

impl<'a> Session<'a> {
    /// Reads the settings; talks to nobody yet.
    pub fn begin(
        called_as: CalledAs,
        connection: &Connection,
        variables: impl IntoIterator<Item = (String, String)>,
        console: &'a Console,
    ) -> Result<Self, Stop> {
        let variables: HashMap<_, _> = variables.into_iter().collect();
        let given = |name: &str| variables.get(name).filter(|text| !text.is_empty());
        let explicit = connection.config.clone().or_else(|| given("PATRONICTL_CONFIG_FILE").map(PathBuf::from));
        if let Some(file) = explicit.as_ref().filter(|file| !readable(file)) {
            let text = "not existing or no read rights. Check the -c/--config-file parameter";
            return Err(Stop::Error(format!("Provided config file {} {text}", file.display())));
        }
        let home = || given("HOME").map(|home| Path::new(home).join(".config/patroni/patronictl.yaml"));
        let file = explicit.or_else(|| home().filter(|file| readable(file)));
        let url = connection.dcs_url.as_ref().or_else(|| given("DCS_URL"));
        let url = url.map(|url| dcs_url::parse(url)).transpose().map_err(Stop::Error)?;
        let over = url.map(|url| settings::OtherDcs { section: url.section, host: url.host, namespace: url.namespace });
        let settings = settings::load_client(file.as_deref(), variables.clone(), over);
        let settings = settings.map_err(|e| Stop::Error(e.to_string()))?;
        let mut ctl = settings.ctl.clone();
        if connection.insecure {
            ctl.tls.get_or_insert_default().insecure = true;
        }
        let rest = Rest::new(ctl);
        Ok(Self { console, variables, rest, called_as, settings })
    }

    /// The cluster that was named, else the settings' own.
    pub fn scope(&self, named: Option<&String>) -> Result<String, Stop> {
        let scope = named.or(self.settings.scope.as_ref()).cloned();
        scope.ok_or_else(|| Stop::error("no cluster was named, and the settings have no scope"))
    }

    /// The clusters that were named, else the settings' own, if any.
    pub fn scopes(&self, named: &[String]) -> Vec<String> {
        if named.is_empty() { self.settings.scope.iter().cloned().collect() } else { named.to_vec() }
    }

    /// Was the program called by its own name?
    pub fn is_pgherd(&self) -> bool {
        self.called_as == CalledAs::Pgherd
    }

    /// The DCS of one cluster.
    pub fn dcs(&self, scope: &str) -> Result<Rc<dyn Dcs>, Stop> {
        let Some(etcd3) = &self.settings.etcd3 else {
            let text = "Can not find suitable configuration of distributed configuration store";
            return Err(Stop::Error(format!("{text}\nAvailable implementations: etcd, etcd3")));
        };
        Ok(pgherd_dcs::open(&EtcdOptions {
            server: etcd3.server().map_err(Stop::Error)?.shared(),
            namespace: self.settings.namespace.clone(),
            scope: scope.to_owned(),
            // No member's key is written, so no member's name is needed.
            member: MemberName::default(),
            api: etcd3.api,
        }))
    }

    /// What the DCS says of a cluster now.
    pub async fn cluster(&self, scope: &str) -> Result<Cluster, Stop> {
        let reading = self.dcs(scope)?.read(deadline()).await;
        reading.map(|reading| reading.cluster).map_err(|why| self.dcs_error(&format!("read the cluster {scope}"), why))
    }

    /// An error of the DCS in words.
    pub fn dcs_error(&self, doing: &str, refused: Refused) -> Stop {
        let why = match refused {
            Refused::Denied(why) | Refused::Unreachable(why) => why,
            Refused::Compare => "it was changed meanwhile".to_owned(),
            Refused::Absent | Refused::LeaseGone => "etcd gave an answer that was not asked for".to_owned(),
        };
        let hosts = self.settings.etcd3.as_ref().map(settings::etcd3::Etcd3::names).unwrap_or_default();
        Stop::Error(format!("cannot {doing} at {hosts}: {why}"))
    }

    /// Changes the dynamic configuration through the leader's API, else through that of whoever answers.
    pub async fn patch_config(&self, cluster: &Cluster, change: &Value) -> Result<Answer, Stop> {
        let request = Request { method: Method::PATCH, path: "/config", body: Some(change.clone()), patience: SHORT };
        let members = leader_first(cluster);
        let answered = self.ask_by_turns(&members, &request, "Can not find accessible cluster member").await;
        answered.map(|(_, answer)| answer)
    }

    /// The first of these members that answers, and its answer; the error is `nobody` and what was tried.
    pub async fn ask_by_turns<'m>(
        &self,
        members: &[&'m Member],
        request: &Request<'_>,
        nobody: &str,
    ) -> Result<(&'m Member, Answer), Stop> {
        let mut tried = Vec::new();
        for member in members {
            match self.rest.ask(member, request.clone()).await {
                Ok(answer) => return Ok((member, answer)),
                Err(why) => tried.push(format!("{}: {}", member.name, why.text())),
            }
        }
        let tried = if tried.is_empty() { "the cluster has no members".to_owned() } else { tried.join("; ") };
        Err(Stop::Error(format!("{nobody} ({tried})")))
    }

    /// Prints the members and what else is to be known.
    pub fn print_members(&self, scope: &str, cluster: &Cluster) -> Result<(), Stop> {
        self.console.say(members::members_table(scope, cluster, false).to_string())?;
        self.lines_below(cluster).iter().try_for_each(|line| self.console.say(line))
    }

    /// What is printed below a table of members; `patronictl` knows nothing of waiting for members.
    pub fn lines_below(&self, cluster: &Cluster) -> Vec<String> {
        let waiting = members::waiting_line(cluster).filter(|_| self.is_pgherd());
        members::service_lines(cluster).into_iter().chain(waiting).collect()
    }

    /// A request that got no answer, as a line; the next member may be asked.
    pub fn note_no_answer(&self, doing: &str, why: &NoAnswer) -> Result<Verdict, Stop> {
        self.console.say(format!("Failed: {doing}, {}", why.text()))?;
        Ok(Verdict::Unreachable)
    }
}

/// When etcd must have answered.
pub fn deadline() -> pgherd_types::Instant {
    pgherd_clock::boottime() + PATIENCE
}

fn readable(path: &Path) -> bool {
    path.is_dir() || std::fs::File::open(path).is_ok()
}

/// The dynamic configuration; empty if there is none.
pub fn dynamic(cluster: &Cluster) -> Map<String, Value> {
    let text = cluster.config.as_ref().map_or("{}", |config| config.text.as_str());
    serde_json::from_str(text).unwrap_or_default()
}

/// Is maintenance mode on?
pub fn paused(cluster: &Cluster) -> bool {
    dynamic(cluster).get("pause") == Some(&Value::Bool(true))
}

/// The synchronous mode asked for, as agents read it.
pub fn sync_mode(cluster: &Cluster) -> SyncMode {
    let text = cluster.config.as_ref().map_or("{}", |config| config.text.as_str());
    let read = pgherd_actors::dynamic_settings::read(text, &Settings::default(), true);
    read.map_or(SyncMode::Off, |checked| checked.settings.sync_mode())
}

/// `loop_wait`, in seconds.
pub fn loop_wait_s(cluster: &Cluster) -> u64 {
    dynamic(cluster).get("loop_wait").and_then(Value::as_u64).unwrap_or(10)
}

/// The member that is named, else every member with the leader first: who is asked about itself.
pub fn named_or_leader_first<'c>(
    scope: &str,
    cluster: &'c Cluster,
    named: Option<&String>,
) -> Result<Vec<&'c Member>, Stop> {
    match named {
        Some(name) => select(scope, cluster, std::slice::from_ref(name), RoleFilter::Any, "any"),
        None => Ok(leader_first(cluster)),
    }
}

/// Every member with the leader first: who can be asked something about the whole cluster.
pub fn leader_first(cluster: &Cluster) -> Vec<&Member> {
    let leader = cluster.leader_member();
    let others = cluster.members.values().filter(|member| leader.is_none_or(|leader| leader.name != member.name));
    leader.into_iter().chain(others).collect()
}
