//! What a node remembers of synchronous replication from look to look, and the planner's view made from it.

use super::{Presence, ReadyMemory, StandbyRow, SyncMember, SyncState, SyncView, remember};
use crate::View;
use pgherd_types::{
    Instant, Lsn, RunningServer, StandbyNames, SyncKey, SyncMode, SyncName, SyncReport, SyncSeen, SyncSettings, Tags,
    WalSender, millis,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Commits that have waited for so long make a standby that does not move silent.
const COMMITS_WAIT: Duration = Duration::from_secs(1);
/// Beyond `wal_receiver_status_interval`.
const REPLY_GRACE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SyncMemory {
    /// The last key that could be read and had a leader.
    pub last_key: Option<SyncKey>,
    /// Who has proven what.
    pub ready: ReadyMemory,
    /// A write or removal of the key whose end is not known: what it compared with.
    pub in_doubt: Option<Option<i64>>,
    /// PostgreSQL was told to wait like this, and has not shown it since.
    pub ordered: Option<StandbyNames>,
    /// A write of the key was refused in this term: it is not as the race was judged by.
    pub refused: bool,
    /// The tags last seen of every member.
    pub tags: BTreeMap<SyncName, Tags>,
    /// The backends whose commit waits, and since when.
    waiting: BTreeMap<(u32, String), Instant>,
    /// The position each standby connection showed last, and when it last moved.
    moved: BTreeMap<u32, (Lsn, Instant)>,
    /// This server leads as a primary since.
    primary_since: Option<Instant>,
}

impl SyncMemory {
    /// The `sync` key was read.
    pub fn key_read(&mut self, seen: &SyncSeen, mode: SyncMode) {
        self.last_key = remember(self.last_key.take(), mode, seen);
        if self.in_doubt.is_some_and(|compared| compared != seen.revision()) {
            self.in_doubt = None; // whatever became of it, it finds another revision now
        }
    }

    /// PostgreSQL was looked at.
    pub fn looked(&mut self, running: Option<&RunningServer>, at: Instant) {
        let Some(primary) = running.filter(|running| !running.in_recovery) else {
            running.into_iter().for_each(|standby| self.shown(standby));
            self.ready.forget();
            (self.primary_since, self.waiting, self.moved) = (None, BTreeMap::new(), BTreeMap::new());
            return;
        };
        self.primary_since.get_or_insert(at);
        self.shown(primary);
        self.ready.look(&StandbyNames::read(&primary.sync.names), primary.flushed, &rows(primary, |_| false));
        let begun = |who: &(u32, String)| self.waiting.get(who).copied().unwrap_or(at);
        self.waiting = primary.sync.waiting.iter().map(|who| (who.clone(), begun(who))).collect();
        let moved = |sender: &WalSender| {
            let now = (counting(&primary.sync, sender).unwrap_or_default(), at);
            let before = self.moved.get(&sender.pid).filter(|(position, _)| *position == now.0);
            (sender.pid, before.copied().unwrap_or(now))
        };
        self.moved = primary.walsenders.iter().map(moved).collect();
    }

    fn shown(&mut self, running: &RunningServer) {
        let names = StandbyNames::read(&running.sync.names);
        self.ordered.take_if(|ordered| *ordered == names);
    }

    /// Since when the longest of them waits.
    pub fn commits_wait_since(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }

    fn is_silent(&self, sender: &WalSender, primary: &RunningServer, at: Instant) -> bool {
        let interval_ms = primary.sync.status_interval_ms;
        let grace_ms = interval_ms + millis(REPLY_GRACE);
        if interval_ms > 0 && sender.replied_ms_ago.is_some_and(|ago| ago > grace_ms) {
            return true;
        }
        let commits_wait = self.commits_wait_since().is_some_and(|since| at >= since + COMMITS_WAIT);
        let stands_still = self.moved.get(&sender.pid).is_some_and(|(_, since)| at >= *since + COMMITS_WAIT);
        commits_wait && stands_still && counting(&primary.sync, sender) < Some(primary.flushed)
    }
}

/// The position that counts with the `synchronous_commit` in force.
fn counting(report: &SyncReport, sender: &WalSender) -> Option<Lsn> {
    match report.commit.as_str() {
        "remote_apply" => sender.replayed,
        "remote_write" => sender.written,
        _ => sender.flushed,
    }
}

fn rows(server: &RunningServer, is_silent: impl Fn(&WalSender) -> bool) -> Vec<StandbyRow> {
    let row = |sender: &WalSender| {
        let name = SyncName::from(sender.application_name.as_str());
        let slot = server.slots.iter().find(|slot| slot.name == name.member().slot_name());
        StandbyRow {
            pid: sender.pid,
            lsn: counting(&server.sync, sender),
            sync_state: SyncState::parse(&sender.sync_state),
            slot_matches: slot.is_none_or(|slot| slot.active_pid == Some(sender.pid)),
            silent: is_silent(sender),
            name,
        }
    };
    server.walsenders.iter().filter(|sender| sender.state == "streaming").map(row).collect()
}

impl View {
    /// What the planner looks at, once cluster and server are known.
    pub fn sync_view(&self, now: Instant) -> Option<SyncView> {
        let (cluster, running) = (self.cluster.get()?, self.postgres.get()?.running()?);
        let (memory, at) = (&self.sync, self.postgres.when()?);
        let patient = memory.primary_since.is_some_and(|since| now < since + self.settings.loop_wait);
        let user_names = StandbyNames::read(&running.sync.user_names);
        let names = StandbyNames::read(&running.sync.names);
        Some(SyncView {
            me: SyncName::from(&self.me.name),
            settings: SyncSettings { mode: self.settings.sync_mode(), ..self.settings.sync },
            key: cluster.sync.clone(),
            in_doubt: memory.in_doubt,
            // what somebody configured besides the agent's file is the user's, too
            user_names: if running.sync.managed { user_names } else { names.clone() },
            names: Some(names),
            rows: rows(running, |sender| memory.is_silent(sender, running, at)),
            members: self.sync_members(now),
            position: running.position(),
            ready: memory.ready.clone(),
            patient,
            pristine: running.in_recovery,
        })
    }

    fn sync_members(&self, now: Instant) -> BTreeMap<SyncName, SyncMember> {
        let cluster = self.cluster.get();
        let member = |(name, seen_at): (&pgherd_types::MemberName, &Instant)| {
            let doc = cluster.and_then(|cluster| cluster.members.get(name)).map(|member| &member.doc);
            let sync_name = SyncName::from(name);
            let tags = self.sync.tags.get(&sync_name).cloned().unwrap_or_default();
            let presence = match doc.map(|doc| doc.state.as_str()) {
                Some("running") => Presence::Running,
                Some(_) => Presence::NotRunning,
                None if now < *seen_at + self.settings.ttl => Presence::SeenLately,
                None => Presence::Gone,
            };
            let it = SyncMember {
                presence,
                nosync: tags.nosync,
                nofailover: !tags.may_lead(),
                sync_priority: tags.sync_rank(),
                replicate_from: tags.replicatefrom.as_deref().map(SyncName::from),
            };
            (sync_name, it)
        };
        self.member_seen.iter().map(member).collect()
    }
}
