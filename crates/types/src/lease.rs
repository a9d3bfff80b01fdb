//! The lease that carries a node's member key and, on the leader, the leader key.

use crate::Instant;
use serde::{Deserialize, Serialize};

/// etcd's lease number; never 0.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub i64);

/// A promise by etcd: the lease lives at least until `sent_at + ttl_ms`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LeaseGrant {
    /// Whose promise.
    pub lease: LeaseId,
    /// Read on this node's clock *before* the first request of the exchange left.
    pub sent_at: Instant,
    /// The time to live that etcd granted (not the one asked for), in milliseconds.
    pub ttl_ms: u64,
    /// The one the lease was asked with, in milliseconds; `None` when that is not known any more.
    pub asked_ttl_ms: Option<u64>,
}

/// What the fence thread must do.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum FenceOrder {
    /// PostgreSQL is known not to be writable and no order that could make it so is out: nothing to fence.
    #[default]
    Disarmed,
    /// PostgreSQL is or may become writable under this lease.
    Armed {
        /// The lease that allows it.
        lease: LeaseId,
        /// From here on it is stopped immediately.
        stop_at: Instant,
        /// From here on every process of the data directory is killed.
        kill_at: Instant,
    },
}

/// What an order demands at an instant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FenceDue {
    /// Nothing yet.
    Nothing {
        /// From then on there is something to do; `None` while disarmed.
        until: Option<Instant>,
    },
    /// PostgreSQL is to be stopped immediately.
    Stop {
        /// From then on it is to be killed.
        kill_at: Instant,
    },
    /// Every process of the data directory is to be killed.
    Kill,
}

impl FenceOrder {
    /// What is due now.
    pub fn due(&self, now: Instant) -> FenceDue {
        match *self {
            Self::Disarmed => FenceDue::Nothing { until: None },
            Self::Armed { stop_at, .. } if now < stop_at => FenceDue::Nothing { until: Some(stop_at) },
            Self::Armed { kill_at, .. } if now < kill_at => FenceDue::Stop { kill_at },
            Self::Armed { .. } => FenceDue::Kill,
        }
    }
}
