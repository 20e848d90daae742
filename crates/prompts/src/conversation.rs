//! What goes to a model or comes from it, as parts: each is a text or a file with its role, its kind and its place.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use layersift_scan::Scope;

use crate::data::SCANNED_TWICE;
use crate::form::Form;
use crate::inner::Inner;
use crate::json::Span;
use crate::pointers::{Pointers, ROOT};
use crate::room::Taken;

/// Who says a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The person, or the program that speaks for them.
    User,
    /// Whoever set up the conversation: system prompts, instructions.
    System,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
    /// Nobody in particular: parameters of the request, or a form without roles.
    Unknown,
}

impl Role {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::System => "system",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Unknown => "unknown",
        }
    }
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A text of a message.
    Text,
    /// What a model thought before it answered.
    Reasoning,
    /// The arguments of a call of a tool.
    ToolCall,
    /// What a tool returned.
    ToolResult,
    /// The definition of a tool.
    ToolDefinition,
    /// A file, an image or any other data, decoded.
    Data,
    /// The path and the query of the request.
    Url,
    /// Everything else that a body holds: names, parameters, fields that nobody knew when this was written.
    Other,
}

impl Kind {
    /// The words for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Reasoning => "reasoning",
            Kind::ToolCall => "tool call",
            Kind::ToolResult => "tool result",
            Kind::ToolDefinition => "tool definition",
            Kind::Data => "file",
            Kind::Url => "URL",
            Kind::Other => "parameter",
        }
    }
}

/// Which rules for prompts count in a part. Files and definitions of tools are from elsewhere, like what a tool
/// returns: no person answers for what they say.
pub(crate) fn scope(role: Role, kind: Kind) -> Scope {
    match (kind, role) {
        (Kind::ToolCall, _) => Scope::ToolInput,
        (Kind::ToolResult | Kind::ToolDefinition | Kind::Data, _) | (_, Role::Tool) => Scope::ToolOutput,
        (Kind::Reasoning, _) | (_, Role::Assistant) => Scope::Answer,
        (Kind::Text | Kind::Url | Kind::Other, Role::User | Role::System | Role::Unknown) => Scope::Prompt,
    }
}

/// Whether a part is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Turn {
    /// The part was sent before: a message of the model follows it.
    History,
    /// The part is new.
    Newest,
}

/// A part of a conversation.
#[derive(Debug)]
pub struct Part<'a> {
    /// Who says it.
    pub role: Role,
    /// What it is.
    pub kind: Kind,
    /// Whether it is new.
    pub turn: Turn,
    /// Whether a person has written more in the same message.
    pub(crate) is_followed: bool,
    pub(crate) content: Content<'a>,
    /// The block that can be replaced by a text as a whole, where that leaves a body that the model takes.
    pub(crate) block: Option<Block>,
    /// The pointers of the body; without them, all is at its root.
    pub(crate) pointers: Option<Arc<Pointers<'a>>>,
}

#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// One string, or several with their names, in one text.
    Text { text: Cow<'a, str>, segments: Segments },
    /// Decoded data, and the value that it is from.
    Data { bytes: Vec<u8>, pointer: u32, source: Source, media_type: Option<String> },
}

/// The bytes of a part's text that come from one value.
#[derive(Debug)]
pub(crate) struct Segment {
    span: Span,
    /// The number of the pointer of the value.
    pub(crate) pointer: u32,
    pub(crate) source: Source,
}

impl Segment {
    pub(crate) fn new(range: Range<usize>, pointer: u32, source: Source) -> Segment {
        Segment { span: Span::of(range), pointer, source }
    }

    /// The bytes of the part's text.
    pub(crate) fn range(&self) -> Range<usize> {
        self.span.range()
    }

    /// Whether it has some of the bytes in `span`.
    pub(crate) fn touches(&self, span: &Range<usize>) -> bool {
        let own = self.range();
        own.start < span.end && span.start < own.end
    }
}

