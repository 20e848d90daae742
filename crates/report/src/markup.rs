//! Text from images in HTML and SVG: escaped for its context, and with every character visible.
//!
//! Names in an image may hold anything. [`shown`] and [`plain`] are the only ways for such text into a page. Besides
//! the characters that markup has a use for, they replace those that cannot be seen, or that change how the text around
//! them is displayed: their code points are written instead.

use std::fmt::{self, Write};

use layersift_model::changes_display;
use unicode_width::UnicodeWidthChar;

/// Combining marks after one character that are kept; more would cover the lines above and below.
const MARKS: usize = 2;

/// `text` as the content of an HTML element. Invisible characters are elements of the class `u`.
pub(crate) fn shown(text: &str) -> Shown<'_> {
    Shown { text, open: "<i class=\"u\">", close: "</i>" }
}

/// `text` in an attribute, in a `title`, or in SVG, without elements. Invisible characters are between `‹` and `›`.
pub(crate) fn plain(text: &str) -> Shown<'_> {
    Shown { text, open: "‹", close: "›" }
}

/// Text from an image that is set as code. An element with a direction is isolated: letters that are written from right
/// to left do not move what is around it.
pub(crate) fn code(text: &str) -> Code<'_> {
    Code(text)
}

/// A sentence that may be in any script, isolated from what is around it.
pub(crate) fn isolated(text: &str) -> Isolated<'_> {
    Isolated(text)
}

/// Text that is written so that it neither ends its context nor hides.
pub(crate) struct Shown<'t> {
    text: &'t str,
    open: &'static str,
    close: &'static str,
}

/// See [`code`].
pub(crate) struct Code<'t>(&'t str);

/// See [`isolated`].
pub(crate) struct Isolated<'t>(&'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut marks = 0;
        for c in self.text.chars() {
            marks = if c.width() == Some(0) { marks + 1 } else { 0 };
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if is_invisible(c) || marks > MARKS => {
                    write!(f, "{}U+{:04X}{}", self.open, u32::from(c), self.close)?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<code dir=\"ltr\">{}</code>", shown(self.0))
    }
}

impl fmt::Display for Isolated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<bdi>{}</bdi>", shown(self.0))
    }
}

/// Whether a reader would not see `c`, or would take it for another: control and format characters, spaces other than
/// the common one, and what a font leaves out.
fn is_invisible(c: char) -> bool {
    changes_display(c) || (c.is_whitespace() && c != ' ') || c == '\u{2800}' || layersift_model::is_invisible(c)
}

/// The words of `text`, an instruction or a sentence, in one line of at most `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    // A history entry may hold a whole script.
    let start: String = text.chars().take(most.saturating_mul(4)).collect();
    let words: Vec<&str> = start.split_ascii_whitespace().collect();
    let line = words.join(" ");
    let is_cut = start.len() < text.len() || line.chars().count() > most;
    if is_cut { line.chars().take(most.saturating_sub(1)).chain(['…']).collect() } else { line }
}

/// `path` with at most `most` characters, cut in its middle.
pub(crate) fn short_path(path: &str, most: usize) -> String {
    let count = path.chars().count();
    if count <= most {
        return path.into();
    }
    let half = most.saturating_sub(1) / 2;
    path.chars().take(half).chain(['…']).chain(path.chars().skip(count - half)).collect()
}

/// `url` if following it opens a page of the web and nothing else.
pub(crate) fn web_address(url: &str) -> Option<&str> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    (is_web && !url.chars().any(|c| is_invisible(c) || c == ' ')).then_some(url)
}

/// JSON that may stand in a `script` element: no character of it can end the element, or a line of a script.
pub(crate) fn json_in_script(value: &serde_json::Value) -> String {
    let escape = |c: char| match c {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    value.to_string().chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        let text = "</script><!--<img src=x onerror=\"alert('1')\">&amp;";
        let written = "&lt;/script&gt;&lt;!--&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;";
        assert_eq!(shown(text).to_string(), written);
        assert_eq!(plain(text).to_string(), written);
        let json = json_in_script(&serde_json::json!({ "a</script>": "&\u{2028}\u{2029}<!--" }));
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["a</script>"], "&\u{2028}\u{2029}<!--");
    }

    #[test]
    fn what_cannot_be_seen_is_named() {
        let seen = |text: &str| plain(text).to_string();
        assert_eq!(seen("exe\u{202e}gpj"), "exe‹U+202E›gpj");
        assert_eq!(seen("a\0b\x1bc\u{200b}d\u{e0041}"), "a‹U+0000›b‹U+001B›c‹U+200B›d‹U+E0041›");
        assert_eq!(seen("a b\u{a0}c\u{3164}"), "a b‹U+00A0›c‹U+3164›");
        assert_eq!(seen("e\u{301}a\u{301}\u{302}\u{303}"), "e\u{301}a\u{301}\u{302}‹U+0303›");
        assert_eq!(seen("שלום 日本 🦀"), "שלום 日本 🦀");
        assert_eq!(shown("\u{202e}").to_string(), "<i class=\"u\">U+202E</i>");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(one_line("RUN  a \\\n\t&& b", 100), "RUN a \\ && b");
        assert_eq!(one_line(&"x".repeat(50), 10), format!("{}…", "x".repeat(9)));
        assert_eq!(one_line(&" ".repeat(5000), 10), "…");
        assert_eq!(short_path("abcdefghij", 5), "ab…ij");
        assert_eq!(short_path("abc", 5), "abc");
    }

    #[test]
    fn only_pages_of_the_web_are_linked() {
        assert_eq!(web_address("https://a.example/b"), Some("https://a.example/b"));
        for url in ["javascript:alert(1)", " https://a", "HTTPS:a", "//a.example", "data:text/html,x", "https://a\nb"] {
            assert_eq!(web_address(url), None, "{url}");
        }
    }
}
