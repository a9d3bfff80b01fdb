//! Series of our own: how quickly the node decides and the DCS answers, how long it may lead, what it has seen happen.

use super::page::Page;
use crate::health::server;
use pgherd_types::{Instant, NodeStatus, PRODUCT_VERSION, RunningServer, SyncMode};
use std::time::Duration;

/// Adds them.
pub fn put(page: &mut Page, status: &NodeStatus, now: Instant) {
    let version = vec![("version", PRODUCT_VERSION)];
    page.gauges("pgherd_info", "Value is 1; the label says which version runs.", [(version, 1.0)]);
    let reason = vec![("reason", status.reason.id.as_str())];
    page.gauges("pgherd_reason", "Value is 1; the label says why the node does what it does.", [(reason, 1.0)]);
    put_lead(page, status, now);
    put_times(page, status, now);
    put_counts(page, status);
    put_sync(page, status, server(status, now));
    if let Some(server) = server(status, now) {
        put_slots(page, server);
        put_standbys(page, server);
    }
}

fn put_lead(page: &mut Page, status: &NodeStatus, now: Instant) {
    let left = status.leader_until.map_or(Duration::ZERO, |until| now.until(until));
    page.flag("pgherd_leader", "Value is 1 while this node may say that it leads.", !left.is_zero());
    let help = "For how long this node may say that it leads without another proof, 0 if it may not.";
    page.gauge("pgherd_lease_remaining_seconds", help, left.as_secs_f64());
}

fn put_times(page: &mut Page, status: &NodeStatus, now: Instant) {
    let counts = &status.counts;
    let help = "From a fact to the orders that follow from it.";
    page.times("pgherd_decision_seconds", help, &[(vec![], &counts.decisions)]);
    let requests = [(vec![("request", "renew")], &counts.renewals), (vec![("request", "read")], &counts.readings)];
    page.times("pgherd_dcs_seconds", "How long the DCS took for what it answered.", &requests);
    let lost = status.dcs_lost_since.map_or(Duration::ZERO, |since| now.since(since));
    page.gauge("pgherd_dcs_lost_seconds", "How long the DCS has not answered, 0 if it does.", lost.as_secs_f64());
    let here = status.dcs_survey.leader_here.map(|here| (vec![], f64::from(u8::from(here))));
    page.gauges("pgherd_dcs_leader_here", "Value is 1 if the DCS's own leader runs on this primary's host.", here);
    let troubles = status.dcs_survey.troubles.len();
    page.gauge("pgherd_dcs_troubles", "What the DCS says is wrong with it.", troubles as f64);
    let age = |at: Option<Instant>| at.map(|at| (vec![], now.since(at).as_secs_f64()));
    let read_at = status.cluster.as_ref().map(|(_, at)| *at);
    page.gauges("pgherd_cluster_age_seconds", "Age of the last reading of the cluster.", age(read_at));
    let looked_at = status.postgres.as_ref().map(|postgres| postgres.looked_at);
    page.gauges("pgherd_look_age_seconds", "Age of the last look at PostgreSQL.", age(looked_at));
    page.gauges("pgherd_turn_age_seconds", "Time since the last decision.", age(Some(status.turned_at)));
}

fn put_counts(page: &mut Page, status: &NodeStatus) {
    let counts = &status.counts;
    for (name, help, value) in [
        ("pgherd_failovers_total", "Another member led than before, and nobody asked for it.", counts.failovers),
        (
            "pgherd_planned_leader_changes_total",
            "Another member led than before, by a switchover or failover that was asked for.",
            counts.planned_leader_changes,
        ),
        ("pgherd_promotions_total", "This node was promoted.", counts.promotions),
        ("pgherd_fences_total", "PostgreSQL was ended because no lease allowed it to be writable.", counts.fences),
        ("pgherd_dcs_losses_total", "The DCS ceased to answer.", counts.dcs_losses),
        ("pgherd_refused_sends_total", "Messages between actors that were not taken.", counts.refused_sends),
        (
            "pgherd_invariant_breaches_total",
            "Decisions that would have broken an invariant and were replaced by a safe one.",
            counts.breaches,
        ),
        (
            "pgherd_sync_waits_cancelled_total",
            "Commits that ceased to wait for synchronous standbys although none of these had moved, as far as looks show.",
            counts.sync_waits_cancelled,
        ),
    ] {
        page.counter(name, help, value);
    }
}

fn put_sync(page: &mut Page, status: &NodeStatus, server: Option<&RunningServer>) {
    let mode = match status.settings.sync_mode() {
        SyncMode::Off => 0.0,
        SyncMode::On => 1.0,
        SyncMode::Quorum => 2.0,
    };
    page.gauge("pgherd_sync_mode", "synchronous_mode: 0 off, 1 on, 2 quorum.", mode);
    let cluster = status.cluster.as_ref().map(|(cluster, _)| cluster);
    let key = cluster.and_then(|cluster| cluster.sync.active_in(status.settings.sync_mode()));
    page.flag("pgherd_sync_active", "Value is 1 if the sync key names a leader.", key.is_some());
    let standbys = key.map_or(0, |key| key.standbys.len());
    page.gauge("pgherd_sync_standbys", "Standbys that the sync key lists.", standbys as f64);
    let quorum = key.map_or(0, |key| key.quorum);
    page.gauge("pgherd_sync_quorum", "The sync key's quorum.", f64::from(quorum));
    let waiting = server.map_or(0, |server| server.sync.waiting.len());
    page.gauge("pgherd_sync_commits_waiting", "Commits that wait for standbys, 100 at most.", waiting as f64);
}

fn put_slots(page: &mut Page, server: &RunningServer) {
    let position = server.position();
    let kind = |physical| if physical { "physical" } else { "logical" };
    let labels = |slot: &'_ pgherd_types::postgres::SeenSlot| kind(slot.physical);
    let active = server
        .slots
        .iter()
        .map(|slot| (vec![("slot", slot.name.as_str()), ("type", labels(slot))], f64::from(u8::from(slot.active))));
    page.gauges("pgherd_slot_active", "Value is 1 if a consumer is connected to the slot.", active);
    let retained = server.slots.iter().filter_map(|slot| {
        let bytes = position.ahead_of(slot.restart_lsn?);
        Some((vec![("slot", slot.name.as_str()), ("type", labels(slot))], bytes as f64))
    });
    page.gauges("pgherd_slot_retained_bytes", "WAL that is kept for the slot.", retained);
}

/// Connections may share a name, series may not.
fn put_standbys(page: &mut Page, server: &RunningServer) {
    let mut lags = std::collections::BTreeMap::new();
    for sender in &server.walsenders {
        let Some(flushed) = sender.flushed else { continue };
        let bytes = server.position().ahead_of(flushed);
        let least = lags.entry(sender.application_name.as_str()).or_insert(bytes);
        *least = bytes.min(*least);
    }
    let lags = lags.into_iter().map(|(standby, bytes)| (vec![("standby", standby)], bytes as f64));
    page.gauges("pgherd_standby_lag_bytes", "WAL that a connected standby has not flushed yet.", lags);
}
