//! The answer to an assistant, in its own form.
//!
//! What is allowed is never said to be approved: a person would no longer be asked about it.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::check::{Checked, Found, is_within};
use super::event::{Assistant, Event, Kind};
use super::{Answer, Fail, message};
use layersift_format::json::Node;

/// The name of a member whose own has a secret.
const WITHHELD: &str = "[withheld by Layersift]";

/// The answer to `event`.
pub(super) fn of(event: &Event, checked: &Checked, fail: Fail) -> Answer {
    let is_blocked = !checked.found.is_empty() || (fail == Fail::Closed && !checked.unchecked.is_empty());
    if is_blocked {
        block(event, checked, &message::reason(event, checked))
    } else {
        allow(event, &message::warning(checked))
    }
}

fn allow(event: &Event, warning: &str) -> Answer {
    let output = match (event.assistant, event.kind) {
        (Assistant::Cursor, Kind::Prompt) => json!({ "continue": true }),
        // No answer would be "deny" in some versions, and an approval of reading approves nothing else.
        (Assistant::Cursor, Kind::ToolOutput) if event.name.starts_with("before") => json!({ "permission": "allow" }),
        (Assistant::Cursor | Assistant::Copilot, _) => json!({}),
        (Assistant::Vibe, _) if warning.is_empty() => json!({ "decision": "allow" }),
        (Assistant::Vibe, _) => json!({ "decision": "allow", "system_message": warning }),
        (Assistant::Claude | Assistant::Codex, _) if warning.is_empty() => json!({ "continue": true }),
        (Assistant::Claude | Assistant::Codex, _) => json!({ "continue": true, "systemMessage": warning }),
    };
    Answer { output: output.to_string(), reason: warning.into(), ..Answer::default() }
}

fn block(event: &Event, checked: &Checked, reason: &str) -> Answer {
    let answer = |output: Value| Answer { output: output.to_string(), unsaid: reason.into(), ..Answer::default() };
    match (event.assistant, event.kind) {
        // Nobody knows which form the answer has; all assistants know this one.
        (_, Kind::Other | Kind::Nothing) => Answer { reason: reason.into(), status: 2, ..Answer::default() },
        (Assistant::Claude | Assistant::Codex, Kind::ToolInput) => answer(deny_call(event, reason)),
        (Assistant::Claude, Kind::ToolOutput) => answer(claude_output(event, checked, reason)),
        (Assistant::Claude | Assistant::Codex, _) => answer(json!({ "decision": "block", "reason": reason })),
        (Assistant::Cursor, Kind::Prompt) => answer(json!({ "continue": false, "user_message": reason })),
        (Assistant::Cursor, Kind::ToolOutput) if !event.name.starts_with("before") => {
            answer(cursor_output(event, reason))
        }
        (Assistant::Cursor, _) => {
            answer(json!({ "permission": "deny", "user_message": reason, "agent_message": reason }))
        }
        (Assistant::Vibe, _) => answer(json!({ "decision": "deny", "reason": reason })),
        (Assistant::Copilot, Kind::ToolInput) => answer(copilot_call(event, reason)),
        (Assistant::Copilot, Kind::ToolOutput) => answer(json!({
            "modifiedResult": { "resultType": "success", "textResultForLlm": reason },
        })),
        // Copilot does not let a hook block a prompt; status 2 shows the reason to the person.
        (Assistant::Copilot, _) => Answer {
            output: json!({ "decision": "block", "reason": reason }).to_string(),
            reason: reason.into(),
            status: 2,
            ..Answer::default()
        },
    }
}

fn deny_call(event: &Event, reason: &str) -> Value {
    if event.name == "PermissionRequest" {
        let decision = json!({ "behavior": "deny", "message": reason });
        return json!({ "hookSpecificOutput": { "hookEventName": event.name, "decision": decision } });
    }
    json!({
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        },
    })
}

/// Besides the reason, the answer of the tool without the values that have findings: Claude Code gives the tool's own
/// to the model otherwise, and only takes another one of the same shape.
fn claude_output(event: &Event, checked: &Checked, reason: &str) -> Value {
    let mut output = json!({ "decision": "block", "reason": reason });
    if event.name == "PostToolUse"
        && let (Some((name, response)), Some(fields)) = (&event.response, output.as_object_mut())
    {
        let found: Vec<&Found> = checked.found.iter().collect();
        let updated = without(response, name, &found, &checked.hidden);
        fields
            .insert("hookSpecificOutput".into(), json!({ "hookEventName": event.name, "updatedToolOutput": updated }));
    }
    output
}

/// `value`, whose name is `name`, with a note instead of each string that has a finding, and without the names that are
/// `hidden`. If a finding has no place, all strings are replaced.
fn without(value: &Node, name: &str, found: &[&Found], hidden: &HashSet<String>) -> Value {
    let is_placed = found.iter().all(|one| one.part.is_some()) && !found.is_empty();
    // A secret may be told by several values, and is then in what holds them.
    let is_here = |one: &&Found| one.part.as_ref().is_none_or(|part| is_within(part, name) || is_within(name, part));
    let here: Vec<&Found> = found.iter().filter(|one| is_here(one)).copied().collect();
    match value {
        Node::String(text) if here.is_empty() && is_placed => Value::String(text.clone()),
        Node::String(_) => Value::String(message::withheld(if here.is_empty() { found } else { &here })),
        Node::Array(items) if items.iter().all(is_number) && !here.is_empty() => Value::Array(Vec::new()),
        Node::Array(items) => items.iter().map(|item| without(item, name, found, hidden)).collect(),
        Node::Object(members) => {
            let mut kept = Map::new();
            // The tool's own answer is in that file, and would be shown instead.
            for (own, value) in members.iter().filter(|(own, _)| !own.starts_with("persistedOutput")) {
                let value = without(value, &format!("{name}.{own}"), found, hidden);
                kept.insert(if hidden.contains(own) { free_name(&kept) } else { own.clone() }, value);
            }
            kept.into()
        }
        Node::Number(number) if here.is_empty() => Value::Number(number.clone()),
        Node::Number(_) => Value::from(0),
        Node::Bool(truth) => Value::Bool(*truth),
        Node::Null => Value::Null,
    }
}

fn is_number(value: &Node) -> bool {
    matches!(value, Node::Number(_))
}

/// [`WITHHELD`], with a number if there is such a member.
fn free_name(members: &Map<String, Value>) -> String {
    let names = (1_u64..).map(|n| if n == 1 { WITHHELD.into() } else { format!("{WITHHELD} {n}") });
    names.into_iter().find(|name| !members.contains_key(name)).unwrap_or_default()
}

/// Cursor replaces the answers of MCP tools only; to others it appends a text.
fn cursor_output(event: &Event, reason: &str) -> Value {
    let is_mcp = event.name == "afterMCPExecution" || event.tool.as_deref().is_some_and(|tool| tool.starts_with("MCP"));
    if is_mcp {
        let text = json!([{ "type": "text", "text": reason }]);
        return json!({ "updated_mcp_tool_output": { "content": text }, "additional_context": reason });
    }
    json!({ "additional_context": reason })
}

fn copilot_call(event: &Event, reason: &str) -> Value {
    let own = json!({ "permissionDecision": "deny", "permissionDecisionReason": reason });
    if !event.has_claude_names() {
        return own;
    }
    let mut both = deny_call(event, reason);
    if let (Some(fields), Value::Object(own)) = (both.as_object_mut(), own) {
        fields.extend(own);
    }
    both
}
