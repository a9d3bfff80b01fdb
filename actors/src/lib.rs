//! (to be written)

pub mod dynamic_settings;
