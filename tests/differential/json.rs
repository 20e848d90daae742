//! JSON as it is written: members in order, any of them more than once, and raw text in place of any value.

use serde_json::Value;

/// A value. Keys and raw values are text as it stands in the document.
#[derive(Clone, Debug)]
pub enum Json {
    Raw(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn text(&self) -> String {
        match self {
            Json::Raw(text) => text.clone(),
            Json::Array(items) => format!("[{}]", items.iter().map(Json::text).collect::<Vec<_>>().join(",")),
            Json::Object(members) => {
                let members = members.iter().map(|(key, value)| format!("\"{key}\":{}", value.text()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }

    pub fn raw(text: &str) -> Json {
        Json::Raw(text.to_string())
    }

    pub fn string(text: &str) -> Json {
        Json::Raw(Value::from(text).to_string())
    }

    /// What a path leads to: keys, and numbers for the items of arrays.
    pub fn at(&mut self, path: &[&str]) -> Option<&mut Json> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Json::Object(members) => members.iter_mut().find(|(key, _)| key == first)?.1.at(rest),
            Json::Array(items) => items.get_mut(first.parse::<usize>().ok()?)?.at(rest),
            Json::Raw(_) => None,
        }
    }

    /// The members of an object.
    pub fn members(&mut self) -> Option<&mut Vec<(String, Json)>> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Adds a member at the end of an object.
    pub fn push(&mut self, key: &str, value: Json) {
        if let Some(members) = self.members() {
            members.push((key.to_string(), value));
        }
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Json {
        match value {
            Value::Array(items) => Json::Array(items.iter().map(Json::from).collect()),
            Value::Object(members) => {
                Json::Object(members.iter().map(|(key, value)| (key.clone(), Json::from(value))).collect())
            }
            other => Json::Raw(other.to_string()),
        }
    }
}
