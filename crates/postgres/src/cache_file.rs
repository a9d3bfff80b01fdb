//! The dynamic configuration in force, kept in the data directory: it counts until the `config` key is read, and over
//! `bootstrap.dcs`, which may be years old (spec/configuration.md 2).

use crate::config_place::ConfigPlace;
use crate::server::Postgres;
use std::fs;
use std::path::Path;

const NAME: &str = "patroni.dynamic.json";
/// No configuration is larger; a file that is must be something else.
const BYTES_MAX: u64 = 4 << 20;

/// The text in this data directory, if it is a JSON object.
pub fn cached_dynamic(data_dir: &Path) -> Option<String> {
    let path = data_dir.join(NAME);
    let length = fs::metadata(&path).ok()?.len();
    let text = fs::read_to_string(&path).ok().filter(|_| length <= BYTES_MAX);
    let usable = text.filter(|text| serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok());
    if usable.is_none() {
        log::warn!("{} is not a JSON object of sensible size; bootstrap.dcs is used instead", path.display());
    }
    usable
}

/// Writes the text in force into the data directory, which exists. Nothing else fails because of it.
pub(crate) fn write(server: &Postgres) {
    let path = server.options.data_dir.join(NAME);
    if let Err(e) = ConfigPlace::of(server).write_if_changed(server, &path, &server.dynamic()) {
        log::warn!("the dynamic configuration is not kept for the next start: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_is_taken_from_the_file() {
        let dir = std::env::temp_dir().join(format!("pgherd-cache-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let with = |text: &str| {
            fs::write(dir.join(NAME), text).unwrap();
            cached_dynamic(&dir)
        };
        assert_eq!(with(r#"{"ttl":7}"#).as_deref(), Some(r#"{"ttl":7}"#));
        assert_eq!((with("[1]"), with(""), with("{\"ttl\":")), (None, None, None));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(cached_dynamic(&dir), None);
    }
}
