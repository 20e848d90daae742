//! Decides whether a value is a secret, given a name that suggests one.
//!
//! Unlike in a file, a weak password such as `postgres` counts: the service is started with it.

use memchr::memmem::find;

use crate::confirm::placeholder::has_placeholder_word;

/// Values of switches, in lower case.
const SWITCHES: [&[u8]; 24] = [
    b"true",
    b"false",
    b"yes",
    b"no",
    b"on",
    b"off",
    b"0",
    b"1",
    b"none",
    b"null",
    b"nil",
    b"undefined",
    b"unset",
    b"empty",
    b"enabled",
    b"disabled",
    b"enable",
    b"disable",
    b"auto",
    b"random",
    b"default",
    b"required",
    b"optional",
    b"external",
];

/// Prefixes of references to a secret store or a file, in lower case.
const REFERENCES: [&[u8]; 18] = [
    b"file:",
    b"env:",
    b"arn:aws",
    b"ssm:",
    b"awsssm:",
    b"awssm:",
    b"vault:",
    b"secret:",
    b"secretref:",
    b"op://",
    b"sm://",
    b"gcp:",
    b"azkv:",
    b"akv:",
    b"sops:",
    b"ref+",
    b"k8s:",
    b"projects/",
];

/// `value` without surrounding quotation marks.
pub(super) fn unquote(value: &[u8]) -> &[u8] {
    match value.trim_ascii() {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        value => value,
    }
}

/// Whether `value` is a literal secret, and not a variable, a switch, a path or a placeholder.
pub(super) fn is_secret(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    lower.iter().any(u8::is_ascii_alphanumeric)
        && !SWITCHES.contains(&&lower[..])
        && !REFERENCES.iter().any(|reference| lower.starts_with(reference))
        && !has_placeholder_word(&lower)
        && !is_variable(&lower)
        && !is_path(&lower)
        && !is_one_letter(&lower)
}

/// `${X}`, `$X`, `$(x)`, `{{x}}`, `<x>`, `%x%`, `[x]`, `@x@`: a template that is filled in elsewhere.
fn is_variable(value: &[u8]) -> bool {
    let surrounded = |open: u8, close: u8| value.first() == Some(&open) && value.last() == Some(&close);
    let name = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let dollar = matches!(value, [b'$', first, rest @ ..] if !first.is_ascii_digit() && name(rest) && name(&[*first]));
    let held = [(b'<', b'>'), (b'%', b'%'), (b'[', b']'), (b'@', b'@')].into_iter().any(|(o, c)| surrounded(o, c));
    dollar || held || [&b"${"[..], b"$(", b"{{"].into_iter().any(|open| find(value, open).is_some())
}

/// An absolute path, or one that begins with `./`, `../` or `~/`. Base64 may begin with `/` as well, but then mostly
/// contains a `+` or a `=`.
fn is_path(value: &[u8]) -> bool {
    let begins = [&b"/"[..], b"./", b"../", b"~/", b"c:\\", b"c:/"].iter().any(|start| value.starts_with(start));
    begins && !value.iter().any(|byte| matches!(byte, b'+' | b'='))
}

/// `xxxx`, `0000`, and `....xxxx`.
fn is_one_letter(value: &[u8]) -> bool {
    let mut letters = value.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let first = letters.next();
    value.len() >= 3 && letters.all(|letter| Some(letter) == first)
}
