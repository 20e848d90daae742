//! Messages, as OpenAI's chat completions and Anthropic's messages have them. Gateways translate one into the other and
//! mix them, so one reader knows the blocks of both. Completions are here as well: their answers look alike.

use crate::collect::{Mark, Marks, is_result};
use crate::conversation::{Kind, Role, Turn};
use crate::json::{Node, Value};

/// The type of a block of text.
pub(super) const TEXT_BLOCK: &str = "text";

/// What texts begin with that Claude Code writes behind results of tools.
const OF_CLIENT: &str = "<system-reminder>";

/// The types of blocks that only Anthropic has.
const ANTHROPIC_BLOCKS: [&str; 6] = ["tool_use", "tool_result", "thinking", "redacted_thinking", "document", "image"];

/// Whether a request with messages has what only Anthropic's have.
pub(super) fn is_anthropic(document: &Node<'_>) -> bool {
    let messages = document.get("messages").map(Node::items).unwrap_or_default();
    let mut blocks = messages.iter().filter_map(|message| message.get("content")).flat_map(Node::items);
    document.get("system").is_some()
        || document.get("anthropic_version").is_some()
        || blocks.any(|block| block.text_of("type").is_some_and(|name| ANTHROPIC_BLOCKS.contains(&name)))
}

/// Marks a request or an answer.
pub(super) fn mark(document: &Node<'_>, marks: &mut Marks) {
    let start = match document.get("messages") {
        Some(list) => mark_list(list, marks),
        None => Turn::Newest,
    };
    if let Some(system) = document.get("system") {
        marks.add(system, Mark { role: Some(Role::System), turn: Some(start), ..Mark::of(Kind::Text) });
        content(system, Role::System, Kind::Text, TEXT_BLOCK, marks);
    }
    let of_converse = document.get("toolConfig").and_then(|settings| settings.get("tools"));
    for list in [document.get("tools"), document.get("functions"), of_converse] {
        definitions(list, start, marks);
    }
    for key in ["prompt", "suffix"] {
        if let Some(prompt) = document.get(key) {
            prompts(prompt, marks);
        }
    }
    for choice in document.get("choices").map(Node::items).unwrap_or_default() {
        if let Some(message) = choice.get("message") {
            mark_message(message, Turn::Newest, marks);
        }
        if let Some(text) = choice.get("text") {
            marks.add(text, Mark { role: Some(Role::Assistant), ..Mark::of(Kind::Text) });
        }
    }
    // An answer of Anthropic's is a message.
    if document.get("messages").is_none() && document.get("content").is_some() {
        mark_message(document, Turn::Newest, marks);
    }
}

/// Marks a list of messages. Returns the turn of what stands before the first of them.
pub(super) fn mark_list(list: &Node<'_>, marks: &mut Marks) -> Turn {
    let messages = list.items();
    let newest = newest_from(messages, is_model);
    for (index, message) in messages.iter().enumerate() {
        mark_message(message, turn(index, newest), marks);
    }
    turn(0, newest)
}

/// The index of the first new item: the one after the last item that `is_model` takes for the model's. A message of the
/// model at the very end is a beginning that the client wrote for it, and new.
///
/// If a person has written after others, what they have written since is new: a denied message has no answer of the
/// model after it, and would block the chat for ever.
pub(super) fn newest_from<'a>(items: &[Node<'a>], is_model: impl Fn(&Node<'a>) -> bool) -> usize {
    let others_end = items.iter().rposition(|item| !is_model(item)).map_or(0, |last| last + 1);
    let start = items[..others_end].iter().rposition(is_model).map_or(0, |last| last + 1);
    let turn = &items[start..];
    // What stands before the first message of a person, such as instructions, belongs to it; results of tools do not.
    let first = turn.iter().position(|item| is_person(item) || is_result_item(item)).unwrap_or(0);
    turn.iter().rposition(is_person).filter(|last| *last > first).map_or(start, |last| start + last)
}

/// Whether the model wrote a message.
pub(super) fn is_model(message: &Node<'_>) -> bool {
    message.text_of("role") == Some("assistant")
}

/// Whether a person wrote a message, or a part of it: Anthropic's results of tools are messages of users.
fn is_person(message: &Node<'_>) -> bool {
    let is_written =
        |content: &Node<'_>| content.items().is_empty() || content.items().iter().any(|one| !is_result_block(one));
    message.text_of("role") == Some("user") && message.get("content").is_some_and(is_written)
}

/// Whether a message or an item is what a tool returned.
fn is_result_item(item: &Node<'_>) -> bool {
    let is_message = matches!(item.text_of("role"), Some("tool" | "function"));
    let content = item.get("content").map(Node::items).unwrap_or_default();
    is_message || is_result_block(item) || content.iter().any(is_result_block)
}

fn is_result_block(block: &Node<'_>) -> bool {
    block.text_of("type").is_some_and(is_result)
}

pub(super) fn turn(index: usize, newest: usize) -> Turn {
    if index < newest { Turn::History } else { Turn::Newest }
}

fn role(message: &Node<'_>) -> Role {
    match message.text_of("role") {
        Some("user") => Role::User,
        Some("system" | "developer") => Role::System,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        _ => Role::Unknown,
    }
}

pub(super) fn mark_message(message: &Node<'_>, turn: Turn, marks: &mut Marks) {
    let role = role(message);
    marks.add(message, Mark { role: Some(role), turn: Some(turn), ..Mark::default() });
    let kind = if role == Role::Tool { Kind::ToolResult } else { Kind::Text };
    if let Some(node) = message.get("content") {
        content(node, role, kind, TEXT_BLOCK, marks);
        if role == Role::User {
            mark_answered(node.items(), marks);
        }
    }
    for key in ["reasoning_content", "reasoning", "refusal"] {
        if let Some(node) = message.get(key).filter(|node| node.text().is_some()) {
            marks.add(node, Mark::of(if key == "refusal" { Kind::Text } else { Kind::Reasoning }));
        }
    }
    calls(message.get("tool_calls"), marks);
    if let Some(call) = message.get("function_call") {
        marks.add(call, Mark::joined(Kind::ToolCall));
    }
}

