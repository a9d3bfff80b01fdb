//! `GET /metrics`: the published status as Prometheus reads it. Series that Patroni has keep their names, labels and
//! meaning; those of our own begin with `pgherd_`.

mod compatible;
mod own;
mod page;

use page::Page;
use pgherd_types::{Instant, NodeStatus};

/// The text as of `now`; the error says what is wrong with it.
pub fn text(status: &NodeStatus, now: Instant) -> Result<String, String> {
    let mut page = Page::new(&status.scope, status.name.as_str());
    compatible::put(&mut page, status, now);
    own::put(&mut page, status, now);
    page.text()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
