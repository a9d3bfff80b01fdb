//! Bodies of requests: JSON objects, whatever the client calls them, of a limited size, and within a limited time.

use super::strict_json;
use crate::answer::Answer;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use serde_json::{Map, Value};
use std::time::Duration;

/// The largest thing anybody sends is a dynamic configuration, which etcd limits to 1.5 MiB.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client sent.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// Neither a length nor chunks were announced.
    Absent,
    /// These bytes.
    Bytes(web::Bytes),
}

/// Reads it all.
pub async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Body, Answer> {
    let announced = |name| request.headers().contains_key(name);
    if !announced(header::CONTENT_LENGTH) && !announced(header::TRANSFER_ENCODING) {
        return Ok(Body::Absent);
    }
    match tokio::time::timeout(PATIENCE, payload.to_bytes_limited(BODY_BYTES_MAX)).await {
        Ok(Ok(Ok(bytes))) => Ok(Body::Bytes(bytes)),
        Ok(Ok(Err(e))) => Err(bad(&format!("the body could not be read: {e}"))),
        Ok(Err(_)) => {
            let what = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            Err(Answer::error(StatusCode::PAYLOAD_TOO_LARGE, &what))
        }
        Err(_) => {
            let what = format!("the body did not arrive within {} seconds", PATIENCE.as_secs());
            Err(Answer::error(StatusCode::REQUEST_TIMEOUT, &what))
        }
    }
}

impl Body {
    /// An object with something in it.
    pub fn needed(&self) -> Result<Map<String, Value>, Answer> {
        match self {
            Self::Absent => Err(Answer::error(StatusCode::LENGTH_REQUIRED, "a JSON object is needed as body")),
            Self::Bytes(bytes) => object(bytes)
                .and_then(|object| if object.is_empty() { Err(bad("the object is empty")) } else { Ok(object) }),
        }
    }
    /// An object; no body is an empty one.
    pub fn or_empty(&self) -> Result<Map<String, Value>, Answer> {
        match self {
            Self::Absent => Ok(Map::new()),
            Self::Bytes(bytes) if bytes.is_empty() => Ok(Map::new()),
            Self::Bytes(bytes) => object(bytes),
        }
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Answer> {
    match strict_json::read(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad("the body must be a JSON object")),
        Err(e) => Err(bad(&format!("the body is not JSON: {e}"))),
    }
}

/// 400 for what nobody has a text for.
pub fn bad(what: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, what)
}
