//! JSON objects that hold keys, at a position in a window, followed by anything.
//!
//! An object is often inside a JSON string, as in a Kubernetes manifest or a variable, with a backslash before every
//! quote; one level of these escapes is undone.

use serde::de::DeserializeOwned;

use super::{Reject, effort};

/// The part of an escaped object that is read first: most matches are not keys, as their first bytes show.
const STEPS: [usize; 3] = [512, 4 << 10, usize::MAX];

/// Reads the object whose brace is at `at` in `window`, and where it ends.
///
/// # Errors
/// [`Reject::Truncated`] if the window ends before the object does, [`Reject::NotAKey`] if there is no object with the
/// members of `T`.
pub(super) fn object_at<T: DeserializeOwned>(window: &[u8], at: usize) -> Result<(T, usize), Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    let after = text.strip_prefix(b"{").ok_or(Reject::NoLabel)?;
    let (object, len) = match after.iter().find(|byte| **byte == b'"' || **byte == b'\\') {
        Some(b'\\') => escaped(text)?,
        _ => plain(text)?,
    };
    Ok((object, at + len))
}

fn plain<T: DeserializeOwned>(text: &[u8]) -> Result<(T, usize), Reject> {
    let charge = |length: usize| effort::charge(4 * length);
    let mut stream = serde_json::Deserializer::from_slice(text).into_iter::<T>();
    match stream.next() {
        Some(Ok(object)) => {
            charge(stream.byte_offset());
            Ok((object, stream.byte_offset()))
        }
        // Where an error is takes as long to find as it took to read that far.
        Some(Err(error)) if !error.is_eof() => {
            charge(text.len());
            Err(Reject::NotAKey)
        }
        _ => {
            charge(text.len());
            Err(Reject::Truncated)
        }
    }
}

fn escaped<T: DeserializeOwned>(text: &[u8]) -> Result<(T, usize), Reject> {
    for step in STEPS {
        let near = text.get(..step).unwrap_or(text);
        let (unescaped, ends) = undo(near);
        match plain(&unescaped) {
            Ok((object, len)) => return Ok((object, ends.get(len.wrapping_sub(1)).copied().unwrap_or(near.len()))),
            Err(Reject::Truncated) if near.len() < text.len() => {}
            Err(why) => return Err(why),
        }
    }
    Err(Reject::Truncated)
}

/// The text inside a JSON string, up to the string's end, and where each of its bytes ended.
fn undo(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    effort::charge(4 * text.len());
    let mut plain = Vec::with_capacity(text.len());
    let mut ends = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let (byte, len) = match (byte, text.get(at + 1)) {
            (b'"', _) | (b'\\', None) => break,
            (b'\\', Some(b'n' | b'r' | b't')) => (b' ', 2),
            (b'\\', Some(&escaped)) => (escaped, 2),
            _ => (byte, 1),
        };
        at += len;
        plain.push(byte);
        ends.push(at);
    }
    (plain, ends)
}
