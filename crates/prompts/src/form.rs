//! The forms of bodies: which API a body belongs to, and what its values mean there.
//!
//! A reader of a form only marks the values that it knows with their role, their kind and their turn. What is scanned
//! does not depend on it: the [`collect`](crate::collect) module takes every string of the document, marked or not.

mod event;
mod litellm;
mod messages;
mod multipart;
mod opening;
mod responses;

use std::str::FromStr;

pub(crate) use self::event::mark_event;
pub(crate) use self::responses::kind_of_event;

use crate::batch;
use crate::collect::{Collected, Marks, collect};
use crate::conversation::{Content, Conversation, Kind, Part, Segments, Source, Turn};
use crate::json::{self, Node, Unreadable};
use crate::pieces::pieces;
use crate::room::{take, values_in};

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// OpenAI's chat completions, request or answer.
    Chat,
    /// OpenAI's completions, request or answer.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// OpenAI's responses, request or answer.
    Responses,
    /// Anthropic's messages, request or answer.
    Messages,
    /// What LiteLLM sends to a guardrail.
    LiteLlm,
    /// Any other JSON.
    Json,
    /// A form of HTML with files (`multipart/form-data`).
    Multipart,
    /// Plain text.
    Text,
}

/// What a request of the responses API has that has no input: a prompt or a conversation that the provider keeps.
const KEPT: [&str; 3] = ["prompt", "previous_response_id", "conversation"];

impl Form {
    /// All forms.
    pub const ALL: [Form; 9] = [
        Form::Chat,
        Form::Completions,
        Form::Embeddings,
        Form::Responses,
        Form::Messages,
        Form::LiteLlm,
        Form::Json,
        Form::Multipart,
        Form::Text,
    ];

    /// The name in settings and parameters.
    pub fn name(self) -> &'static str {
        match self {
            Form::Chat => "chat",
            Form::Completions => "completions",
            Form::Embeddings => "embeddings",
            Form::Responses => "responses",
            Form::Messages => "messages",
            Form::LiteLlm => "litellm",
            Form::Json => "json",
            Form::Multipart => "multipart",
            Form::Text => "text",
        }
    }

    /// What a body of this form is called.
    fn describe(self) -> &'static str {
        match self {
            Form::Chat => "a chat completion: it has neither messages nor choices",
            Form::Completions => "a completion: it has neither a prompt nor choices",
            Form::Embeddings => "a request for embeddings: it has no input",
            Form::Responses => "a request or answer of the responses API: it has neither input nor output",
            Form::Messages => "a request or answer of the messages API: it has neither messages nor content",
            Form::LiteLlm => "a request of LiteLLM's guardrail: it has no texts",
            Form::Json => "JSON",
            Form::Multipart => "multipart/form-data",
            Form::Text => "text",
        }
    }

    /// Whether a document has what every body of this form has.
    fn holds(self, document: &Node<'_>) -> bool {
        let has = |key| document.get(key).is_some();
        match self {
            Form::Chat => has("messages") || has("choices"),
            Form::Completions => has("prompt") || has("choices"),
            Form::Embeddings => has("input"),
            // The input may be kept by the provider.
            Form::Responses => has("input") || has("output") || KEPT.iter().any(|key| has(key)),
            Form::Messages => has("messages") || has("content"),
            Form::LiteLlm => has("texts"),
            Form::Json | Form::Multipart | Form::Text => true,
        }
    }

    /// Whether a document of this form came from a model.
    fn is_answer(self, document: &Node<'_>) -> bool {
        let has = |key| document.get(key).is_some();
        match self {
            Form::Chat | Form::Completions => has("choices") && !has("messages") && !has("prompt"),
            Form::Responses => has("output") && !has("input"),
            Form::Messages => has("content") && !has("messages"),
            Form::LiteLlm => document.text_of("input_type") == Some("response"),
            Form::Json => batch::is_answer(document),
            Form::Embeddings | Form::Multipart | Form::Text => false,
        }
    }

    /// Marks the values that the form has words for.
    pub(crate) fn mark(self, document: &Node<'_>, marks: &mut Marks) {
        match self {
            Form::Chat | Form::Messages | Form::Completions => messages::mark(document, marks),
            Form::Responses | Form::Embeddings => responses::mark(document, marks),
            Form::LiteLlm => litellm::mark(document, marks),
            Form::Json => {
                // Other APIs call them so, too.
                messages::definitions(document.get("tools"), Turn::Newest, marks);
                batch::mark(document, marks);
            }
            Form::Multipart | Form::Text => {}
        }
    }

    /// The form that a document seems to have. A wrong guess changes what a part is called, not whether it is scanned:
    /// that is why LiteLLM's question, of which a part is not scanned, is never guessed.
    pub(crate) fn of(document: &Node<'_>) -> Form {
        let has = |key| document.get(key).is_some();
        if has("messages") {
            if messages::is_anthropic(document) { Form::Messages } else { Form::Chat }
        } else if has("choices") {
            Form::Chat
        } else if has("prompt") && document.get("prompt").is_none_or(|prompt| prompt.get("id").is_none()) {
            Form::Completions
        } else if KEPT.iter().any(|key| has(key)) || has("output") || (has("input") && !is_embeddings(document)) {
            Form::Responses
        } else if has("input") {
            Form::Embeddings
        } else if document.text_of("role") == Some("assistant") && has("content") {
            Form::Messages
        } else {
            Form::Json
        }
    }
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Form, String> {
        Form::ALL.into_iter().find(|form| form.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Form::ALL.into_iter().map(Form::name).collect();
            format!("unknown form `{text}`: expected one of {}", names.join(", "))
        })
    }
}

