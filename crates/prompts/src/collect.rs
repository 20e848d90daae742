//! Takes every string of a document into a part. Marks say what a value is; what nobody marked is scanned all the same,
//! in a part with all other such values and their names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use crate::conversation::{Block, Content, Kind, Part, Role, Segment, Segments, Source, Turn, Unseen, UnseenReason};
use crate::data::{Data, bytes_of_numbers, data_in};
use crate::inner::Inner;
use crate::json::{Node, Value, offset, small_numbers};
use crate::pointers::{Name, Pointers, ROOT};
use crate::sequences::Sequences;

/// The most values that are told to be unseen: each of them says the same.
const MOST_UNSEEN: usize = 100;

/// The longest text that is scanned behind the name of its value as well.
const LONGEST_VALUE: usize = 128;

/// What the reader of a form knows about a value. Values inside of it inherit role, turn and block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) role: Option<Role>,
    pub(crate) turn: Option<Turn>,
    /// The value is a part of its own: a string, or all that is inside with its names.
    pub(crate) kind: Option<Kind>,
    /// All values inside form one part.
    pub(crate) is_joined: bool,
    /// The value is a block that can be replaced by one of a text, which has this type.
    pub(crate) replaced_by: Option<&'static str>,
    /// The string is base64, or should be.
    pub(crate) is_announced: bool,
    /// The numbers inside are tokens.
    pub(crate) is_tokens: bool,
    /// The value does not go to a model.
    pub(crate) is_skipped: bool,
    /// A person has written more in the same message.
    pub(crate) is_followed: bool,
    /// The texts inside are blocks that follow each other in one message: those with the same number.
    pub(crate) sequence: Option<u32>,
}

impl Mark {
    /// A string that is a part of its own.
    pub(crate) fn of(kind: Kind) -> Mark {
        Mark { kind: Some(kind), ..Mark::default() }
    }

    /// A value whose strings form one part, with their names.
    pub(crate) fn joined(kind: Kind) -> Mark {
        Mark { kind: Some(kind), is_joined: true, ..Mark::default() }
    }
}

/// The marks of a document, by where the values begin in it.
#[derive(Debug, Default)]
pub(crate) struct Marks(HashMap<u32, Mark>);

impl Marks {
    /// Adds a mark to a value. What a mark says replaces what earlier ones said; what it leaves open stays.
    pub(crate) fn add(&mut self, node: &Node<'_>, mark: Mark) {
        let known = self.0.entry(node.span.start).or_default();
        let Mark {
            role,
            turn,
            kind,
            is_joined,
            replaced_by,
            is_announced,
            is_tokens,
            is_skipped,
            is_followed,
            sequence,
        } = mark;
        *known = Mark {
            role: role.or(known.role),
            turn: turn.or(known.turn),
            kind: kind.or(known.kind),
            is_joined: is_joined || known.is_joined,
            replaced_by: replaced_by.or(known.replaced_by),
            is_announced: is_announced || known.is_announced,
            is_tokens: is_tokens || known.is_tokens,
            is_skipped: is_skipped || known.is_skipped,
            is_followed: is_followed || known.is_followed,
            sequence: sequence.or(known.sequence),
        };
    }
}

/// Whether a member of this name, or a value of this type, is what a tool returned: `tool_result`, `toolResult`,
/// `shell_call_output`, `functionResponse` and whatever will be named so.
pub(crate) fn is_result(name: &str) -> bool {
    const ENDS: [&str; 8] = [
        "_result",
        "_output",
        "Result",
        "Output",
        "functionResponse",
        "function_response",
        "toolResponse",
        "tool_response",
    ];
    let singular = name.strip_suffix('s').unwrap_or(name);
    ENDS.iter().any(|end| singular.ends_with(end))
}

/// What a document holds.
pub(crate) struct Collected<'a> {
    /// Every string is in one of these.
    pub(crate) parts: Vec<Part<'a>>,
    /// The texts of messages whose blocks are several of the parts.
    pub(crate) sequences: Vec<Part<'a>>,
    /// What cannot be read.
    pub(crate) unseen: Vec<Unseen>,
}

/// Takes a document into parts.
pub(crate) fn collect<'a>(body: &'a [u8], document: &Node<'a>, marks: &Marks) -> Collected<'a> {
    // Only UTF-8 was read as a document.
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut collector = Collector {
        text,
        marks,
        parts: Vec::new(),
        sequences: Sequences::default(),
        unseen: Vec::new(),
        pointers: Pointers::of(text),
        pointer: ROOT,
        others: Vec::new(),
    };
    let context = Context {
        role: Role::Unknown,
        turn: Turn::Newest,
        kind: Kind::Other,
        block: None,
        is_followed: false,
        sequence: None,
    };
    collector.visit("", document, &context, None);
    for (context, joined) in mem::take(&mut collector.others) {
        collector.push_joined(joined, &context);
    }
    let Collector { mut parts, sequences, unseen, pointers, .. } = collector;
    let mut sequences = sequences.joined(&parts);
    let pointers = Arc::new(pointers);
    parts.iter_mut().chain(&mut sequences).for_each(|part| part.pointers = Some(Arc::clone(&pointers)));
    Collected { parts, sequences, unseen }
}

