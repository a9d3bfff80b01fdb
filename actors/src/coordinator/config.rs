//! The dynamic configuration as the coordinator follows it: the last good text stays in force, whatever is written to
//! the key afterwards (a wiped DCS must not change how a cluster behaves).

use crate::dynamic_settings;
use pgherd_types::{Cluster, RewindPolicy, Settings};

/// What this node's own settings say of diverged data; they count over the dynamic configuration.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalPolicy {
    /// `use_pg_rewind`.
    pub use_pg_rewind: Option<bool>,
    /// `remove_data_directory_on_rewind_failure`.
    pub replace_on_failure: Option<bool>,
    /// `remove_data_directory_on_diverged_timelines`.
    pub replace_on_divergence: Option<bool>,
}

impl LocalPolicy {
    /// Settings of the dynamic configuration, with this over them.
    pub fn over(self, settings: Settings) -> Settings {
        let shared = settings.rewind;
        let rewind = RewindPolicy {
            use_pg_rewind: self.use_pg_rewind.unwrap_or(shared.use_pg_rewind),
            replace_on_failure: self.replace_on_failure.unwrap_or(shared.replace_on_failure),
            replace_on_divergence: self.replace_on_divergence.unwrap_or(shared.replace_on_divergence),
        };
        Settings { rewind, ..settings }
    }
}

/// The last good text and what was made of it.
pub struct ConfigTree {
    policy: LocalPolicy,
    text: String,
    seen: Option<(i64, bool)>,
    from_dcs: bool,
}

impl ConfigTree {
    /// Begin with the local `bootstrap.dcs` section as JSON text.
    pub fn new(bootstrap_dcs: String, policy: LocalPolicy) -> Self {
        Self { policy, text: bootstrap_dcs, seen: None, from_dcs: false }
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
                Some(self.policy.over(checked.settings))
            }
            Err(e) => {
                log::error!("{e}; the last good settings stay in force");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_says_of_diverged_data_counts_over_the_dynamic_configuration() {
        let text = r#"{"postgresql":{"use_pg_rewind":true,"remove_data_directory_on_rewind_failure":true}}"#;
        let policy = LocalPolicy {
            replace_on_failure: Some(false),
            replace_on_divergence: Some(true),
            ..LocalPolicy::default()
        };
        let mut tree = ConfigTree::new(text.to_owned(), policy);
        let settings = tree.observe(&Cluster::default(), &Settings::default()).unwrap();
        let wanted = RewindPolicy { use_pg_rewind: true, replace_on_failure: false, replace_on_divergence: true };
        assert_eq!(settings.rewind, wanted);
    }
}
