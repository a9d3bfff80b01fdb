//! What the settings add to every answer: headers of the user's own, and the name of the server.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use arc_swap::ArcSwap;
use pgherd_types::COMPATIBLE_VERSION;
use std::sync::Arc;

/// Those that say how a body is to be read: a wrong one breaks every client.
const RESERVED: &[HeaderName] =
    &[header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::CONTENT_TYPE, header::UPGRADE];

/// How much the server says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServerTokens {
    /// Nothing.
    #[default]
    Original,
    /// `Patroni/4.1.4`.
    Minimal,
    /// `Patroni`.
    ProductOnly,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExtraHeaders(Vec<(HeaderName, HeaderValue)>);

/// Those of every answer, and those of encrypted ones beside them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllHeaders {
    /// `http_extra_headers`, and the name of the server.
    pub every: ExtraHeaders,
    /// `https_extra_headers`: where both name a header this one counts.
    pub encrypted: ExtraHeaders,
}

/// The headers as they are at the moment.
pub type SharedHeaders = Arc<ArcSwap<AllHeaders>>;

impl AllHeaders {
    /// Adds those that belong to such a connection.
    pub fn add_to(&self, response: &mut HttpResponse, encrypted: bool) {
        self.every.add_to(response);
        if encrypted {
            self.encrypted.add_to(response);
        }
    }
}

impl ExtraHeaders {
    /// These; the error names the one that cannot be sent, and not its value.
    pub fn new(pairs: &[(String, String)], tokens: ServerTokens) -> Result<Self, String> {
        let server = match tokens {
            ServerTokens::Original => None,
            ServerTokens::Minimal => Some(format!("Patroni/{COMPATIBLE_VERSION}")),
            ServerTokens::ProductOnly => Some("Patroni".to_owned()),
        };
        let server = server.map(|server| ("server".to_owned(), server));
        server.iter().chain(pairs).map(|(name, value)| checked(name, value)).collect::<Result<_, _>>().map(Self)
    }

    /// Adds them.
    pub fn add_to(&self, response: &mut HttpResponse) {
        for (name, value) in &self.0 {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
}

fn checked(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("{name}: this is no name of a header"))?;
    if RESERVED.contains(&parsed) {
        return Err(format!("{name}: this header is the server's own"));
    }
    let value = value.parse().map_err(|_| format!("{name}: its value cannot be sent in a header"))?;
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<ExtraHeaders, String> {
        ExtraHeaders::new(&[(name.to_owned(), value.to_owned())], ServerTokens::Minimal)
    }

    #[test]
    fn headers_are_added_to_answers() {
        let mut response = HttpResponse::Ok().insert_header(("X-Frame-Options", "old")).body("{}");
        of("x-frame-options", "SAMEORIGIN").unwrap().add_to(&mut response);
        assert_eq!(response.headers().get("X-Frame-Options").unwrap(), "SAMEORIGIN");
        assert_eq!(response.headers().get("Server").unwrap(), "Patroni/4.1.4");
        assert_eq!(ExtraHeaders::new(&[], ServerTokens::Original), Ok(ExtraHeaders::default()));
        let all = AllHeaders { every: of("x", "plain").unwrap(), encrypted: of("X", "sealed").unwrap() };
        for (encrypted, value) in [(false, "plain"), (true, "sealed")] {
            all.add_to(&mut response, encrypted);
            assert_eq!(response.headers().get_all("x").collect::<Vec<_>>(), [value]);
        }
    }

    #[test]
    fn what_would_break_answers_is_refused() {
        for (name, value) in
            [("a b", "x"), ("", "x"), ("Content-Length", "7"), ("x", "a\r\nb: c"), ("connection", "close")]
        {
            assert!(of(name, value).is_err(), "{name}");
        }
        assert!(!of("x", "secret\n").unwrap_err().contains("secret"));
    }
}
