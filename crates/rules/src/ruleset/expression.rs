//! Translates expressions of other scanners, in the syntax of Go's RE2, into bounded patterns that both engines accept,
//! with the group of the secret named.
//!
//! Source of the syntax: <https://pkg.go.dev/regexp/syntax>. Only constructs that the `regex` crate reads differently
//! are rewritten; the rest of an expression stays as it is.

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::Hir;

use crate::pattern::MAX_WIDTH;

/// The bound of an unbounded repetition, unless the whole expression gets too wide by it.
pub(super) const MAX_REPEATS: u32 = 200;

/// The names of groups; the first group that is not empty is the secret.
const SECRETS: [&str; 4] = ["secret", "secret2", "secret3", "secret4"];

/// A translated expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounded {
    /// The pattern of a signature.
    pub(super) pattern: String,
    /// The bound of its repetitions that were unbounded; `None` if there were none.
    pub(super) repeats: Option<u32>,
    /// The group of the secret; the whole expression if there is no group.
    pub(super) secret: String,
}

/// Why an expression cannot be translated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpressionError {
    /// The engine would repeat only the last byte of such a character.
    #[error("it has characters beyond ASCII")]
    NotAscii,
    #[error("{0}")]
    Syntax(String),
    #[error("it has a class of Unicode")]
    UnicodeClass,
    #[error("it has a flag other than `i`, `m` and `s`")]
    Flag,
    #[error("there is no group {0}")]
    NoGroup(usize),
    #[error("it matches the empty string")]
    Empty,
    #[error("it may match more than {MAX_WIDTH} bytes")]
    TooWide,
    #[error("it takes more than {0} bytes of memory")]
    TooLarge(usize),
}

impl From<ast::Error> for ExpressionError {
    fn from(error: ast::Error) -> Self {
        ExpressionError::Syntax(error.kind().to_string())
    }
}

impl From<regex_syntax::Error> for ExpressionError {
    fn from(error: regex_syntax::Error) -> Self {
        // The whole message shows the expression, over several lines.
        match error {
            regex_syntax::Error::Parse(error) => error.into(),
            regex_syntax::Error::Translate(error) => ExpressionError::Syntax(error.kind().to_string()),
            _ => ExpressionError::Syntax("its syntax is invalid".into()),
        }
    }
}

impl From<regex::Error> for ExpressionError {
    fn from(error: regex::Error) -> Self {
        match error {
            regex::Error::CompiledTooBig(limit) => ExpressionError::TooLarge(limit),
            // The last line of the message says what is wrong; those before it show where.
            other => {
                let message = other.to_string();
                ExpressionError::Syntax(message.lines().last().unwrap_or_default().replacen("error: ", "", 1))
            }
        }
    }
}

/// Translates `source` into the pattern of a signature. The group number `secret` is the secret; 0 stands for the first
/// group that is not empty, or the whole match.
///
/// The pattern matches where `source` does. Only where an unbounded repetition is of something that may match nothing,
/// as in `(?:\\b|.)+`, it may prefer another end of several.
///
/// # Errors
/// If the expression is invalid, empty, or cannot be bounded.
pub(super) fn bounded(source: &str, secret: usize) -> Result<Bounded, ExpressionError> {
    if !source.is_ascii() {
        return Err(ExpressionError::NotAscii);
    }
    let source = from_go(source);
    let ast = ast::parse::Parser::new().parse(&source)?;
    let parts = Parts::of(&ast)?;
    if secret > parts.groups.len() {
        return Err(ExpressionError::NoGroup(secret));
    }
    let mut repeats = MAX_REPEATS;
    let pattern = loop {
        let pattern = parts.rewrite(&source, secret, repeats);
        match width(&pattern)? {
            Some(width) if width <= MAX_WIDTH => break pattern,
            _ if repeats == 1 || parts.unbounded.is_empty() => {
                return Err(ExpressionError::TooWide);
            }
            _ => repeats = (repeats * 7 / 8).max(1),
        }
    };
    compile(&pattern)?;
    let whole = 0..source.len();
    let group = parts.groups.get(secret.saturating_sub(1)).map_or(whole, |group| group.whole.clone());
    let secret = source.get(group).unwrap_or_default().to_string();
    Ok(Bounded { pattern, repeats: (!parts.unbounded.is_empty()).then_some(repeats), secret })
}

/// Translates `source`, an expression that is only matched against short texts and needs no bounds.
///
/// # Errors
/// If the expression is invalid.
pub(super) fn plain(source: &str) -> Result<String, ExpressionError> {
    let source = from_go(source);
    compile(&source)?;
    Ok(source)
}

fn compile(source: &str) -> Result<Regex, ExpressionError> {
    Ok(RegexBuilder::new(source).unicode(false).build()?)
}

/// The greatest length of a match of `source`, which must not match the empty string; `None` if it has no limit.
fn width(source: &str) -> Result<Option<usize>, ExpressionError> {
    let hir: Hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(source)?;
    match hir.properties().minimum_len() {
        None | Some(0) => Err(ExpressionError::Empty),
        Some(_) => Ok(hir.properties().maximum_len()),
    }
}

/// The parts of an expression that the translation rewrites.
#[derive(Default)]
struct Parts {
    groups: Vec<Group>,
    unbounded: Vec<Unbounded>,
    error: Option<ExpressionError>,
}

/// A capturing group.
struct Group {
    /// `(`, with the name if there is one.
    open: Range<usize>,
    whole: Range<usize>,
}

/// An unbounded repetition.
struct Unbounded {
    operator: Range<usize>,
    least: u32,
    lazy: bool,
}

