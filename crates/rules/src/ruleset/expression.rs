//! Expressions of other scanners, in the syntax of Go's RE2, made into what both engines read: bounded, with the group
//! of the secret named.
//!
//! Source of the syntax: <https://pkg.go.dev/regexp/syntax>. What a person wrote is kept where it can be; only what the
//! `regex` crate reads differently is written otherwise.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::Hir;

use crate::pattern::MAX_WIDTH;

/// How often a repetition without an end is repeated, if the whole does not get too wide by it.
pub const REPEATS: u32 = 200;

/// Names of groups of which the first that took part and is not empty is the secret.
const SECRETS: [&str; 4] = ["secret", "secret2", "secret3", "secret4"];

/// An expression as signatures have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// The expression.
    pub pattern: String,
    /// How often its repetitions without an end are repeated; `None` where there were none.
    pub repeats: Option<u32>,
    /// The part of it that is the secret; all of it, where there is no group.
    pub secret: String,
}

/// Makes a signature's pattern of `source`, whose group number `secret` is the secret; 0 stands for the first group
/// that is not empty, or the whole match.
///
/// # Errors
/// Why it cannot be made, in a few words.
pub fn bounded(source: &str, secret: usize) -> Result<Bounded, String> {
    if !source.is_ascii() {
        // The engine would repeat the last byte of such a character alone.
        return Err("it has characters beyond ASCII".into());
    }
    let source = from_go(source);
    let ast = ast::parse::Parser::new().parse(&source).map_err(|error| error.kind().to_string())?;
    let parts = Parts::of(&ast)?;
    if secret > parts.groups.len() {
        return Err(format!("there is no group {secret}"));
    }
    let mut repeats = REPEATS;
    let pattern = loop {
        let pattern = parts.rewrite(&source, secret, repeats);
        match width(&pattern)? {
            Some(width) if width <= MAX_WIDTH => break pattern,
            _ if repeats == 1 || parts.endless.is_empty() => {
                return Err(format!("it may match more than {MAX_WIDTH} bytes"));
            }
            _ => repeats = (repeats * 7 / 8).max(1),
        }
    };
    compile(&pattern)?;
    let whole = 0..source.len();
    let group = parts.groups.get(secret.saturating_sub(1)).map_or(whole, |group| group.whole.clone());
    let secret = source.get(group).unwrap_or_default().to_string();
    Ok(Bounded { pattern, repeats: (!parts.endless.is_empty()).then_some(repeats), secret })
}

/// Makes an expression of `source` that needs no bounds, because it never reads a whole window.
///
/// # Errors
/// Why it cannot be made, in a few words.
pub fn plain(source: &str) -> Result<String, String> {
    let source = from_go(source);
    compile(&source)?;
    Ok(source)
}

fn compile(source: &str) -> Result<Regex, String> {
    RegexBuilder::new(source).unicode(false).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes of memory"),
        // The message points at the place, over several lines; its last line says what is wrong.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string(),
    })
}

/// The greatest length of a match of `source`, which must not be empty; `None` where there is none.
fn width(source: &str) -> Result<Option<usize>, String> {
    let parsed: Result<Hir, _> = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(source);
    let hir = parsed.map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".into(),
    })?;
    match hir.properties().minimum_len() {
        None | Some(0) => Err("it matches the empty string".into()),
        Some(_) => Ok(hir.properties().maximum_len()),
    }
}

/// What of an expression is written otherwise.
#[derive(Default)]
struct Parts {
    groups: Vec<Group>,
    endless: Vec<Endless>,
    refused: Option<&'static str>,
}

/// A group that captures.
struct Group {
    /// `(`, with the name that it has.
    open: Range<usize>,
    whole: Range<usize>,
}

/// A repetition without an end.
struct Endless {
    operator: Range<usize>,
    least: u32,
    lazy: bool,
}

impl Parts {
    fn of(ast: &Ast) -> Result<Parts, String> {
        let mut parts = Parts::default();
        // The visitor cannot fail.
        let Ok(()) = ast::visit(ast, &mut parts);
        // Groups are numbered in the order in which they open.
        parts.groups.sort_by_key(|group| group.open.start);
        match parts.refused {
            Some(reason) => Err(reason.into()),
            None => Ok(parts),
        }
    }

