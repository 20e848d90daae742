//! What an assistant tells its hook: which assistant it is, what is about to happen, and the text to be checked.
//!
//! The fields are those of the documentation of each assistant. An input of no known form is an error, which blocks: a
//! new version of an assistant is not let through because its fields have other names.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use super::content::Content;
use layersift_format::json::Node;
use layersift_rules::Scope;

/// Fields with what a tool is asked to do.
const INPUTS: [&str; 3] = ["tool_input", "toolArgs", "command"];

/// Fields with what a tool answered, or with what was read.
const OUTPUTS: [&str; 12] = [
    "tool_response",
    "tool_output",
    "tool_output_text",
    "tool_result",
    "tool_error",
    "toolResult",
    "result_json",
    "output",
    "content",
    "error",
    "error_message",
    "edits",
];

/// Fields that say where and when something happens. All others of an unknown event are checked.
const CIRCUMSTANCES: [&str; 18] = [
    "hook_event_name",
    "session_id",
    "sessionId",
    "conversation_id",
    "generation_id",
    "prompt_id",
    "turn_id",
    "agent_id",
    "tool_use_id",
    "transcript_path",
    "transcriptPath",
    "cwd",
    "workspace_roots",
    "timestamp",
    "permission_mode",
    "model",
    "cursor_version",
    "user_email",
];

/// The most values in an input, and in a string of it that is JSON.
pub(super) const MOST_VALUES: usize = 500_000;

/// A coding assistant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assistant {
    Claude,
    Codex,
    Copilot,
    Cursor,
    Vibe,
}

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A person sends a prompt.
    Prompt,
    /// A tool is called.
    ToolInput,
    /// A tool answered, or a file was read.
    ToolOutput,
    /// This version does not know. All text is checked as a prompt is.
    Other,
    /// Nothing that goes to a model or to a tool.
    Nothing,
}

/// An event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) assistant: Assistant,
    pub(super) kind: Kind,
    /// The name of the event, as the assistant writes it; empty for assistants that do not.
    pub(super) name: String,
    pub(super) tool: Option<String>,
    /// What is checked.
    pub(super) content: Content,
    /// The directory that paths are relative to.
    pub(super) directory: Option<PathBuf>,
    /// Files that are sent along with a prompt.
    pub(super) attachments: Vec<String>,
    /// The file that the assistant keeps the conversation in.
    pub(super) transcript: Option<String>,
    /// The answer of the tool in the assistant's own form, and the name of its field.
    pub(super) response: Option<(&'static str, Node)>,
    /// The file that was read or written, for events that are about one file.
    pub(super) file: Option<String>,
}

impl Event {
    /// Parses the input of a hook.
    ///
    /// # Errors
    /// If it is not JSON, of no known assistant, or has no text where there must be one.
    pub(super) fn parse(text: &[u8]) -> anyhow::Result<Event> {
        let fields = Node::parse_within(text, MOST_VALUES).map_err(without_text).context("the input is not JSON")?;
        let fields = &fields.with_context(|| format!("the input has more than {MOST_VALUES} values"))?;
        ensure!(matches!(fields, Node::Object(_)), "the input is not a JSON object");
        ensure!(!has_duplicates(fields), "the input has a field twice");
        let name = string(fields, "hook_event_name").unwrap_or_default().to_string();
        let assistant = assistant(fields, &name).context("the input is of no assistant that this version knows")?;
        let kind = kind(fields, &name);
        let directory = string(fields, "cwd").or_else(|| first_root(fields)).map(PathBuf::from);
        let response =
            ["tool_response", "toolResult", "tool_result"].iter().find_map(|name| Some((*name, fields.member(name)?)));
        let is_of_file = name.starts_with("before") || name.starts_with("after");
        Ok(Event {
            assistant,
            kind,
            content: content(fields, kind)?,
            tool: string(fields, "tool_name").or_else(|| string(fields, "toolName")).map(String::from),
            directory,
            attachments: if kind == Kind::Prompt { attachments(fields) } else { Vec::new() },
            transcript: string(fields, "transcript_path").map(String::from),
            response: response.filter(|_| kind == Kind::ToolOutput).map(|(name, value)| (name, value.clone())),
            file: string(fields, "file_path").filter(|_| kind == Kind::ToolOutput && is_of_file).map(String::from),
            name,
        })
    }

