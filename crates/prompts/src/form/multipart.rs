//! Forms of HTML (`multipart/form-data`, RFC 7578): how clients of models upload files, audio and images.
//!
//! Fields are texts, and files are scanned as files. Both go on as they came: what is found in one denies. A body that
//! two readers could take apart in two ways is refused, and so is a part that is encoded.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use memchr::memmem;

use crate::conversation::{Content, Conversation, Kind, Part, Segment, Segments, Source};
use crate::form::Form;
use crate::json::Unreadable;
use crate::pointers::Pointers;

/// The longest boundary (RFC 2046, section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// The most bytes of the headers of one part.
const MOST_HEADERS: usize = 8 << 10;

/// The most parts.
const MOST_PARTS: usize = 1_000;

/// Whether a body that nobody announced is such a form: its first line is a boundary, and its second a header.
pub(super) fn is_likely(body: &[u8]) -> bool {
    let header = first_boundary(body).and_then(|boundary| body.get(2 + boundary.len() + 2..));
    header.and_then(|header| header.get(..8)).is_some_and(|name| name.eq_ignore_ascii_case(b"content-"))
}

/// The boundary that the first line of a body is.
fn first_boundary(body: &[u8]) -> Option<&[u8]> {
    let line = body.get(..memmem::find(body, b"\r\n")?)?.strip_prefix(b"--")?;
    let is_boundary = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    let is_one = (1..=LONGEST_BOUNDARY).contains(&line.len()) && line.iter().all(is_boundary) && !line.ends_with(b" ");
    is_one.then_some(line)
}

/// Whether the parts of a body are separated by `boundary`.
pub(super) fn is_bounded_by(body: &[u8], boundary: &str) -> bool {
    first_boundary(body) == Some(boundary.as_bytes())
}

/// Reads a form.
pub(super) fn read(body: &[u8]) -> Result<Conversation<'_>, Unreadable> {
    let boundary = first_boundary(body).ok_or(Unreadable::Multipart("it does not begin with a boundary", 0))?;
    let delimiter = [b"\r\n--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    let mut parts = Vec::new();
    let mut names = Names::default();
    // The first delimiter has no line break before it.
    let mut at = delimiter.len() - 2;
    for _ in 0..MOST_PARTS {
        let rest = body.get(at..).unwrap_or_default();
        if matches!(rest, b"--" | b"--\r\n") {
            let pointers = Arc::new(mem::take(&mut names.pointers));
            parts.push(names.part());
            parts.iter_mut().for_each(|part| part.pointers = Some(Arc::clone(&pointers)));
            return Ok(Conversation::of_parts(Form::Multipart, parts, body));
        }
        if !rest.starts_with(b"\r\n") {
            return Err(Unreadable::Multipart("something follows a boundary", at));
        }
        let start = at + 2;
        let rest = body.get(start..).unwrap_or_default();
        let end = finder.find(rest).ok_or(Unreadable::Multipart("it is cut", body.len()))?;
        parts.extend(part(rest.get(..end).unwrap_or_default(), start, &mut names)?);
        at = start + end + delimiter.len();
    }
    Err(Unreadable::Multipart("it has too many parts", at))
}

/// The headers of all parts, and the names in them.
#[derive(Default)]
struct Names {
    text: String,
    segments: Vec<Segment>,
    pointers: Pointers<'static>,
}

impl Names {
    /// Adds the headers of a part with this name. Returns its pointer.
    fn add(&mut self, headers: &str, name: &str) -> u32 {
        let pointer = self.pointers.add_member(name);
        let start = self.text.len();
        self.text.push_str(headers);
        // A name with a secret is left out of pointers.
        let range = start..self.text.len();
        self.segments.push(Segment::new(range, pointer, Source::Name));
        self.text.push('\n');
        pointer
    }

    fn part(self) -> Part<'static> {
        Part::of_user(Kind::Other, Content::Text { text: self.text.into(), segments: Segments::Many(self.segments) })
    }
}

/// The parts of a conversation in one part of a form, which begins at `start` of the body.
fn part<'a>(bytes: &'a [u8], start: usize, names: &mut Names) -> Result<Option<Part<'a>>, Unreadable> {
    let wrong = |why| Unreadable::Multipart(why, start);
    let end = memmem::find(bytes, b"\r\n\r\n").filter(|end| *end <= MOST_HEADERS);
    let end = end.ok_or(wrong("a part has no headers, or too many"))?;
    let (headers, content) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 4..).unwrap_or_default());
    let headers = std::str::from_utf8(headers).map_err(|_| wrong("the headers of a part are not UTF-8"))?;
    let Headers { name, is_file, media_type } = Headers::read(headers).map_err(wrong)?;
    let pointer = names.add(headers, &name);
    if content.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(content).ok().filter(|_| !is_file);
    Ok(Some(match text {
        Some(text) => field(&name, text, pointer),
        None => {
            let bytes = content.to_vec();
            Part::of_user(Kind::Data, Content::Data { bytes, pointer, source: Source::Fixed, media_type })
        }
    }))
}

