//! Reads the cluster, one reading at a time, and tells the coordinator. Hints that come during a reading lead to one
//! more, so a burst costs two. While the DCS fails the reading is repeated for ever.

use crate::tell::{tell, try_tell};
use actix::prelude::*;
use pgherd_clock::boottime;
use pgherd_dcs::{Complaint, Dcs, Reading};
use pgherd_protocol::coordinator::{ClusterObserved, DcsLost};
use pgherd_protocol::dcs_watcher::ChangeTimes;
use pgherd_types::{Cluster, Instant, Refused};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Pauses after failed readings: from the first, doubled, to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often an ongoing failure is reported, and how long the watch may lag behind before it counts as deaf.
const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    dcs: Rc<dyn Dcs>,
    observed: Recipient<ClusterObserved>,
    lost: Recipient<DcsLost>,
    times: Cell<ChangeTimes>,
    wake: Notify,
    /// Somebody knows of this revision.
    wanted: Cell<i64>,
    wanted_anyhow: Cell<bool>,
    /// The revision of the last reading.
    revision: Cell<i64>,
    /// A revision that the watch had a second to tell us about.
    overdue: Cell<i64>,
    overdue_check: Cell<bool>,
    deaf: Rc<Notify>,
    told: RefCell<Option<(Arc<Cluster>, Instant)>>,
    complained: RefCell<BTreeMap<String, i64>>,
}

/// A row of failed readings.
struct Outage {
    since: Instant,
    told_at: Instant,
    pause: Duration,
}

impl Reader {
    pub fn new(
        dcs: Rc<dyn Dcs>,
        times: ChangeTimes,
        observed: Recipient<ClusterObserved>,
        lost: Recipient<DcsLost>,
    ) -> Self {
        Self {
            dcs,
            observed,
            lost,
            times: Cell::new(times),
            wake: Notify::new(),
            wanted: Cell::new(0),
            wanted_anyhow: Cell::new(false),
            revision: Cell::new(0),
            overdue: Cell::new(0),
            overdue_check: Cell::new(false),
            deaf: Rc::new(Notify::new()),
            told: RefCell::new(None),
            complained: RefCell::new(BTreeMap::new()),
        }
    }

    /// Notified when the watch missed a change.
    pub fn deaf(&self) -> Rc<Notify> {
        self.deaf.clone()
    }

    pub fn change_times(&self, times: ChangeTimes) {
        self.times.set(times);
        self.want_anyhow();
    }

    /// Something is known to have happened at this revision.
    pub fn want(&self, revision: i64) {
        if revision > self.revision.get() {
            self.wanted.set(self.wanted.get().max(revision));
            self.wake.notify_one();
        }
    }

    /// Something may have happened.
    pub fn want_anyhow(&self) {
        self.wanted_anyhow.set(true);
        self.wake.notify_one();
    }

    /// The store is at this revision, perhaps because of somebody else's keys. If no reading has reached it in a
    /// second, read: the watch may be deaf.
    pub fn saw_revision(self: &Rc<Self>, revision: i64) {
        if revision <= self.revision.get() || self.overdue_check.replace(true) {
            return;
        }
        let reader = self.clone();
        actix_rt::spawn(async move {
            tokio::time::sleep(SECOND).await;
            reader.overdue_check.set(false);
            if revision > reader.revision.get() {
                reader.overdue.set(revision);
                reader.want(revision);
            }
        });
    }

    pub async fn run(self: Rc<Self>) {
        let mut outage: Option<Outage> = None;
        loop {
            self.wanted.set(0);
            self.wanted_anyhow.set(false);
            let read_at = boottime();
            match self.dcs.read(read_at + self.patience()).await {
                Ok(reading) => {
                    let again_in = self.read(reading, read_at, outage.take());
                    self.until_wanted(again_in).await;
                }
                Err(why) => {
                    let pause = self.failed(&mut outage, read_at, &why);
                    let _ = tokio::time::timeout(pause, self.wake.notified()).await;
                }
            }
        }
    }

    /// A silent DCS is to be reported before `retry_timeout` has passed.
    fn patience(&self) -> Duration {
        (self.times.get().retry_timeout / 2).max(SECOND)
    }

    async fn until_wanted(&self, again_in: Duration) {
        let wanted = async {
            while !self.wanted_anyhow.get() && self.wanted.get() <= self.revision.get() {
                self.wake.notified().await;
            }
        };
        let _ = tokio::time::timeout(again_in, wanted).await;
    }

    /// Takes a reading in; the answer says when to read again without a hint.
    fn read(&self, reading: Reading, read_at: Instant, outage: Option<Outage>) -> Duration {
        let before = self.revision.replace(reading.cluster.revision);
        self.check_hearing(before, reading.changed_at);
        self.complain(&reading.complaints);
        if let Some(outage) = &outage {
            log::info!("the DCS answers again after {:?}", read_at.since(outage.since));
        }
        let loop_wait = self.times.get().loop_wait;
        let last = self.told.borrow().clone();
        let unchanged_since = last.filter(|(cluster, _)| outage.is_none() && same(cluster, &reading.cluster));
        let due = unchanged_since.map_or(Duration::ZERO, |(_, at)| read_at.until(at + loop_wait));
        if !due.is_zero() {
            return due;
        }
        let cluster = Arc::new(reading.cluster);
        if try_tell(&self.observed, ClusterObserved { cluster: cluster.clone(), read_at }) {
            self.told.replace(Some((cluster, read_at)));
            return loop_wait;
        }
        self.told.replace(None);
        PAUSE.0
    }

    /// Did the watch leave us without a change that is more than a second old?
    fn check_hearing(&self, before: i64, changed_at: i64) {
        let overdue = self.overdue.replace(0);
        if before > 0 && before < changed_at && changed_at <= overdue {
            log::warn!("the watch on the DCS missed a change at revision {changed_at}; it is opened again");
            self.deaf.notify_one();
        }
    }

    /// Once for each garbage value.
    fn complain(&self, complaints: &[Complaint]) {
        let mut complained = self.complained.borrow_mut();
        complained.retain(|key, _| complaints.iter().any(|c| c.key == *key));
        for Complaint { key, mod_revision, what } in complaints {
            if complained.insert(key.clone(), *mod_revision) != Some(*mod_revision) {
                log::error!("DCS key {key} (revision {mod_revision}): {what}");
            }
        }
    }

    /// Reports a failed reading; the answer is the pause before the next.
    fn failed(&self, outage: &mut Option<Outage>, read_at: Instant, why: &Refused) -> Duration {
        let now = boottime();
        let why = match why {
            Refused::Unreachable(why) | Refused::Denied(why) => why.clone(),
            Refused::Absent | Refused::Compare | Refused::LeaseGone => format!("{why:?}"),
        };
        match outage {
            None => {
                log::warn!("the DCS cannot be read: {why}");
                self.told.replace(None);
                *outage = Some(Outage { since: read_at, told_at: now, pause: PAUSE.0 });
            }
            Some(outage) => {
                outage.pause = (outage.pause * 2).min(PAUSE.1);
                if now.since(outage.told_at) < SECOND {
                    return outage.pause;
                }
                outage.told_at = now;
            }
        }
        let Some(Outage { since, pause, .. }) = *outage else { return PAUSE.0 };
        tell(&self.lost, DcsLost { since, why });
        pause
    }
}

/// The revision moves on with every key in the store, ours or not.
fn same(a: &Cluster, b: &Cluster) -> bool {
    a == &Cluster { revision: a.revision, ..b.clone() }
}
