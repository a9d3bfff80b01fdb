//! The planned accident: the primary's node is killed under load, and the cost is counted.

use super::nodes::Cluster;
use super::writer::{self, Ledger, connect, rows};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const ROWS_BEFORE: usize = 200;
const ROWS_AFTER: usize = 20;
const RECOVER_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Play it; an error if it did not end as it should.
pub async fn play(cluster: &mut Cluster) -> Result<(), String> {
    let primary = cluster.primary().await.ok_or("no node says that it is the primary")?;
    synchronous(cluster).await?;
    let client = connect(cluster.nodes[primary].pg_port).await?;
    client
        .batch_execute("CREATE TABLE demo (id bigint PRIMARY KEY)")
        .await
        .map_err(|e| format!("create table: {e}"))?;
    let ledger = Ledger::default();
    let ports = cluster.nodes.iter().map(|n| n.pg_port).collect();
    let writing = tokio::spawn(writer::write(ports, ledger.clone()));
    let outcome = accident(cluster, primary, &ledger).await;
    writing.abort();
    outcome
}

async fn accident(cluster: &mut Cluster, primary: usize, ledger: &Ledger) -> Result<(), String> {
    acknowledged(ledger, ROWS_BEFORE).await?;
    let confirmed = confirmed_by_replicas(cluster, primary).await?;
    println!("killing {} (agent and PostgreSQL), the primary, while rows are written", cluster.nodes[primary].name);
    cluster.nodes[primary].kill()?;
    let old = cluster.nodes[primary].pg_port;
    let before = ledger.lock().unwrap_or_else(PoisonError::into_inner).len();
    acknowledged(ledger, before + ROWS_AFTER).await?;
    let entries = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let last =
        entries.iter().rfind(|ack| ack.by == old).map(|ack| ack.at).ok_or("nothing was written before the kill")?;
    let first =
        entries.iter().find(|ack| ack.by != old).map(|ack| ack.at).ok_or("nothing was written after the kill")?;
    let new = cluster.primary().await.ok_or("rows are written but no node says that it is the primary")?;
    let present: BTreeSet<i64> = rows(cluster.nodes[new].pg_port).await?.into_iter().collect();
    cluster.print_members();
    let lost = entries.iter().filter(|ack| ack.by == old && !present.contains(&ack.id)).count();
    let broken: Vec<_> = confirmed.difference(&present).collect();
    println!("new primary: {}", cluster.nodes[new].name);
    println!("writes were down for {:.2} s (ttl is 5 s)", (first - last).as_secs_f64());
    println!("{lost} of {} acknowledged rows are missing (synchronous replication)", entries.len());
    println!("{} rows had been seen on a replica before, {} of them are missing", confirmed.len(), broken.len());
    match (lost, broken.is_empty()) {
        (0, true) => Ok(()),
        _ => Err(format!("{lost} acknowledged rows are missing, and these that a replica had shown: {broken:?}")),
    }
}

/// Waits until a replica is synchronous: from then on what is acknowledged is there, too.
async fn synchronous(cluster: &Cluster) -> Result<(), String> {
    let deadline = Instant::now() + RECOVER_WITHIN;
    loop {
        for node in &cluster.nodes {
            if node.check("/sync").await == Some(200) {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            return Err(format!("no replica became synchronous within {} s", RECOVER_WITHIN.as_secs()));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn acknowledged(ledger: &Ledger, count: usize) -> Result<(), String> {
    let deadline = Instant::now() + RECOVER_WITHIN;
    while ledger.lock().unwrap_or_else(PoisonError::into_inner).len() < count {
        if Instant::now() > deadline {
            return Err(format!("no {count} rows were acknowledged within {} s", RECOVER_WITHIN.as_secs()));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// What the replicas can already show: all of it must survive.
async fn confirmed_by_replicas(cluster: &Cluster, primary: usize) -> Result<BTreeSet<i64>, String> {
    let mut confirmed = BTreeSet::new();
    for (_, node) in cluster.nodes.iter().enumerate().filter(|(n, _)| *n != primary) {
        confirmed.extend(rows(node.pg_port).await.map_err(|e| format!("reading from {}: {e}", node.name))?);
    }
    Ok(confirmed)
}
