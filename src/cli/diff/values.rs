//! The values of secrets, and the parts of them that are secret by themselves, as signatures that find them again in
//! any form that the scanner reads.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_model::ImageReport;
use layersift_report::compare::{self, Trace};

/// The shortest value that is searched for: shorter ones are words that are anywhere.
const SHORTEST: usize = 8;

/// As much of a value is searched for: the rest of a longer one is with it.
const LONGEST: usize = 200;

/// The most values of one search.
const MOST: usize = 2_000;

/// What the ids of the signatures begin with.
const PREFIX: &str = "diff.value-";

/// Names in connection strings whose values are secret.
const NAMES: [&str; 8] = ["password", "passwd", "pwd", "pass", "accountkey", "sharedaccesskey", "secret", "token"];

/// Values to search for.
#[derive(Default)]
pub(super) struct Values {
    /// The fingerprints of the secrets that have a value.
    by_value: BTreeMap<String, BTreeSet<String>>,
    /// The fingerprints of secrets that are not searched for.
    pub(super) left_out: BTreeSet<String>,
}

impl Values {
    /// Adds the secret with this fingerprint, whose value may not be known.
    pub(super) fn add(&mut self, fingerprint: &str, value: Option<&[u8]>) {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let values = text.map(parts).unwrap_or_default();
        if values.is_empty() || self.by_value.len() + values.len() > MOST {
            self.left_out.insert(fingerprint.into());
            return;
        }
        for value in values {
            self.by_value.entry(value).or_default().insert(fingerprint.into());
        }
    }

    /// Whether there is nothing to search for.
    pub(super) fn is_empty(&self) -> bool {
        self.by_value.is_empty()
    }

    /// The text of a signature file with a signature for each value.
    pub(super) fn signatures(&self) -> String {
        self.by_value.keys().enumerate().map(|(number, value)| signature(number, value)).collect()
    }

    /// Where a report has values.
    pub(super) fn traces(&self, report: &ImageReport) -> Vec<Trace> {
        compare::traces(report, |id| self.of_signature(id))
    }

    /// The fingerprints of the secrets whose value the signature `id` finds.
    fn of_signature(&self, id: &str) -> Vec<String> {
        let number: Option<usize> = id.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
        let found = number.and_then(|number| self.by_value.values().nth(number));
        found.into_iter().flatten().cloned().collect()
    }
}

/// A value and what is secret in it: the password of a URL, of a pair `user:password` in base64, of a connection
/// string.
fn parts(value: &str) -> BTreeSet<String> {
    let value = value.trim();
    let mut found = BTreeSet::from([value.to_string()]);
    found.extend(password_of_url(value));
    let decoded = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some(decoded) = decoded.filter(|text| text.chars().all(|c| !c.is_control())) {
        found.extend(decoded.split_once(':').map(|(_, password)| password.to_string()));
        found.insert(decoded);
    }
    for part in value.split([';', '&', '?', ' ', '\n']) {
        let Some((name, part)) = part.split_once('=') else { continue };
        let name = name.trim().to_ascii_lowercase();
        if NAMES.iter().any(|known| name.ends_with(known)) {
            found.insert(part.trim().trim_matches(['"', '\'']).to_string());
        }
    }
    let encoded: Vec<String> =
        found.iter().flat_map(|value| [percent_decoded(value), percent_encoded(value)]).collect();
    found.extend(encoded);
    found.into_iter().filter(|value| value.len() >= SHORTEST).map(|value| start_of(&value)).collect()
}

fn password_of_url(value: &str) -> Option<String> {
    let (_, rest) = value.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    let (_, password) = login.split_once(':')?;
    Some(password.to_string())
}

fn start_of(value: &str) -> String {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default().to_string()
}

fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.into())
}

fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn signature(number: usize, value: &str) -> String {
    // Basic strings of TOML have the escapes of JSON.
    let quoted = |text: &str| serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f");
    let runs = value.split(|c: char| !c.is_ascii_graphic());
    let keyword: String = runs.max_by_key(|run| run.len()).unwrap_or(value).chars().take(16).collect();
    format!(
        "[[signature]]\nid = \"{PREFIX}{number}\"\ntitle = \"The value\"\nseverity = \"high\"\nconfidence = \"high\"\n\
         pattern = {}\nkeywords = [{}]\nwhat = \"-\"\nrisk = \"-\"\nfix = \"-\"\n\n\
         [[signature.example]]\ninput = {}\n\n",
        quoted(&escaped(value)),
        quoted(&keyword),
        quoted(value)
    )
}

/// An expression that matches `value` alone.
fn escaped(value: &str) -> String {
    let one = |c: char| match c {
        c if c.is_ascii_alphanumeric() || !c.is_ascii() => c.to_string(),
        c => format!("\\x{:02x}", u32::from(c)),
    };
    value.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use layersift_rules::Ruleset;

    fn of(value: &str) -> Vec<String> {
        parts(value).into_iter().collect()
    }

    #[test]
    fn the_secret_parts_of_a_value_are_searched_for() {
        assert!(of("postgres://svc:made%40up-words@db.example/app").contains(&"made@up-words".to_string()));
        assert!(of("c3ZjOm1hZGUtdXAtd29yZHM=").contains(&"made-up-words".to_string()));
        assert!(of("Server=db;User=svc;Password='made-up-words';").contains(&"made-up-words".to_string()));
        assert!(of("made+up/words").contains(&"made%2Bup%2Fwords".to_string()));
        assert!(of("short").is_empty());
    }

    #[test]
    fn every_value_is_a_signature() {
        let mut values = Values::default();
        for (number, value) in
            ["made-up\\E words\"'{}[]^$|", "two\nlines of it", "ünïcode-words"].into_iter().enumerate()
        {
            values.add(&number.to_string(), Some(value.as_bytes()));
        }
        values.add("binary", Some(&[0xff; 40]));
        values.add("unknown", None);
        assert_eq!(values.left_out.len(), 2);
        let ruleset = Ruleset::from_files([("values".to_string(), values.signatures())]).unwrap();
        assert_eq!(ruleset.ids().count(), values.by_value.len());
        assert!(ruleset.ids().all(|id| values.of_signature(id).len() == 1));
    }
}
