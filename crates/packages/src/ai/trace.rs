//! Records of Agent Trace 0.1 in a directory `.agent-trace`: JSON, or a record on each line.
//!
//! Source: agent-trace.dev, "Trace Record". The directory alone says nothing: other programs have one of this name.
//!
//! Elements of lists are counted as they are read, and not kept: a file of a few kilobytes may have millions.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use layersift_model::{AiMarkKind, AiRecord, parse};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{LONGEST, record};
use crate::fields::lines;

/// The names that are kept.
const MOST_NAMES: usize = 10;

/// The lines that are no traces after which the rest of a file is not read.
const MOST_OTHERS: usize = 100;

#[derive(Deserialize)]
struct Trace {
    version: Text,
    #[serde(default)]
    tool: Option<Tool>,
    files: List<TracedFile>,
}

#[derive(Deserialize)]
struct Tool {
    name: Text,
}

#[derive(Deserialize)]
struct TracedFile {
    #[serde(default)]
    conversations: List<Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    contributor: Option<Contributor>,
    #[serde(default)]
    ranges: List<Range>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    contributor: Option<Contributor>,
}

#[derive(Deserialize)]
struct Contributor {
    #[serde(rename = "type")]
    kind: Text,
    #[serde(default)]
    model_id: Option<Text>,
}

/// The beginning of a text.
struct Text(String);

/// What a part of a trace says about contributions of AI.
#[derive(Default)]
struct Said {
    contributions: u64,
    names: Names,
}

/// The first names in their order.
#[derive(Default)]
struct Names(BTreeSet<String>);

/// What the elements of a list say together.
struct List<E>(Said, PhantomData<fn() -> E>);

/// An element of a list.
trait Element {
    fn add_to(self, said: &mut Said);
}

pub(super) fn is_at(path: &[u8], name: &[u8]) -> bool {
    (name.ends_with(b".json") || name.ends_with(b".jsonl"))
        && path.split(|&byte| byte == b'/').any(|part| part == b".agent-trace")
}

pub(super) fn read(bytes: &[u8]) -> Option<AiRecord> {
    let mut said = Said::default();
    match parse::json::<Trace>(bytes) {
        Ok(trace) => trace.add_to(&mut said),
        Err(_) => read_lines(bytes, &mut said),
    }
    let Said { contributions: files, names } = said;
    let names: Vec<String> = names.0.into_iter().collect();
    let detail = format!("Agent Trace says that an AI contributed to files: {files}");
    (files > 0).then(|| record(AiMarkKind::AgentTrace, Some(&names.join(", ")), &detail))
}

/// Reads a trace on each line. The last may be cut off, and others of another version; a file of many that are no
/// traces is something else, and making an error of each takes long.
fn read_lines(bytes: &[u8], said: &mut Said) {
    let mut others = 0;
    for line in lines(bytes).map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        match parse::json::<Trace>(line) {
            Ok(trace) => trace.add_to(said),
            Err(_) if others < MOST_OTHERS => others += 1,
            Err(_) => return,
        }
    }
}

impl Trace {
    fn add_to(self, said: &mut Said) {
        let Said { contributions, names } = self.files.0;
        if contributions > 0 && self.version.0.starts_with("0.1") {
            said.contributions += contributions;
            said.names.extend(names);
            self.tool.into_iter().for_each(|tool| said.names.add(tool.name.0));
        }
    }
}

impl Element for TracedFile {
    /// A file counts once.
    fn add_to(self, said: &mut Said) {
        let Said { contributions, names } = self.conversations.0;
        said.contributions += u64::from(contributions > 0);
        said.names.extend(names);
    }
}

impl Element for Conversation {
    fn add_to(self, said: &mut Said) {
        self.contributor.into_iter().for_each(|one| one.add_to(said));
        said.contributions += self.ranges.0.contributions;
        said.names.extend(self.ranges.0.names);
    }
}

impl Element for Range {
    fn add_to(self, said: &mut Said) {
        self.contributor.into_iter().for_each(|one| one.add_to(said));
    }
}

impl Contributor {
    fn add_to(self, said: &mut Said) {
        if matches!(&*self.kind.0, "ai" | "mixed") {
            said.contributions += 1;
            self.model_id.into_iter().for_each(|model| said.names.add(model.0));
        }
    }
}

impl Names {
    fn add(&mut self, name: String) {
        self.0.insert(name);
        if self.0.len() > MOST_NAMES {
            self.0.pop_last();
        }
    }

    fn extend(&mut self, others: Names) {
        others.0.into_iter().for_each(|name| self.add(name));
    }
}

impl<E> Default for List<E> {
    fn default() -> List<E> {
        List(Said::default(), PhantomData)
    }
}

impl<'de, E: Deserialize<'de> + Element> Deserialize<'de> for List<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<E>, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<E>(PhantomData<fn() -> E>);

impl<'de, E: Deserialize<'de> + Element> Visitor<'de> for ListVisitor<E> {
    type Value = List<E>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<List<E>, A::Error> {
        let mut list = List::default();
        while let Some(element) = all.next_element::<E>()? {
            element.add_to(&mut list.0);
        }
        Ok(list)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text")
    }

    fn visit_str<E>(self, value: &str) -> Result<Text, E> {
        Ok(Text(value.chars().take(LONGEST).collect()))
    }
}
