//! `events`: where else what happens is told.

use super::error::SettingsError;
use super::section::{Section, items};
use super::tls;
use pgherd_actors::events::Webhook;
use pgherd_protocol::events::Kinds;

/// More receivers are a mistake.
const WEBHOOKS_MAX: usize = 16;

/// Reads the section.
pub fn read(section: Section) -> Result<Vec<Webhook>, SettingsError> {
    let webhooks = items(&section, "webhooks")?.into_iter().map(webhook).collect::<Result<Vec<_>, _>>()?;
    if webhooks.len() > WEBHOOKS_MAX {
        return Err(section.error("webhooks", format!("must not be more than {WEBHOOKS_MAX}")));
    }
    section.finish();
    Ok(webhooks)
}

fn webhook(item: Section) -> Result<Webhook, SettingsError> {
    let url = item.required_text("url")?;
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if rest.is_none_or(|rest| rest.split('/').next().is_some_and(|authority| authority.contains('@'))) {
        return Err(item.error("url", "must be http[s]://host:port/path; a user name or password has no place in it"));
    }
    let cacert = tls::path(&item, "cacert")?;
    let types = item.texts("types")?.unwrap_or_default();
    let kinds = Kinds::read(types.iter().map(String::as_str)).map_err(|what| item.error("types", what))?;
    let secret = item.text("secret")?.filter(|secret| !secret.is_empty());
    item.finish();
    Ok(Webhook { url, kinds, secret, cacert })
}
