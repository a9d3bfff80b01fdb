//! `GET /openapi.json`: what this API takes and answers, made from the tables that the server itself goes by. `reading` and
//! `changes` describe every entry of them; a new one that is not described does not compile.

mod changes;
mod parts;
mod reading;

use crate::answer::Answer;
use crate::health;
use crate::operations::{Operation, ROUTES};
use crate::reading::{READINGS, Reading};
use actix_web::http::StatusCode;
use parts::{Described, READERS, basic_login, operation};
use std::sync::LazyLock;
use utoipa::openapi::path::{PathItem, Paths};
use utoipa::openapi::{ComponentsBuilder, HttpMethod, InfoBuilder, License, OpenApi, OpenApiBuilder};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());

/// The answer.
pub fn answer() -> Answer {
    Answer::raw_json(StatusCode::OK, DOCUMENT.clone())
}

fn document() -> OpenApi {
    let mut paths = Paths::new();
    for path in health::PATHS {
        add_reader(&mut paths, path, reading::described(Reading::Health));
    }
    for (segment, reading) in READINGS {
        add_reader(&mut paths, segment, reading::described(*reading));
    }
    add_reader(&mut paths, "operations/{id}", reading::operation_by_id());
    for (method, segment, change) in ROUTES {
        add(&mut paths, segment, http_method(method), change_id(*change), changes::described(*change));
    }
    let info = InfoBuilder::new()
        .title("pgherd")
        .version(pgherd_types::PRODUCT_VERSION)
        .description(Some("The REST API of a node of a PostgreSQL cluster. docs/rest-api.md tells what it means."))
        .license(Some(License::new("MIT OR Apache-2.0")));
    let components = ComponentsBuilder::new().security_scheme("login", basic_login());
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

fn change_id(change: Operation) -> String {
    change.as_str().replace(' ', "_")
}

/// GET, and HEAD and OPTIONS, which answer with the same status and no body.
fn add_reader(paths: &mut Paths, path: &str, described: Described) {
    for method in READERS {
        let name = if path.is_empty() { "root" } else { path };
        let id = format!("{}_{}", parts::word(&method), name.replace(['/', '.'], "_").replace(['{', '}'], ""));
        let described = if method == HttpMethod::Get { described.clone() } else { described.clone().bare() };
        add(paths, path, method, id, described);
    }
}

fn add(paths: &mut Paths, path: &str, method: HttpMethod, id: String, described: Described) {
    let path = format!("/{path}");
    let item = PathItem::new(method, operation(&id, described));
    match paths.paths.get_mut(&path) {
        Some(known) => known.merge_operations(item),
        None => drop(paths.paths.insert(path, item)),
    }
}

fn http_method(method: &str) -> HttpMethod {
    match method {
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Post,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::Method;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn documented() -> BTreeSet<(String, String)> {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
        let of_path = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
            methods.map(|method| (method, path.trim_start_matches('/').to_owned())).collect::<Vec<_>>()
        };
        document["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
    }

    #[test]
    fn every_route_is_described_and_everything_described_is_a_route() {
        let reads = READINGS
            .iter()
            .map(|(segment, _)| *segment)
            .chain(health::PATHS.iter().copied())
            .chain(["operations/{id}"]);
        let reads =
            reads.flat_map(|path| ["GET", "HEAD", "OPTIONS"].map(|method| (method.to_owned(), path.to_owned())));
        let changes = ROUTES.iter().map(|(method, segment, _)| ((*method).to_owned(), (*segment).to_owned()));
        assert_eq!(documented(), reads.chain(changes).collect());
        for (method, path) in documented() {
            let segment = path.split('/').next().unwrap_or_default();
            let change = Operation::named(&Method::from_bytes(method.as_bytes()).unwrap(), segment);
            match method.as_str() {
                "GET" | "HEAD" | "OPTIONS" => {
                    let known = Reading::named(segment) != Reading::Health || health::is_known(&format!("/{path}"));
                    assert!(known && change.is_none(), "{method} {path}");
                }
                _ => assert!(change.is_some(), "{method} {path}"),
            }
        }
    }

    #[test]
    fn ids_are_unique_and_changes_need_a_login() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
                let changes = !["get", "head", "options"].contains(&method.as_str());
                assert_eq!(operation["security"].is_array(), changes, "{method} {path}");
                assert_eq!(operation["responses"]["401"].is_object(), changes, "{method} {path}");
                assert!(operation["responses"]["400"].is_object(), "{method} {path}");
            }
        }
    }
}
