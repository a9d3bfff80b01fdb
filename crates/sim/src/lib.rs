//! A simulator of whole clusters: the kernel's own code on every node, models of everything around it, one seed a story.
//!
//! Reading order: `scenario` (how a run is set up), `world` (time and events), `node`, `agent` (the coordinator's turn),
//! `dcs` and `etcd`, `operator`, `server` and `postgres`, `slots` and `consumers`, `sync_rep`, `walsenders` and `sync_manager`,
//! `network`, `client`, `faults`, then `checkers`, which know the
//! world and not the rules. `docs/simulation.md` says what is modelled and what is not.

pub mod agent;
pub mod checkers;
pub mod client;
pub mod consumers;
pub mod dcs;
pub mod etcd;
pub mod explore;
pub mod faults;
pub mod mutants;
pub mod network;
pub mod node;
pub mod operator;
pub mod postgres;
pub mod remote;
pub mod requests;
pub mod rng;
pub mod scenario;
pub mod server;
pub mod slots;
pub mod story;
pub mod sync_manager;
pub mod sync_rep;
pub mod sync_settings;
pub mod trace;
pub mod walsenders;
pub mod world;
