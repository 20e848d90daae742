//! What LiteLLM sends to a guardrail: the texts of a request, and the messages that they are from. It converts all APIs
//! into these, and sends the whole history each time.

use std::collections::{HashMap, HashSet};

use super::messages::{calls, definitions, is_model, mark_message, newest_from, turn};
use super::responses::mark_items;
use crate::collect::{Mark, Marks};
use crate::conversation::{Kind, Role, Turn};
use crate::json::{Node, Value};

/// What LiteLLM says about a request. None of it goes to a model.
const ABOUT: [&str; 7] = [
    "input_type",
    "litellm_call_id",
    "litellm_trace_id",
    "request_headers",
    "litellm_version",
    "additional_provider_specific_params",
    "model",
];

/// What LiteLLM says about a client, with hashes of its keys.
const CLIENT: &str = "request_data";

/// The only field of that which goes to a model: Anthropic's `metadata.user_id`, or the parameter `user`.
const END_USER: &str = "user_api_key_end_user_id";

/// What LiteLLM adds to a body that it passes through.
pub(super) const METADATA: &str = "litellm_metadata";

/// Marks the hashes in what LiteLLM adds to a body. All else in it is read: a client may have written it.
pub(super) fn mark_metadata(metadata: &Node<'_>, marks: &mut Marks) {
    let Value::Object(members) = &metadata.value else { return };
    let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for member in members.iter().filter(|member| member.key.starts_with("user_api_key")) {
        if member.node.text().is_some_and(is_hash) {
            marks.add(&member.node, Mark { is_skipped: true, ..Mark::default() });
        }
    }
}

/// Marks a question about a request or an answer.
pub(super) fn mark(document: &Node<'_>, marks: &mut Marks) {
    for node in ABOUT.iter().filter_map(|key| document.get(key)) {
        marks.add(node, Mark { is_skipped: true, ..Mark::default() });
    }
    if let Some(Value::Object(members)) = document.get(CLIENT).map(|client| &client.value) {
        for member in members {
            // Alone, since the name makes a key of it.
            let is_skipped = member.key != END_USER;
            marks.add(&member.node, Mark { is_skipped, ..Mark::of(Kind::Other) });
        }
    }
    let is_answer = document.text_of("input_type") == Some("response");
    let messages = document.get("structured_messages").filter(|list| !list.items().is_empty());
    let mut start = Turn::Newest;
    let mut old = HashSet::new();
    if let Some(list) = messages {
        start = mark_messages(list, marks);
        old = old_texts(list);
        // The messages have the same images, in blocks that can be replaced.
        if let Some(images) = document.get("images") {
            marks.add(images, Mark { is_skipped: true, ..Mark::default() });
        }
    }
    let role = if is_answer { Role::Assistant } else { Role::Unknown };
    let texts = document.get("texts").map(Node::items).unwrap_or_default();
    mark_blocks(texts, messages, marks);
    for text in texts {
        let is_old = text.text().is_some_and(|text| old.contains(text));
        let turn = if is_old { Turn::History } else { Turn::Newest };
        marks.add(text, Mark { role: Some(role), turn: Some(turn), ..Mark::of(Kind::Text) });
    }
    definitions(document.get("tools"), start, marks);
    if let Some(list) = document.get("tool_calls") {
        // Those of a request are in its history: their results follow them.
        marks.add(list, Mark { role: Some(Role::Assistant), turn: Some(start), ..Mark::default() });
        calls(Some(list), marks);
    }
}

/// Marks texts that are blocks of one message. Both lists are in the same order.
fn mark_blocks<'n>(texts: &'n [Node<'_>], messages: Option<&'n Node<'_>>, marks: &mut Marks) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, text) in texts.iter().enumerate().filter_map(|(index, text)| Some((index, text.text()?))) {
        places.entry(text).or_default().push(index);
    }
    let mut from = 0;
    for message in messages.map(Node::items).unwrap_or_default() {
        let content = message.get("content").map(Node::items).unwrap_or_default();
        let blocks: Vec<&str> = content.iter().filter_map(|block| block.text_of("text")).collect();
        let Some(first) = blocks.first().and_then(|block| places.get(block)) else { continue };
        let Some(start) = first.get(first.partition_point(|index| *index < from)).copied() else { continue };
        let run = texts.get(start..start + blocks.len()).unwrap_or_default();
        if run.iter().map(Node::text).eq(blocks.into_iter().map(Some)) {
            let sequence = run.first().map(|text| text.span.start);
            run.iter().for_each(|text| marks.add(text, Mark { sequence, ..Mark::default() }));
            from = start + run.len();
        }
    }
}

/// Marks messages, among which may be items of the responses API.
fn mark_messages(list: &Node<'_>, marks: &mut Marks) -> Turn {
    if list.items().iter().any(|item| item.get("role").is_none()) {
        return mark_items(list, marks);
    }
    let newest = newest(list);
    for (index, message) in list.items().iter().enumerate() {
        mark_message(message, turn(index, newest), marks);
    }
    turn(0, newest)
}

fn newest(list: &Node<'_>) -> usize {
    newest_from(list.items(), is_model)
}

/// The strings of messages of the history that are in none of the newest messages.
fn old_texts<'n>(list: &'n Node<'_>) -> HashSet<&'n str> {
    let (mut old, mut new) = (HashSet::new(), HashSet::new());
    let newest = newest(list);
    for (index, message) in list.items().iter().enumerate() {
        strings(message, if index < newest { &mut old } else { &mut new });
    }
    old.retain(|text| !new.contains(text));
    old
}

fn strings<'n>(node: &'n Node<'_>, all: &mut HashSet<&'n str>) {
    match &node.value {
        Value::String(text) => {
            all.insert(text);
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, all)),
        Value::Object(members) => members.iter().for_each(|member| strings(&member.node, all)),
        Value::Literal | Value::Number(_) | Value::Numbers(_) => {}
    }
}
