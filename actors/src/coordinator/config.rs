//! The dynamic configuration as the coordinator follows it: the last good text stays in force, whatever is written to
//! the key afterwards (a wiped DCS must not change how a cluster behaves).

use crate::dynamic_settings;
use pgherd_types::{Cluster, Settings};

/// The last good text and what was made of it.
pub struct ConfigTree {
    text: String,
    seen: Option<(i64, bool)>,
    from_dcs: bool,
}

impl ConfigTree {
    /// Begin with the local `bootstrap.dcs` section as JSON text.
    pub fn new(bootstrap_dcs: String) -> Self {
        Self { text: bootstrap_dcs, seen: None, from_dcs: false }
    }

    /// The JSON text in force.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Look at the key; settings if they are to be read anew.
    pub fn observe(&mut self, cluster: &Cluster, current: &Settings) -> Option<Settings> {
        let all_ours = cluster.all_members_are_ours();
        let key = cluster.config.as_ref();
        let seen = (key.map_or(0, |k| k.mod_revision), all_ours);
        if self.seen == Some(seen) {
            return None;
        }
        self.seen = Some(seen);
        match key {
            Some(key) if key.valid => {
                self.text.clone_from(&key.text);
                self.from_dcs = true;
            }
            Some(_) => log::error!("the config key is not a JSON object: the last good configuration stays in force"),
            None if self.from_dcs => log::warn!("the config key is gone: the last good configuration stays in force"),
            None => {}
        }
        self.checked(current, all_ours)
    }

    fn checked(&self, current: &Settings, all_ours: bool) -> Option<Settings> {
        match dynamic_settings::read(&self.text, current, all_ours) {
            Ok(checked) => {
                checked.warnings.iter().for_each(|warning| log::warn!("dynamic configuration: {warning}"));
                Some(checked.settings)
            }
            Err(e) => {
                log::error!("{e}; the last good settings stay in force");
                None
            }
        }
    }
}
