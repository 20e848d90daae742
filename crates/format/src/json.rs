//! JSON as Go's `encoding/json` reads it, which all container runtimes use.
//!
//! Go ignores the case of field names, takes `null` for an empty value, and lets the last of several fields of one name
//! win, where parts of the earlier ones may remain. Other programs read other fields. A document in which that makes a
//! difference is refused ([`Node::strict`]), or read with all of its fields ([`Node::merged`]).

mod reader;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};

use reader::{Duplicates, NodeReader};

/// The fewest bytes of a name that is searched for secrets.
const LONG_NAME: usize = 8;

/// A JSON value that keeps all members of its objects, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Node>),
    /// An object, whose names may occur more than once.
    Object(Vec<(String, Node)>),
}

/// A string of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonString {
    /// The path of the value that holds it, such as `manifests[0].annotations.title`.
    pub path: String,
    /// The name of the member, if the value is a member of an object.
    pub name: Option<String>,
    /// The string.
    pub text: String,
}

/// Reads a document in which no field may be given twice with different values.
///
/// # Errors
/// If the bytes are not JSON, or not of the form of `T`, or tools would read different values.
pub fn read_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    Node::parse(bytes)?.strict()
}

impl Node {
    /// Parses a document.
    ///
    /// # Errors
    /// If the bytes are not JSON.
    pub fn parse(bytes: &[u8]) -> Result<Node, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The value of the form `T`, in which no field may be given twice with different values.
    ///
    /// # Errors
    /// If it does not have the form, or tools would read different values.
    pub fn strict<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(NodeReader::new(self, Duplicates::Refuse))
    }

    /// The value of the form `T`, in which a field that is given twice has the members of both objects, or the last
    /// value.
    ///
    /// # Errors
    /// If it does not have the form.
    pub fn merged<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(NodeReader::new(self, Duplicates::Merge))
    }

    /// The member called `name`, in any case; the last of several.
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Node::Object(members) = self else { return None };
        members.iter().rev().find(|(key, _)| is_name(key, name)).map(|(_, value)| value)
    }

    /// The elements of an array.
    pub fn elements(&self) -> &[Node] {
        if let Node::Array(elements) = self { elements } else { &[] }
    }

    /// The string, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Node::String(text) = self { Some(text) } else { None }
    }

    /// Every string below this value, whose own path is `path`: string values, and long names of members that are not
    /// in `names`, because a name can hold a secret as well.
    pub fn strings(&self, path: &str, names: &[&str]) -> Vec<JsonString> {
        let mut found = Vec::new();
        self.collect(path, None, names, &mut found);
        found
    }

    fn collect(&self, path: &str, name: Option<&str>, names: &[&str], found: &mut Vec<JsonString>) {
        match self {
            Node::String(text) if !text.is_empty() => {
                found.push(JsonString { path: path.into(), name: name.map(Into::into), text: text.clone() });
            }
            Node::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    element.collect(&format!("{path}[{index}]"), None, names, found);
                }
            }
            Node::Object(members) => {
                for (key, member) in members {
                    let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    member.collect(&at, Some(key), names, found);
                    if key.len() >= LONG_NAME && !names.contains(&&key[..]) {
                        found.push(JsonString { path: at, name: None, text: key.clone() });
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether Go takes `key` for the field `name`, which is ASCII: letters of any case match, and two letters outside of
/// ASCII whose simple case folding is one.
fn is_name(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key == name || key.chars().map(fold).eq(name.chars().map(fold))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Node::Null, Node::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Node::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Document {
        media_type: String,
        layers: Vec<Part>,
        config: Part,
        annotations: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Part {
        digest: String,
        size: u64,
        urls: Option<Vec<String>>,
    }

    fn strict(text: &str) -> Result<Document, serde_json::Error> {
        read_strict(text.as_bytes())
    }

    #[test]
    fn names_of_fields_match_in_any_case_and_names_of_maps_do_not() {
        let text = r#"{"MEDIATYPE":"m","Layers":[{"Digest":"d"}],"annotations":{"a":"1","A":"2"},"\u212a":1}"#;
        let read = strict(text).unwrap();
        assert_eq!((&read.media_type[..], &read.layers[0].digest[..]), ("m", "d"));
        assert_eq!(read.annotations.len(), 2);
        assert_eq!(strict("{\"layer\u{17f}\":[{\"digest\":\"d\"}]}").unwrap().layers.len(), 1);
    }

    #[test]
    fn a_field_with_two_values_is_refused() {
        for text in [
            r#"{"layers":[],"LAYERS":[{"digest":"d"}]}"#,
            r#"{"layers":[{"digest":"a","Digest":"b"}]}"#,
            r#"{"mediaType":"a","mediaType":"b"}"#,
        ] {
            assert!(strict(text).unwrap_err().to_string().contains("twice"), "{text}");
        }
        assert!(strict(r#"{"mediaType":"a","mediaType":"a"}"#).is_ok());
    }

    #[test]
    fn null_is_an_empty_value() {
        let text = r#"{"mediaType":null,"layers":null,"config":null,"annotations":{"a":null}}"#;
        assert_eq!(strict(text).unwrap().annotations["a"], "");
        assert_eq!(strict(r#"{"layers":[null]}"#).unwrap().layers, [Part::default()]);
        assert_eq!(strict(r#"{"config":{"urls":null}}"#).unwrap().config.urls, None);
    }

    #[test]
    fn merged_objects_have_the_members_of_both() {
        let node = Node::parse(br#"{"config":{"digest":"a","size":1},"Config":{"digest":"b"},"config":null}"#).unwrap();
        let read: Document = node.merged().unwrap();
        assert_eq!((&read.config.digest[..], read.config.size), ("b", 1));
    }

    #[test]
    fn an_error_names_the_field() {
        let error = strict(r#"{"layers":[{"size":"x"}]}"#).unwrap_err().to_string();
        assert!(error.starts_with("layers: size: "), "{error}");
    }

    #[test]
    fn strings_have_their_paths() {
        let node = Node::parse(br#"{"a":["x",{"b":"y"}],"odd name":{"c":1},"d":"z","d":"w"}"#).unwrap();
        let found: Vec<(String, String)> =
            node.strings("", &["a", "c"]).into_iter().map(|string| (string.path, string.text)).collect();
        let expected = [("a[0]", "x"), ("a[1].b", "y"), ("odd name", "odd name"), ("d", "z"), ("d", "w")];
        assert_eq!(found, expected.map(|(path, text)| (path.to_string(), text.to_string())));
    }
}
