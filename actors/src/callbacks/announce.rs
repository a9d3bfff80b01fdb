//! The coordinator's end: of all that it publishes, what scripts may be called for is handed on, and only when it
//! changed.

use actix::prelude::*;
use pgherd_protocol::callbacks::{ServerReport, StatusPublished};
use pgherd_types::NodeStatus;
use std::cell::RefCell;

/// See the module.
pub struct Announce {
    to: Recipient<StatusPublished>,
    last: RefCell<Option<ServerReport>>,
}

impl Announce {
    /// Hands on to this one.
    pub fn new(to: Recipient<StatusPublished>) -> Self {
        Self { to, last: RefCell::new(None) }
    }

    /// A status was published.
    pub fn published(&self, status: &NodeStatus) {
        let report = ServerReport::from(status);
        let mut last = self.last.borrow_mut();
        let differs =
            |last: &ServerReport| (last.role, last.phase, &last.server) != (report.role, report.phase, &report.server);
        // one that was not taken is sent again with the next status
        if last.as_ref().is_none_or(differs) && crate::tell::try_tell(&self.to, StatusPublished(report.clone())) {
            *last = Some(report);
        }
    }
}