    /// `source` with at most `repeats` repetitions where there was no end, and names for groups of the secret only.
    fn rewrite(&self, source: &str, secret: usize, repeats: u32) -> String {
        let open = |(index, group): (usize, &Group)| {
            let name = match secret {
                0 => SECRETS.get(index).copied(),
                _ => (index + 1 == secret).then_some(SECRETS[0]),
            };
            (group.open.clone(), name.map_or_else(|| "(".into(), |name| format!("(?<{name}>")))
        };
        let mut edits: Vec<(Range<usize>, String)> = self.groups.iter().enumerate().map(open).collect();
        edits.extend(self.endless.iter().map(|endless| (endless.operator.clone(), endless.bounded(repeats))));
        edits.sort_by_key(|(range, _)| range.start);
        let mut out = String::with_capacity(source.len() + 16 * edits.len());
        let mut from = 0;
        for (range, text) in edits {
            out.push_str(source.get(from..range.start).unwrap_or_default());
            out.push_str(&text);
            from = range.end;
        }
        out + source.get(from..).unwrap_or_default()
    }
}

impl Endless {
    fn bounded(&self, repeats: u32) -> String {
        // A token of at least 250 characters is hardly one of exactly 250.
        let most = if self.least > 1 { repeats.max(self.least.saturating_mul(2)) } else { repeats };
        format!("{{{},{}}}{}", self.least, most, if self.lazy { "?" } else { "" })
    }
}

impl ast::Visitor for &mut Parts {
    type Output = ();
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Group(group) => self.group(group),
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Flags(flags) => self.flags(&flags.flags),
            Ast::ClassUnicode(_) => self.refused = Some("it has a class of Unicode"),
            _ => {}
        }
        Ok(())
    }
}

impl Parts {
    fn group(&mut self, group: &ast::Group) {
        let from = group.span.start.offset;
        let whole = from..group.span.end.offset;
        match &group.kind {
            ast::GroupKind::CaptureIndex(_) => self.groups.push(Group { open: from..from + 1, whole }),
            ast::GroupKind::CaptureName { name, .. } => {
                self.groups.push(Group { open: from..name.span.end.offset + 1, whole });
            }
            ast::GroupKind::NonCapturing(flags) => self.flags(flags),
        }
    }

    fn repetition(&mut self, repetition: &ast::Repetition) {
        let least = match repetition.op.kind {
            ast::RepetitionKind::ZeroOrMore => 0,
            ast::RepetitionKind::OneOrMore => 1,
            ast::RepetitionKind::Range(ast::RepetitionRange::AtLeast(least)) => least,
            _ => return,
        };
        let operator = repetition.op.span.start.offset..repetition.op.span.end.offset;
        self.endless.push(Endless { operator, least, lazy: !repetition.greedy });
    }

    /// Hyperscan knows no flags but those of case, lines and dots.
    fn flags(&mut self, flags: &ast::Flags) {
        let known = |item: &ast::FlagsItem| {
            use ast::Flag::{CaseInsensitive, DotMatchesNewLine, MultiLine};
            match item.kind {
                ast::FlagsItemKind::Negation => true,
                ast::FlagsItemKind::Flag(flag) => matches!(flag, CaseInsensitive | MultiLine | DotMatchesNewLine),
            }
        };
        if !flags.items.iter().all(known) {
            self.refused = Some("it has another flag than `i`, `m` and `s`");
        }
    }
}

/// `source` with what Go reads otherwise escaped: brackets and operators of sets in a class, `{` that repeats nothing,
/// `\Q…\E`, `\<`.
fn from_go(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 8);
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\\' => escape(rest, &mut out),
            '[' => class(rest, &mut out),
            '{' if !repeats(rest) => {
                out.push_str("\\{");
                1
            }
            _ => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    out
}

/// Writes the escape that `from` begins with; returns its length.
fn escape(from: &str, out: &mut String) -> usize {
    if let Some(quoted) = from.strip_prefix("\\Q") {
        let end = quoted.find("\\E");
        out.push_str(&regex_syntax::escape(quoted.get(..end.unwrap_or(quoted.len())).unwrap_or_default()));
        return end.map_or(from.len(), |end| end + 4);
    }
    let length = 1 + from.chars().nth(1).map_or(0, char::len_utf8);
    match from.get(..length).unwrap_or_default() {
        // The `regex` crate reads these as the ends of words.
        angle @ ("\\<" | "\\>") => out.push_str(angle.trim_start_matches('\\')),
        other => out.push_str(other),
    }
    length
}

/// Whether `from`, which begins with `{`, is a repetition.
fn repeats(from: &str) -> bool {
    let Some((inside, _)) = from.get(1..).unwrap_or_default().split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && number(least) && number(most)
}

