//! Whom commits wait for: `synchronous_standby_names`, changed by configuration file and reload (spec/sync-and-quorum.md 3).
//!
//! A change is in force when every process that goes by it has read it. New connections show the value as soon as the
//! postmaster has read the file; by then each process has its signal. Walsenders release commits by their own copy, and
//! are given 100 ms. Whether commits wait at all is decided by a flag that the checkpointer keeps, and that one may be
//! in the middle of a checkpoint, where it reads no files.

use crate::config_files;
use crate::config_place::ConfigPlace;
use crate::queries;
use crate::reload::reload_config;
use crate::server::Postgres;
use crate::sql::Session;
use pgherd_types::{StandbyNames, SyncApply};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// A change is in force within this time, or it has failed for now.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(10);
/// Within this time every walsender has acted on its signal.
const WALSENDERS: Duration = Duration::from_millis(100);
/// The checkpointer asks for a new configuration before each of these pauses, which last 100 ms.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(250);
/// How long standbys are waited for after a little WAL was written.
const FORCED_PATIENCE: Duration = Duration::from_secs(1);
const AUTO_CONF: &str = "postgresql.auto.conf";

/// Carries out one step of synchronous replication, and returns when it is in force. Asks `may_go_on` immediately before
/// anything is changed.
pub async fn apply(server: &Arc<Postgres>, apply: &SyncApply, may_go_on: impl Fn() -> bool) -> Result<(), String> {
    let session = queries::open(server).await.map_err(|e| format!("could not connect to PostgreSQL: {e}"))?;
    if !may_go_on() {
        return Err("the fence passed".to_owned());
    }
    match apply {
        SyncApply::Names(names) => set(server, &session, names).await,
        SyncApply::UserNames => give_back(server, &session).await,
        SyncApply::ForceWal => force_wal(&session).await,
    }
}

/// What a new connection shows, and the file it comes from.
struct Shown {
    names: String,
    file: String,
}

impl Shown {
    async fn read(session: &Session) -> Result<Self, String> {
        let read = queries::standby_names(session).await;
        read.map(|(names, file)| Self { names, file })
            .map_err(|e| format!("could not read synchronous_standby_names: {e}"))
    }
    async fn by_new_connection(server: &Postgres) -> Result<Self, String> {
        let session = queries::open(server).await.map_err(|e| format!("could not connect to PostgreSQL: {e}"))?;
        Self::read(&session).await
    }
}

async fn set(server: &Arc<Postgres>, session: &Session, wanted: &StandbyNames) -> Result<(), String> {
    let begun = Instant::now();
    let names = wanted.to_string();
    let before = Shown::read(session).await?.names;
    if before != names {
        log::info!("Assigning synchronous_standby_names to {}", if names.is_empty() { "''" } else { &names });
    }
    let former = server.standby_names.change_begins(&before);
    own(server, Some(names.clone())).await?;
    wait_until_shown(server, &names, begun).await?;
    // most have read them by now
    release_commits(session, wanted).await;
    sleep(WALSENDERS).await;
    if former.is_empty() && !names.is_empty() {
        wait_for_checkpointer(session, begun).await?;
    }
    release_commits(session, wanted).await;
    server.standby_names.settled();
    Ok(())
}

/// The user's value counts again; what the user set in a file of his own is left alone.
async fn give_back(server: &Arc<Postgres>, session: &Session) -> Result<(), String> {
    let begun = Instant::now();
    let in_recovery = queries::in_recovery(session).await.map_err(|e| format!("could not look: {e}"))?;
    let wanted = server.users_standby_names(in_recovery);
    if server.standby_names.set_by_agent().is_some() {
        log::info!("Assigning synchronous_standby_names to the user's value '{wanted}'");
    }
    own(server, None).await?;
    server.standby_names.settled();
    let ours = ConfigPlace::of(server).main();
    loop {
        let shown = Shown::by_new_connection(server).await?;
        if shown.names == wanted || Path::new(&shown.file) != ours {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            return Err(not_shown(&wanted, &shown));
        }
        sleep(STEP).await;
    }
}

/// State file, configuration file, reload.
async fn own(server: &Arc<Postgres>, names: Option<String>) -> Result<(), String> {
    let owner = server.clone();
    let set = spawn_blocking(move || owner.standby_names.set(&owner.state, names.as_deref())).await;
    set.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    reload_config(server).await.map(drop).map_err(|e| e.to_string())
}

