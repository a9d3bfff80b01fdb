//! Why a decision was made: what is logged, shown by REST and explained. Texts that Patroni's users know are kept
//! (spec/ha.md); the others say what is wrong and what helps.

use crate::sync::Bar;
use crate::view::Diverged;
use pgherd_types::{Lsn, MemberName, SystemId, Timeline};
use std::fmt;

/// A reason.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the name and the sentence below say it")]
pub enum Reason {
    NothingKnown,
    WaitingForDcs,
    NameTaken { me: MemberName, api_url: String },
    DcsNotAccessible,
    OperationInProgress { name: &'static str, renewed: bool },
    LockLostDuring { name: &'static str },
    StartupNotNeeded { name: &'static str },
    StartTimedOut,
    StartTimedOutAlone,
    StartingUntil { left_s: u64 },
    // fencing
    FencedLeaseRanOut,
    FencedLockLost,
    FencedWithoutLock { leader: Option<MemberName> },
    OrphanedBackends,
    TakingVanishedKeyAgain,
    TakingLapsedKeyAgain,
    // leading
    LeaderWithLock { me: MemberName },
    LeaderHoldsWithoutDcs { me: MemberName, left_s: u64 },
    LeaderWithForeignInitialize { ours: SystemId, key: SystemId },
    PromotedByLock { timeline: Timeline },
    ReservingTimeline { timeline: Timeline },
    DemotedEarly,
    FailsafeActive,
    AwaitingSwitchover { me: MemberName },
    LookingForSuccessor,
    HandingOver { action: &'static str },
    HandoverGivenUp { why: String },
    ArchivingCutShort,
    ManualRequestCleared { action: &'static str, why: String, done: bool },
    // standby cluster
    StandbyLeaderWithLock { me: MemberName },
    PromotedToStandbyLeader,
    StartingAsStandbyLeader,
    DemotingToStandbyCluster,
    PublishingShutdownCheckpoint,
    LeavingRemotePrimary,
    ComparingWithRemotePrimary,
    WaitingForStandbyLeader,
    BootstrappingStandbyLeader,
    // maintenance mode
    Paused { what: &'static str, me: MemberName },
    ReleasedBecauseStopped,
    ReleasedBecauseStandby,
    LeftPaused,
    // an operator's wishes
    Restarting,
    ScheduledRestartNotNeeded,
    Reinitializing,
    LeaderIsNotReinitialized,
    MakingRoom { name: &'static str },
    // race
    NotAllowedToPromote,
    AwaitingProof,
    AwaitingSuccessor,
    AwaitingOwnPosition,
    AskingPeers,
    AwaitingPeerPosition { peer: MemberName },
    PrimaryStillAlive { peer: MemberName },
    PeerAhead { peer: MemberName, theirs: (Option<Timeline>, Lsn), ours: (Option<Timeline>, Lsn) },
    PeerHasSlots { peer: MemberName, slots: Vec<String> },
    PeerPreferred { peer: MemberName, theirs: i32, ours: i32 },
    CandidateGoesFirst { candidate: MemberName },
    WalStillArrives { me: MemberName },
    TimelineBehind { ours: Option<Timeline>, latest: Timeline },
    WatchdogUnusable,
    WatchdogLostWhileLeading,
    PromotionRefused,
    PromotionRefusedLately,
    FailsafePromised { to: MemberName },
    NotInFailsafeTopology,
    MayHavePromised,
    NotSynchronous { bar: Bar, members: Vec<MemberName> },
    QuorumNotReached { votes: i64, needed: i64, missing: Vec<MemberName> },
    PreparingSynchronous { step: &'static str },
    PostponingPromotion,
    AwaitingSyncRelease,
    LagTooLarge { lag_bytes: u64, limit_bytes: u64 },
    Acquiring,
    AcquireRefused,
    // follow
    Following { me: MemberName, leader: MemberName, standby: bool },
    ChangingUpstream { leader: MemberName },
    AwaitingOtherSlots { slots: Vec<String> },
    CopyingSlots { slots: Vec<String> },
    LeaderKeyWithoutMember { leader: MemberName },
    LeaderKeyWithoutLease { leader: MemberName },
    LeaderKeyNamesUsButIsNotOurs { me: MemberName },
    Diverged(Diverged),
    DivergenceUnknown { why: &'static str },
    AwaitingCheckpoint { leader: MemberName },
    Rewinding { leader: MemberName, found: Diverged },
    ReplacingDiverged { leader: MemberName, found: Diverged },
    // bootstrap
    WaitingForLeaderToBootstrap,
    BootstrapRace,
    Bootstrapping,
    BootstrapFailed,
    FinishingBootstrap,
    Cloning { from: MemberName, is_leader: bool },
    Restoring,
    AdoptingData,
    DataUnusable { why: String },
    ForeignData { ours: SystemId, key: SystemId },
    InitializeIsGarbage,
    DataEmptyWhileLeading,
    // recover
    StartingPrimary,
    StartingPrimaryAfterFailure,
    StartingReadOnlyWithLock,
    StartingAsSecondary,
    StartFailedReleasing { why: String },
    StoppedToFailOver,
    GivingUpKey,
    UnresponsiveMakesRoom,
    WaitingBeforeRetry { what: &'static str, failures: u32, why: String },
    StillStarting,
    StillStopping,
    Unresponsive { why: String },
    // shutdown
    ShuttingDown { step: &'static str },
}

impl Reason {
    /// The stable name.
    pub fn id(&self) -> String {
        let text = format!("{self:?}");
        text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
    }
}

fn first_sentence(text: &str) -> &str {
    text.split(". ").next().unwrap_or(text)
}

fn at((timeline, lsn): &(Option<Timeline>, Lsn)) -> String {
    match timeline {
        Some(timeline) => format!("{lsn} on timeline {timeline}"),
        None => lsn.to_string(),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingKnown => f.write_str("waiting for the first look at PostgreSQL"),
            Self::WaitingForDcs => f.write_str("waiting for the first answer of the DCS"),
            Self::NameTaken { me, api_url } => write!(
                f,
                "Can't start; there is already a node named '{me}' running at {api_url}. Give this node another name"
            ),
            Self::DcsNotAccessible => f.write_str("DCS is not accessible"),
            Self::OperationInProgress { name, renewed: true } => write!(f, "updated leader lock during {name}"),
            Self::OperationInProgress { name, renewed: false } => write!(f, "{name} in progress"),
            Self::LockLostDuring { name } => write!(f, "lost leader lock during {name}"),
            Self::StartupNotNeeded { name } => write!(f, "giving up {name}: it is not needed any more"),
            Self::StartTimedOut => f.write_str("stopped PostgreSQL because of startup timeout"),
            Self::StartTimedOutAlone => {
                f.write_str("primary start has timed out, but continuing to wait because failover is not possible")
            }
            Self::StartingUntil { left_s } => {
                write!(f, "PostgreSQL is still starting up, {left_s} seconds until timeout")
            }
            Self::FencedLeaseRanOut => {
                f.write_str("demoting self because DCS is not accessible and I was a leader: the lease can no longer be relied upon")
            }
            Self::FencedLockLost => f.write_str("demoted self because failed to update leader lock in DCS"),
            Self::FencedWithoutLock { leader: Some(leader) } => {
                write!(f, "demoting self because I do not have the lock and I was a leader; the lock is held by {leader}")
            }
            Self::FencedWithoutLock { leader: None } => {
                f.write_str("demoting self because I do not have the lock and I was a leader")
            }
            Self::OrphanedBackends => f.write_str("postmaster is gone but backends are alive: ending them before anything else"),
            Self::TakingVanishedKeyAgain => f.write_str("the leader key was removed by somebody while my lease lives: taking it again"),
            Self::TakingLapsedKeyAgain => f.write_str(
                "the leader key lapsed while the DCS could not be reached, and all members agreed that I go on: taking it again",
            ),
            Self::LeaderWithLock { me } => write!(f, "no action. I am ({me}), the leader with the lock"),
            Self::LeaderHoldsWithoutDcs { me, left_s } => {
                write!(f, "DCS is not accessible; I am ({me}), the leader, and may go on for {left_s} more seconds")
            }
            Self::LeaderWithForeignInitialize { ours, key } => write!(
                f,
                "the initialize key holds system ID {key}, this cluster's is {ours}; I go on as the leader. If the key is wrong, correct it"
            ),
            Self::PromotedByLock { timeline } => {
                write!(f, "promoted self to leader by acquiring session lock, to timeline {timeline}")
            }
            Self::ReservingTimeline { timeline } => write!(f, "reserving timeline {timeline} before promotion"),
            Self::DemotedEarly => f.write_str("demoting self because DCS is not accessible and I was a leader"),
            Self::FailsafeActive => f.write_str("continue to run as a leader because failsafe mode is enabled and all members are accessible"),
            Self::AwaitingSwitchover { me } => write!(f, "no action. I am ({me}), the leader with the lock; a switchover is scheduled"),
            Self::LookingForSuccessor => f.write_str("asking the other members whether one of them could lead"),
            Self::HandingOver { action } => write!(f, "{action}: demoting myself"),
            Self::HandoverGivenUp { why } => {
                write!(f, "nobody has received the shutdown checkpoint, going on as the leader: {why}")
            }
            Self::ArchivingCutShort => {
                f.write_str("PostgreSQL was shut down and still archives, and this leader is to start again: ending it now")
            }
            Self::ManualRequestCleared { action, why, done: _ } => write!(f, "{action}: {why}. Cleaning up failover key"),
            Self::Paused { what, me } => write!(f, "PAUSE: {what}. I am ({me})"),
            Self::ReleasedBecauseStopped => f.write_str("PAUSE: removed leader lock because postgres is not running"),
            Self::ReleasedBecauseStandby => f.write_str("PAUSE: removed leader lock because postgres is not running as primary"),
            Self::LeftPaused => f.write_str("Leader key is not deleted and Postgresql is not stopped due paused state"),
            Self::Restarting => f.write_str("restart initiated"),
            Self::ScheduledRestartNotNeeded => {
                f.write_str("scheduled restart dropped: its conditions do not hold, or another server runs by now")
            }
            Self::Reinitializing => f.write_str("reinitialize: stopping PostgreSQL to replace its data"),
            Self::LeaderIsNotReinitialized => f.write_str("I am the leader, can not reinitialize"),
            Self::MakingRoom { name } => write!(f, "giving up {name}: a new copy of the data was asked for"),
            Self::CandidateGoesFirst { candidate } => {
                write!(f, "following a different leader because i am not the healthiest node: {candidate} is to lead by request")
            }
            Self::WalStillArrives { me } => write!(f, "My ({me}) wal position moved since last heart beat loop, waiting before the leader race"),
            Self::TimelineBehind { ours: Some(ours), latest } => {
                write!(f, "My timeline {ours} is behind last known cluster timeline {latest}")
            }
            Self::TimelineBehind { ours: None, .. } => f.write_str("Can not figure out my timeline"),
            Self::WatchdogLostWhileLeading => f.write_str("Demoting self because watchdog could not be activated"),
            Self::PromotionRefused => f.write_str("Promotion cancelled because the pre-promote script failed"),
            Self::PromotionRefusedLately => f.write_str(
                "backoff: skip leader race after pre_promote script failure and releasing the lock voluntarily",
            ),
            Self::WatchdogUnusable => f.write_str("Watchdog device is not usable"),
            Self::FailsafePromised { to } => {
                write!(f, "no leader race: {to} runs as the leader without the DCS, by agreement of all members")
            }
            Self::NotInFailsafeTopology => {
                f.write_str("no leader race: failsafe mode is enabled and I am not in the failsafe topology")
            }
            Self::MayHavePromised => {
                f.write_str("no leader race yet: before its restart this agent may have agreed to a leader without the DCS")
            }
            Self::AwaitingCheckpoint { leader } => write!(f, "Waiting for checkpoint on {leader} before rewind"),
            Self::Rewinding { leader, found } => write!(f, "running pg_rewind from {leader}; {}", first_sentence(&found.text)),
            Self::ReplacingDiverged { found, .. } => {
                write!(f, "reinitializing due to diverged timelines; {}", first_sentence(&found.text))
            }
            Self::GivingUpKey => f.write_str("giving up the leader key; whether it is gone is not known yet"),
            Self::StoppedToFailOver => f.write_str("stopped PostgreSQL to fail over after a crash"),
            Self::UnresponsiveMakesRoom => {
                f.write_str("PostgreSQL does not answer and another member could lead: stopping it to fail over")
            }
            Self::NotAllowedToPromote => f.write_str("following a different leader because I am not allowed to promote"),
            Self::StandbyLeaderWithLock { me } => write!(f, "no action. I am ({me}), the standby leader with the lock"),
            Self::PromotedToStandbyLeader => f.write_str("promoted self to a standby leader because i had the session lock"),
            Self::StartingAsStandbyLeader => f.write_str("starting as a standby leader because i had the session lock"),
            Self::DemotingToStandbyCluster => {
                f.write_str("demoting to a standby cluster: cannot be a real primary in a standby cluster")
            }
            Self::PublishingShutdownCheckpoint => f.write_str("publishing the position of the shutdown checkpoint"),
            Self::LeavingRemotePrimary => f.write_str("leaving the remote primary before the promotion"),
            Self::ComparingWithRemotePrimary => f.write_str(
                "running pg_rewind from the remote primary: this node was a primary, and whether all of its data are there is not known",
            ),
            Self::WaitingForStandbyLeader => f.write_str("waiting for standby_leader to bootstrap"),
            Self::BootstrappingStandbyLeader => f.write_str("trying to bootstrap a new standby leader"),
            Self::AwaitingProof => f.write_str("the leader key is on my lease; waiting for the proof"),
            Self::AwaitingSuccessor => f.write_str("starting as a secondary once a successor has the leader key"),
            Self::AwaitingOwnPosition => f.write_str("leader race: looking at my own position"),
            Self::AskingPeers => f.write_str("leader race: asking the other members for their positions"),
            Self::AwaitingPeerPosition { peer } => {
                write!(f, "leader race: {peer} has not looked at its position since the leader was lost; asking again")
            }
            Self::PrimaryStillAlive { peer } => write!(f, "Primary ({peer}) is still alive"),
            Self::PeerAhead { peer, theirs, ours } => write!(
                f,
                "following a different leader because i am not the healthiest node: Wal position of {peer} ({}) is ahead of my wal position ({})",
                at(theirs),
                at(ours)
            ),
            Self::PeerHasSlots { peer, slots } => write!(
                f,
                "following a different leader because i am not the healthiest node: {peer} has an equally tolerable WAL \
                 position and safe logical slots that this node lacks: {}",
                slots.join(", ")
            ),
            Self::PeerPreferred { peer, theirs, ours } => write!(
                f,
                "following a different leader because i am not the healthiest node: {peer} has equally tolerable WAL position and priority {theirs}, while this node has priority {ours}"
            ),
            Self::NotSynchronous { bar: Bar::NotListed, members } => write!(
                f,
                "not healthy enough for leader race: I am not in the sync key; one of {} has to come back",
                list(members)
            ),
            Self::NotSynchronous { bar: Bar::NotInLastKey, members } => write!(
                f,
                "not healthy enough for leader race: the sync key is gone, and I was not in it; one of {} has to come back",
                list(members)
            ),
            Self::NotSynchronous { bar: Bar::KeyUnreadable, members } => write!(
                f,
                "not healthy enough for leader race: the sync key cannot be read. Mend it, or remove it if nothing is to be lost by that; members of the last one that could be: {}",
                list(members)
            ),
            Self::QuorumNotReached { votes, needed, missing } => write!(
                f,
                "not healthy enough for leader race: {votes} of {needed} votes; no answer from {}",
                list(missing)
            ),
            Self::PreparingSynchronous { step } => write!(f, "preparing synchronous replication before the promotion: {step}"),
            Self::PostponingPromotion => f.write_str(
                "Postponing promotion because synchronous replication state was updated by somebody else",
            ),
            Self::AwaitingSyncRelease => f.write_str("Waiting for primary to release us from synchronous standby"),
            Self::LagTooLarge { lag_bytes, limit_bytes } => {
                write!(f, "My wal position exceeds maximum replication lag: {lag_bytes} bytes, maximum_lag_on_failover is {limit_bytes}")
            }
            Self::Acquiring => f.write_str("leader race: I am the healthiest node, acquiring the lock"),
            Self::AcquireRefused => f.write_str("following new leader after trying and failing to obtain lock"),
            Self::Following { me, leader, standby } => {
                let what = if *standby { "a standby leader" } else { "a leader" };
                write!(f, "no action. I am ({me}), a secondary, and following {what} ({leader})")
            }
            Self::AwaitingOtherSlots { slots } => {
                write!(f, "waiting for the primary to tell of logical slots {}, to copy all at once", quoted(slots))
            }
            Self::CopyingSlots { slots } => write!(f, "Copying logical slots {} from the primary", quoted(slots)),
            Self::ChangingUpstream { leader } => write!(f, "changing primary_conninfo to follow {leader}"),
            Self::LeaderKeyWithoutMember { leader } => write!(
                f,
                "the leader key names {leader}, but no such member exists. If it is a leftover, remove the key: etcdctl del <namespace>/<scope>/leader"
            ),
            Self::LeaderKeyWithoutLease { leader } => write!(
                f,
                "the leader key names {leader} without a lease and will never lapse. If it is a leftover, remove the key: etcdctl del <namespace>/<scope>/leader"
            ),
            Self::LeaderKeyNamesUsButIsNotOurs { me } => {
                write!(f, "the leader key names {me} under a lease that is not mine; waiting until it lapses")
            }
            Self::Diverged(found) => f.write_str(&found.text),
            Self::DivergenceUnknown { why } => write!(f, "not starting the former primary yet: {why}"),
            Self::WaitingForLeaderToBootstrap => f.write_str("waiting for leader to bootstrap"),
            Self::BootstrapRace => f.write_str("trying to get the right to bootstrap a new cluster"),
            Self::Bootstrapping => f.write_str("trying to bootstrap a new cluster"),
            Self::BootstrapFailed => f.write_str("removing initialize key after failed attempt to bootstrap the cluster"),
            Self::FinishingBootstrap => f.write_str("initialized a new cluster"),
            Self::Cloning { from, is_leader: true } => write!(f, "trying to bootstrap from leader '{from}'"),
            Self::Cloning { from, is_leader: false } => write!(f, "trying to bootstrap from replica '{from}'"),
            Self::Restoring => f.write_str("trying to bootstrap (without leader)"),
            Self::AdoptingData => f.write_str("no initialize key in DCS: registering the system ID of the existing data"),
            Self::DataUnusable { why } => write!(f, "data directory is not accessible: {why}"),
            Self::ForeignData { ours, key } => write!(
                f,
                "system ID mismatch, this node belongs to a different cluster: {key} (initialize key) != {ours} (data directory); nothing is started or changed"
            ),
            Self::InitializeIsGarbage => {
                f.write_str("the initialize key is neither empty nor a system ID: correct it, or remove it if this is the right data")
            }
            Self::DataEmptyWhileLeading => f.write_str("released leader key voluntarily as data dir empty and currently leader"),
            Self::StartingPrimary => f.write_str("starting primary because i have the session lock"),
            Self::StartingPrimaryAfterFailure => f.write_str("starting primary after failure"),
            Self::StartingReadOnlyWithLock => f.write_str("starting as readonly because i had the session lock"),
            Self::StartingAsSecondary => f.write_str("starting as a secondary"),
            Self::StartFailedReleasing { why } => write!(f, "removed leader key after trying and failing to start postgres: {why}"),
            Self::WaitingBeforeRetry { what, failures, why } => {
                write!(f, "{what} failed {failures} times; waiting before the next attempt: {why}")
            }
            Self::StillStarting => f.write_str("PostgreSQL is still starting up"),
            Self::StillStopping => f.write_str("PostgreSQL is still stopping"),
            Self::Unresponsive { why } => write!(f, "PostgreSQL does not answer: {why}"),
            Self::ShuttingDown { step } => write!(f, "shutting down: {step}"),
        }
    }
}

fn list(names: &[MemberName]) -> String {
    let names: Vec<&str> = names.iter().map(MemberName::as_str).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(", "))
}
