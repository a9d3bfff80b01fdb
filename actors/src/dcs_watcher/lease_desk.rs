//! Serves the commands: the only owner of the lease. Commands run side by side; what they share is the lease id, and
//! only getting a new one is done by one at a time.

use super::Adopted;
use super::reader::Reader;
use pgherd_clock::left_until;
use pgherd_dcs::Dcs;
use pgherd_protocol::dcs_watcher::Renewed;
use pgherd_types::{DcsWrite, Instant, LeaseGrant, LeaseId, Refused, StatusKey, SyncGuard};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long the end of a lease that nobody needs may be tried.
const REVOKE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct LeaseDesk {
    dcs: Rc<dyn Dcs>,
    reader: Rc<Reader>,
    lease: Cell<Option<Held>>,
    /// Our keys may have been moved to this lease: until that is settled nobody knows.
    moving: Cell<Option<LeaseGrant>>,
    ttl: Cell<Duration>,
    granting: tokio::sync::Mutex<()>,
    leads: Cell<bool>,
    lead_changed: tokio::sync::Notify,
}

/// The lease.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    id: LeaseId,
    /// The time to live it was asked with; `None` where that is not known any more.
    asked_ttl_ms: Option<u64>,
}

impl LeaseDesk {
    pub fn new(dcs: Rc<dyn Dcs>, ttl: Duration, adopted: Option<Adopted>, reader: Rc<Reader>) -> Self {
        Self {
            dcs,
            reader,
            lease: Cell::new(adopted.map(|Adopted { id, asked_ttl_ms }| Held { id, asked_ttl_ms })),
            moving: Cell::new(None),
            ttl: Cell::new(ttl),
            granting: tokio::sync::Mutex::new(()),
            leads: Cell::new(false),
            lead_changed: tokio::sync::Notify::new(),
        }
    }

    /// Did the leader key hang on our lease at the last look? For what depends on it loosely.
    pub fn leads(&self) -> bool {
        self.leads.get()
    }

    /// Waits until that changes.
    pub async fn lead_changed(&self) {
        self.lead_changed.notified().await;
    }

    fn note_lead(&self, leads: bool) {
        if self.leads.replace(leads) != leads {
            self.lead_changed.notify_one();
        }
    }

    /// In force from the next lease on.
    pub fn change_ttl(&self, ttl: Duration) {
        self.ttl.set(ttl);
    }

    fn lease_id(&self) -> Option<LeaseId> {
        self.lease.get().map(|held| held.id)
    }

    pub async fn renew(
        &self,
        prove_leader: bool,
        new_ttl: Option<Duration>,
        deadline: Instant,
    ) -> Result<Renewed, Refused> {
        let answer = match (self.lease_id(), new_ttl.is_some() || self.moving.get().is_some()) {
            (Some(old), true) => self.move_keys(old, prove_leader, new_ttl, deadline).await,
            (Some(_), false) | (None, _) => self.renew_present(prove_leader, deadline).await,
        };
        self.note(&answer);
        if !matches!(answer, Err(Refused::Unreachable(_))) {
            self.note_lead(prove_leader && answer.is_ok());
        }
        answer.map(|grant| Renewed { grant, leader_proven: prove_leader })
    }

    async fn renew_present(&self, prove_leader: bool, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let held = match (prove_leader, self.lease.get()) {
            (false, _) => return self.live_lease(deadline).await,
            (true, None) => return Err(Refused::LeaseGone),
            (true, Some(held)) => held,
        };
        let answer = self.of_the_present_lease(held.id, self.dcs.renew(held.id, true, deadline).await);
        match answer {
            Err(Refused::LeaseGone) => self.forget(held.id),
            // an absent key may be taken again on this very lease
            Ok(_) | Err(Refused::Absent | Refused::Compare | Refused::Denied(_) | Refused::Unreachable(_)) => {}
        }
        answer.map(|grant| LeaseGrant { asked_ttl_ms: held.asked_ttl_ms, ..grant })
    }

    /// To a new lease, or to the one to which an earlier move may have carried them. The promise counts from before that
    /// lease was granted or renewed, and is given only once the keys are known to hang on it.
    async fn move_keys(
        &self,
        old: LeaseId,
        prove_leader: bool,
        new_ttl: Option<Duration>,
        deadline: Instant,
    ) -> Result<LeaseGrant, Refused> {
        let new = match (self.moving.get(), new_ttl) {
            (Some(new), _) => match self.dcs.renew(new.lease, false, deadline).await {
                Ok(grant) => LeaseGrant { asked_ttl_ms: new.asked_ttl_ms, ..grant },
                Err(Refused::LeaseGone) => return self.stay(prove_leader, deadline).await,
                Err(why) => return Err(why),
            },
            (None, Some(ttl)) => self.dcs.grant(ttl, deadline).await?,
            (None, None) => return self.renew_present(prove_leader, deadline).await,
        };
        self.moving.set(Some(new));
        match self.dcs.move_keys(old, new.lease, prove_leader, deadline).await {
            Ok(()) => {
                self.moving.set(None);
                self.lease.set(Some(Held { id: new.lease, asked_ttl_ms: new.asked_ttl_ms }));
                log::info!("moved to lease {:x} with a ttl of {} s", new.lease.0, new.ttl_ms / 1000);
                self.end(old);
                Ok(new)
            }
            Err(Refused::LeaseGone) => self.stay(prove_leader, deadline).await,
            Err(why @ (Refused::Compare | Refused::Absent)) => {
                self.moving.set(None); // the leader key is on neither; a late copy finds it changed, too
                self.end(new.lease);
                Err(why)
            }
            Err(why) => Err(why), // it may yet happen
        }
    }

