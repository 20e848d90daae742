//! The structure of a document without its texts: hostile names must not change it.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

/// An element of XML.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
}

impl Element {
    /// The root of a well-formed document.
    pub fn parse(text: &str) -> Element {
        assert!(
            text.chars().all(|c| matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
        );
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_end_names = true;
        let mut open = vec![Element { name: String::new(), attributes: Vec::new(), children: Vec::new() }];
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => open.push(element(&start)),
                Event::Empty(start) => open.last_mut().unwrap().children.push(element(&start)),
                Event::End(_) => {
                    let closed = open.pop().unwrap();
                    open.last_mut().unwrap().children.push(closed);
                }
                Event::Eof => break,
                Event::Text(_) | Event::Decl(_) | Event::GeneralRef(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let mut outside = open.pop().unwrap();
        assert!(open.is_empty() && outside.children.len() == 1, "{text}");
        outside.children.remove(0)
    }

    pub fn attributes(&self) -> Vec<&str> {
        self.attributes.iter().map(|(name, _)| &name[..]).collect()
    }

    pub fn attribute(&self, wanted: &str) -> &str {
        &self.attributes.iter().find(|(name, _)| name == wanted).unwrap().1
    }

    fn shape(&self) -> String {
        let children: Vec<String> = self.children.iter().map(Element::shape).collect();
        format!("{}[{}]({})", self.name, self.attributes().join(","), children.join(" "))
    }
}

fn element(start: &BytesStart<'_>) -> Element {
    let attributes = start.attributes().map(|attribute| {
        let attribute = attribute.unwrap();
        let name = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
        (name, attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).unwrap().into_owned())
    });
    Element {
        name: String::from_utf8(start.name().as_ref().to_vec()).unwrap(),
        attributes: attributes.collect(),
        children: Vec::new(),
    }
}

/// The structure of `text` in the format called `format`.
pub fn skeleton(format: &str, text: &str) -> String {
    match format {
        "junit" => Element::parse(text).shape(),
        "bodyfile" => {
            let line =
                |line: &str| if line.starts_with('#') { "#".into() } else { line.matches('|').count().to_string() };
            text.split('\n').map(line).collect::<Vec<_>>().join("\n")
        }
        "markdown" => markdown(text),
        "timesketch" => text.lines().map(|line| shape(&serde_json::from_str(line).unwrap()) + "\n").collect(),
        "sarif" | "gitlab" | "cyclonedx" | "cyclonedx-1.7" => shape(&serde_json::from_str(text).unwrap()),
        _ => String::new(),
    }
}

/// The names of fields, and the lengths of lists.
fn shape(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{}", shape(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(",")),
        _ => String::new(),
    }
}

/// The tags and the lines of a comment. Panics at a tag that the renderer does not write, and at text outside of code
/// that a host of repositories might make something of.
fn markdown(text: &str) -> String {
    const TAGS: [&str; 28] = [
        "<p>",
        "</p>",
        "<b>",
        "</b>",
        "<br>",
        "<table>",
        "</table>",
        "<tr>",
        "</tr>",
        "<th>",
        "</th>",
        "<td>",
        "</td>",
        "<details>",
        "</details>",
        "<summary>",
        "</summary>",
        "<ul>",
        "</ul>",
        "<li>",
        "</li>",
        "<pre>",
        "</pre>",
        "<code>",
        "</code>",
        "</a>",
        "<!-- layersift -->",
        "",
    ];
    let (mut shape, mut is_code, mut rest) = (String::new(), false, text);
    while let Some(start) = rest.find(['<', '\n']) {
        let (before, at) = rest.split_at(start);
        assert!(!before.contains('>'), "{before}");
        let may_mean = ["@", "#", "://", "www.", "`", "[", "!", "|", "~"];
        let is_heading = shape.ends_with("<!-- layersift -->\n");
        assert!(is_code || is_heading || !may_mean.iter().any(|sign| plain(before).contains(sign)), "{before}");
        if let Some(after) = at.strip_prefix('\n') {
            // An empty line would end the block of HTML.
            assert!(!is_code || !after.starts_with('\n'), "{text}");
            if !is_code {
                shape.push('\n');
            }
            rest = after;
            continue;
        }
        let (tag, after) = at.split_at(at.find('>').unwrap() + 1);
        if tag.starts_with("<a href=\"https://docs.example.org/") {
            // The text of a link is its address.
            let address = after.split_once("</a>").unwrap();
            rest = address.1;
            continue;
        }
        assert!(TAGS.contains(&tag), "{tag}");
        is_code = if tag.ends_with("code>") { !tag.starts_with("</") } else { is_code };
        // Whether a word is written as code depends on its letters.
        if !tag.ends_with("code>") {
            shape += tag;
        }
        rest = after;
    }
    assert!(rest.is_empty() && !is_code, "{rest}");
    shape
}

/// `text` without the numbers of characters in entities.
fn plain(text: &str) -> String {
    text.replace("&#39;", "'")
}
