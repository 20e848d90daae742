//! Reads a [`Node`] as a Rust type, by the rules of Go.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Node, is_name};

/// Why a value does not have the form of a type. It names the kind of the value and never quotes it: a secret in the
/// wrong field must not get out through an error.
#[derive(Debug)]
pub(super) struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error(format!("invalid type: {}, expected {expected}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error(format!("invalid value: {}, expected {expected}", kind(found)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Error {
        Error(format!("unknown variant, expected one of {}", expected.join(", ")))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Error {
        Error(format!("unknown field, expected one of {}", expected.join(", ")))
    }
}

/// The kind of a value.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a string",
        Unexpected::Seq => "a sequence",
        Unexpected::Map => "a map",
        Unexpected::Unit | Unexpected::Option => "null",
        _ => "another value",
    }
}

/// What happens to a field that is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// It is an error, unless the values are equal.
    Refuse,
    /// Objects are merged; of other values, the last one counts that is not null.
    Merge,
}

/// A value, or several of one field whose members are read as those of one object.
#[derive(Clone)]
pub(super) struct NodeReader<'n> {
    nodes: Vec<&'n Node>,
    duplicates: Duplicates,
}

impl<'n> NodeReader<'n> {
    pub(super) fn new(node: &'n Node, duplicates: Duplicates) -> NodeReader<'n> {
        NodeReader { nodes: vec![node], duplicates }
    }

    /// The last value that is not null.
    fn last(&self) -> &'n Node {
        self.nodes.iter().rev().find(|node| !matches!(node, Node::Null)).copied().unwrap_or(&Node::Null)
    }

    fn members(&self) -> Vec<(&'n str, &'n Node)> {
        let objects =
            self.nodes.iter().filter_map(|node| if let Node::Object(members) = node { Some(members) } else { None });
        objects.flatten().map(|(key, value)| (&key[..], value)).collect()
    }

    fn child(&self, nodes: Vec<&'n Node>) -> NodeReader<'n> {
        NodeReader { nodes, duplicates: self.duplicates }
    }

    /// The values of the field `name`.
    fn field(&self, members: &[(&'n str, &'n Node)], name: &str) -> Result<Vec<&'n Node>, Error> {
        let found: Vec<(&str, &Node)> = members.iter().filter(|(key, _)| is_name(key, name)).copied().collect();
        if let (Duplicates::Refuse, Some(((first, value), others))) = (self.duplicates, found.split_first())
            && let Some((other, _)) = others.iter().find(|(_, other)| other != value)
        {
            return Err(Error::custom(format!(
                "the field `{name}` is given twice with different values, as `{first}` and as `{other}`, which tools \
                 read differently"
            )));
        }
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }
}

impl<'de> Deserializer<'de> for NodeReader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.last() {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Node::String(text) => visitor.visit_borrowed_str(text),
            Node::Array(elements) => visitor.visit_seq(Elements { reader: &self, left: elements.iter() }),
            Node::Object(_) => {
                let members = self.members().into_iter().map(|(key, value)| (key, vec![value])).collect::<Vec<_>>();
                visitor.visit_map(Members { reader: &self, left: members.into_iter(), value: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.last(), Node::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if !matches!(self.last(), Node::Null | Node::Object(_)) {
            return self.deserialize_any(visitor);
        }
        let members = self.members();
        let mut read = Vec::new();
        for name in fields {
            let values = self.field(&members, name)?;
            if !values.is_empty() {
                read.push((*name, values));
            }
        }
        visitor.visit_map(Members { reader: &self, left: read.into_iter(), value: None })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !matches!(self.last(), Node::Null) {
            return self.deserialize_any(visitor);
        }
        visitor.visit_map(Members { reader: &self, left: Vec::new().into_iter(), value: None })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if !matches!(self.last(), Node::Null) {
            return self.deserialize_any(visitor);
        }
        visitor.visit_seq(Elements { reader: &self, left: [].iter() })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.last(), Node::Null) { visitor.visit_borrowed_str("") } else { self.deserialize_any(visitor) }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.last(), Node::Null) { visitor.visit_u64(0) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.last(), Node::Null) { visitor.visit_i64(0) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self.last(), Node::Null) { visitor.visit_bool(false) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}

/// The elements of an array.
struct Elements<'r, 'n> {
    reader: &'r NodeReader<'n>,
    left: std::slice::Iter<'n, Node>,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.left.next().map(|node| seed.deserialize(self.reader.child(vec![node]))).transpose()
    }
}

/// The members of an object, or the fields of a struct with their values.
struct Members<'r, 'n> {
    reader: &'r NodeReader<'n>,
    left: std::vec::IntoIter<(&'n str, Vec<&'n Node>)>,
    value: Option<(&'n str, Vec<&'n Node>)>,
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.value = self.left.next();
        let Some((name, _)) = &self.value else { return Ok(None) };
        let name: StrDeserializer<'_, Error> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (name, values) = self.value.take().unwrap_or_default();
        seed.deserialize(self.reader.child(values)).map_err(|error| Error::custom(format!("{name}: {error}")))
    }
}