/// Writes the class that `from` begins with; returns its length.
fn class(from: &str, out: &mut String) -> usize {
    let negated = from.starts_with("[^");
    out.push_str(if negated { "[^" } else { "[" });
    let start = if negated { 2 } else { 1 };
    let mut at = start;
    while let Some(rest) = from.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(']') && at > start {
            out.push(']');
            return at + 1;
        }
        if let Some(end) = rest.strip_prefix("[:").and_then(|name| name.find(":]")) {
            out.push_str(rest.get(..end + 4).unwrap_or_default());
            at += end + 4;
            continue;
        }
        at += member(rest, out);
        let range = from.get(at..).and_then(|rest| rest.strip_prefix('-')).filter(|rest| !rest.starts_with(']'));
        if let Some(rest) = range.filter(|rest| !rest.is_empty()) {
            out.push('-');
            at += 1 + member(rest, out);
        }
    }
    from.len()
}

/// Writes one character of a class, or an escape that stands for several; returns its length.
fn member(from: &str, out: &mut String) -> usize {
    let Some(first) = from.chars().next() else { return 0 };
    if first == '\\' {
        return match from.strip_prefix("\\x") {
            Some(hex) => {
                let braced = hex.strip_prefix('{').and_then(|hex| hex.find('}')).map(|end| end + 2);
                let length = (2 + braced.unwrap_or(2)).min(from.len());
                out.push_str(from.get(..length).unwrap_or_default());
                length
            }
            None => escape(from, out),
        };
    }
    if "[]&~-^".contains(first) {
        out.push('\\');
    }
    out.push(first);
    first.len_utf8()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(source: &str) -> String {
        bounded(source, 0).unwrap().pattern
    }

    #[test]
    fn repetitions_get_an_end_and_groups_a_name() {
        assert_eq!(pattern(r"(?i)key=(?P<k>\w+)b*?"), r"(?i)key=(?<secret>\w{1,200})b{0,200}?");
        assert_eq!(pattern("a{250,}x{3,}"), "a{250,500}x{3,200}");
        assert_eq!(bounded("(a)(?P<secret>b)", 2).unwrap().pattern, "(a)(?<secret>b)");
        assert_eq!(bounded("(a)(?P<secret>b)", 1).unwrap().pattern, "(?<secret>a)(b)");
        assert_eq!(pattern("(a)|(b)"), "(?<secret>a)|(?<secret2>b)");
        assert_eq!(bounded("a(b[)])", 0).unwrap().secret, "(b[)])");
    }

    #[test]
    fn bounds_shrink_until_the_whole_fits() {
        let nested = bounded("x(?:a+b)+", 0).unwrap();
        let repeats = nested.repeats.unwrap();
        assert!((40..64).contains(&repeats), "{repeats}");
        assert!(width(&nested.pattern).unwrap().unwrap() <= MAX_WIDTH);
        assert_eq!(bounded("abc", 0).unwrap().repeats, None);
    }

    #[test]
    fn what_go_reads_otherwise_is_escaped() {
        for (go, ours) in [
            (r"[a[b]", r"[a\[b]"),
            (r"[]a]", r"[\]a]"),
            (r"[^]&&~~]", r"[^\]\&\&\~\~]"),
            (r"[+--]", r"[+-\-]"),
            (r"[a-z-]", r"[a-z\-]"),
            (r"[[:alnum:]\x60\x{7e}\]-]", r"[[:alnum:]\x60\x{7e}\]\-]"),
            (r"\${A}{2}", r"\$\{A}{2}"),
            (r"x{,3}", r"x\{,3}"),
            (r"\<\Qa.b\Ec", r"<a\.bc"),
        ] {
            assert_eq!(from_go(go), ours);
            compile(ours).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        for (source, reason) in [
            ("a*", "empty"),
            (r"\p{Greek}+", "Unicode"),
            ("(?U)a+", "flag"),
            ("a(?=b)", "look-around"),
            ("x.{0,5000}", "4096"),
            ("é{2}", "ASCII"),
            ("(a", "unclosed"),
        ] {
            let error = bounded(source, 0).unwrap_err();
            assert!(error.contains(reason), "{source}: {error}");
        }
        assert!(bounded("(a)", 2).unwrap_err().contains("group 2"));
    }

    #[test]
    fn no_cut_expression_panics() {
        let whole = r"(?i)[\w.-]{0,50}?(?P<x>[^]\x{60}[:alpha:]a--]{3,}|\Qa\E\<)[\\x6\d-]+{$\z";
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = (bounded(&whole[..end], 0), bounded(&whole[end..], 1), plain(&whole[..end]));
        }
    }
}