    /// Who wrote the text.
    pub(super) fn scope(&self) -> Scope {
        match self.kind {
            Kind::Prompt | Kind::Other | Kind::Nothing => Scope::Prompt,
            Kind::ToolInput => Scope::ToolInput,
            Kind::ToolOutput => Scope::ToolOutput,
        }
    }

    /// Whether the fields have the names of Claude's and not Copilot's own.
    pub(super) fn has_claude_names(&self) -> bool {
        self.name.starts_with(|first: char| first.is_ascii_uppercase())
    }
}

/// The string in the member `name`.
fn string<'f>(fields: &'f Node, name: &str) -> Option<&'f str> {
    fields.member(name)?.as_str()
}

fn has(fields: &Node, name: &str) -> bool {
    fields.member(name).is_some()
}

fn has_duplicates(fields: &Node) -> bool {
    let mut names: Vec<&str> = fields.members().iter().map(|(name, _)| &name[..]).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// The position of an error of the parser, whose message may quote the input.
fn without_text(error: serde_json::Error) -> anyhow::Error {
    anyhow::anyhow!("line {}, column {}", error.line(), error.column())
}

fn first_root(fields: &Node) -> Option<&str> {
    fields.member("workspace_roots")?.elements().first()?.as_str()
}

fn assistant(fields: &Node, event: &str) -> Option<Assistant> {
    let has = |name| has(fields, name);
    if has("cursor_version") {
        return Some(Assistant::Cursor);
    }
    if matches!(event, "pre_tool" | "post_tool" | "before_tool" | "after_tool" | "post_agent" | "post_agent_turn") {
        return Some(Assistant::Vibe);
    }
    // Some events of Copilot have a time and a directory only. All others have a name or a session.
    if has("sessionId") || (event.is_empty() && !has("session_id") && has("timestamp") && has("cwd")) {
        return Some(Assistant::Copilot);
    }
    if !has("session_id") || event.is_empty() {
        return None;
    }
    if has("turn_id") {
        return Some(Assistant::Codex);
    }
    // With the names of Claude's events, Copilot sends the fields of Claude's, a time, and no transcript.
    if has("timestamp") && !has("transcript_path") { Some(Assistant::Copilot) } else { Some(Assistant::Claude) }
}

fn kind(fields: &Node, event: &str) -> Kind {
    let plain: String = event.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    match &plain[..] {
        "userpromptsubmit" | "userpromptsubmitted" | "beforesubmitprompt" | "userprompttransformed" => Kind::Prompt,
        "pretooluse"
        | "pretool"
        | "beforetool"
        | "permissionrequest"
        | "beforeshellexecution"
        | "beforemcpexecution" => Kind::ToolInput,
        "posttooluse"
        | "posttool"
        | "aftertool"
        | "posttoolusefailure"
        | "aftershellexecution"
        | "aftermcpexecution"
        | "beforereadfile"
        | "beforetabfileread"
        | "afterfileedit"
        | "aftertabfileedit" => Kind::ToolOutput,
        // Copilot's own events have no name in the input.
        "" if has(fields, "toolName") => {
            if ["toolResult", "error"].iter().any(|name| has(fields, name)) {
                Kind::ToolOutput
            } else {
                Kind::ToolInput
            }
        }
        "" if has(fields, "prompt") => Kind::Prompt,
        "sessionstart" if ["initialPrompt", "initial_prompt"].iter().any(|name| has(fields, name)) => Kind::Other,
        // What happened, or what a model said. Blocking the end of a turn would only make it go on.
        "sessionstart" | "sessionend" | "setup" | "stop" | "stopfailure" | "subagentstop" | "agentstop"
        | "notification" | "teammateidle" | "postagent" | "postagentturn" | "afteragentresponse"
        | "afteragentthought" => Kind::Nothing,
        _ => Kind::Other,
    }
}

fn content(fields: &Node, kind: Kind) -> anyhow::Result<Content> {
    let mut content = Content::default();
    match kind {
        Kind::Nothing => {}
        Kind::Other => {
            let text = fields.members().iter().filter(|(name, _)| !CIRCUMSTANCES.contains(&&name[..]));
            text.for_each(|(name, value)| content.add(name, value));
        }
        Kind::Prompt => {
            let prompt = string(fields, "prompt").or_else(|| string(fields, "user_prompt"));
            content.add_text("prompt", prompt.context("the input has no `prompt`")?);
            if let Some(transformed) = string(fields, "transformedPrompt") {
                content.add_text("prompt", transformed);
            }
        }
        Kind::ToolInput => add_fields(&mut content, fields, &INPUTS)?,
        Kind::ToolOutput => add_fields(&mut content, fields, &OUTPUTS)?,
    }
    Ok(content)
}

fn add_fields(content: &mut Content, fields: &Node, names: &[&str]) -> anyhow::Result<()> {
    let mut given = names.iter().filter_map(|name| Some((*name, fields.member(name)?))).peekable();
    ensure!(given.peek().is_some(), "the input has none of the fields {}", names.join(", "));
    for (name, value) in given {
        content.add(name, value);
    }
    Ok(())
}

/// The paths of files that Cursor sends along with a prompt.
fn attachments(fields: &Node) -> Vec<String> {
    let listed = fields.member("attachments").map_or(&[][..], Node::elements).iter();
    listed
        .filter_map(|one| ["file_path", "filePath", "path"].iter().find_map(|name| string(one, name)))
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn assistants_are_told_apart_by_their_fields() {
        use Assistant::{Claude, Codex, Copilot, Cursor, Vibe};
        use Kind::{Nothing, Other, Prompt, ToolInput, ToolOutput};
        let input = json!({ "command": "needle" });
        let claude = |event: &str| json!({ "session_id": "1", "transcript_path": "/t", "hook_event_name": event });
        let codex = json!({ "session_id": "1", "turn_id": "2", "hook_event_name": "PreToolUse", "tool_input": input });
        let cursor = |event: &str| json!({ "cursor_version": "2.4", "hook_event_name": event });
        let vibe = |event: &str| json!({ "session_id": "1", "hook_event_name": event, "tool_input": input });
        let copilot = json!({ "sessionId": "1", "timestamp": 1, "cwd": "/" });
        let named = json!({ "session_id": "1", "timestamp": "2026", "hook_event_name": "PreToolUse" });
        for (base, field, value, assistant, kind) in [
            (claude("UserPromptSubmit"), "prompt", json!("needle"), Claude, Prompt),
            (claude("PostToolUse"), "tool_response", json!({ "stdout": "needle" }), Claude, ToolOutput),
            (claude("Stop"), "last_assistant_message", json!("needle"), Claude, Nothing),
            (claude("UserPromptExpansion"), "prompt", json!("needle"), Claude, Other),
            (codex, "tool_name", json!("Bash"), Codex, ToolInput),
            (cursor("beforeSubmitPrompt"), "prompt", json!("needle"), Cursor, Prompt),
            (cursor("beforeReadFile"), "content", json!("needle"), Cursor, ToolOutput),
            (vibe("pre_tool"), "tool_name", json!("bash"), Vibe, ToolInput),
            (vibe("post_tool"), "tool_output_text", json!("needle"), Vibe, ToolOutput),
            (copilot.clone(), "prompt", json!("needle"), Copilot, Prompt),
            (copilot.clone(), "initialPrompt", json!("needle"), Copilot, Other),
            (copilot, "toolName", json!("bash"), Copilot, ToolInput),
            (json!({ "timestamp": 1, "cwd": "/" }), "prompt", json!("needle"), Copilot, Prompt),
            (json!({ "timestamp": 1, "cwd": "/", "source": "new" }), "initialPrompt", json!("needle"), Copilot, Other),
            (named, "tool_input", input.clone(), Copilot, ToolInput),
        ] {
            let mut fields = base.clone();
            fields[field] = value;
            if field == "toolName" {
                fields["toolArgs"] = input.clone();
            }
            let event = Event::parse(fields.to_string().as_bytes()).unwrap();
            assert_eq!((event.assistant, event.kind), (assistant, kind), "{fields}");
            let text = String::from_utf8_lossy(event.content.text().bytes()).into_owned();
            assert_eq!(text.contains("needle"), kind != Nothing, "{fields}: {text}");
        }
    }

    #[test]
    fn what_is_of_no_known_form_is_an_error_that_does_not_quote_it() {
        let prompt = r#"{"session_id":"1","hook_event_name":"UserPromptSubmit","transcript_path":"","text":"hunter2"}"#;
        for (text, reason) in [
            ("", "not JSON"),
            ("hunter2", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"prompt":"hunter2"}"#, "no assistant"),
            (r#"{"prompt":"hunter2","prompt":"a"}"#, "a field twice"),
            (prompt, "no `prompt`"),
            (r#"{"cursor_version":"2","hook_event_name":"preToolUse","arguments":"hunter2"}"#, "none of the fields"),
        ] {
            let error = format!("{:#}", Event::parse(text.as_bytes()).unwrap_err());
            assert!(error.contains(reason) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
