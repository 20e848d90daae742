//! A compiled signature, which decides whether a match is a secret.

use std::ops::Range;

use super::checksum::{self, Check};
use super::expressions::{Expression, Expressions};
use super::files::PathExpressions;
use super::keys::{self, PrivateKey, Reject};
use super::keywords::Keywords;
use super::scratch::Scratch;
use super::{cipher, entropy, placeholder};
use layersift_model::{Secret, key_bytes};
use layersift_rules::{Confirm, Signature};

/// Why a signature cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// An invalid expression or glob.
    #[error("{rule}: invalid expression or glob `{expression}`: {reason}")]
    Expression {
        /// The rule's id.
        rule: String,
        /// The expression.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An unknown checksum or parser.
    #[error("{rule}: unknown {kind} `{name}`: expected one of {known}")]
    Unknown {
        /// The rule's id.
        rule: String,
        /// `checksum` or `parser`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
}

/// The decision on a match.
pub(super) enum Judgement {
    Confirmed {
        span: Range<usize>,
        secret: Secret,
        note: Option<String>,
        kind: Kind,
    },
    /// A parser has to read the whole file.
    NeedsWholeFile,
    /// There may be a key, which was not read: those before it took all the work that the window may take.
    Unread,
    Rejected,
}

/// The kind of a confirmed match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Token,
    /// Has the form of a token or key, but cannot be a valid one.
    Damaged,
    Key,
}

/// A parser that reads on from the start of a match.
#[derive(Clone, Copy)]
enum Parser {
    /// A key that is not encrypted.
    Plain(KeyReader),
    /// A key in PEM that is not encrypted, or a damaged one.
    Pem,
    /// A key that is encrypted.
    Encrypted(KeyReader),
    WholeFile,
}

type KeyReader = fn(&[u8], usize) -> Result<PrivateKey, Reject>;

const PARSERS: [(&str, Parser); 29] = [
    ("pem-private-key", Parser::Pem),
    ("pem-encrypted-private-key", Parser::Encrypted(keys::pem_at)),
    ("der-private-key", Parser::Plain(keys::der_at)),
    ("putty-key", Parser::Plain(keys::ppk_at)),
    ("putty-encrypted-key", Parser::Encrypted(keys::ppk_at)),
    ("ssh-com-key", Parser::Plain(keys::sshcom_at)),
    ("ssh-com-encrypted-key", Parser::Encrypted(keys::sshcom_at)),
    ("openpgp-armored-key", Parser::Plain(keys::openpgp_armored_at)),
    ("openpgp-armored-encrypted-key", Parser::Encrypted(keys::openpgp_armored_at)),
    ("openpgp-binary-key", Parser::Plain(keys::openpgp_binary_at)),
    ("openpgp-binary-encrypted-key", Parser::Encrypted(keys::openpgp_binary_at)),
    ("json-web-key", Parser::Plain(keys::jwk_at)),
    ("tink-keyset", Parser::Plain(keys::tink_keyset_at)),
    ("tink-encrypted-keyset", Parser::Encrypted(keys::tink_keyset_at)),
    ("google-service-account", Parser::Plain(keys::service_account_at)),
    ("pkcs12-open", Parser::Plain(keys::pkcs12_at)),
    ("pkcs12-encrypted", Parser::Encrypted(keys::pkcs12_at)),
    ("java-keystore-open", Parser::Plain(keys::java_keystore_at)),
    ("java-keystore-encrypted", Parser::Encrypted(keys::java_keystore_at)),
    ("bks-open", Parser::Plain(keys::bks_at)),
    ("bks-encrypted", Parser::Encrypted(keys::bks_at)),
    ("age-identity", Parser::Plain(keys::age_identity_at)),
    ("wireguard-key", Parser::Plain(keys::wireguard_at)),
    ("openvpn-static-key", Parser::Plain(keys::openvpn_static_key_at)),
    ("sigstore-encrypted-key", Parser::Encrypted(keys::sigstore_at)),
    ("signify-key", Parser::Plain(keys::signify_at)),
    ("signify-encrypted-key", Parser::Encrypted(keys::signify_at)),
    ("rsa-blob", Parser::Plain(keys::rsa_blob_at)),
    ("cipher-constant", Parser::WholeFile),
];

/// The names of groups: of the first four, the first that is not empty is the secret.
const GROUPS: [&str; 7] = ["secret", "secret2", "secret3", "secret4", "value", "name", "name2"];

/// A match of the expression of a rule.
pub(super) struct Match {
    /// All of it.
    pub(super) whole: Range<usize>,
    secret: Range<usize>,
    /// What has to be random.
    value: Range<usize>,
    /// What the secret is called.
    name: Option<Range<usize>>,
}