/// The segments of a text. Most texts have one.
#[derive(Debug)]
pub(crate) enum Segments {
    One([Segment; 1]),
    Many(Vec<Segment>),
}

impl Segments {
    pub(crate) fn one(range: Range<usize>, pointer: u32, source: Source) -> Segments {
        Segments::One([Segment::new(range, pointer, source)])
    }

    /// How many bytes of the text stand in it, or in another part, before: JSON in a string is a part of its own, and a
    /// short text has a line of its own.
    fn repeated(&self) -> usize {
        let is_inner = |one: &Segment| matches!(one.source, Source::Inner(_));
        let is_again = |pair: &[Segment]| match pair {
            [before, one] => {
                matches!((before.source, one.source), (Source::String(a), Source::String(b)) if a.start == b.start)
            }
            _ => false,
        };
        if self.iter().any(is_inner) {
            return self.last().map_or(0, |last| last.range().end);
        }
        self.windows(2).filter(|pair| is_again(pair)).filter_map(|pair| Some(pair.last()?.range().len())).sum()
    }

    /// One segment for the whole of a body that is a text.
    pub(crate) fn whole(size: usize, source: Source) -> Segments {
        Segments::one(0..size, ROOT, source)
    }
}

impl Deref for Segments {
    type Target = [Segment];

    fn deref(&self) -> &[Segment] {
        match self {
            Segments::One(one) => one,
            Segments::Many(many) => many,
        }
    }
}

/// Where a segment comes from in the body, and so how it is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// The body is this text.
    Body,
    /// A JSON string, with its quotes.
    String(Span),
    /// A JSON value that is no string, as it is written.
    Raw(Span),
    /// A value of JSON in a string.
    Inner(Inner),
    /// A name of a member, which no copy can change.
    Name,
    /// Something else that no copy can change.
    Fixed,
}

/// A block of a message that is replaced as a whole: its place, and the type that a block of text has in this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) span: Span,
    pub(crate) text_type: &'static str,
}

impl<'a> Part<'a> {
    /// What a user says now.
    pub(crate) fn of_user(kind: Kind, content: Content<'a>) -> Part<'a> {
        Part { role: Role::User, kind, turn: Turn::Newest, is_followed: false, content, block: None, pointers: None }
    }
}

impl Part<'_> {
    /// The rules for prompts that count in the part.
    pub(crate) fn scope(&self) -> Scope {
        scope(self.role, self.kind)
    }

    /// Whether the part is of JSON in a string, which is in another part as it is written.
    pub(crate) fn is_inner(&self) -> bool {
        let is_inner = |source: &Source| matches!(source, Source::Inner(_));
        match &self.content {
            Content::Text { segments, .. } => segments.iter().any(|segment| is_inner(&segment.source)),
            Content::Data { source, .. } => is_inner(source),
        }
    }

    /// The text of the part; `None` for data.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text { text, .. } => Some(text),
            Content::Data { .. } => None,
        }
    }

    /// The bytes of the text that the part is, as it stands in the body. A file or an image is none, but a long string
    /// is that happens to be base64.
    fn text_length(&self) -> usize {
        match &self.content {
            Content::Text { text, segments } => text.len() - segments.repeated(),
            Content::Data { source: Source::Inner(_), .. } => 0,
            Content::Data { bytes, media_type: None, .. } if self.block.is_none() => {
                let encoded = bytes.len().div_ceil(3) * 4;
                // A shorter one is a text as well.
                if encoded > SCANNED_TWICE { encoded } else { 0 }
            }
            Content::Data { .. } => 0,
        }
    }

    /// The decoded bytes of the part; `None` for text.
    pub fn data(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Text { .. } => None,
            Content::Data { bytes, .. } => Some(bytes),
        }
    }

    /// The media type that the body names for data.
    pub fn media_type(&self) -> Option<&str> {
        match &self.content {
            Content::Text { .. } => None,
            Content::Data { media_type, .. } => media_type.as_deref(),
        }
    }

    /// The JSON pointer (RFC 6901) of the value that holds byte `offset` of the part; empty for a body that is no JSON.
    pub fn pointer_at(&self, offset: usize) -> String {
        match &self.content {
            Content::Text { segments, .. } => {
                // Bytes between two segments belong to the one before.
                let after = segments.partition_point(|segment| segment.range().start <= offset);
                segments.get(after.saturating_sub(1)).map_or_else(String::new, |segment| self.pointer_of(segment))
            }
            Content::Data { pointer, .. } => self.written(*pointer),
        }
    }

    /// The JSON pointer of the value that a segment is from.
    pub(crate) fn pointer_of(&self, segment: &Segment) -> String {
        self.written(segment.pointer)
    }

    fn written(&self, pointer: u32) -> String {
        self.pointers.as_ref().map_or_else(String::new, |pointers| pointers.write(pointer))
    }
}

