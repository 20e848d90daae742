//! Where the values of a JSON document stand in its text.

use std::ops::Range;

use anyhow::{Context, ensure};

/// A value, and the bytes that it takes.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Object(Vec<Member>),
    Array(Vec<Node>),
    Scalar,
}

#[derive(Debug)]
pub(super) struct Member {
    key: String,
    start: usize,
    value: Node,
}

impl Node {
    /// The value of the member `key` of an object.
    pub(super) fn member(&self, key: &str) -> Option<&Node> {
        let Kind::Object(members) = &self.kind else { return None };
        members.iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The place of the member `key` of an object.
    pub(super) fn place_of(&self, key: &str) -> Option<usize> {
        let Kind::Object(members) = &self.kind else { return None };
        members.iter().position(|member| member.key == key)
    }

    /// An item of a list.
    pub(super) fn item(&self, place: usize) -> Option<&Node> {
        if let Kind::Array(items) = &self.kind { items.get(place) } else { None }
    }

    /// The bytes of the items, or of the members with their keys.
    pub(super) fn children(&self) -> Vec<Range<usize>> {
        match &self.kind {
            Kind::Object(members) => members.iter().map(|member| member.start..member.value.span.end).collect(),
            Kind::Array(items) => items.iter().map(|item| item.span.clone()).collect(),
            Kind::Scalar => Vec::new(),
        }
    }
}

/// The tree of `text`, which is known to be JSON.
///
/// # Errors
/// For an object with a key twice: nobody can tell which one is meant.
pub(super) fn parse(text: &str) -> anyhow::Result<Node> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    reader.value()
}

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> anyhow::Result<Node> {
        let start = self.skip_space();
        let kind = match self.text.get(start) {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"') => {
                self.string()?;
                Kind::Scalar
            }
            _ => {
                while self.peek().is_some_and(|byte| !b",]}\r\n\t ".contains(&byte)) {
                    self.at += 1;
                }
                Kind::Scalar
            }
        };
        Ok(Node { span: start..self.at, kind })
    }

    fn object(&mut self) -> anyhow::Result<Kind> {
        let mut members: Vec<Member> = Vec::new();
        self.at += 1;
        loop {
            let start = self.skip_space();
            match self.peek() {
                Some(b'"') => {
                    let key = self.string()?;
                    ensure!(members.iter().all(|member| member.key != key), "the key {key:?} stands twice");
                    self.skip_space();
                    // The colon.
                    self.at += 1;
                    let value = self.value()?;
                    members.push(Member { key, start, value });
                }
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.at += 1;
        Ok(Kind::Object(members))
    }

    fn array(&mut self) -> anyhow::Result<Kind> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') | None => break,
                Some(_) => items.push(self.value()?),
            }
        }
        self.at += 1;
        Ok(Kind::Array(items))
    }

    fn string(&mut self) -> anyhow::Result<String> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        let quoted = self.text.get(start..self.at).context("it ends in a string")?;
        serde_json::from_slice(quoted).context("it has an invalid string")
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) -> usize {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.at
    }
}