#[derive(Clone, Copy)]
struct Context {
    role: Role,
    turn: Turn,
    kind: Kind,
    block: Option<Block>,
    is_followed: bool,
    sequence: Option<u32>,
}

struct Collector<'a, 'm> {
    text: &'a str,
    marks: &'m Marks,
    parts: Vec<Part<'a>>,
    sequences: Sequences,
    unseen: Vec<Unseen>,
    pointers: Pointers<'a>,
    /// The pointer of the current value.
    pointer: u32,
    /// What nobody marked, by turn, role and kind: rules for prompts count by them.
    others: Vec<(Context, Joined)>,
}

/// Several values in one text, with their names, as JSON has them: rules that look for a name before a value find it.
#[derive(Default)]
struct Joined {
    text: String,
    segments: Vec<Segment>,
}

impl Joined {
    fn push(&mut self, before: &str, text: &str, after: &str, pointer: u32, source: Source) {
        self.text.push_str(before);
        let start = self.text.len();
        self.text.push_str(text);
        self.segments.push(Segment::new(start..self.text.len(), pointer, source));
        self.text.push_str(after);
    }

    /// Adds a string behind its name. A text has a line of its own, as rules for lines of files and for sentences
    /// expect it, and a short one also stands behind its name: it may be a password of several words.
    fn push_string(&mut self, text: &str, pointer: u32, source: Source) {
        let is_word = !text.contains(char::is_whitespace);
        let is_short = text.len() <= LONGEST_VALUE && !text.contains('\n');
        if is_word || is_short {
            self.push("\"", text, "\"\n", pointer, source);
        } else {
            self.text.push('\n');
        }
        if !is_word {
            self.push("", text, "\n", pointer, source);
        }
    }
}

/// What nobody marked in such a context.
fn others<'o>(all: &'o mut Vec<(Context, Joined)>, context: &Context) -> &'o mut Joined {
    let key = |one: &Context| (one.turn, one.role, one.kind);
    let known = all.iter().position(|(one, _)| key(one) == key(context));
    let at = known.unwrap_or(all.len());
    if known.is_none() {
        all.push((Context { block: None, ..*context }, Joined::default()));
    }
    &mut all[at].1
}

