//! The OpenAPI document, held against what the service answers.

use std::collections::BTreeSet;

use crate::running::{Answer, Client, Site};
use crate::scanned::{Scanned, scan};
use layersift_server::settings::Scope;
use reqwest::Method;
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../crates/server/src/routes/openapi.json");
const ROUTES: &str = include_str!("../../crates/server/src/routes.rs");

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// One method of one path.
struct Operation {
    path: String,
    method: Method,
    /// `None` where no token is needed.
    scopes: Option<Vec<String>>,
    parameters: Vec<Value>,
    /// An example of its body.
    body: Option<Value>,
}

/// All operations, with references to parameters resolved.
fn operations() -> Vec<Operation> {
    let document = document();
    let resolve = |value: &Value| match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference}")).clone(),
        None => value.clone(),
    };
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let texts =
                |list: &Value| list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().into()).collect();
            let examples = operation["requestBody"]["content"]["application/json"]["examples"].as_object();
            operations.push(Operation {
                path: path.clone(),
                method: method.to_uppercase().parse().unwrap(),
                scopes: operation["security"].get(0).map(|security| texts(&security["bearer"])),
                parameters: operation["parameters"].as_array().into_iter().flatten().map(resolve).collect(),
                body: examples.map(|examples| examples.values().next().unwrap()["value"].clone()),
            });
        }
    }
    operations
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Where it is in the document.
    fn pointer(&self) -> String {
        format!("/paths/{}/{}", escaped(&self.path), self.method.as_str().to_lowercase())
    }

    /// A path that there is, with the parameters that it needs.
    fn url(&self, digest: &str, id: &Value) -> String {
        let path = self.path.replace("{digest}", digest).replace("{id}", &id.to_string());
        let required = self.parameters.iter().filter(|of| of["in"] == "query" && of["required"] == true);
        let pairs: Vec<String> = required.map(|of| format!("{}=x", of["name"].as_str().unwrap())).collect();
        if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
    }

    fn send(&self, client: &Client, url: &str, image: &str) -> Answer {
        let request = client.request(self.method.clone(), url);
        let request = match &self.body {
            Some(_) if self.path == "/api/v1/scans" => request.body(json!({ "image": image }).to_string()),
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        Answer::of(request.send().unwrap())
    }

    /// Panics unless the document has an answer like this one.
    #[track_caller]
    fn check(&self, answer: &Answer) {
        let name = format!("{}: {} {}", self.name(), answer.status, answer.text());
        let document = strict(document());
        let mut pointer = format!("{}/responses/{}", self.pointer(), answer.status);
        let response = document.pointer(&pointer).unwrap_or_else(|| panic!("not in the document: {name}"));
        if let Some(reference) = response["$ref"].as_str() {
            pointer = reference[1..].to_string();
        }
        let response = document.pointer(&pointer).unwrap();
        for (header, about) in response["headers"].as_object().into_iter().flatten() {
            assert!(about["required"] != true || !answer.header(header).is_empty(), "no {header}: {name}");
        }
        let media_type = answer.header("content-type").split(';').next().unwrap().to_string();
        assert!(response["content"].get(&media_type).is_some(), "{media_type:?} is not in the document: {name}");
        let values = match &media_type[..] {
            "text/event-stream" => answer.events().into_iter().map(|event| json!(event)).collect(),
            kind if kind.ends_with("json") => vec![answer.json()],
            _ => vec![answer.text().into()],
        };
        for value in values {
            validate(&document, &format!("{pointer}/content/{}/schema", escaped(&media_type)), &value, &name);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

/// The document with no field allowed that it does not name, unless it says so.
fn strict(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(|field| *field = strict(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = strict(item.take())),
        _ => {}
    }
    value
}

/// Panics unless `value` is valid by the schema at `pointer`.
#[track_caller]
fn validate(document: &Value, pointer: &str, value: &Value, name: &str) {
    let mut root = document.clone();
    root["$ref"] = format!("#{}", pointer.replace('{', "%7B").replace('}', "%7D")).into();
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    let schema = jsonschema::validator_for(&root).unwrap_or_else(|error| panic!("{pointer}: {error}"));
    let faults: Vec<String> = schema.iter_errors(value).take(5).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{name}: {faults:#?}");
}

/// Calls `found` with every object in `value` and its pointer.
fn walk(value: &Value, pointer: &str, found: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            found(pointer, value);
            fields.iter().for_each(|(name, field)| walk(field, &format!("{pointer}/{}", escaped(name)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{pointer}/{index}"), found));
        }
        _ => {}
    }
}

#[test]
fn its_references_and_examples_are_good() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut examples = Vec::new();
    walk(&document, "", &mut |pointer, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(&reference[1..]).is_some(), "{pointer}: {reference}");
        }
        let is_made_up = pointer.contains("/example") || pointer.ends_with("/properties");
        if let (Some(schema), false) = (value.get("schema"), is_made_up) {
            assert!(schema.is_object(), "{pointer}");
            let several = value["examples"].as_object().into_iter().flat_map(|of| of.values().map(|one| &one["value"]));
            let one = value.get("example").into_iter();
            examples.extend(several.chain(one).map(|example| (format!("{pointer}/schema"), example.clone())));
        }
    });
    assert!(examples.len() > 20);
    for (pointer, example) in examples {
        validate(&strict(document.clone()), &pointer, &example, &pointer);
    }
    let ids: BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), operations().len());
    let formats: Vec<&str> = layersift_report::FORMATS.iter().map(|format| format.name).collect();
    assert_eq!(document["components"]["parameters"]["Format"]["schema"]["enum"], json!(formats));
    let scopes = &document["components"]["schemas"]["Tokens"]["properties"]["tokens"]["items"]["properties"]["scopes"];
    assert_eq!(scopes["items"]["enum"], json!(Scope::ALL.map(Scope::name)));
}

