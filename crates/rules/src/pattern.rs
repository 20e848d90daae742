//! Patterns: regular expressions that two engines accept.
//!
//! Signatures use the syntax of the `regex` crate, over bytes and without Unicode. Hyperscan accepts nearly the same
//! syntax; differences are translated or rejected here, when rules are loaded and not when bytes are scanned.

use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::Hir;

/// The greatest length in bytes of the matches of a pattern. Windows overlap by at least this much.
pub const MAX_WIDTH: usize = 4096;

/// Keywords that are frequent in ordinary images: more than 1,500 occurrences in the 1.77 GB of the image that
/// `benches/compare` builds, or plain words that are as frequent elsewhere. A pattern with one of these, or with a
/// keyword shorter than [`MIN_RARE`], is matched whole.
const COMMON: [&str; 101] = [
    "-pass",
    ".env",
    ".pass",
    "\"sensitive\"",
    "\"username\"",
    "access",
    "api-",
    "application",
    "attach",
    "auth",
    "authorization",
    "backup",
    "base64",
    "better",
    "bolt",
    "cal_",
    "cipher",
    "code",
    "crypt",
    "crypto_",
    "curl",
    "data",
    "dd_a",
    "duck",
    "eaaa",
    "elastic",
    "encrypt",
    "evp_",
    "file",
    "goog",
    "here",
    "here_",
    "hmac",
    "horizon",
    "host",
    "html",
    "ignore",
    "imap",
    "ion_",
    "json",
    "key-",
    "keypair",
    "ldap",
    "linear",
    "link",
    "machine",
    "mail",
    "master",
    "mat_",
    "mongodb",
    "mpt_",
    "name",
    "napi_",
    "nettle_",
    "nfo_",
    "openssl",
    "operator",
    "oracle",
    "override",
    "owner",
    "packet",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "path",
    "phrase",
    "port",
    "postgres",
    "private",
    "private_",
    "privatekey",
    "ptr_",
    "recovery",
    "redis",
    "registry",
    "requestheader",
    "search",
    "secret",
    "security",
    "segment",
    "ser.",
    "server",
    "signer",
    "signing",
    "site",
    "space",
    "standard_",
    "static",
    "storage",
    "symmetric",
    "together",
    "token",
    "transaction",
    "type",
    "uint8array",
    "user",
    "validator",
    "vercel",
    "wise_",
    "without",
];

/// The length of the shortest keyword that is rare enough to propose a pattern.
const MIN_RARE: usize = 4;

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The pattern is not a regular expression in the accepted syntax.
    #[error("{rule}: invalid pattern")]
    Syntax {
        /// The rule's id.
        rule: String,
        /// The error of the parser, with the position.
        source: Box<regex_syntax::Error>,
    },
    /// A match may be longer than [`MAX_WIDTH`].
    #[error(
        "{rule}: the pattern may match more than {MAX_WIDTH} bytes; bound its repetitions, such as `{{1,200}}` for `+`"
    )]
    Unbounded {
        /// The rule's id.
        rule: String,
        /// The greatest length of a match in bytes; `None` if it has no limit.
        width: Option<usize>,
    },
    /// The pattern matches the empty string.
    #[error("{rule}: the pattern matches the empty string")]
    Empty {
        /// The rule's id.
        rule: String,
    },
}

/// A pattern that both engines accept.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The expression in Hyperscan's syntax.
    expression: String,
    /// The expression of the signature.
    source: String,
    width: usize,
}

impl Pattern {
    /// Checks and translates `source`, the pattern of `rule`.
    ///
    /// # Errors
    /// If `source` is not a valid regular expression, or its matches are empty or may be longer than [`MAX_WIDTH`].
    pub fn new(rule: &str, source: &str) -> Result<Pattern, PatternError> {
        let syntax = |error| PatternError::Syntax { rule: rule.into(), source: Box::new(error) };
        let ast = ast::parse::Parser::new().parse(source).map_err(|error| syntax(error.into()))?;
        let hir = translate(source, &ast).map_err(|error| syntax(error.into()))?;
        let width = match hir.properties().maximum_len() {
            Some(width) if width <= MAX_WIDTH => width,
            width => return Err(PatternError::Unbounded { rule: rule.into(), width }),
        };
        if hir.properties().minimum_len().unwrap_or(0) == 0 {
            return Err(PatternError::Empty { rule: rule.into() });
        }
        Ok(Pattern { expression: without_names(source, &ast), source: source.into(), width })
    }

