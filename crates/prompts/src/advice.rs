//! What a person can do about a denial: it depends on who said what was found, and on which way it was going.

use crate::conversation::{Kind, Role, Turn};
use crate::verdict::Reason;

/// A sentence for the person whose request, or whose answer, was denied for `reasons`, the first of which weighs most.
pub(crate) fn advice(reasons: &[&Reason], is_answer: bool) -> &'static str {
    let Some(first) = reasons.first() else { return "" };
    let Some(place) = &first.place else { return about_body(&first.rule, is_answer) };
    let is_secret = first.masked.is_some();
    if is_answer {
        return match is_secret {
            true => "The model's answer was withheld. Ask it to write a placeholder instead.",
            false => "The model's answer was withheld. Ask in another way.",
        };
    }
    match (place.role, place.kind) {
        (_, Kind::Url) => "Remove it from the URL and send the request again.",
        _ if place.turn == Turn::History => {
            "It is in an earlier message: remove it there, or begin a new conversation."
        }
        (_, Kind::ToolDefinition) => "It is in the definition of a tool: correct it there, or leave the tool out.",
        (Role::Tool, _) | (_, Kind::ToolResult) if is_secret => {
            "A tool returned it: remove it where the tool read it, or begin a new conversation without it."
        }
        (Role::Tool, _) | (_, Kind::ToolResult) => {
            "A tool returned it: check where that comes from, and begin a new conversation without it."
        }
        (_, Kind::Data) => "Remove it from the file, or leave the file out, and send the message again.",
        (Role::Assistant, _) => "It is in what the model wrote: remove it there, or begin a new conversation.",
        (Role::System, _) => "It is in the instructions of the application, which has to remove it.",
        (Role::User | Role::Unknown, _) if is_secret => "Remove it and send the message again.",
        (Role::User | Role::Unknown, _) => "Change it and send the message again.",
    }
}

/// About reasons that have no place in a body.
fn about_body(rule: &str, is_answer: bool) -> &'static str {
    match (rule, is_answer) {
        (_, true) => "The model's answer was withheld.",
        ("prompt.too-large" | "prompt.too-many-tokens", _) => "Shorten it, or begin a new conversation.",
        ("prompt.unseen-answer", _) => "Send it again without `stream`.",
        ("prompt.unreadable", _) => "Send it uncompressed, as JSON, text in UTF-8 or multipart/form-data.",
        _ => "Leave it out, or send it as text, so that it can be checked.",
    }
}

#[cfg(test)]
mod tests {
    use layersift_model::Severity;

    use super::*;
    use crate::policy::Action;
    use crate::verdict::Place;

    fn reason(place: Option<(Role, Kind, Turn)>) -> Reason {
        let place = place.map(|(role, kind, turn)| Place {
            role,
            kind,
            turn,
            pointer: String::new(),
            inside: Vec::new(),
            views: Vec::new(),
        });
        Reason {
            action: Action::Deny,
            rule: "prompt.incomplete".into(),
            title: String::new(),
            severity: Severity::High,
            place,
            masked: Some("x".into()),
            fingerprint: None,
            note: None,
        }
    }

    #[test]
    fn nobody_is_told_to_remove_what_is_not_theirs() {
        let sentence = |place, is_answer| advice(&[&reason(place)], is_answer);
        let user = (Role::User, Kind::Text, Turn::Newest);
        assert_eq!(sentence(Some(user), false), "Remove it and send the message again.");
        let others = [
            (Some((Role::Assistant, Kind::Text, Turn::Newest)), true),
            (Some((Role::Assistant, Kind::ToolCall, Turn::Newest)), true),
            (Some((Role::Tool, Kind::ToolResult, Turn::Newest)), false),
            (Some((Role::Unknown, Kind::ToolDefinition, Turn::Newest)), false),
            (Some((Role::Assistant, Kind::Text, Turn::Newest)), false),
            (Some((Role::User, Kind::Text, Turn::History)), false),
            (Some((Role::System, Kind::Text, Turn::Newest)), false),
            (None, true),
            (None, false),
        ];
        for (place, is_answer) in others {
            let sentence = sentence(place, is_answer);
            assert!(!sentence.is_empty() && !sentence.starts_with("Remove it and"), "{place:?}: {sentence}");
        }
    }
}