async fn wait_until_shown(server: &Arc<Postgres>, names: &str, begun: Instant) -> Result<(), String> {
    let mut cleaned = false;
    loop {
        let shown = Shown::by_new_connection(server).await?;
        if shown.names == names {
            return Ok(());
        }
        if !cleaned && Path::new(&shown.file).file_name().is_some_and(|name| name == AUTO_CONF) {
            log::warn!("'{}' is removed from {}: the agent sets synchronous_standby_names", shown.names, shown.file);
            take_out_of_auto_conf(server).await?;
            cleaned = true;
            continue;
        }
        if begun.elapsed() >= PATIENCE {
            return Err(not_shown(names, &shown));
        }
        sleep(STEP).await;
    }
}

fn not_shown(names: &str, shown: &Shown) -> String {
    let from = match shown.file.as_str() {
        "" => {
            "no file sets it: is it on PostgreSQL's command line, or does the server read another main file?".to_owned()
        }
        file => format!("that comes from {file}; remove it there"),
    };
    format!(
        "synchronous_standby_names was set to '{names}', but PostgreSQL shows '{}' after {} s; {from}",
        shown.names,
        PATIENCE.as_secs()
    )
}

/// By the server, which has a lock for that file; where it may not (`allow_alter_system`), in the file itself.
async fn take_out_of_auto_conf(server: &Arc<Postgres>) -> Result<(), String> {
    let session = queries::open(server).await.map_err(|e| format!("could not connect to PostgreSQL: {e}"))?;
    if let Err(e) = queries::reset_standby_names(&session).await {
        log::info!("ALTER SYSTEM RESET failed, {AUTO_CONF} is changed instead: {e}");
        let owner = server.clone();
        let clean = spawn_blocking(move || config_files::clean_auto_conf(&owner, &owner.options.data_dir)).await;
        clean.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    }
    reload_config(server).await.map(drop).map_err(|e| e.to_string())
}

/// Until it has taken up the change it lets commits pass as before.
async fn wait_for_checkpointer(session: &Session, begun: Instant) -> Result<(), String> {
    let since = Instant::now();
    loop {
        let waits_for = queries::checkpointer_waits_for(session).await;
        let waits_for = waits_for.map_err(|e| format!("could not look at the checkpointer: {e}"))?;
        match waits_for.as_deref() {
            Some("CheckpointerMain") => return Ok(()),
            Some("CheckpointWriteDelay") if since.elapsed() >= CHECKPOINT_PAUSE => return Ok(()),
            _ if begun.elapsed() >= PATIENCE => {
                return Err(format!(
                    "PostgreSQL is in the middle of a checkpoint and has not taken up synchronous_standby_names within \
                     {} s; it is tried again",
                    PATIENCE.as_secs()
                ));
            }
            _ => sleep(STEP).await,
        }
    }
}

/// A walsender releases commits only when its standby answers, and one that has everything answers in
/// `wal_receiver_status_interval` (10 s): commits that waited for a standby that is gone would wait as long for one that
/// has long had them.
async fn release_commits(session: &Session, names: &StandbyNames) {
    let nobody_can = names.number as usize > names.names.len() || names.is_blocked();
    if names.is_none() || nobody_can {
        return;
    }
    if let Err(why) = answer_if_commits_wait(session).await {
        log::warn!("commits may go on waiting until a standby answers by itself: {why}");
    }
}

async fn answer_if_commits_wait(session: &Session) -> Result<(), String> {
    if queries::commits_wait(session).await.map_err(|e| format!("could not look whether commits wait: {e}"))? {
        log::info!("commits wait: a little WAL is written, so that the standbys answer and release them");
        queries::force_wal(session).await.map_err(|e| format!("could not write WAL: {e}"))?;
    }
    Ok(())
}

/// Writes a little WAL. What the standbys flushed of it shows in the next look, unless they take too long.
async fn force_wal(session: &Session) -> Result<(), String> {
    let begun = Instant::now();
    let written = queries::force_wal(session).await.map_err(|e| format!("could not write WAL: {e}"))?;
    let position = written.ok_or("PostgreSQL did not tell how far it has written WAL")?;
    while begun.elapsed() < FORCED_PATIENCE {
        match queries::standbys_have(session, &position).await {
            Ok(true) => break,
            Ok(false) => sleep(STEP).await,
            Err(e) => {
                log::debug!("standbys could not be looked at: {e}");
                break;
            }
        }
    }
    Ok(())
}
