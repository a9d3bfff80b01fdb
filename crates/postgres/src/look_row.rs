//! What the row of a look (`queries.rs`) says.

use crate::conninfo::host_and_port;
use crate::units;
use pgherd_types::postgres::{SeenSlot, WalSender};
use pgherd_types::{Lsn, RunningServer, SyncReport, Timeline, Xid};
use serde_json::Value;
use std::collections::BTreeSet;
use tokio_postgres::SimpleQueryRow;

/// The server as the row alone shows it; `None` if it cannot be read.
pub(crate) fn running(row: &SimpleQueryRow) -> Option<RunningServer> {
    let text = |name: &str| row.get(name);
    let is = |name: &str| text(name) == Some("t");
    let lsn = |name: &str| text(name).and_then(|t| t.parse::<Lsn>().ok());
    let version = text("version")?.parse().ok()?;
    Some(RunningServer {
        in_recovery: is("in_recovery"),
        history: Vec::new(),
        timeline: text("timeline").and_then(|t| t.parse().ok()).filter(|t| *t > 0).map(Timeline),
        flushed: lsn("flushed").unwrap_or_default(),
        received: lsn("received").unwrap_or_default(),
        replayed: lsn("replayed").unwrap_or_default(),
        replayed_timestamp: text("replayed_timestamp").map(str::to_owned),
        replay_paused: is("replay_paused"),
        streaming: is("streaming"),
        latest_end: lsn("latest_end"),
        restore_command: is("restore_command"),
        upstream: text("conninfo").and_then(host_and_port),
        forked_at: None,
        slots: objects(text("slots")).iter().map(slot).collect(),
        slots_gone: BTreeSet::new(),
        sync: sync_report(row),
        walsenders: objects(text("walsenders")).iter().map(walsender).collect(),
        postmaster_start_time: text("start_time").unwrap_or_default().to_owned(),
        server_version: version,
        pending_restart: false,
        pending_restart_reason: Vec::new(),
    })
}

/// The objects of a JSON array.
pub(crate) fn objects(json: Option<&str>) -> Vec<Value> {
    json.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn slot(value: &Value) -> SeenSlot {
    SeenSlot {
        name: text_of(&value["name"]),
        physical: value["physical"].as_bool().unwrap_or(false),
        active: value["active"].as_bool().unwrap_or(false),
        active_pid: pid(&value["active_pid"]),
        restart_lsn: lsn_of(&value["restart_lsn"]),
        database: value["database"].as_str().map(str::to_owned),
        plugin: value["plugin"].as_str().map(str::to_owned),
        confirmed: lsn_of(&value["confirmed"]),
        xmin: pid(&value["xmin"]).map(Xid),
        catalog_xmin: pid(&value["catalog_xmin"]).map(Xid),
        lost: value["lost"].as_bool().unwrap_or(false),
        failover: value["failover"].as_bool().unwrap_or(false),
        synced: value["synced"].as_bool().unwrap_or(false),
        held_bytes: value["held"].as_u64(),
        managed: false,
    }
}

fn walsender(value: &Value) -> WalSender {
    WalSender {
        usename: text_of(&value["usename"]),
        application_name: text_of(&value["application_name"]),
        client_addr: value["client_addr"].as_str().map(str::to_owned),
        state: text_of(&value["state"]),
        sync_state: text_of(&value["sync_state"]),
        sync_priority: value["sync_priority"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
        pid: pid(&value["pid"]).unwrap_or(0),
        written: lsn_of(&value["written"]),
        flushed: lsn_of(&value["flushed"]),
        replayed: lsn_of(&value["replayed"]),
        replied_ms_ago: None,
    }
}

fn sync_report(row: &SimpleQueryRow) -> SyncReport {
    let text = |name: &str| row.get(name).unwrap_or_default();
    let waiting = objects(row.get("sync_waiting"));
    SyncReport {
        names: text("sync_names").to_owned(),
        managed: false,
        user_names: String::new(),
        commit: text("sync_commit").to_owned(),
        status_interval_ms: units::parse(text("status_interval"), "ms").map_or(0, |ms| ms.max(0.0) as u64),
        waiting: waiting.iter().filter_map(|w| Some((pid(&w["pid"])?, text_of(&w["since"])))).collect(),
    }
}

/// A number that is never negative.
pub(crate) fn pid(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok())
}

fn lsn_of(value: &Value) -> Option<Lsn> {
    value.as_str().and_then(|text| text.parse().ok())
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
