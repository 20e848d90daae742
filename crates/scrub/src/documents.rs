//! Changes JSON documents: configurations, manifests and indexes. All other members stay, in their order.

use layersift_format::compression::Codec;
use layersift_format::json::Node;
use layersift_model::Digest;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::changes::{Action, Place};
use crate::filler::{LONG, mask};
use crate::request::Request;

/// Members that say what a document is, by where they are. Programs do not read another value there, and a short secret
/// that is one of the values is a coincidence. The same names mean nothing below labels or annotations.
const STRUCTURE: [&[&str]; 10] = [
    &["schemaversion"],
    &["mediatype"],
    &["artifacttype"],
    &["os"],
    &["architecture"],
    &["variant"],
    &["created"],
    &["history", "created"],
    &["rootfs", "type"],
    &["rootfs", "diff_ids"],
];

/// The members with descriptors, and what a descriptor says about its blob.
const DESCRIPTORS: [&str; 5] = ["config", "layers", "blobs", "manifests", "subject"];
const OF_DESCRIPTOR: [&str; 4] = ["mediatype", "artifacttype", "digest", "size"];

/// How the annotations begin that describe the bytes of a compressed layer: the tables of contents of eStargz, of
/// zstd:chunked and of other lazy pullers.
const OF_LAYER: [&str; 3] = ["containerd.io/snapshot/", "io.containers.estargz.", "io.github.containers.zstd-chunked."];

/// The annotation of containerd with the diff_id of a layer.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// The bytes of a document.
pub(crate) fn to_bytes(node: &Node) -> Vec<u8> {
    // A tree of strings and numbers has a form in JSON.
    serde_json::to_vec(&Written(node)).unwrap_or_default()
}

struct Written<'n>(&'n Node);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Node::Null => serializer.serialize_unit(),
            Node::Bool(value) => serializer.serialize_bool(*value),
            Node::Number(number) => number.serialize(serializer),
            Node::String(text) => serializer.serialize_str(text),
            Node::Array(elements) => {
                let mut seq = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    seq.serialize_element(&Written(element))?;
                }
                seq.end()
            }
            Node::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, member) in members {
                    map.serialize_entry(name, &Written(member))?;
                }
                map.end()
            }
        }
    }
}

/// Masks the wanted secrets in all strings of a document, and says where they were.
pub(crate) fn mask_secrets(node: &mut Node, blob: Option<&Digest>, request: &Request) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, secret) in request.secrets.iter().enumerate() {
        let Ok(value) = std::str::from_utf8(secret.value.reveal()) else { continue };
        let is_wanted = value.len() >= LONG || request.in_documents.get(index).is_some_and(|found| *found);
        if !is_wanted {
            continue;
        }
        let mut found = Vec::new();
        mask_below(node, &Position::default(), value, &mut found);
        places.extend(found.into_iter().map(|path| Place {
            action: Action::Masked,
            blob: blob.cloned(),
            path,
            entry: None,
            offset: None,
            length: Some(value.len() as u64),
            fingerprint: Some(secret.fingerprint.clone()),
            note: None,
        }));
    }
    places
}

/// Where a value is in a document.
#[derive(Clone, Default)]
struct Position {
    /// For people.
    path: String,
    /// The names of the members in lower case, without the places in arrays.
    names: Vec<String>,
}

impl Position {
    /// Whether the value says what the document is.
    fn is_structure(&self) -> bool {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        match names[..] {
            ["manifests", "platform", name] => matches!(name, "os" | "architecture" | "variant"),
            [descriptor, name] if DESCRIPTORS.contains(&descriptor) && OF_DESCRIPTOR.contains(&name) => true,
            _ => STRUCTURE.contains(&&names[..]),
        }
    }

    fn member(&self, shown: &str, name: &str) -> Position {
        let path = if self.path.is_empty() { shown.into() } else { format!("{}.{shown}", self.path) };
        let mut names = self.names.clone();
        names.push(name.to_ascii_lowercase());
        Position { path, names }
    }

