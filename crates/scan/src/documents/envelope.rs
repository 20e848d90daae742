//! Statements in envelopes: DSSE, alone or in a bundle of Sigstore. The statement is JSON in base64, so a secret in it
//! has a path of its own.
//!
//! Sources: DSSE v1.0, `envelope.md`; sigstore/protobuf-specs, `sigstore_bundle.proto`, where the envelope is the
//! member `dsseEnvelope`.

use layersift_format::json::{INSIDE, JsonString, Node, element_path, member_path};

use super::{NAMES, decoded};

/// The most envelopes of one document, and how deep they may be in one another.
const MAX_ENVELOPES: usize = 100;
const MAX_DEPTH: usize = 3;

/// A statement in an envelope.
pub(super) struct Enveloped {
    /// The path of the payload.
    pub(super) path: String,
    /// The statement.
    pub(super) statement: Node,
}

/// The statements in the envelopes of a document, and in the envelopes in those.
pub(super) fn enveloped(document: &Node) -> Vec<Enveloped> {
    let mut found = Vec::new();
    collect(document, "", MAX_DEPTH, &mut found);
    found
}

impl Enveloped {
    /// The strings of the statement, whose paths begin with that of the payload.
    pub(super) fn strings(&self) -> Vec<JsonString> {
        self.statement.strings(&format!("{}{INSIDE}", self.path), &NAMES)
    }
}

fn collect(node: &Node, path: &str, depth: usize, found: &mut Vec<Enveloped>) {
    if found.len() >= MAX_ENVELOPES {
        return;
    }
    match node {
        Node::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect(element, &element_path(path, index), depth, found);
            }
        }
        Node::Object(members) => {
            let has_type = node.get("payloadType").and_then(Node::as_str).is_some();
            for (name, member) in members {
                let at = member_path(path, name);
                match member {
                    Node::String(text) if has_type && name.eq_ignore_ascii_case("payload") => {
                        open(text, at, depth, found);
                    }
                    _ => collect(member, &at, depth, found),
                }
            }
        }
        _ => {}
    }
}

/// Adds the statement that is the payload `text`, and those in its own envelopes.
fn open(text: &str, path: String, depth: usize, found: &mut Vec<Enveloped>) {
    let Some(statement) = decoded(text).and_then(|bytes| Node::parse(&bytes).ok()) else { return };
    if !matches!(statement, Node::Object(_) | Node::Array(_)) {
        return;
    }
    if depth > 0 {
        collect(&statement, &format!("{path}{INSIDE}"), depth - 1, found);
    }
    found.push(Enveloped { path, statement });
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    fn envelope(statement: &Value) -> Value {
        json!({ "payloadType": "application/vnd.in-toto+json", "payload": STANDARD.encode(statement.to_string()) })
    }

    fn paths(document: &Value) -> Vec<String> {
        let node = Node::parse(document.to_string().as_bytes()).unwrap();
        let strings = enveloped(&node).iter().flat_map(Enveloped::strings).collect::<Vec<_>>();
        strings.into_iter().filter(|string| string.text == "made-up").map(|string| string.path).collect()
    }

    #[test]
    fn statements_are_found_wherever_the_envelope_is() {
        let statement = json!({ "predicate": { "a": ["made-up"] } });
        let one = envelope(&statement);
        assert_eq!(paths(&one), ["payload → predicate.a[0]"]);
        assert_eq!(paths(&json!({ "dsseEnvelope": one })), ["dsseEnvelope.payload → predicate.a[0]"]);
        assert_eq!(paths(&json!([one])), ["[0].payload → predicate.a[0]"]);
        let mut url_safe = one.clone();
        url_safe["payload"] = json!(URL_SAFE_NO_PAD.encode(statement.to_string()));
        assert_eq!(paths(&url_safe), ["payload → predicate.a[0]"]);
        let inner = envelope(&json!({ "predicate": { "envelope": one } }));
        assert_eq!(paths(&inner), ["payload → predicate.envelope.payload → predicate.a[0]"]);
    }

    #[test]
    fn what_is_not_an_envelope_is_left_alone() {
        let statement = STANDARD.encode(json!({ "predicate": "made-up" }).to_string());
        for document in [
            json!({ "payload": statement }),
            json!({ "payloadType": 1, "payload": statement }),
            json!({ "payloadType": "text/plain", "payload": STANDARD.encode("only text, and long enough") }),
            json!({ "payloadType": "text/plain", "payload": "not base64, and long enough for it" }),
            json!({ "payloadType": "text/plain", "payload": 7 }),
        ] {
            assert_eq!(paths(&document), [""; 0], "{document}");
        }
    }

    #[test]
    fn the_path_of_a_long_name_is_cut() {
        let name = "x".repeat(100_000);
        let document = json!({ &name: { &name: [envelope(&json!({ "predicate": { &name: ["made-up"] } }))] } });
        let [path] = &paths(&document)[..] else { panic!("one string") };
        assert!(path.len() < 4_000, "{} bytes", path.len());
        assert!(path.contains(INSIDE), "{path}");
    }

    #[test]
    fn envelopes_in_envelopes_and_many_envelopes_are_bounded() {
        let mut nested = json!({ "predicate": "made-up" });
        for _ in 0..20 {
            nested = envelope(&nested);
        }
        let node = Node::parse(nested.to_string().as_bytes()).unwrap();
        assert_eq!(enveloped(&node).len(), MAX_DEPTH + 1);
        let many = vec![envelope(&json!({ "predicate": "made-up" })); MAX_ENVELOPES + 5];
        let node = Node::parse(json!(many).to_string().as_bytes()).unwrap();
        assert_eq!(enveloped(&node).len(), MAX_ENVELOPES);
    }
}
