//! The second, long-lived connection to the DCS: it hints that something changed. Never a proof, and silence proves
//! nothing either, so it is opened afresh every few minutes.

use crate::tell::tell;
use actix::prelude::*;
use pgherd_clock::boottime;
use pgherd_dcs::{Dcs, Watch, WatchEnded};
use pgherd_protocol::dcs_watcher::{KeysChanged, LinkLost};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

const OPEN_PATIENCE: Duration = Duration::from_secs(5);
const OPEN_AFRESH_EVERY: Duration = Duration::from_secs(600);
/// Pauses before the next attempt: from the first, doubled, to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

pub(super) struct WatchLink {
    dcs: Rc<dyn Dcs>,
    changed: Recipient<KeysChanged>,
    lost: Recipient<LinkLost>,
    deaf: Rc<Notify>,
    /// The newest revision heard of.
    heard: i64,
}

impl WatchLink {
    pub fn new(dcs: Rc<dyn Dcs>, changed: Recipient<KeysChanged>, lost: Recipient<LinkLost>, deaf: Rc<Notify>) -> Self {
        Self { dcs, changed, lost, deaf, heard: 0 }
    }

    pub async fn run(mut self) {
        let mut pause = PAUSE.0;
        loop {
            let why = match self.dcs.watch(None, boottime() + OPEN_PATIENCE).await {
                Ok(watch) => {
                    let before = self.heard;
                    let why = self.listen(watch).await;
                    // Only a link that was of use earns a quick return.
                    if self.heard > before {
                        pause = PAUSE.0;
                    }
                    why
                }
                Err(ended) => ended.to_string(),
            };
            tell(&self.lost, LinkLost { why });
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Everything after the opening is heard, and the first hint makes the watcher read what was before: no gap.
    async fn listen(&mut self, mut watch: Box<dyn Watch>) -> String {
        let created_at = watch.created_at();
        if created_at < self.heard {
            log::warn!("DCS: {}", WatchEnded::WentBack { revision: created_at });
        }
        self.heard = created_at;
        tell(&self.changed, KeysChanged { revision: created_at, opened: true });
        let afresh = tokio::time::sleep(OPEN_AFRESH_EVERY);
        tokio::pin!(afresh);
        loop {
            tokio::select! {
                event = watch.next() => match event {
                    Ok(event) => {
                        self.heard = event.revision;
                        tell(&self.changed, KeysChanged { revision: event.revision, opened: false });
                    }
                    Err(ended) => return ended.to_string(),
                },
                () = self.deaf.notified() => return "it missed a change".to_owned(),
                () = &mut afresh => return "it is opened afresh from time to time".to_owned(),
            }
        }
    }
}