    fn element(&self, index: usize) -> Position {
        Position { path: format!("{}[{index}]", self.path), names: self.names.clone() }
    }
}

fn mask_below(node: &mut Node, at: &Position, secret: &str, found: &mut Vec<String>) {
    match node {
        Node::String(text) => {
            if let Some(masked) = mask(text, secret) {
                *text = masked;
                found.push(at.path.clone());
            }
        }
        Node::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                mask_below(element, &at.element(index), secret, found);
            }
        }
        Node::Object(members) => {
            for (name, member) in members {
                let masked = mask(name, secret);
                let below = at.member(masked.as_deref().unwrap_or(name), name);
                if below.is_structure() {
                    continue;
                }
                if let Some(masked) = masked {
                    *name = masked;
                    found.push(below.path.clone());
                }
                mask_below(member, &below, secret, found);
            }
        }
        Node::Null | Node::Bool(_) | Node::Number(_) => {}
    }
}

/// The elements of the array `name`.
pub(crate) fn elements_mut<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Vec<Node>> {
    match member_mut(node, name)? {
        Node::Array(elements) => Some(elements),
        _ => None,
    }
}

/// The member that Go reads as `name`: the last one.
pub(crate) fn member_mut<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    let Node::Object(members) = node else { return None };
    members.iter_mut().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, member)| member)
}

/// Points a descriptor at other bytes.
pub(crate) fn set_descriptor(descriptor: &mut Node, digest: &Digest, size: u64) {
    let Node::Object(members) = descriptor else { return };
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    // Embedded content and other addresses are those of the old bytes.
    members.retain(|(name, _)| !is(name, "data") && !is(name, "urls"));
    for (name, member) in members {
        if is(name, "digest") {
            *member = Node::String(digest.to_string());
        } else if is(name, "size") {
            *member = Node::Number(size.into());
        }
    }
}

/// Makes the media type of a layer's descriptor say how it is compressed.
pub(crate) fn set_layer_compression(descriptor: &mut Node, codec: Codec) {
    let Some(Node::String(media_type)) = member_mut(descriptor, "mediaType") else { return };
    let Some((kind, _)) = media_type.split_once(".tar") else { return };
    let separator = if kind.starts_with("application/vnd.docker.") { '.' } else { '+' };
    *media_type = match codec {
        Codec::Plain => format!("{kind}.tar"),
        codec => format!("{kind}.tar{separator}{codec}"),
    };
}

/// Brings the annotations of a layer's descriptor up to date, and returns the names of those that were removed.
pub(crate) fn update_layer_annotations(descriptor: &mut Node, diff_id: &Digest) -> Vec<String> {
    let mut removed = Vec::new();
    let Some(Node::Object(annotations)) = member_mut(descriptor, "annotations") else { return removed };
    annotations.retain(|(name, _)| {
        let is_of_layer = OF_LAYER.iter().any(|prefix| name.starts_with(prefix));
        if is_of_layer {
            removed.push(name.clone());
        }
        !is_of_layer
    });
    for (name, value) in annotations {
        if name == UNCOMPRESSED {
            *value = Node::String(diff_id.to_string());
        }
    }
    removed
}