impl<'a> Collector<'a, '_> {
    /// Visits a value with its name. `joined` receives its strings; if there is none, `others` do.
    fn visit(&mut self, name: &str, node: &Node<'a>, outer: &Context, mut joined: Option<&mut Joined>) {
        let mark = self.marks.0.get(&node.span.start).copied().unwrap_or_default();
        if mark.is_skipped {
            return;
        }
        // Arguments of a call may be named as a result is.
        let is_result = joined.is_none() && (is_result(name) || node.text_of("type").is_some_and(is_result));
        let named = |role: Role, kind: Kind| if is_result { (Role::Tool, Kind::ToolResult) } else { (role, kind) };
        let (role, kind) = named(outer.role, outer.kind);
        let context = Context {
            role: mark.role.unwrap_or(role),
            turn: mark.turn.unwrap_or(outer.turn),
            kind: mark.kind.unwrap_or(kind),
            block: mark.replaced_by.map(|text_type| Block { span: node.span, text_type }).or(outer.block),
            is_followed: mark.is_followed || outer.is_followed,
            sequence: mark.sequence.or(outer.sequence),
        };
        if mark.is_tokens {
            return self.add_unseen(UnseenReason::Tokens, Source::Raw(node.span), &context);
        }
        let is_result_of_call = mark.kind == Some(Kind::ToolResult);
        if mark.is_joined && (joined.is_none() || is_result_of_call) {
            let mut own = Joined::default();
            self.children(name, node, &context, &mut Some(&mut own), mark.is_announced);
            self.push_joined(own, &context);
        } else if let (Some(kind), Value::String(text), None) = (mark.kind, &node.value, &joined) {
            if self.data(text, Source::String(node.span), &context, mark.is_announced) {
                self.push_text(node, text.clone(), kind, &context);
                self.inner(text, Inner::of(node.span), &context);
            }
        } else {
            self.children(name, node, &context, &mut joined, mark.is_announced);
        }
    }

    /// Visits the values inside a value, or adds the value to what is joined.
    fn children(
        &mut self,
        name: &str,
        node: &Node<'a>,
        context: &Context,
        joined: &mut Option<&mut Joined>,
        is_announced: bool,
    ) {
        match &node.value {
            Value::Object(members) => {
                let outer = self.pointer;
                for member in members {
                    self.pointer = self.pointers.add(outer, Name::Key(member.key_at));
                    self.name(&member.key, context, joined);
                    self.visit(&member.key, &member.node, context, joined.as_deref_mut());
                }
                self.pointer = outer;
            }
            Value::Numbers(list) => {
                if let Some(bytes) = bytes_of_numbers(small_numbers(list)) {
                    self.push_data(bytes, None, Source::Raw(node.span), context);
                }
                self.raw(node, context, joined);
            }
            Value::Array(items) => {
                let outer = self.pointer;
                for (index, item) in items.iter().enumerate() {
                    self.pointer = self.pointers.add(outer, Name::Index(offset(index)));
                    self.visit(name, item, context, joined.as_deref_mut());
                }
                self.pointer = outer;
            }
            Value::String(text) => {
                if self.data(text, Source::String(node.span), context, is_announced) {
                    let pointer = self.pointer;
                    self.into(context, joined).push_string(text, pointer, Source::String(node.span));
                    self.inner(text, Inner::of(node.span), context);
                }
            }
            Value::Number(_) | Value::Literal => self.raw(node, context, joined),
        }
    }

    fn name(&mut self, name: &str, context: &Context, joined: &mut Option<&mut Joined>) {
        self.add(context, joined, "\"", name, "\": ", Source::Name);
    }

    fn raw(&mut self, node: &Node<'a>, context: &Context, joined: &mut Option<&mut Joined>) {
        let text = self.text.get(node.span.range()).unwrap_or_default();
        self.add(context, joined, "", text, "\n", Source::Raw(node.span));
    }

    fn add(
        &mut self,
        context: &Context,
        joined: &mut Option<&mut Joined>,
        before: &str,
        text: &str,
        after: &str,
        source: Source,
    ) {
        let pointer = self.pointer;
        self.into(context, joined).push(before, text, after, pointer, source);
    }

    /// What receives the values in such a context.
    fn into<'j>(&'j mut self, context: &Context, joined: &'j mut Option<&mut Joined>) -> &'j mut Joined {
        match joined {
            Some(joined) => joined,
            None => others(&mut self.others, context),
        }
    }

    /// Adds the values of the JSON that the text of a string is, as a part of its own.
    fn inner(&mut self, text: &str, outer: Inner, context: &Context) {
        let Some(document) = outer.document(text) else { return };
        let mut joined = Joined::default();
        self.inner_value(&document, outer, context, &mut joined);
        self.push_joined(joined, context);
    }

    fn inner_value(&mut self, node: &Node<'_>, outer: Inner, context: &Context, joined: &mut Joined) {
        let Some(inner) = outer.within(node.span) else { return };
        let (pointer, source) = (self.pointer, Source::Inner(inner));
        match &node.value {
            Value::Object(members) => {
                for member in members {
                    joined.push("\"", &member.key, "\": ", pointer, Source::Name);
                    self.inner_value(&member.node, outer, context, joined);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.inner_value(item, outer, context, joined)),
            Value::Numbers(list) => {
                if let Some(bytes) = bytes_of_numbers(small_numbers(list)) {
                    self.push_data(bytes, None, source, context);
                }
                joined.push("[", list, "]\n", pointer, source);
            }
            Value::String(text) => {
                let (data, is_text) = data_in(text, false);
                // Texts in texts may be cut, and nobody says that these are data.
                if let Data::Bytes(bytes, media_type) = data {
                    self.push_data(bytes, media_type, source, context);
                }
                if is_text {
                    joined.push_string(text, pointer, source);
                }
                self.inner(text, inner, context);
            }
            Value::Number(number) => joined.push("", number, "\n", pointer, source),
            Value::Literal => joined.push("", "null", "\n", pointer, source),
        }
    }

    /// Adds what a string holds as data. Returns whether the string is to be scanned as it stands, too.
    fn data(&mut self, text: &str, source: Source, context: &Context, is_announced: bool) -> bool {
        let (data, is_text) = data_in(text, is_announced);
        match data {
            Data::None => {}
            Data::Damaged => self.add_unseen(UnseenReason::DamagedData, source, context),
            Data::Bytes(bytes, media_type) => self.push_data(bytes, media_type, source, context),
        }
        is_text
    }

    fn add_unseen(&mut self, why: UnseenReason, source: Source, context: &Context) {
        if self.unseen.len() < MOST_UNSEEN {
            let Context { turn, block, .. } = *context;
            self.unseen.push(Unseen { pointer: self.pointers.write(self.pointer), why, turn, source, block });
        }
    }

    fn push_data(&mut self, bytes: Vec<u8>, media_type: Option<String>, source: Source, context: &Context) {
        let pointer = self.pointer;
        self.push(Kind::Data, Content::Data { bytes, pointer, source, media_type }, context);
    }

    fn push_text(&mut self, node: &Node<'a>, text: Cow<'a, str>, kind: Kind, context: &Context) {
        let source = Source::String(node.span);
        let segments = Segments::one(0..text.len(), self.pointer, source);
        self.sequences.add(context.sequence, kind, self.parts.len());
        self.push(kind, Content::Text { text, segments }, context);
    }

    fn push_joined(&mut self, joined: Joined, context: &Context) {
        if !joined.segments.is_empty() {
            let Joined { text, segments } = joined;
            let content = Content::Text { text: text.into(), segments: Segments::Many(segments) };
            self.push(context.kind, content, context);
        }
    }

    fn push(&mut self, kind: Kind, content: Content<'a>, context: &Context) {
        let Context { role, turn, block, is_followed, .. } = *context;
        self.parts.push(Part { role, kind, turn, is_followed, content, block, pointers: None });
    }
}
