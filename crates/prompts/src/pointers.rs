//! JSON pointers (RFC 6901) of the values of a body. Bodies have many values and few that are shown, so a pointer is a
//! step from the one of the value around it, and is written only when it is asked for.

use std::borrow::Cow;

use crate::json::{offset, quote, string_at};

/// The most bytes of a name that a pointer shows: a body may repeat one name of megabytes in all of them.
const MOST_NAME: usize = 256;

/// The pointer to the body itself.
pub(crate) const ROOT: u32 = 0;

/// The pointers of a body.
#[derive(Debug, Default)]
pub(crate) struct Pointers<'a> {
    /// What the names stand in, as strings of JSON.
    text: Cow<'a, str>,
    /// Each pointer but the root, whose number is one more than its index.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    /// The pointer that it goes on from.
    parent: u32,
    name: Name,
}

/// The last part of a pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    /// A member, whose name begins there.
    Key(u32),
    Index(u32),
}

impl<'a> Pointers<'a> {
    /// The pointers into a document.
    pub(crate) fn of(text: &'a str) -> Pointers<'a> {
        Pointers { text: text.into(), steps: Vec::new() }
    }

    /// Adds a pointer. Returns its number.
    pub(crate) fn add(&mut self, parent: u32, name: Name) -> u32 {
        self.steps.push(Step { parent, name });
        offset(self.steps.len())
    }

    /// Adds a pointer to a member of the body that is no JSON.
    pub(crate) fn add_member(&mut self, name: &str) -> u32 {
        let at = offset(self.text.len());
        self.text.to_mut().push_str(&quote(name));
        self.add(ROOT, Name::Key(at))
    }

    /// Writes a pointer.
    pub(crate) fn write(&self, pointer: u32) -> String {
        let mut names = Vec::new();
        let mut next = pointer as usize;
        while let Some(step) = next.checked_sub(1).and_then(|index| self.steps.get(index)) {
            names.push(step.name);
            next = step.parent as usize;
        }
        let mut out = String::new();
        for name in names.into_iter().rev() {
            out.push('/');
            match name {
                Name::Index(index) => out.push_str(&index.to_string()),
                Name::Key(at) => push_name(&string_at(&self.text, at), &mut out),
            }
        }
        out
    }
}

fn push_name(name: &str, out: &mut String) {
    let most = name.len().min(MOST_NAME);
    let end = (0..=most).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let (shown, rest) = name.split_at_checked(end).unwrap_or_default();
    out.push_str(&shown.replace('~', "~0").replace('/', "~1"));
    if !rest.is_empty() {
        out.push('\u{2026}');
    }
}
