//! (to be written)

pub mod dcs_watcher;
pub mod dynamic_settings;
pub mod postgres_monitor;
pub mod postgres_operator;
pub mod slot_manager;
pub mod sync_manager;
pub mod tell;