pub(super) struct CompiledRule {
    expression: Expression,
    /// For a rule that is searched for without an engine, its keywords, one of which is in every match.
    keywords: Option<Keywords>,
    reject: Vec<Expression>,
    /// Expressions that the whole match must not match.
    reject_match: Vec<Expression>,
    /// Conditions of a rule in the format of another scanner on the path.
    pub(super) places: Option<PathExpressions>,
    check: Option<Check>,
    /// Whether tokens that fail the check are recognised by their prefix.
    is_distinct: bool,
    parser: Option<Parser>,
    min_entropy: f64,
    min_classes: u8,
    keep_placeholders: bool,
    is_key: bool,
    must_be_random: bool,
    must_be_passed: bool,
}

impl CompiledRule {
    pub(super) fn new(signature: &Signature, expressions: &mut Expressions) -> Result<CompiledRule, ConfirmError> {
        let id = &signature.id;
        let Confirm { min_entropy, min_classes, checksum, parser, reject, reject_matches, keep_placeholders, .. } =
            &signature.confirm;
        let check = match checksum {
            Some(name) => Some(
                checksum::by_name(name)
                    .ok_or_else(|| unknown(id, "checksum", name, checksum::CHECKS.iter().map(|(known, _)| *known)))?,
            ),
            None => None,
        };
        let parser = match parser {
            Some(name) => {
                let found = PARSERS.iter().find(|(known, _)| known == name).map(|(_, parser)| *parser);
                Some(found.ok_or_else(|| unknown(id, "parser", name, PARSERS.iter().map(|(known, _)| *known)))?)
            }
            None => None,
        };
        let foreign = signature.foreign.as_ref();
        Ok(CompiledRule {
            expression: expressions.pattern(&signature.pattern),
            keywords: Keywords::of(signature),
            reject: expressions.all(id, &[&reject[..], foreign.map_or(&[], |rule| &rule.except_secrets)].concat())?,
            reject_match: expressions
                .all(id, &[&reject_matches[..], foreign.map_or(&[], |rule| &rule.except_matches[..])].concat())?,
            places: foreign.map(|rule| PathExpressions::of(id, rule, expressions)).transpose()?,
            check,
            is_distinct: checksum.as_deref().is_some_and(checksum::is_distinct),
            parser,
            min_entropy: min_entropy.unwrap_or(0.0),
            min_classes: min_classes.unwrap_or(0),
            keep_placeholders: *keep_placeholders,
            is_key: signature.confirm.key_bytes,
            must_be_random: signature.confirm.random_key,
            must_be_passed: signature.confirm.passed_to_cipher,
        })
    }

    /// Whether `bytes` may have a match: looking for keywords is far quicker than a search.
    pub(super) fn may_be_in(&self, bytes: &[u8]) -> bool {
        self.keywords.as_ref().is_none_or(|keywords| keywords.are_in(bytes))
    }

    /// The leftmost match that begins at or after `at`.
    pub(super) fn match_at(&self, bytes: &[u8], at: usize, scratch: &mut Scratch) -> Option<Match> {
        let (whole, groups) = self.expression.groups_at(bytes, at, GROUPS, scratch)?;
        let [secrets @ .., value, name, other_name] = groups;
        let secret = secrets.into_iter().flatten().find(|group| !group.is_empty()).unwrap_or_else(|| whole.clone());
        let value = value.unwrap_or_else(|| secret.clone());
        let name = name.or(other_name);
        let [secret, value] = [secret, value].map(|span| before_quote(bytes, span));
        Some(Match { whole, secret, value, name })
    }

    /// The greatest length of a match in bytes; unbounded patterns were rejected before.
    pub(super) fn width(&self) -> usize {
        self.expression.width()
    }

    /// Decides on a match in `bytes`.
    pub(super) fn judge(&self, bytes: &[u8], found: Match, scratch: &mut Scratch) -> Judgement {
        let Match { whole, secret, value, name } = found;
        match self.parser {
            Some(parser) => parser.judge(bytes, whole, scratch),
            None => {
                let mut is_rejected = |regex: &Expression| regex.is_match(&bytes[whole.clone()], scratch);
                if self.reject_match.iter().any(&mut is_rejected) || is_masked(bytes, [&secret, &value]) {
                    return Judgement::Rejected;
                }
                if self.must_be_passed && !is_passed(bytes, &whole, name, scratch) {
                    return Judgement::Rejected;
                }
                match self.judge_token(&bytes[secret.clone()], secret, &bytes[value], scratch) {
                    Judgement::Confirmed { kind: Kind::Damaged, span, .. } if !stands_alone(bytes, &span) => {
                        Judgement::Rejected
                    }
                    judgement => judgement,
                }
            }
        }
    }

