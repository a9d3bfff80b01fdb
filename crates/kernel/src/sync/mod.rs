//! Synchronous replication.
pub mod priority;
pub mod quorum;
pub mod state;