/// A field behind its name, as some secrets are only told by it; a longer text begins a line.
fn field(name: &str, text: &str, pointer: u32) -> Part<'static> {
    let is_word = !text.contains(char::is_whitespace);
    let before = if is_word { format!("{name}=") } else { format!("{name}:\n") };
    let range = before.len()..before.len() + text.len();
    let text: Cow<'static, str> = (before + text).into();
    let segments = Segments::one(range, pointer, Source::Fixed);
    Part::of_user(Kind::Text, Content::Text { text, segments })
}

struct Headers {
    name: String,
    is_file: bool,
    media_type: Option<String>,
}

impl Headers {
    fn read(text: &str) -> Result<Headers, &'static str> {
        let mut disposition = None;
        let mut media_type = None;
        for line in text.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or("a part has a header without a name")?;
            let value = value.trim();
            if value.contains(['\r', '\n']) || name.contains([' ', '\t']) {
                return Err("a part has a header that is not on one line");
            }
            match name.to_ascii_lowercase().as_str() {
                "content-disposition" if disposition.is_none() => disposition = Some(value),
                "content-type" if media_type.is_none() => media_type = Some(value.to_ascii_lowercase()),
                "content-disposition" | "content-type" => return Err("a part has a header twice"),
                "content-transfer-encoding" if !is_plain(value) => return Err("a part is encoded"),
                "content-encoding" => return Err("a part is compressed"),
                _ => {}
            }
        }
        let disposition = disposition.ok_or("a part has no Content-Disposition")?;
        let (kind, parameters) = disposition.split_once(';').ok_or("a part has no name")?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err("a part does not belong to a form");
        }
        if media_type.as_deref().is_some_and(|media_type| media_type.starts_with("multipart/")) {
            return Err("a part has parts of its own");
        }
        let name = parameter(parameters, "name").ok_or("a part has no name")?;
        // Field values in another character set than UTF-8.
        if name == "_charset_" || media_type.as_deref().is_some_and(|media_type| !is_utf8(media_type)) {
            return Err("a part is not UTF-8");
        }
        let is_file = parameters.to_ascii_lowercase().contains("filename");
        Ok(Headers { name, is_file, media_type })
    }
}

fn is_plain(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
}

fn is_utf8(media_type: &str) -> bool {
    let charset = parameter(media_type.split_once(';').map_or("", |(_, parameters)| parameters), "charset");
    charset.is_none_or(|charset| matches!(&charset[..], "utf-8" | "utf8" | "us-ascii" | "ascii"))
}

/// The value of a parameter, for people: whatever it is, the header is scanned as a whole.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut fields = parameters.split(';').filter_map(|field| field.split_once('='));
    let (_, value) = fields.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
    Some(value.trim().trim_matches('"').to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[(&str, &str)]) -> String {
        let part = |(headers, content): &(&str, &str)| format!("--b\r\n{headers}\r\n\r\n{content}\r\n");
        parts.iter().map(part).collect::<String>() + "--b--\r\n"
    }

    const FIELD: &str = "Content-Disposition: form-data; name=\"purpose\"";
    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain";

    #[test]
    fn fields_are_texts_and_files_are_data() {
        let body =
            form(&[(FIELD, "fine-tune"), (FILE, "the\r\ncontent"), ("content-disposition:form-data;name=e", "")]);
        assert!(is_likely(body.as_bytes()) && is_bounded_by(body.as_bytes(), "b"));
        let conversation = read(body.as_bytes()).unwrap();
        let [field, file, names] = &conversation.parts[..] else { panic!("{:?}", conversation.parts) };
        assert_eq!((field.text(), &field.pointer_at(9)[..]), (Some("purpose=fine-tune"), "/purpose"));
        assert_eq!((file.data(), file.media_type()), (Some(&b"the\r\ncontent"[..]), Some("text/plain")));
        assert_eq!(file.pointer_at(0), "/file");
        assert_eq!(names.text(), Some(&format!("{FIELD}\n{FILE}\ncontent-disposition:form-data;name=e\n")[..]));
    }

    #[test]
    fn what_two_readers_could_take_apart_in_two_ways_is_refused() {
        let good = form(&[(FIELD, "x")]);
        let bad = [
            good.replace("--b--", "--b"),
            good.clone() + "more",
            format!("preamble\r\n{good}"),
            good.replace("--b\r\n", "--b \r\n"),
            good.replacen("\r\n\r\nx", "\r\nx", 1),
            good.replace("form-data", "attachment"),
            good.replace("; name=\"purpose\"", ""),
            form(&[(FIELD, "a\r\n--bx")]),
            form(&[(&format!("{FIELD}\r\n{FIELD}"), "a")]),
            form(&[(&format!("{FIELD}\r\nContent-Transfer-Encoding: base64"), "YQ==")]),
            form(&[(&format!("{FIELD}\r\nContent-Type: multipart/mixed; boundary=c"), "--c")]),
            form(&[(&format!("{FIELD}\r\nContent-Type: text/plain; charset=utf-16"), "a")]),
            form(&[("Content-Disposition: form-data; name=\"_charset_\"", "utf-7")]),
        ];
        for body in bad {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        assert!(read(good.as_bytes()).is_ok());
        for body in ["--", "-- a dash\r\nand more", "--b\r\nx: y", "{}"] {
            assert!(!is_likely(body.as_bytes()), "{body}");
        }
    }
}
