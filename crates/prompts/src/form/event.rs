//! The values of an event of a streamed answer that are no pieces of a text: the model wrote them as well.

use super::messages::content;
use super::responses::{kind_of_event, mark_item};
use super::{Form, messages};
use crate::collect::{Mark, Marks};
use crate::conversation::{Kind, Role, Turn};
use crate::json::Node;

/// Marks the values of an event.
pub(crate) fn mark_event(event: &Node<'_>, marks: &mut Marks) {
    marks.add(event, Mark { role: Some(Role::Assistant), ..Mark::default() });
    let name = event.text_of("type").unwrap_or_default();
    // The whole of a text that was there in pieces.
    for key in ["text", "refusal", "arguments", "input", "code"] {
        if let Some(node) = event.get(key).filter(|node| node.text().is_some()) {
            marks.add(node, Mark::of(kind_of_event(name)));
        }
    }
    if let Some(response) = event.get("response") {
        Form::Responses.mark(response, marks);
    }
    if let Some(item) = event.get("item") {
        mark_item(item, Turn::Newest, marks);
    }
    for part in [event.get("content_block"), event.get("part")].into_iter().flatten() {
        content(part, Role::Assistant, Kind::Text, messages::TEXT_BLOCK, marks);
    }
    if let Some(message) = event.get("message") {
        messages::mark_message(message, Turn::Newest, marks);
    }
}
