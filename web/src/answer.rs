//! What is answered to a request: a status, and a body in JSON or as plain text.

use actix_web::HttpResponse;
use actix_web::http::{Method, StatusCode, header};
use pgherd_protocol::request_desk::Reply;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// A status, perhaps a body, perhaps one more header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: StatusCode,
    /// The body; it is left out for HEAD and OPTIONS.
    pub body: Option<String>,
    media: &'static str,
    header: Option<(&'static str, String)>,
}

impl Answer {
    /// No body.
    pub fn bare(code: StatusCode) -> Self {
        Self { code, body: None, media: TEXT, header: None }
    }
    /// A document.
    pub fn json(code: StatusCode, body: &Value) -> Self {
        Self::raw_json(code, body.to_string())
    }
    /// A text that is JSON already.
    pub fn raw_json(code: StatusCode, body: String) -> Self {
        Self { code, body: Some(body), media: JSON, header: None }
    }
    /// `{"error": …}`.
    pub fn error(code: StatusCode, what: &str) -> Self {
        Self::json(code, &json!({"error": what}))
    }
    /// One of the texts that clients know.
    pub fn text(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, body: Some(text.into()), media: TEXT, header: None }
    }
    /// 400 with such a text.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, text)
    }
    /// What an actor says in one of those texts.
    pub fn reply(Reply { code, text }: Reply) -> Self {
        Self::text(status(code), text)
    }
    /// What an actor says in JSON, unless it is an error.
    pub fn reply_json(Reply { code, text }: Reply) -> Self {
        match status(code) {
            code if code.is_success() => Self::raw_json(code, text),
            code => Self::error(code, &text),
        }
    }
    /// The same with this header.
    pub fn with_header(self, name: &'static str, value: String) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// For the wire.
    pub fn into_response(self, method: &Method) -> HttpResponse {
        let mut response = HttpResponse::build(self.code);
        if let Some(header) = self.header {
            response.insert_header(header);
        }
        match self.body.filter(|_| !matches!(*method, Method::HEAD | Method::OPTIONS)) {
            Some(body) => response.insert_header((header::CONTENT_TYPE, self.media)).body(body),
            None => response.finish(),
        }
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
