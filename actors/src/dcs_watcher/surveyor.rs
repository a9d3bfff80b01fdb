//! Looks at the store itself now and then, and whenever this node begins or ceases to lead: who belongs to it, who leads
//! it, what is wrong with it.

use super::lease_desk::LeaseDesk;
use crate::tell::tell;
use actix::prelude::*;
use pgherd_clock::boottime;
use pgherd_dcs::Dcs;
use pgherd_protocol::coordinator::DcsSurveyed;
use pgherd_types::DcsSurvey;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Who is told.
pub(super) struct Listeners {
    /// What was found out.
    pub surveyed: Recipient<DcsSurveyed>,
    /// The store itself says that our user or password is wrong, and has never said anything else.
    pub refused: Option<oneshot::Sender<String>>,
}

pub(super) struct Surveyor {
    dcs: Rc<dyn Dcs>,
    desk: Rc<LeaseDesk>,
    listeners: Listeners,
    last: DcsSurvey,
}

impl Surveyor {
    pub fn new(dcs: Rc<dyn Dcs>, desk: Rc<LeaseDesk>, listeners: Listeners) -> Self {
        Self { dcs, desk, listeners, last: DcsSurvey::default() }
    }

    pub async fn run(mut self) {
        loop {
            let pause = match self.dcs.survey(self.desk.leads(), boottime() + PATIENCE).await {
                Ok(survey) => {
                    self.found(survey);
                    EVERY
                }
                Err(why) => {
                    log::debug!("no look at the DCS itself: {why:?}");
                    self.last_word();
                    AFTER_FAILURE
                }
            };
            let _ = tokio::time::timeout(pause, self.desk.lead_changed()).await;
        }
    }

    fn found(&mut self, survey: DcsSurvey) {
        for trouble in survey.troubles.iter().filter(|trouble| !self.last.troubles.contains(trouble)) {
            log::error!("the DCS is in trouble: {trouble}");
        }
        if survey.leader_here == Some(true) && survey.moved_to.is_none() && self.last.leader_here != Some(true) {
            log::warn!(
                "the DCS's own leader runs on this host, as the primary does: if the host is lost, it takes up to twice the \
                 ttl until another node leads; keep them apart (etcd3.move_leader: true does)"
            );
        }
        self.last = survey.clone();
        tell(&self.listeners.surveyed, DcsSurveyed(survey));
    }

    fn last_word(&mut self) {
        let Some(why) = self.dcs.login_refused() else { return };
        if let Some(listener) = self.listeners.refused.take() {
            let _ = listener.send(why);
        }
    }
}