    /// Proposes candidates by `proposal`, which is in every match.
    pub(crate) fn proposed_by_part(self, proposal: Pattern) -> Pattern {
        Pattern { expression: proposal.expression, ..self }
    }

    /// The pattern that proposes candidates for a signature with `keywords`; `is_local` if the signature has paths.
    pub(crate) fn proposed(self, keywords: &[String], is_local: bool) -> Pattern {
        if is_local { self.never_proposed() } else { self.proposed_by(keywords) }
    }

    /// Proposes candidates by `keywords` alone if all of them are rare: literals are found faster than expressions, and
    /// take a hundredth of the space. Every match must contain a keyword.
    fn proposed_by(self, keywords: &[String]) -> Pattern {
        if are_rare(keywords) { self.proposed_by_all(keywords) } else { self }
    }

    /// Proposes candidates by `keywords` alone, unless there are none.
    pub(crate) fn proposed_by_all(self, keywords: &[String]) -> Pattern {
        if keywords.is_empty() {
            return self;
        }
        let case = if self.source.contains("(?i") { "(?i)" } else { "" };
        let literals: Vec<String> = keywords.iter().map(|keyword| regex_syntax::escape(keyword)).collect();
        Pattern { expression: format!("{case}(?:{})", literals.join("|")), ..self }
    }

    /// Proposes no candidates: files at the paths of a local signature are searched without an engine.
    fn never_proposed(self) -> Pattern {
        // The first half of the SHA-256 of the empty string with one bit changed: no other file contains it.
        Pattern { expression: r"\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x25".into(), ..self }
    }

    /// A generated expression, which needs no check: its matches are `width` bytes long.
    pub(crate) fn made(expression: String, width: usize) -> Pattern {
        Pattern { source: expression.clone(), expression, width }
    }

    /// The expression in Hyperscan's syntax.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The pattern of the signature.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The greatest length of a match in bytes.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// Whether a pattern with `keywords` is proposed by them alone, as all of them are rare.
pub(crate) fn are_rare(keywords: &[String]) -> bool {
    keywords.iter().all(|keyword| {
        let distinct = keyword.bytes().collect::<std::collections::BTreeSet<u8>>().len();
        let is_common = COMMON.contains(&keyword.to_ascii_lowercase().as_str());
        keyword.len() >= MIN_RARE && distinct > 2 && keyword.is_ascii() && !is_common
    })
}

fn translate(source: &str, ast: &Ast) -> Result<Hir, regex_syntax::hir::Error> {
    regex_syntax::hir::translate::TranslatorBuilder::new().unicode(false).utf8(false).build().translate(source, ast)
}

/// The expression with unnamed groups instead of named ones, which Hyperscan does not accept.
fn without_names(source: &str, ast: &Ast) -> String {
    let mut names = Names(Vec::new());
    // The visitor cannot fail.
    let Ok(()) = ast::visit(ast, &mut names);
    let mut out = String::with_capacity(source.len());
    let mut from = 0;
    for (open, close) in names.0 {
        out.push_str(&source[from..open]);
        out.push('(');
        from = close;
    }
    out.push_str(&source[from..]);
    out
}

/// Collects the start and end of every `(?<name>`.
struct Names(Vec<(usize, usize)>);

impl ast::Visitor for &mut Names {
    type Output = ();
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        if let Ast::Group(group) = ast
            && let ast::GroupKind::CaptureName { name, .. } = &group.kind
        {
            self.0.push((group.span.start.offset, name.span.end.offset + 1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_out_and_nothing_else() {
        let pattern = Pattern::new("a.b", r"\(?<x\[(?P<secret>a(?<in>b)(?:c)(?i:d)){2}").unwrap();
        assert_eq!(pattern.expression, r"\(?<x\[(a(b)(?:c)(?i:d)){2}");
        assert_eq!(pattern.width(), 1 + 2 + 1 + 8);
    }

    #[test]
    fn unbounded_and_empty_patterns_are_refused_with_advice() {
        let error = Pattern::new("a.b", "key=.+").unwrap_err().to_string();
        assert!(error.starts_with("a.b:") && error.contains("{1,200}"), "{error}");
        assert!(matches!(Pattern::new("a.b", "a{5000}"), Err(PatternError::Unbounded { .. })));
        assert!(matches!(Pattern::new("a.b", "a{0,5}"), Err(PatternError::Empty { .. })));
        assert!(matches!(Pattern::new("a.b", "a(?=b)"), Err(PatternError::Syntax { .. })));
    }
}
