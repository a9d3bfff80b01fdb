//! The pieces that descriptions are made of.

use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};

/// What a value looks like.
pub type Node = Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, HttpMethod, RefOr, Required, Response, ResponseBuilder};

/// Those that change nothing.
pub const READERS: [HttpMethod; 3] = [HttpMethod::Get, HttpMethod::Head, HttpMethod::Options];

/// What one method of one path takes and answers.
#[derive(Clone)]
pub struct Described {
    /// In a sentence.
    pub what: &'static str,
    /// In the query, the path or the head.
    pub parameters: Vec<Parameter>,
    /// The body that it takes, and whether it must be there.
    pub body: Option<(Node, bool)>,
    /// Status, meaning and body of each answer.
    pub answers: Vec<(u16, &'static str, Said)>,
    /// Credentials are needed, if the settings name any.
    pub guarded: bool,
}

/// The body of an answer.
#[derive(Clone)]
pub enum Said {
    /// None.
    Nothing,
    /// A sentence; JSON for who asks for JSON.
    Text,
    /// A document.
    Json(Node),
    /// Something else.
    Other(&'static str),
    /// One of these, as the client asks.
    Either(Node, &'static str),
}

impl Described {
    /// Something that is read.
    pub fn reading(what: &'static str, answers: Vec<(u16, &'static str, Said)>) -> Self {
        let mut described = Self { what, parameters: Vec::new(), body: None, answers, guarded: false };
        described.answers.push((400, "the request makes no sense", Said::Text));
        described
    }
    /// With these parameters.
    pub fn with(self, parameters: Vec<Parameter>) -> Self {
        Self { parameters, ..self }
    }
    /// As HEAD and OPTIONS have it.
    pub fn bare(self) -> Self {
        let answers = self.answers.into_iter().map(|(code, what, _)| (code, what, Said::Nothing)).collect();
        Self { answers, ..self }
    }
}

/// For the document.
pub fn operation(id: &str, described: Described) -> Operation {
    let mut operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(described.what));
    for parameter in described.parameters {
        operation = operation.parameter(parameter);
    }
    if let Some((schema, required)) = described.body {
        operation = operation.request_body(Some(body(schema, required)));
    }
    for (code, what, said) in described.answers {
        operation = operation.response(code.to_string(), response(what, said));
    }
    if described.guarded {
        operation = operation.security(SecurityRequirement::new("login", Vec::<String>::new()));
    }
    operation.build()
}

fn body(schema: Node, required: bool) -> RequestBody {
    let required = if required { Required::True } else { Required::False };
    RequestBodyBuilder::new().content("application/json", Content::new(Some(schema))).required(Some(required)).build()
}

fn response(what: &str, said: Said) -> Response {
    let response = ResponseBuilder::new().description(what);
    let with = |response: ResponseBuilder, kind: &str, schema| response.content(kind, Content::new(Some(schema)));
    match said {
        Said::Nothing => response,
        Said::Text => with(with(response, "text/plain", text()), "application/json", map()),
        Said::Json(schema) => with(response, "application/json", schema),
        Said::Other(kind) => with(response, kind, text()),
        Said::Either(schema, kind) => with(with(response, "application/json", schema), kind, text()),
    }
    .build()
}

/// `get`.
pub fn word(method: &HttpMethod) -> &'static str {
    match method {
        HttpMethod::Head => "head",
        HttpMethod::Options => "options",
        _ => "get",
    }
}

/// The login for changes.
pub fn basic_login() -> SecurityScheme {
    let what = "restapi.authentication; without it nobody needs any";
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).description(Some(what)).build())
}

/// A parameter of the query.
pub fn query(name: &str, what: &str, schema: Node) -> Parameter {
    parameter(name, what, schema, ParameterIn::Query)
}

/// A parameter elsewhere.
pub fn parameter(name: &str, what: &str, schema: Node, place: ParameterIn) -> Parameter {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    let parameter = ParameterBuilder::new().name(name).description(Some(what)).schema(Some(schema));
    parameter.parameter_in(place).required(required).build()
}

fn of(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(kind))
}
/// Any text.
pub fn text() -> Node {
    of(Type::String).into()
}
/// One of these.
pub fn one_of(words: &[&str]) -> Node {
    of(Type::String).enum_values(Some(words.iter().copied())).into()
}
/// Text of this form.
pub fn text_like(pattern: &str) -> Node {
    of(Type::String).pattern(Some(pattern)).into()
}
/// True or false.
pub fn flag() -> Node {
    of(Type::Boolean).into()
}
/// A whole number between these.
pub fn number(min: isize, max: isize) -> Node {
    let limit = |n| Some(utoipa::Number::Int(n));
    of(Type::Integer).minimum(limit(min)).maximum(limit(max)).into()
}
/// Any object.
pub fn map() -> Node {
    of(Type::Object).into()
}
/// Any list.
pub fn list(items: Node) -> Node {
    ArrayBuilder::new().items(RefOr::T(items)).into()
}
/// Anything.
pub fn anything() -> Node {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).into()
}
/// An object with these keys; those of the second list must be there.
pub fn object(keys: Vec<(&str, Node)>, needed: &[&str]) -> Node {
    let object = keys.into_iter().fold(of(Type::Object), |object, (key, schema)| object.property(key, schema));
    needed.iter().fold(object, |object, key| object.required(*key)).into()
}