/// Something that a body refers to and does not hold, or that cannot be read.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// The JSON pointer of the value.
    pub pointer: String,
    /// Why.
    pub why: UnseenReason,
    pub(crate) turn: Turn,
    /// The value.
    pub(crate) source: Source,
    /// The block that it is in, as of a part.
    pub(crate) block: Option<Block>,
}

/// Why something was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnseenReason {
    /// A text as numbers of tokens.
    Tokens,
    /// Data that says it is base64 and is not.
    DamagedData,
    /// A line of a file that looks like the request of a batch, and is not valid JSON.
    DamagedRequest,
}

impl UnseenReason {
    /// The words for people.
    pub fn describe(self) -> &'static str {
        match self {
            UnseenReason::Tokens => "a text as token numbers, which cannot be read",
            UnseenReason::DamagedData => "data that is not valid base64",
            UnseenReason::DamagedRequest => "a request in a file that is not valid JSON",
        }
    }
}

/// A body, read.
#[derive(Debug)]
pub struct Conversation<'a> {
    /// The form that it was read as.
    pub form: Form,
    /// All its parts. Every string of the body is in one of them.
    pub parts: Vec<Part<'a>>,
    /// Texts whose pieces are strings of several parts.
    pub(crate) pieces: Vec<Part<'a>>,
    /// What could not be read.
    pub unseen: Vec<Unseen>,
    /// The model that the body names.
    pub(crate) model: Option<String>,
    /// Whether the body came from a model.
    pub(crate) is_answer: bool,
    /// The body.
    pub(crate) body: &'a [u8],
    /// Room for its values.
    pub(crate) _room: Option<Taken>,
}

impl<'a> Conversation<'a> {
    /// The `parts` of a body in a form that names no model.
    pub(crate) fn of_parts(form: Form, parts: Vec<Part<'a>>, body: &'a [u8]) -> Conversation<'a> {
        Conversation {
            form,
            parts,
            pieces: Vec::new(),
            unseen: Vec::new(),
            model: None,
            is_answer: false,
            body,
            _room: None,
        }
    }
}

impl Conversation<'_> {
    /// An estimate of the size in tokens: a quarter of the bytes of all texts, those that are base64 among them, but
    /// not of files and images. English has about four bytes in a token, code three and other scripts two; the
    /// tokenizers of vendors differ more than that, and none is asked. LiteLLM shows texts twice, and they are counted
    /// once.
    pub fn tokens(&self) -> u64 {
        let is_under = |part: &Part<'_>, name: &str| part.pointer_at(0).starts_with(name);
        let is_doubled =
            self.form == Form::LiteLlm && self.parts.iter().any(|part| is_under(part, "/structured_messages"));
        let counts = |part: &&Part<'_>| !(is_doubled && (is_under(part, "/texts") || is_under(part, "/tool_calls")));
        let bytes: usize = self.parts.iter().filter(counts).map(Part::text_length).sum();
        (bytes as u64).div_ceil(4)
    }
}
