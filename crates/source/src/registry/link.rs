//! `Link` headers: where the next page of a listing is.
//!
//! Source: RFC 8288, section 3. Registries deviate: some versions of Quay send the target without `<` and `>`, and
//! others leave out the quotation marks, name the page relative to the current one, or send a header for each link.
//! All of that is read. A header that still makes no sense may have led to a page, so a listing with one is not
//! complete.

use reqwest::Url;

use super::error::{ProtocolError, RegistryError, redacted};
use super::refusal::Refusal;

/// What the `Link` headers of a page say of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NextLink {
    /// There is none.
    None,
    /// It is at this URL, which may be relative.
    To(String),
    /// A header cannot be parsed, and no other one names the next page.
    Invalid,
}

/// The next page by the values of the `Link` headers. Of several next pages the first counts.
pub(super) fn next_link<'h>(headers: impl IntoIterator<Item = &'h [u8]>) -> NextLink {
    let mut next = NextLink::None;
    for header in headers {
        match std::str::from_utf8(header).map_or(NextLink::Invalid, next_in) {
            NextLink::None => {}
            NextLink::Invalid => next = NextLink::Invalid,
            to => return to,
        }
    }
    next
}

impl NextLink {
    /// The URL of the next page, which must be on the registry that the page `from` is on.
    ///
    /// # Errors
    /// If it is elsewhere, or not known although there may be one.
    pub(super) fn resolve(&self, from: &Url) -> Result<Option<Url>, RegistryError> {
        let protocol = |error| RegistryError::Protocol { url: redacted(from), error };
        let target = match self {
            NextLink::None => return Ok(None),
            NextLink::Invalid => return Err(protocol(ProtocolError::LinkHeader)),
            NextLink::To(target) => target,
        };
        let mut url = from.join(target).map_err(|_| protocol(ProtocolError::Link))?;
        let refused = |reason| RegistryError::Refused { url: redacted(&url), reason };
        if url.origin() != from.origin() {
            return Err(refused(Refusal::OtherOrigin(difference(&url, from))));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(Refusal::UserInUrl));
        }
        url.set_fragment(None);
        Ok(Some(url))
    }
}

/// What differs between the origins of two URLs: scheme, host and port. A default port goes with its scheme.
fn difference(found: &Url, expected: &Url) -> String {
    let mut parts = Vec::new();
    if found.scheme() != expected.scheme() {
        parts.push(format!("scheme `{}` instead of `{}`", found.scheme(), expected.scheme()));
    }
    let [host, expected_host] = [found, expected].map(|url| url.host_str().unwrap_or_default());
    if host != expected_host {
        parts.push(format!("host `{host}` instead of `{expected_host}`"));
    }
    if found.port() != expected.port()
        && let (Some(port), Some(expected)) = (found.port_or_known_default(), expected.port_or_known_default())
    {
        parts.push(format!("port {port} instead of {expected}"));
    }
    parts.join(", ")
}

/// A link of a header.
struct Link<'t> {
    target: &'t str,
    /// Whether it says what it leads to.
    has_relation: bool,
    is_next: bool,
}

/// The next page by one header.
fn next_in(header: &str) -> NextLink {
    let mut next = NextLink::None;
    let mut rest = header;
    loop {
        // RFC 9110 allows empty elements in a list.
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        if rest.is_empty() {
            return next;
        }
        match link(rest) {
            Some((link, _)) if link.is_next => return NextLink::To(link.target.into()),
            Some((link, after)) if link.has_relation && (after.is_empty() || after.starts_with(',')) => rest = after,
            // The next comma may begin a link that can be parsed.
            _ => (next, rest) = (NextLink::Invalid, rest.split_once(',').map_or("", |(_, after)| after)),
        }
    }
}

/// The link at the beginning of `text`, and the text after it; `None` if there is no target.
fn link(text: &str) -> Option<(Link<'_>, &str)> {
    let (target, after) = match text.strip_prefix('<') {
        Some(from) => from.split_once('>')?,
        None => text.split_at(bare_end(text)),
    };
    let (target, is_bare) = (target.trim(), !text.starts_with('<'));
    let is_wrong = |c: char| c == '<' || (is_bare && (c == '>' || c == '"' || c.is_ascii_whitespace()));
    if target.contains(is_wrong) || (is_bare && target.is_empty()) {
        return None;
    }
    let (parameters, after) = parameters(after);
    let mut relations = parameters.iter().filter(|(name, _)| name == "rel").map(|(_, value)| value);
    let is_next = |value: &String| value.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"));
    let has_relation = parameters.iter().any(|(name, value)| matches!(&name[..], "rel" | "rev") && !value.is_empty());
    Some((Link { target, has_relation, is_next: relations.any(is_next) }, after))
}

/// Where a target without `<` and `>` ends: a query may have commas in it, but no space after one.
fn bare_end(text: &str) -> usize {
    let ends_at = |(at, c): (usize, char)| {
        let begins_link = |after: &str| after.is_empty() || after.starts_with(['<', ' ', '\t']);
        c == ';' || (c == ',' && begins_link(&text[at + 1..]))
    };
    text.char_indices().find(|found| ends_at(*found)).map_or(text.len(), |(at, _)| at)
}

/// The parameters after a link's target, and the text after them.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(from) = rest.strip_prefix(';') {
        let at = from.find(['=', ';', ',']).unwrap_or(from.len());
        let (name, after) = from.split_at(at);
        let (value, after) = match after.strip_prefix('=').map(str::trim_start) {
            Some(value) => match value.strip_prefix('"') {
                Some(quoted) => unquoted(quoted),
                None => {
                    let (value, after) = value.split_at(value.find([';', ',']).unwrap_or(value.len()));
                    (value.trim().trim_matches('\'').into(), after)
                }
            },
            None => (String::new(), after),
        };
        found.push((name.trim().to_ascii_lowercase(), value));
        rest = after.trim_start();
    }
    (found, rest)
}

