//! JSON as Go's `encoding/json` reads it, which all container runtimes use.
//!
//! Go ignores the case of field names, takes `null` for an empty value, and lets the last of several fields of one name
//! win, where parts of the earlier ones may remain. Other programs read other fields. A document in which that makes a
//! difference is refused ([`Node::strict`]), or read with all of its fields ([`Node::merged`]).

mod reader;

use std::cell::Cell;
use std::fmt;

use layersift_model::quoted;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use reader::{Duplicates, NodeReader};

/// The fewest bytes of a name that is searched for secrets.
const LONG_NAME: usize = 8;

/// The most values of a document: as many as a bill of materials of 8 MiB has, and no more than that takes in memory.
const MAX_VALUES: usize = 500_000;

/// The most bytes that a value of a document takes while the document is read: the value, and what is made of it.
const VALUE_BYTES: u64 = 256;

/// The fewest bytes of a piece for each comma in it. With fewer commas it may be a document that is encoded, whose
/// values are not seen.
const MOST_BYTES_FOR_A_COMMA: usize = 512;

/// The most bytes of the paths of all strings of a document.
const MAX_PATH_BYTES: usize = 16 << 20;

/// The length in bytes from which on a path is not extended.
const LONGEST_PATH: usize = 1_000;

/// The most characters of a name that a path quotes.
const LONGEST_NAME: usize = 300;

/// What stands for the rest of a path.
const ELLIPSIS: &str = "…";

/// What is between the path of a string and a path in the document that the string encodes.
pub const INSIDE: &str = " → ";

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

/// The bytes of memory that reading a document takes at most, to which `piece` belongs: it, the [`Node`] and what is
/// made of that.
pub fn memory_of(piece: &[u8]) -> u64 {
    let commas = memchr::memchr_iter(b',', piece).count();
    let is_visible = commas.saturating_mul(MOST_BYTES_FOR_A_COMMA) >= piece.len();
    let values = if is_visible { commas } else { piece.len() / 16 };
    3 * piece.len() as u64 + VALUE_BYTES * values.min(MAX_VALUES) as u64
}

impl Node {
    /// Parses a document.
    ///
    /// # Errors
    /// If the bytes are not JSON.
    pub fn parse(bytes: &[u8]) -> Result<Node, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Parses a document of at most `most` values; `None` for one that has more, which is not read to its end.
    ///
    /// # Errors
    /// If the bytes are not JSON, as far as they were read.
    pub fn parse_within(bytes: &[u8], most: usize) -> Result<Option<Node>, serde_json::Error> {
        let left = Cell::new(Some(most.min(MAX_VALUES)));
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        match (NodeVisitor { left: &left }).deserialize(&mut deserializer) {
            Ok(node) => deserializer.end().map(|()| Some(node)),
            Err(_) if left.get().is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value of the form `T`, in which no field may be given twice with different values.
    ///
    /// # Errors
    /// If it does not have the form, or tools would read different values.
    pub fn strict<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(NodeReader::new(self, Duplicates::Refuse)).map_err(serde_json::Error::custom)
    }

    /// The value of the form `T`, in which a field that is given twice has the members of both objects, or the last
    /// value.
    ///
    /// # Errors
    /// If it does not have the form.
    pub fn merged<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(NodeReader::new(self, Duplicates::Merge)).map_err(serde_json::Error::custom)
    }

    /// The member called `name`, in any case; the last of several.
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Node::Object(members) = self else { return None };
        members.iter().rev().find(|(key, _)| is_name(key, name)).map(|(_, value)| value)
    }

    /// The member called exactly `name`; the first of several.
    pub fn member(&self, name: &str) -> Option<&Node> {
        self.members().iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The members of an object; none for any other value.
    pub fn members(&self) -> &[(String, Node)] {
        if let Node::Object(members) = self { members } else { &[] }
    }

    /// The elements of an array.
    pub fn elements(&self) -> &[Node] {
        if let Node::Array(elements) = self { elements } else { &[] }
    }

    /// The number of values, with those inside.
    pub fn values(&self) -> usize {
        1 + match self {
            Node::Array(elements) => elements.iter().map(Node::values).sum(),
            Node::Object(members) => members.iter().map(|(_, value)| value.values()).sum(),
            _ => 0,
        }
    }

    /// The string, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Node::String(text) = self { Some(text) } else { None }
    }

    /// The number, if this is one that is not negative and has no fraction.
    pub fn as_u64(&self) -> Option<u64> {
        if let Node::Number(number) = self { number.as_u64() } else { None }
    }

    /// Every string below this value, whose own path is `path`: string values, and long names of members that are not
    /// in `names`, because a name can hold a secret as well.
    pub fn strings(&self, path: &str, names: &[&str]) -> Vec<JsonString> {
        self.strings_unless(path, names, &|_| false)
    }

    /// The same without the strings for which `is_known` is true.
    pub fn strings_unless(&self, path: &str, names: &[&str], is_known: &dyn Fn(&str) -> bool) -> Vec<JsonString> {
        let mut strings = Strings { found: Vec::new(), names, is_known, path_bytes: MAX_PATH_BYTES };
        strings.collect(self, path, None);
        strings.found
    }
}

/// The strings of a document that were found so far.
struct Strings<'n> {
    found: Vec<JsonString>,
    /// Names of members that are not strings of their own.
    names: &'n [&'n str],
    is_known: &'n dyn Fn(&str) -> bool,
    /// What is left for paths.
    path_bytes: usize,
}

