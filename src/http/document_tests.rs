use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::tests::{call, router};
use super::*;
use crate::control::testing::{CAMERA, Rig};

/// The copy that integrators read and reviewers see changing.
const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
/// Routes that are registered without being in the document.
const UNDOCUMENTED: &[(&str, &str)] = &[
    // Files of the pages: no API, and no path that OpenAPI could write.
    ("assets.rs", "/static/{*path}"),
    // The dashboard's port.
    ("mod.rs", "/"),
    ("mod.rs", "/livestream/viewer"),
    ("mod.rs", "/sw.js"),
    ("mod.rs", "/viewer.js"),
];

fn text() -> String {
    DocumentText::new(&super::document()).as_str().to_owned() + "\n"
}

fn document() -> Value {
    serde_json::from_str(&text()).unwrap()
}

/// Path, method and what is said of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn the_copy_in_docs_is_what_the_code_says() {
    if std::env::var_os("RENEW_OPENAPI").is_some() {
        std::fs::write(COPY, text()).unwrap();
    }
    let copy = std::fs::read_to_string(COPY).unwrap_or_default();
    // Not assert_eq: it would print both.
    assert!(copy == text(), "docs/openapi.json is out of date: RENEW_OPENAPI=1 cargo test --lib the_copy_in_docs");
}

#[test]
fn every_operation_has_a_name_of_its_own_words_and_answers_and_every_reference_leads_somewhere() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = std::collections::BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(parameters, path.matches('{').count(), "{method} {path}");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let found = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(found.is_some(), "{reference} leads nowhere");
    }
}

fn collect_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_of_the_document_is_served() {
    let rig = Rig::new();
    let document = document();
    for (path, method, _) in operations(&document) {
        let method: Method = method.to_uppercase().parse().unwrap();
        let mut uri = path.replace("{camera}", CAMERA);
        while let (Some(start), Some(end)) = (uri.find('{'), uri.find('}')) {
            uri.replace_range(start..=end, "x");
        }
        // Streams that do not end are not read: the head is there before.
        let request = axum::http::Request::builder().method(method.clone()).uri(&uri).body(Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(router(&rig), request).await.unwrap();
        assert_ne!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {uri}");
        if response.status() == StatusCode::NOT_FOUND {
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert!(!String::from_utf8_lossy(&body).contains("\"Not found\""), "{method} {uri} has no route");
        }
    }
    let answer = call(router(&rig), Method::GET, "/openapi.json", Body::empty()).await;
    assert_eq!(answer.body, document);
    let page = call(router(&rig), Method::GET, "/docs", Body::empty()).await;
    assert!(page.text.contains("/js/docs.js\""), "{}", page.text);
}

/// `routes!` puts a route into the document; `.route` does not.
#[test]
fn no_route_is_registered_without_being_in_the_document() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut files = Vec::new();
    collect_files(&folder, &mut files);
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        if name.contains("tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for call in ["route", "route_service", "nest", "nest_service"] {
            for at in product.split(&format!(".{call}(")).skip(1) {
                let path = at.trim_start().strip_prefix('"').and_then(|text| text.split('"').next());
                found.push((name.clone(), path.unwrap_or("?").to_owned()));
            }
        }
    }
    found.sort();
    let mut expected: Vec<(String, String)> =
        UNDOCUMENTED.iter().map(|(file, path)| ((*file).to_owned(), (*path).to_owned())).collect();
    expected.sort();
    assert_eq!(found, expected);
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect_files(&path, files) } else { files.push(path) }
    }
}