/// Marks results of tools that a person has answered in the same message, into which clients join what follows a denied
/// result. What a person wrote before may have been denied as well.
fn mark_answered(blocks: &[Node<'_>], marks: &mut Marks) {
    let is_written = |block: &Node<'_>| block.text_of("text").is_some_and(|text| !text.starts_with(OF_CLIENT));
    let answered = blocks.iter().rposition(is_written).unwrap_or(0);
    for block in &blocks[..answered] {
        let turn = is_result_block(block).then_some(Turn::History);
        marks.add(block, Mark { turn, is_followed: true, ..Mark::default() });
    }
}

/// Marks calls of tools. The name of a tool and its arguments are one text: only together they say what is done.
pub(super) fn calls(list: Option<&Node<'_>>, marks: &mut Marks) {
    for call in list.map(Node::items).unwrap_or_default() {
        let called = call.get("function").or_else(|| call.get("custom")).unwrap_or(call);
        marks.add(called, Mark::joined(Kind::ToolCall));
    }
}

/// Marks definitions of tools.
pub(super) fn definitions(list: Option<&Node<'_>>, turn: Turn, marks: &mut Marks) {
    for tool in list.map(Node::items).unwrap_or_default() {
        marks.add(tool, Mark { turn: Some(turn), ..Mark::joined(Kind::ToolDefinition) });
    }
}

/// Marks the content of a message: a string, or blocks.
pub(super) fn content(node: &Node<'_>, role: Role, kind: Kind, text_type: &'static str, marks: &mut Marks) {
    if node.text().is_some() {
        marks.add(node, Mark { role: Some(role), ..Mark::of(kind) });
    }
    // What a server of a provider returned is one block, without a list.
    if node.get("type").is_some() {
        block(node, role, kind, text_type, marks);
    }
    marks.add(node, Mark { sequence: Some(node.span.start), ..Mark::default() });
    for item in node.items() {
        if item.text().is_some() {
            marks.add(item, Mark { role: Some(role), ..Mark::of(kind) });
        } else {
            block(item, role, kind, text_type, marks);
        }
    }
}

fn block(item: &Node<'_>, role: Role, kind: Kind, text_type: &'static str, marks: &mut Marks) {
    let text = |key: &str, kind, marks: &mut Marks| {
        if let Some(node) = item.get(key).filter(|node| node.text().is_some()) {
            marks.add(node, Mark { role: Some(role), ..Mark::of(kind) });
        }
    };
    text("text", kind, marks);
    text("refusal", kind, marks);
    text("thinking", Kind::Reasoning, marks);
    match item.text_of("type") {
        Some("tool_use" | "server_tool_use" | "mcp_tool_use") => {
            marks.add(item, Mark { role: Some(Role::Assistant), ..Mark::joined(Kind::ToolCall) });
        }
        Some(name) if is_result(name) => {
            // A model wants a result for each of its calls, so that one is not replaced.
            let is_whole = name.ends_with("tool_result");
            let replaced_by = (!is_whole).then_some(text_type);
            marks.add(item, Mark { role: Some(Role::Tool), replaced_by, ..Mark::default() });
            for inner in [item.get("content"), item.get("output")].into_iter().flatten() {
                content(inner, Role::Tool, Kind::ToolResult, text_type, marks);
            }
        }
        Some("text" | "input_text" | "output_text" | "thinking" | "redacted_thinking" | "refusal") | None => {}
        Some(_) => {
            marks.add(item, Mark { role: Some(role), replaced_by: Some(text_type), ..Mark::default() });
            // No person answers for what a document says, whether it is a text or base64.
            let kind = if kind == Kind::Text { Kind::Data } else { kind };
            source(item, role, kind, text_type, marks);
        }
    }
}

/// Marks what a block for a document or an image holds: Anthropic's source, OpenAI's file.
fn source(item: &Node<'_>, role: Role, kind: Kind, text_type: &'static str, marks: &mut Marks) {
    if let Some(source) = item.get("source") {
        let data = source.get("data").filter(|data| data.text().is_some());
        match (source.text_of("type"), data) {
            (Some("base64"), Some(data)) => marks.add(data, Mark { is_announced: true, ..Mark::default() }),
            (_, Some(data)) => marks.add(data, Mark { role: Some(role), ..Mark::of(kind) }),
            (_, None) => {}
        }
        if let Some(inner) = source.get("content") {
            content(inner, role, kind, text_type, marks);
        }
    }
    let file = item.get("file").unwrap_or(item);
    let audio = item.get("input_audio").unwrap_or(item);
    for data in [file.get("file_data"), audio.get("data")].into_iter().flatten().filter(|data| data.text().is_some()) {
        marks.add(data, Mark { is_announced: true, ..Mark::default() });
    }
}

/// Marks the prompt of a completion: a string, strings, tokens, or lists of tokens.
pub(super) fn prompts(node: &Node<'_>, marks: &mut Marks) {
    let mark = |one: &Node<'_>, marks: &mut Marks| match &one.value {
        Value::String(_) => marks.add(one, Mark { role: Some(Role::User), ..Mark::of(Kind::Text) }),
        _ if one.has_numbers() => marks.add(one, Mark { is_tokens: true, ..Mark::default() }),
        _ => {}
    };
    mark(node, marks);
    for item in node.items() {
        mark(item, marks);
    }
}