impl Strings<'_> {
    fn collect(&mut self, node: &Node, path: &str, name: Option<&str>) {
        match node {
            Node::String(text) if !text.is_empty() => self.add(path, name, text),
            Node::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.collect(element, &element_path(path, index), None);
                }
            }
            Node::Object(members) => {
                for (key, member) in members {
                    let at = member_path(path, key);
                    self.collect(member, &at, Some(key));
                    if key.len() >= LONG_NAME && !self.names.contains(&&key[..]) {
                        self.add(&at, None, key);
                    }
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, path: &str, name: Option<&str>, text: &str) {
        if (self.is_known)(text) {
            return;
        }
        // Where the paths of a document take too much, the later strings are somewhere in it.
        let path = if self.path_bytes >= path.len() { path } else { ELLIPSIS };
        self.path_bytes = self.path_bytes.saturating_sub(path.len());
        self.found.push(JsonString { path: path.into(), name: name.map(Into::into), text: text.into() });
    }
}

/// The path of the member called `name` of the value at `path`. A long path is not extended.
pub fn member_path(path: &str, name: &str) -> String {
    let dot = if path.is_empty() || path.ends_with(INSIDE) { "" } else { "." };
    longer(path, format_args!("{dot}{}", quoted(name, LONGEST_NAME)))
}

/// The path of the element with this index of the array at `path`. A long path is not extended.
pub fn element_path(path: &str, index: usize) -> String {
    longer(path, format_args!("[{index}]"))
}

/// `path` with `end`, unless it is too long already.
fn longer(path: &str, end: fmt::Arguments<'_>) -> String {
    match path {
        path if path.ends_with(ELLIPSIS) => path.into(),
        path if path.len() > LONGEST_PATH => format!("{path}{ELLIPSIS}"),
        path => format!("{path}{end}"),
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

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Null => serializer.serialize_unit(),
            Node::Bool(value) => serializer.serialize_bool(*value),
            Node::Number(number) => number.serialize(serializer),
            Node::String(text) => serializer.serialize_str(text),
            Node::Array(elements) => serializer.collect_seq(elements),
            Node::Object(members) => serializer.collect_map(members.iter().map(|(name, value)| (name, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        NodeVisitor { left: &Cell::new(Some(MAX_VALUES)) }.deserialize(deserializer)
    }
}

/// Reads values as long as some are left.
#[derive(Clone, Copy)]
struct NodeVisitor<'c> {
    /// How many more may be read; `None` once there was one too many.
    left: &'c Cell<Option<usize>>,
}

impl<'de> DeserializeSeed<'de> for NodeVisitor<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.left.set(self.left.get().and_then(|left| left.checked_sub(1)));
        if self.left.get().is_none() {
            return Err(D::Error::custom(format_args!("it has more than {MAX_VALUES} values")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeVisitor<'_> {
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
        while let Some(element) = seq.next_element_seed(self)? {
            elements.push(element);
        }
        Ok(Node::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key()? {
            members.push((key, map.next_value_seed(self)?));
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
    fn members_of_the_same_name_stay_and_keep_their_order() {
        let text = r#"{"b":1,"a":[null,true,-2,1.5,"\u00e9\n"],"b":{"c":""}}"#;
        let node = Node::parse(text.as_bytes()).unwrap();
        assert_eq!(node.members().iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["b", "a", "b"]);
        assert_eq!((node.member("b").and_then(Node::as_u64), node.member("B")), (Some(1), None));
        assert_eq!(serde_json::to_string(&node).unwrap(), text.replace("\\u00e9", "\u{e9}"));
    }

    #[test]
    fn a_document_is_read_as_far_as_it_may_have_values() {
        let parsed = |text: &str, most| Node::parse_within(text.as_bytes(), most).map(|node| node.is_some());
        // The object, and its members.
        assert!(parsed(r#"{"a":1,"b":[]}"#, 3).unwrap());
        assert!(!parsed(r#"{"a":1,"b":[]}"#, 2).unwrap());
        assert!(!parsed(r#"{"a":1,"b":[] and so on"#, 2).unwrap(), "it is not read to its end");
        assert!(parsed(r#"{"a":1,"b" and so on"#, 2).is_err());
        assert!(parsed(r#"{"a":1} and so on"#, 2).is_err());
        let all = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(Node::parse(all.as_bytes()).unwrap_err().to_string().contains("more than 500000 values"));
        assert!(!parsed(&all, usize::MAX).unwrap());
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
    fn paths_and_values_are_bounded() {
        let key = "k".repeat(100_000);
        let node = Node::parse(format!(r#"{{"{key}": [{}"a"]}}"#, r#""a","#.repeat(5_000)).as_bytes()).unwrap();
        let strings = node.strings("", &[]);
        assert_eq!(strings.len(), 5_002);
        assert!(strings.iter().all(|string| string.path.len() < 400));
        assert!(strings.iter().any(|string| string.text == key));
        let deep = format!("{}\"x\"{}", format!("{{\"{}\":", "d".repeat(200)).repeat(100), "}".repeat(100));
        let strings = Node::parse(deep.as_bytes()).unwrap().strings("", &[]);
        assert!(strings.iter().all(|string| string.path.len() < 1_400));
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(Node::parse(many.as_bytes()).unwrap_err().to_string().contains("more than 500000 values"));
    }

    #[test]
    fn an_error_never_quotes_a_value() {
        for text in [
            r#"{"layers": "made-up-secret"}"#,
            r#"{"config": {"size": "made-up-secret"}}"#,
            r#"{"mediaType": ["made-up-secret"]}"#,
            r#"{"config": {"urls": "made-up-secret"}}"#,
            r#"{"annotations": {"a": ["made-up-secret"]}}"#,
        ] {
            let error = strict(text).unwrap_err().to_string();
            assert!(error.contains("invalid type") && !error.contains("made-up"), "{error}");
        }
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
