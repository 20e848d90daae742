//! OpenAI's responses API, and embeddings, whose requests have an input as well.

use super::messages::{content, definitions, mark_message, newest_from, prompts, turn};
use crate::collect::{Mark, Marks, is_result};
use crate::conversation::{Kind, Role, Turn};
use crate::json::{Node, Value};

/// The type of a block of text in an input.
const TEXT_BLOCK: &str = "input_text";

/// Marks a request or an answer.
pub(super) fn mark(document: &Node<'_>, marks: &mut Marks) {
    let mut start = Turn::Newest;
    if let Some(input) = document.get("input") {
        prompts(input, marks);
        start = mark_items(input, marks);
    }
    if let Some(instructions) = document.get("instructions") {
        marks.add(instructions, Mark { role: Some(Role::System), turn: Some(start), ..Mark::of(Kind::Text) });
        mark_items(instructions, marks);
    }
    definitions(document.get("tools"), start, marks);
    for item in document.get("output").map(Node::items).unwrap_or_default() {
        mark_item(item, Turn::Newest, marks);
    }
}

/// Marks a list of items. Returns the turn of what stands before the first of them.
pub(super) fn mark_items(list: &Node<'_>, marks: &mut Marks) -> Turn {
    let items = list.items();
    let newest = newest_from(items, is_model);
    for (index, item) in items.iter().enumerate() {
        mark_item(item, turn(index, newest), marks);
    }
    turn(0, newest)
}

/// What the text is that an event of this name has, or a piece of.
pub(crate) fn kind_of_event(name: &str) -> Kind {
    match name {
        name if name.contains("reasoning") => Kind::Reasoning,
        name if name.contains("arguments") || name.contains("input") || name.contains("code") => Kind::ToolCall,
        _ => Kind::Text,
    }
}

/// Whether the model made an item.
fn is_model(item: &Node<'_>) -> bool {
    let is_call = |name: &str| name == "reasoning" || name.ends_with("_call");
    item.text_of("role") == Some("assistant") || item.text_of("type").is_some_and(is_call)
}

pub(super) fn mark_item(item: &Node<'_>, turn: Turn, marks: &mut Marks) {
    let kind_of_item = item.text_of("type").unwrap_or("message");
    match kind_of_item {
        "message" => {
            mark_message(item, turn, marks);
            if let Some(node) = item.get("content") {
                let role = if is_model(item) { Role::Assistant } else { Role::User };
                content(node, role, Kind::Text, TEXT_BLOCK, marks);
            }
        }
        "reasoning" => {
            marks.add(item, Mark { role: Some(Role::Assistant), turn: Some(turn), ..Mark::default() });
            for key in ["summary", "content"] {
                if let Some(node) = item.get(key) {
                    content(node, Role::Assistant, Kind::Reasoning, TEXT_BLOCK, marks);
                }
            }
        }
        name if name.ends_with("_call") => {
            let mark = Mark::joined(Kind::ToolCall);
            marks.add(item, Mark { role: Some(Role::Assistant), turn: Some(turn), ..mark });
            // Tools of the provider: the item has what they returned as well.
            let Value::Object(members) = &item.value else { return };
            for member in members.iter().filter(|member| is_result_of_call(&member.key)) {
                marks.add(&member.node, Mark { role: Some(Role::Tool), ..Mark::joined(Kind::ToolResult) });
            }
        }
        name if is_result(name) => {
            marks.add(item, Mark { role: Some(Role::Tool), turn: Some(turn), ..Mark::default() });
            if let Some(node) = item.get("output") {
                content(node, Role::Tool, Kind::ToolResult, TEXT_BLOCK, marks);
            }
        }
        _ => {
            marks.add(item, Mark { turn: Some(turn), ..Mark::default() });
            definitions(item.get("tools"), turn, marks);
        }
    }
}

/// Whether a member of a call is what it returned.
fn is_result_of_call(name: &str) -> bool {
    matches!(name, "output" | "outputs" | "result" | "results" | "logs" | "error") || is_result(name)
}
