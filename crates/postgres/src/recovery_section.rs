//! The recovery section of the main configuration file: whom a standby follows, and the user's own recovery parameters,
//! which are always there, so that a server that becomes a standby one day has them (spec/postgres-control.md 5.7).

use crate::config_files::{RECOVERY_HEAD, render};
use crate::conninfo::{host_and_port, pair};
use crate::error::Outcome;
use crate::options::PostgresOptions;
use crate::passfile;
use crate::server::Postgres;
use crate::server_config::ServerConfig;
use pgherd_types::{MemberName, Upstream};
use std::collections::BTreeMap;

/// What the recovery section shall say.
pub(crate) enum Recovery<'a> {
    /// What it says now, with the configuration in force.
    Keep,
    /// The user's parameters only: the server is or becomes primary.
    Primary,
    /// Follow this member, or nobody.
    Standby(Option<&'a Upstream>),
}

/// Targets that would end or stop replay.
const TARGETS: [&str; 5] =
    ["recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"];

/// Keywords of `primary_conninfo` behind host and port, in the order they are written.
const KEYWORDS: [&str; 14] = [
    "sslmode",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "application_name",
    "krbsrvname",
    "gssencmode",
    "channel_binding",
    "target_session_attrs",
    "sslnegotiation",
];
/// The first version whose libpq knows `channel_binding`.
const CHANNEL_BINDING_SINCE: u32 = 13;

/// The section as text; `old` is the whole file as it is.
pub(crate) fn section(
    server: &Postgres,
    config: &ServerConfig,
    recovery: &Recovery<'_>,
    old: &str,
    major_version: u32,
) -> Outcome<String> {
    let kept;
    let upstream = match recovery {
        Recovery::Primary => return Ok(render(&config.recovery)),
        Recovery::Standby(upstream) => *upstream,
        Recovery::Keep => match kept_upstream(old) {
            None => return Ok(render(&config.recovery)),
            Some(upstream) => {
                kept = upstream;
                kept.as_ref()
            }
        },
    };
    Ok(render(&standby_parameters(server, config, upstream, major_version)?))
}

/// Whom the present file follows; `None` if it is not a standby's.
fn kept_upstream(old: &str) -> Option<Option<Upstream>> {
    let (_, section) = old.split_once(RECOVERY_HEAD)?;
    let value = |wanted: &str| section.lines().find_map(|line| value_in(line, wanted));
    value("recovery_target_timeline")?;
    let upstream = |(host, port)| Upstream { member: MemberName::default(), host, port };
    Some(value("primary_conninfo").and_then(|conninfo| host_and_port(&conninfo)).map(upstream))
}

/// The value that a line of our own file gives this parameter.
pub(crate) fn value_in(line: &str, name: &str) -> Option<String> {
    let quoted = line.strip_prefix(name)?.strip_prefix(" = '")?.strip_suffix('\'')?;
    Some(quoted.replace("''", "'").replace("\\\\", "\\"))
}

fn standby_parameters(
    server: &Postgres,
    config: &ServerConfig,
    upstream: Option<&Upstream>,
    major_version: u32,
) -> Outcome<BTreeMap<String, String>> {
    let mut section = config.recovery.clone();
    let mut set = |name: &str, value: String| drop(section.insert(name.to_owned(), value));
    set("recovery_target_timeline", "latest".to_owned());
    for name in TARGETS {
        set(name, String::new());
    }
    if let Some(upstream) = upstream {
        let remote = config.standby_cluster.as_ref().filter(|it| it.is_remote(&upstream.host, upstream.port));
        let slot = match remote {
            None => config.use_slots.then(|| server.options.name.slot_name()),
            Some(remote) => remote.slot.clone(),
        };
        let must_write = remote.is_some() && slot.is_some() && upstream.host.contains(',');
        set("primary_conninfo", primary_conninfo(server, upstream, must_write, major_version)?);
        if let Some(slot) = slot {
            set("primary_slot_name", slot);
        }
        if let Some(delay) = remote.and_then(|remote| remote.recovery_min_apply_delay.clone()) {
            set("recovery_min_apply_delay", delay);
        }
    }
    Ok(section)
}

/// Also writes the password file it names. Among several hosts `must_write` finds the primary, the only one that has the
/// slot.
fn primary_conninfo(server: &Postgres, upstream: &Upstream, must_write: bool, major_version: u32) -> Outcome<String> {
    let options = server.current();
    let who = &options.replication;
    let user = options.user_of(who);
    let passfile = options.pgpass.clone().unwrap_or_else(|| server.state.path().join("pgpass.replication"));
    let has_password = passfile::write(&passfile, &upstream.host, upstream.port, &user, who, options.run_as)?;
    let mut parts = vec![pair("dbname", &options.database), pair("user", &user)];
    if has_password {
        parts.push(pair("passfile", &passfile.display().to_string()));
    }
    parts.push(pair("host", &upstream.host));
    parts.push(pair("port", &upstream.port.to_string()));
    let mut keywords = keywords(&options, major_version);
    if must_write {
        keywords.insert("target_session_attrs", "read-write");
    }
    parts.extend(KEYWORDS.iter().filter_map(|keyword| Some(pair(keyword, keywords.get(keyword)?))));
    Ok(parts.join(" "))
}

fn keywords(options: &PostgresOptions, major_version: u32) -> BTreeMap<&str, &str> {
    let mut all = BTreeMap::from([("sslmode", "prefer"), ("gssencmode", "prefer")]);
    if major_version >= CHANNEL_BINDING_SINCE {
        all.insert("channel_binding", "prefer");
    }
    all.extend(options.krbsrvname.iter().map(|service| ("krbsrvname", service.as_str())));
    all.extend(options.replication.extra.iter().map(|(keyword, value)| (keyword.as_str(), value.as_str())));
    all.insert("application_name", options.name.as_str());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_file_tells_whom_it_follows() {
        let conninfo = pair("passfile", "/a b'c\\d") + " host=10.0.0.1 port=5433";
        let section = BTreeMap::from([
            ("primary_conninfo".to_owned(), conninfo),
            ("recovery_target_timeline".to_owned(), "latest".to_owned()),
        ]);
        let file = |section: &str| format!("work_mem = '1MB'\n\n{RECOVERY_HEAD}{section}");
        let upstream = kept_upstream(&file(&render(&section))).unwrap().unwrap();
        assert_eq!((upstream.host.as_str(), upstream.port), ("10.0.0.1", 5433));
        assert_eq!(kept_upstream(&file("recovery_target_timeline = 'latest'\n")), Some(None));
        assert_eq!(kept_upstream(&file("restore_command = 'cp'\n")), None);
        assert_eq!(kept_upstream("recovery_target_timeline = 'latest'\n"), None);
    }

    #[test]
    fn keywords_have_defaults_and_an_order() {
        let mut options = PostgresOptions::new("b.2".into(), "batman", Path::new("/data"));
        let text = |options: &PostgresOptions, version| {
            let all = keywords(options, version);
            KEYWORDS.iter().filter_map(|k| Some(pair(k, all.get(k)?))).collect::<Vec<_>>().join(" ")
        };
        let usual = "sslmode=prefer application_name=b.2 gssencmode=prefer channel_binding=prefer";
        assert_eq!(text(&options, 15), usual);
        options.krbsrvname = Some("pg".to_owned());
        options.replication.extra.insert("sslmode".to_owned(), "require".to_owned());
        options.replication.extra.insert("sslcert".to_owned(), "/c".to_owned());
        let more = "sslmode=require sslcert=/c application_name=b.2 krbsrvname=pg gssencmode=prefer";
        assert_eq!(text(&options, 12), more);
    }
}