    fn judge_token(&self, secret: &[u8], span: Range<usize>, judged: &[u8], scratch: &mut Scratch) -> Judgement {
        let random = entropy::shannon(judged) >= self.min_entropy && entropy::classes(judged) >= self.min_classes;
        let excluded = self.reject.iter().any(|regex| regex.is_match(secret, scratch))
            || (!self.keep_placeholders && placeholder::is_placeholder(judged));
        if !random || excluded || (self.must_be_random && !spells_key(secret)) {
            return Judgement::Rejected;
        }
        let (note, kind) = match self.check.map(|check| check(secret)) {
            None => (None, Kind::Token),
            Some(Some(note)) => (note, Kind::Token),
            Some(None) if self.is_distinct => (Some(checksum::WRONG.into()), Kind::Damaged),
            Some(None) => return Judgement::Rejected,
        };
        let secret = Secret::new(secret);
        let secret = if self.is_key { secret.as_key() } else { secret };
        Judgement::Confirmed { span, secret, note, kind }
    }
}

impl Parser {
    fn judge(self, bytes: &[u8], anchor: Range<usize>, scratch: &mut Scratch) -> Judgement {
        // Another window may not contain bytes beyond the reach.
        let bytes = &bytes[..bytes.len().min(anchor.start + super::REACH)];
        let (read, encrypted) = match self {
            Parser::Plain(read) => (read, false),
            Parser::Pem => (keys::pem_at as KeyReader, false),
            Parser::Encrypted(read) => (read, true),
            Parser::WholeFile => return Judgement::NeedsWholeFile,
        };
        let place = (read as usize, anchor.start);
        let is_known = scratch.keys.get(&place).is_some_and(|known| *known != Some(encrypted));
        if is_known && !matches!(self, Parser::Pem) {
            return Judgement::Rejected;
        }
        scratch.work += keys::effort::take();
        if keys::effort::is_spent() {
            return Judgement::Unread;
        }
        let key = read(bytes, anchor.start);
        scratch.keys.insert(place, key.as_ref().ok().map(|key| key.encrypted));
        match key {
            Ok(key) if key.encrypted == encrypted => confirmed_key(key),
            Err(Reject::NotBase64 | Reject::Malformed | Reject::NotAKey | Reject::Inconsistent)
                if matches!(self, Parser::Pem) =>
            {
                unreadable_pem(bytes, anchor.start)
            }
            _ => Judgement::Rejected,
        }
    }
}

/// `span` without the backslash before the quotation mark that ends the string: it belongs to that.
fn before_quote(bytes: &[u8], span: Range<usize>) -> Range<usize> {
    if bytes.get(span.end) != Some(&b'"') {
        return span;
    }
    let inside = bytes.get(span.clone()).unwrap_or_default();
    let backslashes = inside.iter().rev().take_while(|byte| **byte == b'\\').count();
    let belongs = backslashes % 2 == 1 && backslashes < span.len();
    if belongs { span.start..span.end - backslashes } else { span }
}

/// Whether what is called `name` in the match `whole` is the key of a call behind it.
fn is_passed(bytes: &[u8], whole: &Range<usize>, name: Option<Range<usize>>, scratch: &mut Scratch) -> bool {
    // Another window may not contain bytes beyond the reach.
    let behind = whole.end..bytes.len().min(whole.start + super::REACH);
    let is_key = name.and_then(|name| bytes.get(name)).is_some_and(|name| scratch.calls.have_key(name, bytes, behind));
    scratch.work += std::mem::take(&mut scratch.calls.work);
    is_key
}

/// Whether one of `spans` is no secret but a mask of one.
fn is_masked(bytes: &[u8], spans: [&Range<usize>; 2]) -> bool {
    spans.iter().any(|span| placeholder::is_masked(bytes, span))
}

/// Whether `text` spells bytes that can be a key.
fn spells_key(text: &[u8]) -> bool {
    key_bytes(text).is_some_and(|bytes| cipher::can_be_key(&bytes))
}

/// Whether `span` is not part of a longer word.
fn stands_alone(bytes: &[u8], span: &Range<usize>) -> bool {
    let is_part = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(|byte| is_word(*byte));
    !is_part(span.start.checked_sub(1)) && !is_part(Some(span.end))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn confirmed_key(key: PrivateKey) -> Judgement {
    let description = key.describe();
    let secret = Secret::labelled(key.material, description);
    Judgement::Confirmed { span: key.span, secret, note: key.note, kind: Kind::Key }
}

fn unreadable_pem(bytes: &[u8], at: usize) -> Judgement {
    const NOTE: &str = "not a valid key: it cannot be decoded, so it is made up, cut off or damaged";
    let Some(span) = keys::block_at(bytes, at) else { return Judgement::Rejected };
    let secret = Secret::labelled(&bytes[span.clone()], "unreadable PEM");
    Judgement::Confirmed { span, secret, note: Some(NOTE.into()), kind: Kind::Damaged }
}

fn unknown<'n>(rule: &str, kind: &'static str, name: &str, known: impl Iterator<Item = &'n str>) -> ConfirmError {
    let known = known.collect::<Vec<_>>().join(", ");
    ConfirmError::Unknown { rule: rule.into(), kind, name: name.into(), known }
}
