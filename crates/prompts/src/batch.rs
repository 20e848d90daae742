//! Requests and answers in lists: JSON Lines, as batches upload and download them, and the lists of batches.
//!
//! Each line is marked by its own form, or by the form of the request or answer that it wraps.

use crate::collect::{Collected, Marks, collect};
use crate::conversation::{Conversation, Unseen};
use crate::form::{Form, model_of};
use crate::json::{self, Node, Span, Unreadable, Value, offset};

/// Where the lines of OpenAI, Anthropic, Google and Amazon have a request or an answer.
const WRAPPED: [&[&str]; 7] = [
    &["body"],
    &["params"],
    &["request"],
    &["modelInput"],
    &["response", "body"],
    &["result", "message"],
    &["modelOutput"],
];

/// What only a line with an answer has.
const ANSWERED: [&str; 3] = ["response", "result", "modelOutput"];

/// A span that no value has.
const NOWHERE: Span = Span { start: u32::MAX, end: u32::MAX };

/// Reads JSON Lines as a list of objects, with an `error` of the whole if they are none.
pub(crate) fn parse(body: &[u8], error: Unreadable) -> Result<Node<'_>, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| error)?;
    let mut items: Vec<Node<'_>> = Vec::new();
    for (start, line) in lines(text) {
        match parse_line(line, start) {
            Ok(node) if matches!(node.value, Value::Object(_)) => items.push(node),
            Err(wrong) if !items.is_empty() => return Err(wrong),
            _ => return Err(error),
        }
    }
    Ok(list(items))
}

/// A list of values that are not in an array. The marks of its first one are not its own.
pub(crate) fn list(items: Vec<Node<'_>>) -> Node<'_> {
    Node { span: NOWHERE, value: Value::Array(items.into()) }
}

/// The lines of a text that are not empty, and where they begin.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(move |line| {
        start += line.len();
        (start - line.len(), line)
    });
    lines.filter(|(_, line)| !line.trim_ascii().is_empty())
}

/// Reads the line that begins at `start` of a text: the places of its values are those in the text.
pub(crate) fn parse_line(line: &str, start: usize) -> Result<Node<'_>, Unreadable> {
    let mut node = json::parse(line.as_bytes()).map_err(|error| match error {
        Unreadable::Syntax(at) => Unreadable::Syntax(start + at),
        Unreadable::Surrogate(at) => Unreadable::Surrogate(start + at),
        Unreadable::DuplicateKey(at) => Unreadable::DuplicateKey(start + at),
        other => other,
    })?;
    shift(&mut node, offset(start));
    Ok(node)
}

fn shift(node: &mut Node<'_>, by: u32) {
    let Span { start, end } = node.span;
    node.span = Span { start: start.saturating_add(by), end: end.saturating_add(by) };
    match &mut node.value {
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Object(members) => {
            for member in members.iter_mut() {
                member.key_at = member.key_at.saturating_add(by);
                shift(&mut member.node, by);
            }
        }
        Value::Literal | Value::Number(_) | Value::Numbers(_) | Value::String(_) => {}
    }
}

/// Marks the requests and answers in a document that is none itself.
pub(crate) fn mark(document: &Node<'_>, marks: &mut Marks) {
    for item in document.items() {
        mark_line(item, marks);
    }
    for item in document.get("requests").map(Node::items).unwrap_or_default() {
        mark_line(item, marks);
    }
    mark_wrapped(document, marks);
}

fn mark_line(line: &Node<'_>, marks: &mut Marks) {
    match Form::of(line) {
        Form::Json => mark_wrapped(line, marks),
        form => form.mark(line, marks),
    }
}

fn mark_wrapped(line: &Node<'_>, marks: &mut Marks) {
    for inner in wrapped(line) {
        match Form::of(inner) {
            Form::Json => {}
            form => form.mark(inner, marks),
        }
    }
}

fn wrapped<'n, 'a>(line: &'n Node<'a>) -> impl Iterator<Item = &'n Node<'a>> {
    let at = move |path: &[&str]| path.iter().try_fold(line, |node, key| node.get(key));
    WRAPPED.into_iter().filter_map(at)
}

/// Whether a list has answers.
pub(crate) fn is_answer(document: &Node<'_>) -> bool {
    let is_answered = |line: &Node<'_>| ANSWERED.iter().any(|key| line.get(key).is_some());
    document.items().iter().any(is_answered)
}

/// The model that the first of a list names.
pub(crate) fn model(document: &Node<'_>) -> Option<String> {
    let line = document.items().first()?;
    model_of(line).or_else(|| wrapped(line).find_map(model_of))
}

/// Marks a line of a file, of which nobody says that it is a request. Returns whether it looks like one.
fn mark_request(line: &Node<'_>, marks: &mut Marks) -> bool {
    let is_named = ["custom_id", "method", "url", "recordId"].iter().any(|key| line.get(key).is_some());
    if is_named && wrapped(line).next().is_some() {
        mark_wrapped(line, marks);
        return true;
    }
    let is_request = line.text_of("model").is_some() && Form::of(line) != Form::Json;
    if is_request {
        mark_line(line, marks);
    }
    is_request
}

/// Whether a line that cannot be read looks like the request of a batch.
pub(crate) fn may_be_request(line: &str) -> bool {
    line.contains("custom_id") && line.contains("body")
}

/// Reads values of a file. What cannot be read of them counts in requests only: a set of data may have anything.
pub(crate) fn read_values<'a>(text: &'a str, document: &Node<'a>, values: &[Node<'a>]) -> Conversation<'a> {
    let mut marks = Marks::default();
    let are_requests: Vec<bool> = values.iter().map(|value| mark_request(value, &mut marks)).collect();
    let Collected { parts, sequences, mut unseen } = collect(text.as_bytes(), document, &marks);
    let is_of_request = |unseen: &Unseen| {
        let index = unseen.pointer.split('/').nth(1).and_then(|index| index.parse::<usize>().ok());
        are_requests.get(index.unwrap_or(0)).copied().unwrap_or(false)
    };
    unseen.retain(is_of_request);
    Conversation { unseen, pieces: sequences, ..Conversation::of_parts(Form::Json, parts, text.as_bytes()) }
}
