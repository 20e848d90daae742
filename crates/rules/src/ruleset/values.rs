//! Rules that find values which are known, and nothing else.

use layersift_model::{Confidence, Severity};

use super::Ruleset;
use crate::pattern::MAX_WIDTH;
use crate::rule::{Confirm, Signature};

/// As much of a value is looked for: the rest of a longer one is with it.
const LONGEST: usize = 200;

/// The lengths of keywords. Lines of base64 are broken anywhere, so that two short keywords side by side are better
/// than a long one: a break is in one of them at most.
const LONGEST_KEYWORD: usize = 6;
const SHORTEST_KEYWORD: usize = 4;

/// How far a line of a value may be indented where it was not.
const MOST_INDENTED: usize = 24;

impl Ruleset {
    /// Rules that find `values`, which are given with the ids of their rules: as they are, and where their punctuation
    /// is escaped as in URLs, JSON, shells or HTML. [`Ruleset::holds_values`] is true of these rules.
    pub fn of_values(values: impl IntoIterator<Item = (String, Vec<u8>)>) -> Ruleset {
        let signatures = values.into_iter().filter(|(_, value)| !value.is_empty());
        let signatures = signatures.map(|(id, value)| signature(id, &value)).collect();
        Ruleset { signatures, holds_values: true, ..Ruleset::default() }
    }

    /// Whether the rules are made of secrets. Nothing that is compiled of them may be kept.
    pub fn holds_values(&self) -> bool {
        self.holds_values
    }
}

fn signature(id: String, value: &[u8]) -> Signature {
    Signature {
        id,
        title: "The value".into(),
        severity: Severity::High,
        confidence: Confidence::High,
        what: "-".into(),
        risk: "-".into(),
        fix: "-".into(),
        references: Vec::new(),
        pattern: pattern(value),
        keywords: keywords(value),
        proposal: None,
        paths: Vec::new(),
        scope: Vec::new(),
        confirm: Confirm { keep_placeholders: true, ..Confirm::default() },
        examples: Vec::new(),
        counterexamples: Vec::new(),
        foreign: None,
    }
}

/// An expression that matches `value`, of which a part may be escaped.
fn pattern(value: &[u8]) -> String {
    let (mut pattern, mut width) = (String::new(), 0);
    for &byte in value.iter().take(LONGEST) {
        width += if byte == b'\n' { MOST_INDENTED + 4 } else { 8 };
        if width > MAX_WIDTH {
            break;
        }
        pattern.push_str(&one(byte));
    }
    pattern
}

/// An expression for one byte. No part of it ignores case by a flag, which would be one of the whole signature.
fn one(byte: u8) -> String {
    let raw = format!(r"\x{byte:02x}");
    let percent = format!("%{}", hex(byte));
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        b'\n' => format!(r"(?:\r?\n[\t ]{{0,{MOST_INDENTED}}}|(?:\\r)?\\n|(?:%0[dD])?%0[aA]|\\u000[aA]|&#10;)"),
        // Lines may end otherwise elsewhere.
        b'\r' => r"(?:\r|\\r|%0[dD])?".into(),
        0x80.. => format!("(?:{raw}|{percent})"),
        _ => {
            let (hex, entity) = (hex(byte), entity(byte).map(|name| format!("|&{name};")).unwrap_or_default());
            let plus = if byte == b' ' { r"|\+" } else { "" };
            format!(r"(?:{raw}|\\{raw}|{percent}|\\u00{hex}|\\x{hex}|&#{byte};|&#[xX]{hex};{entity}{plus})")
        }
    }
}

/// The two hexadecimal digits of a byte, in either case.
fn hex(byte: u8) -> String {
    let digit = |digit: char| match digit {
        'a'..='f' => format!("[{digit}{}]", digit.to_ascii_uppercase()),
        digit => digit.to_string(),
    };
    format!("{byte:02x}").chars().map(digit).collect()
}

fn entity(byte: u8) -> Option<&'static str> {
    Some(match byte {
        b'&' => "amp",
        b'<' => "lt",
        b'>' => "gt",
        b'"' => "quot",
        b'\'' => "apos",
        _ => return None,
    })
}

/// Literals by which the value is found. Letters and digits are the same in all escapes.
fn keywords(value: &[u8]) -> Vec<String> {
    let value = &value[..value.len().min(LONGEST)];
    if let Some(run) = longest_run(value, u8::is_ascii_alphanumeric) {
        return pair(run);
    }
    // With a keyword that is this short, the whole pattern is looked for, and the others find encoded forms of it.
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    let run = longest_run(value, is_printable).map(pair).unwrap_or_default();
    let first = value.iter().copied().find(u8::is_ascii).map(|byte| char::from(byte).to_string());
    if run.is_empty() { Vec::new() } else { run.into_iter().chain(first).collect() }
}

/// The longest run of bytes that are as `is_of_run` says; `None` if it is too short for a keyword.
fn longest_run(value: &[u8], is_of_run: impl Fn(&u8) -> bool) -> Option<&[u8]> {
    let runs = value.split(|byte| !is_of_run(byte));
    runs.max_by_key(|run| run.len()).filter(|run| run.len() >= SHORTEST_KEYWORD)
}

/// Two keywords that begin `run`, or one if it is too short for two.
fn pair(run: &[u8]) -> Vec<String> {
    let length = (run.len() / 2).clamp(SHORTEST_KEYWORD, LONGEST_KEYWORD);
    let keywords = run.chunks(length).take(2).filter(|keyword| keyword.len() >= SHORTEST_KEYWORD);
    keywords.map(|keyword| String::from_utf8_lossy(keyword).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::PatternSet;

    /// The width of the pattern for `value`.
    fn width(value: &[u8]) -> usize {
        let set = PatternSet::new(&Ruleset::of_values([("value".into(), value.to_vec())]).signatures).unwrap();
        set.patterns[0].width()
    }

    #[test]
    fn every_value_has_a_bounded_pattern_and_keywords_of_its_own() {
        let values = ["made-up\\E words\"'{}[]^$|", "two\nlines of it\r\n", "ünïcode"];
        for value in values.map(str::as_bytes).into_iter().chain([&[0xff; 300][..], &[b'\n'; 200]]) {
            let most = width(value);
            assert!((1..=MAX_WIDTH).contains(&most), "{most}");
        }
        assert_eq!(keywords(b"abcdefgh-1234"), ["abcd", "efgh"]);
        assert_eq!(keywords(b"0123456789abcdef-xyz"), ["012345", "6789ab"]);
        assert_eq!(keywords(b"made-up"), ["made"]);
        assert_eq!(keywords(b"a-b-c-d-"), ["a-b-", "c-d-", "a"]);
        assert!(keywords(&[0xff; 20]).is_empty());
    }

    #[test]
    fn rules_of_values_say_so() {
        assert!(Ruleset::of_values([]).holds_values());
        assert!(!Ruleset::default().holds_values());
    }
}