/// Sets the diff_ids of a configuration, which has as many as there are `diff_ids`; returns whether it has.
pub(crate) fn set_diff_ids(config: &mut Node, diff_ids: &[Digest]) -> bool {
    let list = member_mut(config, "rootfs").and_then(|rootfs| elements_mut(rootfs, "diff_ids"));
    let Some(list) = list.filter(|list| list.len() == diff_ids.len()) else { return diff_ids.is_empty() };
    for (node, diff_id) in list.iter_mut().zip(diff_ids) {
        *node = Node::String(diff_id.to_string());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::WantedSecret;
    use layersift_model::Secret;

    fn request(value: &str) -> Request {
        let secret = WantedSecret { fingerprint: "f".into(), value: Secret::new(value.as_bytes()) };
        Request { secrets: vec![secret], in_documents: vec![true], ..Request::default() }
    }

    fn masked(text: &str, value: &str) -> (String, Vec<String>) {
        let mut node = Node::parse(text.as_bytes()).unwrap();
        let places = mask_secrets(&mut node, None, &request(value));
        (String::from_utf8(to_bytes(&node)).unwrap(), places.into_iter().map(|place| place.path).collect())
    }

    #[test]
    fn order_and_other_members_stay() {
        let text = r#"{"b":1,"a":[null,true,-2,"hunter2 x"],"A":{"k":"é"},"size":18446744073709551615}"#;
        assert_eq!(masked(text, "hunter2").0, text.replace("hunter2", "xxxxxxx"));
    }

    #[test]
    fn only_what_says_what_a_document_is_stays() {
        let labels = r#"{"created":"hunter2","Size":"hunter2","os":"hunter2","digest":"hunter2"}"#;
        let config = |labels: &str, other: &str| {
            let history = format!(r#"[{{"created":"hunter2","comment":"{other}"}}]"#);
            let config = format!(r#"{{"Labels":{labels},"rootfs":"{other}"}}"#);
            format!(r#"{{"created":"hunter2","os":"hunter2","config":{config},"history":{history}}}"#)
        };
        let expected = config(&labels.replace("hunter2", "xxxxxxx"), "xxxxxxx");
        assert_eq!(masked(&config(labels, "hunter2"), "hunter2").0, expected);
        let platform = r#"{"os":"hunter2","os.version":"hunter2"}"#;
        let annotations = r#"{"created":"hunter2","mediaType":"hunter2","platform":"hunter2"}"#;
        let entry = format!(r#"{{"mediaType":"hunter2","platform":{platform},"annotations":{annotations}}}"#);
        let index = format!(r#"{{"mediaType":"hunter2","manifests":[{entry}],"annotations":{{"size":"hunter2"}}}}"#);
        let kept =
            ["\"mediaType\":\"hunter2\",\"platform\"", "{\"os\":\"hunter2\"", "{\"mediaType\":\"hunter2\",\"manifests"];
        let (text, places) = masked(&index, "hunter2");
        assert!(kept.iter().all(|kept| text.contains(kept)), "{text}");
        assert_eq!(places.len(), 5, "{places:?} {text}");
    }

    #[test]
    fn places_are_named_and_never_show_the_secret() {
        let text = r#"{"config":{"Env":["A=hunter2"],"Labels":{"hunter2":"hunter2"}},"os":"hunter2"}"#;
        let (text, places) = masked(text, "hunter2");
        assert_eq!(text, r#"{"config":{"Env":["A=xxxxxxx"],"Labels":{"xxxxxxx":"xxxxxxx"}},"os":"hunter2"}"#);
        assert_eq!(places, ["config.Env[0]", "config.Labels.xxxxxxx", "config.Labels.xxxxxxx"]);
    }

    #[test]
    fn a_descriptor_loses_what_describes_the_old_bytes() {
        let digest = Digest::of(b"new");
        let text = r#"{"mediaType":"m","digest":"sha256:0","size":1,"urls":["u"],"data":"eA==","annotations":{
            "containerd.io/snapshot/stargz/toc.digest":"t","containerd.io/uncompressed":"d","title":"t"}}"#;
        let mut node = Node::parse(text.as_bytes()).unwrap();
        set_descriptor(&mut node, &digest, 7);
        let removed = update_layer_annotations(&mut node, &digest);
        let annotations = format!(r#"{{"containerd.io/uncompressed":"{digest}","title":"t"}}"#);
        let expected = format!(r#"{{"mediaType":"m","digest":"{digest}","size":7,"annotations":{annotations}}}"#);
        assert_eq!(String::from_utf8(to_bytes(&node)).unwrap(), expected);
        assert_eq!(removed, ["containerd.io/snapshot/stargz/toc.digest"]);
    }
}