/// The value of a quoted string, without its escapes, and the text after it.
fn unquoted(quoted: &str) -> (String, &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn next(headers: &[&str]) -> NextLink {
        next_link(headers.iter().map(|header| header.as_bytes()))
    }

    fn to(target: &str) -> NextLink {
        NextLink::To(target.into())
    }

    #[test]
    fn links_to_the_next_page() {
        for (header, target) in [
            (r#"</v2/_catalog?last=a&n=1>; rel="next""#, "/v2/_catalog?last=a&n=1"),
            (r#"<https://h.example/x>;rel=next"#, "https://h.example/x"),
            (r#"<a>; rel="prev", <b,c;d>; title="x, <z>; rel=next" ; REL="last Next""#, "b,c;d"),
            (r#"<a>; title="\"; rel=prev"; rel="next""#, "a"),
            (r#"/v2/_catalog?n=2&last=b; rel="next""#, "/v2/_catalog?n=2&last=b"),
            (r#"/v2/x?last=a,b; title="x"; rel=next"#, "/v2/x?last=a,b"),
            (r#"/v2/x?page=1; rel=prev, /v2/x?page=3; rel=next"#, "/v2/x?page=3"),
            (r#"/v2/x?page=1; rel=prev,</v2/x?page=3>; rel=next"#, "/v2/x?page=3"),
            ("?last=b;rel='next'", "?last=b"),
            ("a; rel=next", "a"),
            (" < /v2/x > ; type=\"a\" ; REL = \"next\" ;", "/v2/x"),
            ("<a>; rel=\"next", "a"),
            ("<a>; rel=next; ; title", "a"),
            (", ,<a>; rel=next,", "a"),
            ("what, <a>; rel=next", "a"),
            ("<what, <a>; rel=next", "a"),
            ("<é>; rel=next", "é"),
            ("<>; rel=next", ""),
        ] {
            assert_eq!(next(&[header]), to(target), "{header}");
        }
    }

    #[test]
    fn links_elsewhere() {
        for header in
            ["", ",", r#"<a>; rel="prev""#, r#"<a>; rel="nextish""#, "a; rel=first, <b>; rel=last,", "<a>; rev=made"]
        {
            assert_eq!(next(&[header]), NextLink::None, "{header}");
        }
        assert_eq!(next(&[]), NextLink::None);
    }

    #[test]
    fn links_that_say_nothing() {
        for header in [
            "<a",
            "<a>",
            "<a>; title=x",
            "/v2/_catalog?last=a",
            "<a>; rel",
            "<a>; rel=",
            "<a> rel=next",
            "a rel=next",
            "; rel=next",
            "<a>; rel=\"prev\" junk, <b>; rel=last",
            "</v2/_catalog?n=1; rel=\"next\"",
            "{\"next\":\"/v2/\"}",
        ] {
            assert_eq!(next(&[header]), NextLink::Invalid, "{header}");
        }
        assert_eq!(next_link([&b"<a\xff>; rel=next"[..]]), NextLink::Invalid);
    }

    #[test]
    fn several_headers() {
        assert_eq!(next(&["<a>; rel=prev", "<b>; rel=next", "<c>; rel=next"]), to("b"));
        assert_eq!(next(&["<a", "<b>; rel=next"]), to("b"));
        assert_eq!(next(&["<a>; rel=prev", "<b"]), NextLink::Invalid);
        assert_eq!(next(&["<b", "<a>; rel=prev"]), NextLink::Invalid);
    }

    #[test]
    fn a_link_stays_on_the_registry() {
        let from: Url = "https://r.example:5000/v2/_catalog?n=2".parse().unwrap();
        let resolved = |target: &str| to(target).resolve(&from).map(|url| url.map(String::from));
        for (target, expected) in [
            ("/v2/_catalog?last=b#x", "https://r.example:5000/v2/_catalog?last=b"),
            ("_catalog?last=b", "https://r.example:5000/v2/_catalog?last=b"),
            ("?last=b", "https://r.example:5000/v2/_catalog?last=b"),
            ("https://R.example:5000/x", "https://r.example:5000/x"),
        ] {
            assert_eq!(resolved(target).unwrap().as_deref(), Some(expected));
        }
        for (target, said) in [
            ("http://r.example:5000/x?token=made-up", "scheme `http` instead of `https`"),
            ("//other.example:5000/x", "host `other.example` instead of `r.example`"),
            ("https://r.example/x", "port 443 instead of 5000"),
            ("http://other.example/x", "scheme `http` instead of `https`, host `other.example` instead of `r.example`"),
            ("file:///etc/passwd", "scheme `file` instead of `https`, host `` instead of `r.example`"),
            ("https://user:made-up@r.example:5000/x", "user or password"),
            ("http://[", "not a URL"),
        ] {
            let message = resolved(target).unwrap_err().to_string();
            assert!(message.contains(said) && !message.contains("made-up"), "{target}: {message}");
        }
        assert_eq!(NextLink::None.resolve(&from).unwrap(), None);
        assert!(NextLink::Invalid.resolve(&from).is_err());
    }

    #[test]
    fn no_text_makes_it_panic() {
        let characters: Vec<char> = "<>;,=\"\\ relnxé/'".chars().collect();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let text: String = (0..random.usize(..24)).filter_map(|_| random.choice(&characters)).collect();
            let _ = next(&[&text]);
        }
    }
}
