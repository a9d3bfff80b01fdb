//! Serves the commands: the only owner of the lease. Commands run side by side; what they share is the lease id, and
//! only getting a new one is done by one at a time.

use super::reader::Reader;
use pgherd_clock::left_until;
use pgherd_dcs::Dcs;
use pgherd_protocol::dcs_watcher::Renewed;
use pgherd_types::{DcsWrite, Instant, LeaseGrant, LeaseId, Refused, StatusKey, SyncGuard};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

pub(super) struct LeaseDesk {
    dcs: Rc<dyn Dcs>,
    reader: Rc<Reader>,
    lease: Cell<Option<LeaseId>>,
    /// The time to live the lease was asked with; `None` for an adopted one.
    lease_ttl: Cell<Option<Duration>>,
    ttl: Cell<Duration>,
    /// The leader key hangs on the lease, or may: then the lease is not given up for a new time to live.
    may_lead: Cell<bool>,
    granting: tokio::sync::Mutex<()>,
}

impl LeaseDesk {
    pub fn new(dcs: Rc<dyn Dcs>, ttl: Duration, adopted: Option<LeaseId>, reader: Rc<Reader>) -> Self {
        Self {
            dcs,
            reader,
            lease: Cell::new(adopted),
            lease_ttl: Cell::new(None),
            ttl: Cell::new(ttl),
            may_lead: Cell::new(adopted.is_some()),
            granting: tokio::sync::Mutex::new(()),
        }
    }

    /// In force from the next lease on.
    pub fn change_ttl(&self, ttl: Duration) {
        self.ttl.set(ttl);
    }

    pub async fn renew(&self, prove_leader: bool, deadline: Instant) -> Result<Renewed, Refused> {
        let answer = match (prove_leader, self.lease.get()) {
            (false, _) => self.live_lease(deadline).await,
            (true, None) => Err(Refused::LeaseGone),
            (true, Some(lease)) => {
                let answer = self.of_the_present_lease(lease, self.dcs.renew(lease, true, deadline).await);
                match answer {
                    Err(Refused::LeaseGone) => self.forget(lease),
                    Err(Refused::Compare) => self.may_lead.set(false),
                    // an absent key may be taken again on this very lease
                    Ok(_) | Err(Refused::Absent | Refused::Denied(_) | Refused::Unreachable(_)) => {}
                }
                answer
            }
        };
        self.note(&answer);
        answer.map(|grant| Renewed { grant, leader_proven: prove_leader })
    }

    /// Another command may have replaced the lease meanwhile: what is said of the old one says nothing of the new one, on
    /// which the leader key may hang by now.
    fn of_the_present_lease<T>(&self, asked: LeaseId, answer: Result<T, Refused>) -> Result<T, Refused> {
        match answer {
            Err(Refused::LeaseGone | Refused::Compare | Refused::Absent) if self.lease.get() != Some(asked) => {
                Err(Refused::Unreachable("the lease was replaced while it was being renewed".to_owned()))
            }
            answer => answer,
        }
    }

    /// The promise counts from the keepalive before the key was created, so it holds for the key too.
    pub async fn acquire(&self, sync: SyncGuard, deadline: Instant) -> Result<LeaseGrant, Refused> {
        self.may_lead.set(true);
        let answer = match self.acquire_once(sync, deadline).await {
            Err(Refused::LeaseGone) => self.acquire_once(sync, deadline).await,
            answer => answer,
        };
        if matches!(answer, Err(Refused::Compare | Refused::LeaseGone)) {
            self.may_lead.set(false);
        }
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
        let answer = match self.lease.get() {
            Some(lease) => self.dcs.release(lease, status, deadline).await,
            None => Err(Refused::LeaseGone),
        };
        if matches!(answer, Ok(()) | Err(Refused::Compare)) {
            self.may_lead.set(false);
        }
        self.note_write(&answer);
        answer
    }

    pub async fn write(&self, write: DcsWrite, deadline: Instant) -> Result<(), Refused> {
        let lease = self.lease.get();
        let answer = self.dcs.write(lease, write, deadline).await;
        if let (Err(Refused::LeaseGone), Some(lease)) = (&answer, lease) {
            self.forget(lease);
        }
        self.note_write(&answer);
        answer
    }

    /// The present lease, renewed, or a new one.
    async fn live_lease(&self, deadline: Instant) -> Result<LeaseGrant, Refused> {
        if let Some(lease) = self.lease.get().filter(|_| !self.ttl_is_stale()) {
            match self.dcs.renew(lease, false, deadline).await {
                Err(Refused::LeaseGone) => self.forget(lease),
                answer => return answer,
            }
        }
        let waited = tokio::time::timeout(left_until(deadline), self.granting.lock()).await;
        let _one_at_a_time =
            waited.map_err(|_| Refused::Unreachable("another request for a new lease got no answer".into()))?;
        match self.lease.get().filter(|_| !self.ttl_is_stale()) {
            Some(lease) => self.dcs.renew(lease, false, deadline).await,
            None => self.new_lease(deadline).await,
        }
    }

    async fn new_lease(&self, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let ttl = self.ttl.get();
        let grant = self.dcs.grant(ttl, deadline).await?;
        log::info!("got lease {:x} with a ttl of {} s from the DCS", grant.lease.0, grant.ttl_ms / 1000);
        self.lease.set(Some(grant.lease));
        self.lease_ttl.set(Some(ttl));
        Ok(grant)
    }

    fn ttl_is_stale(&self) -> bool {
        !self.may_lead.get() && self.lease_ttl.get().is_some_and(|asked| asked != self.ttl.get())
    }

    /// Nothing hangs on it any more.
    fn forget(&self, lease: LeaseId) {
        if self.lease.get() == Some(lease) {
            log::warn!("lease {:x} is gone from the DCS", lease.0);
            self.lease.set(None);
            self.lease_ttl.set(None);
            self.may_lead.set(false);
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
