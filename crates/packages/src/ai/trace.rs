//! Records of Agent Trace 0.1 in a directory `.agent-trace`: JSON, or a record on each line.
//!
//! Source: agent-trace.dev, "Trace Record". The directory alone says nothing: other programs have one of this name.

use std::collections::BTreeSet;

use layersift_model::{AiMarkKind, AiRecord, parse};
use serde::Deserialize;

use super::record;
use crate::fields::lines;

/// The names that are kept.
const MOST_NAMES: usize = 10;

#[derive(Deserialize)]
struct Trace {
    version: String,
    #[serde(default)]
    tool: Option<Tool>,
    files: Vec<TracedFile>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
}

#[derive(Deserialize)]
struct TracedFile {
    #[serde(default)]
    conversations: Vec<Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    contributor: Option<Contributor>,
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    contributor: Option<Contributor>,
}

#[derive(Deserialize)]
struct Contributor {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    model_id: Option<String>,
}

pub(super) fn is_at(path: &[u8], name: &[u8]) -> bool {
    (name.ends_with(b".json") || name.ends_with(b".jsonl"))
        && path.split(|&byte| byte == b'/').any(|part| part == b".agent-trace")
}

pub(super) fn read(bytes: &[u8]) -> Option<AiRecord> {
    let one = parse::json::<Trace>(bytes).map(|trace| vec![trace]);
    let traces = one.unwrap_or_else(|_| lines(bytes).filter_map(|line| parse::json(line).ok()).collect());
    let (mut files, mut names) = (0, BTreeSet::new());
    for trace in traces.iter().filter(|trace| trace.version.starts_with("0.1")) {
        for file in &trace.files {
            let mut by_ai = contributors(file).filter(|one| matches!(&*one.kind, "ai" | "mixed")).peekable();
            if by_ai.peek().is_some() {
                files += 1;
                names.extend(trace.tool.iter().map(|tool| tool.name.clone()));
            }
            names.extend(by_ai.filter_map(|one| one.model_id.clone()));
        }
    }
    let names: Vec<String> = names.into_iter().take(MOST_NAMES).collect();
    let detail = format!("Agent Trace says that an AI contributed to files: {files}");
    (files > 0).then(|| record(AiMarkKind::AgentTrace, Some(&names.join(", ")), &detail))
}

fn contributors(file: &TracedFile) -> impl Iterator<Item = &Contributor> {
    file.conversations.iter().flat_map(|conversation| {
        let ranges = conversation.ranges.iter().filter_map(|range| range.contributor.as_ref());
        conversation.contributor.iter().chain(ranges)
    })
}
