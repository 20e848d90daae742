//! Challenges: the `WWW-Authenticate` header of a 401.
//!
//! Sources: RFC 9110, sections 11.2 and 11.6.1 (several challenges may stand in one header, and commas separate both
//! challenges and parameters); distribution's "Token Authentication Specification".

/// The scheme of authentication that a registry requires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Challenge {
    /// User and password, to the registry itself.
    Basic,
    /// A token of a token server.
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The name of the registry at the token server.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
        /// Why the last token was rejected, such as `insufficient_scope`.
        error: Option<String>,
    },
}

impl Challenge {
    /// Whether the last token was good, and does not allow the request (RFC 6750, section 3.1).
    pub(super) fn is_of_scope(&self) -> bool {
        matches!(self, Challenge::Bearer { error: Some(error), .. } if error == "insufficient_scope")
    }
}

/// The best challenge among the values of `WWW-Authenticate` headers: Bearer before Basic.
pub(super) fn best<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
    let mut all: Vec<Challenge> = headers.flat_map(|header| challenges(header).into_iter()).collect();
    all.sort_by_key(|challenge| *challenge == Challenge::Basic);
    all.into_iter().next()
}

/// The challenges of one header that are supported.
fn challenges(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let after = after.trim_start_matches([' ', '\t']);
        // A word and `=` is a parameter of the challenge before it; a word alone begins a challenge.
        match after.strip_prefix('=').filter(|_| !found.is_empty()) {
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = without_token68(after);
            }
            Some(value) => {
                let (value, after) = text(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| answerable(&scheme, &parameters)).collect()
}

fn answerable(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let given = |wanted: &str| get(wanted).filter(|value| !value.is_empty());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: get("realm")?,
            service: given("service"),
            scope: given("scope"),
            error: given("error"),
        }),
        _ => None,
    }
}

/// A token of RFC 9110, section 5.6.2, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or a quoted string without its escapes, and what follows it.
fn text(from: &str) -> (String, &str) {
    let Some(quoted) = from.strip_prefix('"') else {
        // Some registries write realms without quotes, although a URL is not a token of RFC 9110.
        let (value, after) = from.split_at(from.find([',', ' ', '\t']).unwrap_or(from.len()));
        return (value.into(), after);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The text after a token68, which some schemes have instead of parameters, such as `Negotiate YII=`.
fn without_token68(text: &str) -> &str {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    let after = text.trim_start_matches(is_word).trim_start_matches('=').trim_start_matches([' ', '\t']);
    if after.is_empty() || after.starts_with(',') { after } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_string);
        Some(Challenge::Bearer { realm: realm.into(), service: own(service), scope: own(scope), error: None })
    }

    fn read(headers: &[&str]) -> Option<Challenge> {
        best(headers.iter().copied())
    }

    #[test]
    fn challenges_of_registries() {
        let docker =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        let expected = bearer("https://auth.example/token", Some("registry.example"), Some("repository:a/b:pull"));
        assert_eq!(read(&[docker]), expected);
        assert_eq!(read(&[&docker.replace(',', " , ").replace('=', " = ")]), expected);
        assert_eq!(read(&[r#"Basic realm="Registry, the""#]), Some(Challenge::Basic));
        assert_eq!(
            read(&[r#"Basic realm="x", bearer REALM="https://a.example/t""#]),
            bearer("https://a.example/t", None, None)
        );
        assert_eq!(read(&["Basic", r#"Bearer realm="r",scope="a,b c""#]), bearer("r", None, Some("a,b c")));
        assert_eq!(read(&[r#"Negotiate, Bearer realm="a\"b\\c""#]), bearer("a\"b\\c", None, None));
        assert_eq!(read(&[r#"Negotiate YII+/==, Bearer realm=r,service="""#]), bearer("r", None, None));
    }

    #[test]
    fn headers_without_a_supported_challenge() {
        for header in
            ["", ",,,", "Digest realm=\"x\"", "Bearer", "Bearer realm", "=", "\"", "Bearer service=\"x\"", "é"]
        {
            assert_eq!(read(&[header]), None, "{header}");
        }
        assert_eq!(read(&["Bearer realm=\"cut"]), bearer("cut", None, None));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let characters: Vec<char> = "Bearer realm=,\"\\é\t".chars().collect();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..32)).filter_map(|_| random.choice(&characters)).collect();
            let _ = read(&[&text, &format!("Bearer {text}")]);
        }
    }
}
