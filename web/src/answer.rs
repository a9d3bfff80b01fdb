//! What is answered to a request: a status, and a body in JSON or as plain text. The texts that clients know, and errors,
//! are plain unless the client asks for JSON.

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use pgherd_protocol::request_desk::Reply;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// A status, perhaps a body, perhaps more headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: StatusCode,
    /// The body; it is left out for HEAD and OPTIONS.
    pub body: Option<String>,
    kind: Kind,
    headers: Vec<(&'static str, String)>,
}

/// What the body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A sentence.
    Text,
    /// A document.
    Json,
    /// Series.
    Metrics,
    /// For people.
    Page,
}

impl Answer {
    /// No body.
    pub fn bare(code: StatusCode) -> Self {
        Self { code, body: None, kind: Kind::Text, headers: Vec::new() }
    }
    /// A document.
    pub fn json(code: StatusCode, body: &Value) -> Self {
        Self::raw_json(code, body.to_string())
    }
    /// A text that is JSON already.
    pub fn raw_json(code: StatusCode, body: String) -> Self {
        Self { code, body: Some(body), kind: Kind::Json, headers: Vec::new() }
    }
    /// What is wrong.
    pub fn error(code: StatusCode, what: &str) -> Self {
        Self::text(code, what)
    }
    /// Series in Prometheus's text format.
    pub fn metrics(text: String) -> Self {
        Self { code: StatusCode::OK, body: Some(text), kind: Kind::Metrics, headers: Vec::new() }
    }
    /// The page.
    pub fn page(text: &str) -> Self {
        Self { code: StatusCode::OK, body: Some(text.to_owned()), kind: Kind::Page, headers: Vec::new() }
    }
    /// One of the texts that clients know.
    pub fn text(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, body: Some(text.into()), kind: Kind::Text, headers: Vec::new() }
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
        let mut headers = self.headers;
        headers.push((name, value));
        Self { headers, ..self }
    }

    /// For the wire, as this request wants it.
    pub fn respond(self, request: &HttpRequest) -> HttpResponse {
        self.into_response(request.method(), wants_json(request))
    }

    fn into_response(self, method: &Method, json: bool) -> HttpResponse {
        let mut response = HttpResponse::build(self.code);
        for header in self.headers {
            response.insert_header(header);
        }
        let Some(body) = self.body.filter(|_| !matches!(*method, Method::HEAD | Method::OPTIONS)) else {
            return response.finish();
        };
        let (media, body) = match self.kind {
            Kind::Json => (JSON, body),
            Kind::Page => ("text/html; charset=utf-8", body),
            Kind::Metrics => (prometheus::TEXT_FORMAT, body),
            Kind::Text if json => (JSON, wrapped(self.code, &body)),
            Kind::Text => (TEXT, body),
        };
        response.insert_header((header::CONTENT_TYPE, media)).body(body)
    }
}

/// `{"message": …}` or `{"error": …}`.
fn wrapped(code: StatusCode, text: &str) -> String {
    let key = if code.is_success() { "message" } else { "error" };
    json!({key: text}).to_string()
}

/// Is JSON among what the client accepts by name?
fn wants_json(request: &HttpRequest) -> bool {
    let accepts = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    accepts.flat_map(|text| text.split(',')).any(|range| {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        let refused = ["q=0", "q=0.0", "q=0.00", "q=0.000"].contains(&parameters.replace(' ', "").as_str());
        media.trim().eq_ignore_ascii_case(JSON) && !refused
    })
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn who_names_json_gets_it() {
        for (accept, wanted) in [
            ("application/json", true),
            ("text/html, Application/JSON;q=0.5", true),
            ("*/*", false),
            ("text/plain", false),
            ("application/json; q=0", false),
            ("application/jsonx", false),
        ] {
            let request = TestRequest::default().insert_header((header::ACCEPT, accept)).to_http_request();
            assert_eq!(wants_json(&request), wanted, "{accept}");
        }
        assert!(!wants_json(&TestRequest::default().to_http_request()));
        assert_eq!(wrapped(StatusCode::OK, "a \"b\""), r#"{"message":"a \"b\""}"#);
        assert_eq!(wrapped(StatusCode::CONFLICT, "no"), r#"{"error":"no"}"#);
    }
}