impl Parts {
    fn of(ast: &Ast) -> Result<Parts, ExpressionError> {
        let mut parts = Parts::default();
        // The visitor cannot fail.
        let Ok(()) = ast::visit(ast, &mut parts);
        // Groups are numbered in the order in which they open.
        parts.groups.sort_by_key(|group| group.open.start);
        match parts.error.take() {
            Some(error) => Err(error),
            None => Ok(parts),
        }
    }

    /// `source` with at most `repeats` instead of unbounded repetitions, and names for the groups of the secret only.
    fn rewrite(&self, source: &str, secret: usize, repeats: u32) -> String {
        let open = |(index, group): (usize, &Group)| {
            let name = match secret {
                0 => SECRETS.get(index).copied(),
                _ => (index + 1 == secret).then_some(SECRETS[0]),
            };
            (group.open.clone(), name.map_or_else(|| "(".into(), |name| format!("(?<{name}>")))
        };
        let mut edits: Vec<(Range<usize>, String)> = self.groups.iter().enumerate().map(open).collect();
        edits
            .extend(self.unbounded.iter().map(|repetition| (repetition.operator.clone(), repetition.bounded(repeats))));
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

impl Unbounded {
    fn bounded(&self, repeats: u32) -> String {
        // An expression for at least 250 characters should not match exactly 250 only.
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
            Ast::ClassUnicode(_) => self.error = Some(ExpressionError::UnicodeClass),
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
        self.unbounded.push(Unbounded { operator, least, lazy: !repetition.greedy });
    }

    /// Hyperscan only supports the flags of case, lines and dots.
    fn flags(&mut self, flags: &ast::Flags) {
        let known = |item: &ast::FlagsItem| {
            use ast::Flag::{CaseInsensitive, DotMatchesNewLine, MultiLine};
            match item.kind {
                ast::FlagsItemKind::Negation => true,
                ast::FlagsItemKind::Flag(flag) => matches!(flag, CaseInsensitive | MultiLine | DotMatchesNewLine),
            }
        };
        if !flags.items.iter().all(known) {
            self.error = Some(ExpressionError::Flag);
        }
    }
}

/// Escapes the parts of `source` that mean something else in Go: brackets and set operators in a class, `{` that is not
/// a repetition, `\Q…\E`, `\<`.
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

/// Translates the escape at the start of `from` into `out`; returns its length.
fn escape(from: &str, out: &mut String) -> usize {
    if let Some(quoted) = from.strip_prefix("\\Q") {
        let end = quoted.find("\\E");
        out.push_str(&regex_syntax::escape(quoted.get(..end.unwrap_or(quoted.len())).unwrap_or_default()));
        return end.map_or(from.len(), |end| end + 4);
    }
    let length = 1 + from.chars().nth(1).map_or(0, char::len_utf8);
    match from.get(..length).unwrap_or_default() {
        // Word boundaries in the `regex` crate.
        angle @ ("\\<" | "\\>") => out.push_str(angle.trim_start_matches('\\')),
        other => out.push_str(other),
    }
    length
}

/// Whether the `{` at the start of `from` begins a repetition.
fn repeats(from: &str) -> bool {
    let Some((inside, _)) = from.get(1..).unwrap_or_default().split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && number(least) && number(most)
}

/// Translates the class at the start of `from` into `out`; returns its length.
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

/// Translates one character of a class, or an escape of several, into `out`; returns its length.
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
    fn repetitions_are_bounded_and_groups_named() {
        assert_eq!(pattern(r"(?i)key=(?P<k>\w+)b*?"), r"(?i)key=(?<secret>\w{1,200})b{0,200}?");
        assert_eq!(pattern("a{250,}x{3,}"), "a{250,500}x{3,200}");
        assert_eq!(bounded("(a)(?P<secret>b)", 2).unwrap().pattern, "(a)(?<secret>b)");
        assert_eq!(bounded("(a)(?P<secret>b)", 1).unwrap().pattern, "(?<secret>a)(b)");
        assert_eq!(pattern("(a)|(b)"), "(?<secret>a)|(?<secret2>b)");
        assert_eq!(bounded("a(b[)])", 0).unwrap().secret, "(b[)])");
    }

    #[test]
    fn bounds_shrink_until_the_expression_fits() {
        let nested = bounded("x(?:a+b)+", 0).unwrap();
        let repeats = nested.repeats.unwrap();
        assert!((40..64).contains(&repeats), "{repeats}");
        assert!(width(&nested.pattern).unwrap().unwrap() <= MAX_WIDTH);
        assert_eq!(bounded("abc", 0).unwrap().repeats, None);
    }

    #[test]
    fn constructs_that_go_reads_differently_are_escaped() {
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
    fn untranslatable_expressions_are_rejected_with_a_reason() {
        for (source, reason) in [
            ("a*", "empty"),
            (r"\p{Greek}+", "Unicode"),
            ("(?U)a+", "flag"),
            ("a(?=b)", "look-around"),
            ("x.{0,5000}", "4096"),
            ("é{2}", "ASCII"),
            ("(a", "unclosed"),
        ] {
            let error = bounded(source, 0).unwrap_err().to_string();
            assert!(error.contains(reason), "{source}: {error}");
        }
        assert!(bounded("(a)", 2).unwrap_err().to_string().contains("group 2"));
    }

    #[test]
    fn truncated_expressions_do_not_panic() {
        let whole = r"(?i)[\w.-]{0,50}?(?P<x>[^]\x{60}[:alpha:]a--]{3,}|\Qa\E\<)[\\x6\d-]+{$\z";
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = (bounded(&whole[..end], 0), bounded(&whole[end..], 1), plain(&whole[..end]));
        }
    }
}