    /// The new lease is lost, so nothing can move to it any more.
    async fn stay(&self, prove_leader: bool, deadline: Instant) -> Result<LeaseGrant, Refused> {
        self.moving.set(None);
        self.renew_present(prove_leader, deadline).await
    }

    /// Nothing of ours hangs on it; nobody waits for its end.
    fn end(&self, lease: LeaseId) {
        let dcs = self.dcs.clone();
        actix_rt::spawn(async move { dcs.revoke(lease, pgherd_clock::boottime() + REVOKE_PATIENCE).await });
    }

    /// Another command may have replaced the lease meanwhile: what is said of the old one says nothing of the new one, on
    /// which the leader key may hang by now.
    fn of_the_present_lease<T>(&self, asked: LeaseId, answer: Result<T, Refused>) -> Result<T, Refused> {
        match answer {
            Err(Refused::LeaseGone | Refused::Compare | Refused::Absent) if self.lease_id() != Some(asked) => {
                Err(Refused::Unreachable("the lease was replaced while it was being renewed".to_owned()))
            }
            answer => answer,
        }
    }

    /// The promise counts from the keepalive before the key was created, so it holds for the key too.
    pub async fn acquire(&self, sync: SyncGuard, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let answer = match self.acquire_once(sync, deadline).await {
            Err(Refused::LeaseGone) => self.acquire_once(sync, deadline).await,
            answer => answer,
        };
        self.note_lead(answer.is_ok());
        self.note_write(&answer);
        answer
    }

    async fn acquire_once(&self, sync: SyncGuard, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let grant = self.live_lease(deadline).await?;
        match self.dcs.acquire(grant.lease, sync, deadline).await {
            Ok(()) => Ok(grant),
            Err(why) => {
                if why == Refused::LeaseGone {
                    self.forget(grant.lease);
                }
                Err(why)
            }
        }
    }

    pub async fn release(&self, status: Option<StatusKey>, deadline: Instant) -> Result<(), Refused> {
        if let (Some(old), Some(_)) = (self.lease_id(), self.moving.get()) {
            self.move_keys(old, true, None, deadline).await?; // on which lease is it?
        }
        let answer = match self.lease_id() {
            Some(lease) => self.dcs.release(lease, status, deadline).await,
            None => Err(Refused::LeaseGone),
        };
        self.note_write(&answer);
        answer
    }

    pub async fn write(&self, write: DcsWrite, deadline: Instant) -> Result<(), Refused> {
        let lease = self.lease_id();
        let answer = self.dcs.write(lease, write, deadline).await;
        if let (Err(Refused::LeaseGone), Some(lease)) = (&answer, lease) {
            self.forget(lease);
        }
        self.note_write(&answer);
        answer
    }

    /// The present lease, renewed, or a new one.
    async fn live_lease(&self, deadline: Instant) -> Result<LeaseGrant, Refused> {
        if let Some(held) = self.lease.get() {
            match self.renewed(held, deadline).await {
                Err(Refused::LeaseGone) => self.forget(held.id),
                answer => return answer,
            }
        }
        let waited = tokio::time::timeout(left_until(deadline), self.granting.lock()).await;
        let _one_at_a_time =
            waited.map_err(|_| Refused::Unreachable("another request for a new lease got no answer".into()))?;
        match self.lease.get() {
            Some(held) => self.renewed(held, deadline).await,
            None => self.new_lease(deadline).await,
        }
    }

    async fn renewed(&self, held: Held, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let grant = self.dcs.renew(held.id, false, deadline).await?;
        Ok(LeaseGrant { asked_ttl_ms: held.asked_ttl_ms, ..grant })
    }

    async fn new_lease(&self, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let grant = self.dcs.grant(self.ttl.get(), deadline).await?;
        log::info!("got lease {:x} with a ttl of {} s from the DCS", grant.lease.0, grant.ttl_ms / 1000);
        self.lease.set(Some(Held { id: grant.lease, asked_ttl_ms: grant.asked_ttl_ms }));
        Ok(grant)
    }

    /// Nothing hangs on it any more.
    fn forget(&self, lease: LeaseId) {
        if self.lease_id() == Some(lease) {
            log::warn!("lease {:x} is gone from the DCS", lease.0);
            self.lease.set(None);
        }
    }

    fn note<T>(&self, answer: &Result<T, Refused>) {
        match answer {
            Ok(_) => self.reader.saw_revision(self.dcs.revision_seen()),
            Err(_) => self.reader.want_anyhow(),
        }
    }

    /// A write is read back at once, and so is the reason of a refusal.
    fn note_write<T>(&self, answer: &Result<T, Refused>) {
        match answer {
            Ok(_) => self.reader.want(self.dcs.revision_seen()),
            Err(_) => self.reader.want_anyhow(),
        }
    }
}
