//! The messages between actors: one file per actor that *handles* them. Grammar: a command is an imperative, a fact a
//! past participle, an operator's wish begins with `Request`. Actors hold `Recipient`s of these, never each other.

pub mod callbacks;
pub mod coordinator;
pub mod dcs_watcher;
pub mod events;
pub mod explain;
pub mod node;
pub mod peer_prober;
pub mod postgres_monitor;
pub mod postgres_operator;
pub mod request_desk;
pub mod slot_manager;
pub mod sync_manager;
