//! The events of streamed answers: which value of an event is a piece of a text, and which event ends a text.

use super::others::{Other, last_string, others};
use crate::conversation::Kind;
use crate::form::kind_of_event;
use crate::json::Node;

/// Events that have no piece of a text, or the whole text that was there in pieces.
const WHOLE_EVENTS: [&str; 6] =
    ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop", "error"];

/// An event that only keeps a connection open.
const PING: &str = "ping";

/// Which text of an answer a piece belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChannelId(String);

/// A piece of a text in an event.
#[derive(Debug)]
pub(crate) struct Piece<'e, 'a> {
    pub(crate) channel: ChannelId,
    pub(crate) kind: Kind,
    /// The string.
    pub(crate) node: &'e Node<'a>,
    /// The block or item that the text is in, which may have begun it.
    pub(crate) begun_by: Option<String>,
}

/// What an event does.
#[derive(Debug, Default)]
pub(crate) struct Effect<'e, 'a> {
    pub(crate) pieces: Vec<Piece<'e, 'a>>,
    /// The texts that end before this event: all whose id begins so.
    pub(crate) ends: Vec<String>,
    /// The strings that no form names.
    pub(crate) others: Vec<Other<'e, 'a>>,
    /// A block or item that begins, and the text that it begins with.
    pub(crate) begins: Option<(String, &'e str)>,
    /// Whether nothing was said.
    pub(crate) is_ping: bool,
}

/// Finds out what an event does.
pub(crate) fn effect<'e, 'a>(event: &'e Node<'a>) -> Effect<'e, 'a> {
    let mut effect = Effect::default();
    let name = event.text_of("type").unwrap_or_default();
    if let Some(choices) = event.get("choices") {
        for choice in choices.items() {
            chat(choice, &mut effect);
        }
    } else if let Some(name) = event.text_of("type") {
        match name {
            "content_block_delta" => messages(event, &mut effect),
            "content_block_start" => begin(format!("block {}", number(event, "index")), event, &mut effect),
            PING => effect.is_ping = true,
            "content_block_stop" => effect.ends.push(format!("block {} ", number(event, "index"))),
            "message_stop" | "message_delta" => effect.ends.push(String::new()),
            name if name.ends_with(".delta") => responses(event, name.trim_end_matches(".delta"), &mut effect),
            // The whole text follows.
            name if name.ends_with(".done") => {
                effect.ends.push(response_channel(event, name.trim_end_matches(".done")));
            }
            name if name.starts_with("response.") && name.ends_with(".added") => {
                begin(format!("output {}", number(event, "output_index")), event, &mut effect);
            }
            "response.completed" | "response.incomplete" | "response.failed" => effect.ends.push(String::new()),
            _ => {}
        }
    }
    let is_whole = WHOLE_EVENTS.contains(&name) || (name.starts_with("response.") && !name.ends_with(".delta"));
    if !is_whole {
        let known: Vec<u32> = effect.pieces.iter().map(|piece| piece.node.span.start).collect();
        effect.others = others(event, &known);
    }
    effect
}

fn begin<'e, 'a>(what: String, event: &'e Node<'a>, effect: &mut Effect<'e, 'a>) {
    let value = ["content_block", "item", "part"].iter().find_map(|key| event.get(key));
    effect.begins = value.and_then(last_string).map(|text| (what, text));
}

fn chat<'e, 'a>(choice: &'e Node<'a>, effect: &mut Effect<'e, 'a>) {
    let choice_number = number(choice, "index");
    let mut push = |name: &str, kind, node: Option<&'e Node<'a>>| {
        if let Some(node) = node.filter(|node| node.text().is_some()) {
            let channel = ChannelId(format!("choice {choice_number} {name}"));
            effect.pieces.push(Piece { channel, kind, node, begun_by: None });
        }
    };
    push("text", Kind::Text, choice.get("text"));
    if let Some(delta) = choice.get("delta") {
        push("content", Kind::Text, delta.get("content"));
        push("refusal", Kind::Text, delta.get("refusal"));
        push("reasoning_content", Kind::Reasoning, delta.get("reasoning_content"));
        push("reasoning", Kind::Reasoning, delta.get("reasoning"));
        push("function", Kind::ToolCall, delta.get("function_call").and_then(|call| call.get("arguments")));
        for call in delta.get("tool_calls").map(Node::items).unwrap_or_default() {
            let name = format!("call {}", number(call, "index"));
            push(&name, Kind::ToolCall, call.get("function").and_then(|function| function.get("arguments")));
            push(&name, Kind::ToolCall, call.get("custom").and_then(|custom| custom.get("input")));
        }
    }
    // Some servers send an empty reason, or the word, until there is one.
    let is_reason = |reason: &str| !matches!(reason, "" | "null");
    if choice.text_of("finish_reason").is_some_and(is_reason) {
        effect.ends.push(format!("choice {choice_number} "));
    }
}

fn messages<'e, 'a>(event: &'e Node<'a>, effect: &mut Effect<'e, 'a>) {
    let Some(delta) = event.get("delta") else { return };
    for (key, kind) in [("text", Kind::Text), ("partial_json", Kind::ToolCall), ("thinking", Kind::Reasoning)] {
        if let Some(node) = delta.get(key).filter(|node| node.text().is_some()) {
            let channel = ChannelId(format!("block {} {key}", number(event, "index")));
            let begun_by = Some(format!("block {}", number(event, "index")));
            effect.pieces.push(Piece { channel, kind, node, begun_by });
        }
    }
}

fn responses<'e, 'a>(event: &'e Node<'a>, name: &str, effect: &mut Effect<'e, 'a>) {
    let Some(node) = event.get("delta").filter(|node| node.text().is_some()) else { return };
    let kind = kind_of_event(name);
    let begun_by = Some(format!("output {}", number(event, "output_index")));
    effect.pieces.push(Piece { channel: ChannelId(response_channel(event, name)), kind, node, begun_by });
}

fn response_channel(event: &Node<'_>, name: &str) -> String {
    let [output, content, summary] = ["output_index", "content_index", "summary_index"].map(|key| number(event, key));
    format!("{name} {output} {content} {summary} ")
}

fn number(node: &Node<'_>, key: &str) -> u64 {
    node.get(key).and_then(Node::small_number).unwrap_or(0)
}

impl ChannelId {
    pub(crate) fn begins_with(&self, beginning: &str) -> bool {
        self.0.starts_with(beginning)
    }
}
