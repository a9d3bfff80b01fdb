//! `GET /ui`: the page. It is one file, made for no other server than this one: its script and its style are allowed by their
//! hashes, and nothing else may be loaded, embedded or sent anywhere.

use crate::answer::Answer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const PAGE: &str = include_str!("../assets/ui.html");

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(inside(tag))));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash("script"),
        hash("style"),
    )
});

/// The answer.
pub fn answer() -> Answer {
    Answer::page(PAGE)
        .with_header("Content-Security-Policy", POLICY.clone())
        .with_header("X-Content-Type-Options", "nosniff".to_owned())
        .with_header("Referrer-Policy", "no-referrer".to_owned())
        .with_header("Cache-Control", "no-cache".to_owned())
}

/// The text of the only element of this name.
fn inside(tag: &str) -> &'static str {
    let after = PAGE.split_once(&format!("<{tag}")).and_then(|(_, rest)| rest.split_once('>'));
    after.and_then(|(_, rest)| rest.split_once(&format!("</{tag}>"))).map_or("", |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for tag in ["script", "style"] {
            assert!(inside(tag).len() > 500, "{tag}");
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
        }
        // an attribute would not be covered by the hashes
        for forbidden in
            ["http://", "https://", " style=", " onclick=", "src=", "innerHTML", "@import", "url(", "eval("]
        {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert!(POLICY.matches("'sha256-").count() == 2 && !POLICY.contains("unsafe"), "{}", *POLICY);
    }

    #[test]
    fn every_control_has_a_name() {
        let controls = ["<input", "<select"].into_iter().flat_map(|tag| PAGE.match_indices(tag));
        for (at, tag) in controls {
            let (opened, closed) = (PAGE[..at].matches("<label").count(), PAGE[..at].matches("</label>").count());
            assert!(opened > closed, "no label around {tag} at {at}");
        }
    }
}