/// Whether a form of HTML is separated by `boundary`, which its envelope names.
pub fn is_form_bounded_by(body: &[u8], boundary: &str) -> bool {
    multipart::is_bounded_by(body, boundary)
}

/// Whether a body of `form`, or of the form that it seems to have, is read as one text.
pub fn is_text(body: &[u8], form: Option<Form>) -> bool {
    match form {
        Some(form) => form == Form::Text,
        None => !multipart::is_likely(body) && !opening::may_be_json(body),
    }
}

/// Reads `body`: as `form`, or as the form that it seems to have.
///
/// # Errors
/// [`Unreadable`] if the body is not of that form, or if two readers could understand it in two ways.
pub fn read(body: &[u8], form: Option<Form>) -> Result<Conversation<'_>, Unreadable> {
    let room = take(values_in(body));
    Ok(Conversation { _room: room, ..read_again(body, form)? })
}

/// The same for a copy of a body that there is room for.
pub(crate) fn read_again(body: &[u8], form: Option<Form>) -> Result<Conversation<'_>, Unreadable> {
    if form == Some(Form::Multipart) || (form.is_none() && multipart::is_likely(body)) {
        return multipart::read(body);
    }
    if is_text(body, form) {
        return text(body);
    }
    let document = match json::parse(body) {
        Err(error @ Unreadable::Syntax(_)) if form.is_none_or(|form| form == Form::Json) => batch::parse(body, error)?,
        parsed => parsed?,
    };
    let form = form.unwrap_or_else(|| Form::of(&document));
    if !form.holds(&document) {
        return Err(Unreadable::Form(form.describe()));
    }
    let mut marks = Marks::default();
    form.mark(&document, &mut marks);
    let Collected { parts, sequences, unseen } = collect(body, &document, &marks);
    let model = model_of(&document).or_else(|| batch::model(&document));
    let is_answer = form.is_answer(&document);
    // Only UTF-8 was read as a document.
    let whole = std::str::from_utf8(body).unwrap_or_default();
    let mut pieces = if form == Form::Json { pieces(whole, &document) } else { Vec::new() };
    pieces.extend(sequences);
    Ok(Conversation { form, parts, pieces, unseen, model, is_answer, body, _room: None })
}

/// Reads a body that LiteLLM passes through to an API, as it shows it to a guardrail: with metadata of its own, in
/// which are hashes of the client's key. `None` if it is not one.
pub(crate) fn read_passed_through(body: &[u8]) -> Option<Conversation<'_>> {
    let room = take(values_in(body));
    let document = json::parse(body).ok()?;
    let metadata = document.get(litellm::METADATA)?;
    let form = Form::of(&document);
    let mut marks = Marks::default();
    form.mark(&document, &mut marks);
    litellm::mark_metadata(metadata, &mut marks);
    let Collected { parts, sequences: pieces, unseen } = collect(body, &document, &marks);
    let (model, is_answer) = (model_of(&document), form.is_answer(&document));
    Some(Conversation { form, parts, pieces, unseen, model, is_answer, body, _room: room })
}

fn text(body: &[u8]) -> Result<Conversation<'_>, Unreadable> {
    let text = std::str::from_utf8(body).map_err(|error| Unreadable::Utf8(error.valid_up_to()))?;
    let segments = Segments::whole(text.len(), Source::Body);
    let part = Part::of_user(Kind::Text, Content::Text { text: text.into(), segments });
    Ok(Conversation::of_parts(Form::Text, vec![part], body))
}

/// The model that a document names.
pub(crate) fn model_of(document: &Node<'_>) -> Option<String> {
    const LONGEST: usize = 100;
    document.text_of("model").filter(|name| (1..=LONGEST).contains(&name.len())).map(String::from)
}

/// Whether a request with an input is one for embeddings: a string or a list of strings or tokens, and nothing of a
/// conversation.
fn is_embeddings(document: &Node<'_>) -> bool {
    let is_conversation = ["instructions", "tools", "stream", "previous_response_id", "max_output_tokens", "store"]
        .iter()
        .any(|key| document.get(key).is_some());
    let has_objects =
        document.get("input").is_some_and(|input| input.items().iter().any(|one| one.get("type").is_some()));
    let is_named = document.text_of("model").is_some_and(|model| model.contains("embed"));
    is_named || (!is_conversation && !has_objects && document.get("encoding_format").is_some())
}