#[test]
fn it_has_the_routes_that_there_are() {
    let documented: BTreeSet<String> = operations().into_iter().map(|operation| operation.path).collect();
    let routes = ROUTES.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_string());
    // Metrics are only where there is no authentication, what Envoy asks and what is forwarded has the methods and
    // paths of clients, and Portkey is told of errors as of verdicts.
    let is_other = |route: &str| ["/metrics", "/portkey"].contains(&route) || route.contains("{*path}");
    let is_documented = |route: &String| !is_other(route);
    let routes: BTreeSet<String> = routes.filter(is_documented).collect();
    assert_eq!(documented, routes);
}

#[test]
fn every_operation_answers_as_it_says() {
    let scanned = Scanned::start(Site::sqlite(), "[prompts]\n");
    let client = scanned.running.client(&scanned.site.token(&Scope::ALL.map(Scope::name)));
    let anonymous = Client::new(&scanned.running.url("api"));
    let image = scanned.image();
    let id = scan(&client, &image)["id"].clone();
    assert_eq!(client.get("/api/v1/openapi.json").expect(200).text(), DOCUMENT);
    for operation in operations() {
        let name = operation.name();
        let url = operation.url(&scanned.digest, &id);
        let answer = operation.send(&client, &url, &image);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        operation.check(&answer);
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{name}");
        assert_eq!(answer.header("cache-control"), if url.ends_with("/events") { "no-cache" } else { "no-store" });

        let answer = operation.send(&anonymous, &url, &image);
        assert_eq!(answer.status, if operation.scopes.is_some() { 401 } else { 200 }, "{name}");
        operation.check(&answer);

        if operation.path.starts_with("/api/") {
            let unknown = format!("{url}{}unknown=1", if url.contains('?') { "&" } else { "?" });
            let answer = operation.send(&client, &unknown, &image);
            assert_eq!(answer.status, 400, "{unknown}: {}", answer.text());
            operation.check(&answer);
        }
        bounds(&operation, &client, &url, &image);

        // A method that it does not have, and those that it has.
        let answer = Answer::of(client.request(Method::DELETE, &url).send().unwrap()).expect(405);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{name}");
        let allowed: BTreeSet<&str> = answer.header("allow").split(',').filter(|method| *method != "HEAD").collect();
        let methods = operations().into_iter().filter(|other| other.path == operation.path);
        let methods: Vec<String> = methods.map(|other| other.method.to_string()).collect();
        assert_eq!(allowed, methods.iter().map(String::as_str).collect(), "{name}");
    }
    for path in ["/", "/api/v1", "/api/v1/scans/", "/api/v2/scans", "/admit/v2", "/metrics", "/api/v1/images/a/b/c"] {
        let answer = client.get(path).expect(404);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        anonymous.get(path).expect(401);
    }
}

/// Sends values at the bounds of numbers in the query, and values beside them.
fn bounds(operation: &Operation, client: &Client, url: &str, image: &str) {
    for parameter in operation.parameters.iter().filter(|of| of["in"] == "query" && of["schema"]["type"] == "integer") {
        let join = if url.contains('?') { "&" } else { "?" };
        let with = |value: i128| format!("{url}{join}{}={value}", parameter["name"].as_str().unwrap());
        let bound = |name: &str| i128::from(parameter["schema"][name].as_i64().unwrap());
        for (value, status) in
            [(bound("minimum"), 200), (bound("maximum"), 200), (bound("minimum") - 1, 400), (bound("maximum") + 1, 400)]
        {
            let answer = operation.send(client, &with(value), image);
            assert_eq!(answer.status, status, "{}: {}", with(value), answer.text());
        }
    }
}

#[test]
fn every_operation_needs_the_scope_that_it_names() {
    let scanned = Scanned::start(Site::sqlite(), "[prompts]\n");
    let image = scanned.image();
    let id = scan(&scanned.client, &image)["id"].clone();
    let all = Scope::ALL.map(Scope::name);
    for scope in all {
        let others: Vec<&str> = all.into_iter().filter(|other| *other != scope).collect();
        let with = scanned.running.client(&scanned.site.token(&[scope]));
        let without = scanned.running.client(&scanned.site.token(&others));
        for operation in operations().iter().filter(|operation| operation.scopes.is_some()) {
            let url = operation.url(&scanned.digest, &id);
            let scopes = operation.scopes.as_ref().unwrap();
            let is_needed = scopes.iter().any(|needed| needed == scope);
            let status = if is_needed || scopes.is_empty() { 200 } else { 403 };
            let answer = operation.send(&with, &url, &image);
            assert_eq!(answer.status, status, "{} with {scope}: {}", operation.name(), answer.text());
            operation.check(&answer);
            let answer = operation.send(&without, &url, &image);
            assert_eq!(answer.status, if is_needed { 403 } else { 200 }, "{} without {scope}", operation.name());
            operation.check(&answer);
        }
    }
}
