//! Listings of registries that do not end, lead in circles or elsewhere, or know no pages.

use crate::support::pull::{options, registry};
use crate::support::server::{Answer, Request, Server};
use layersift_source::registry::{EndlessListing, ListingLimits, Names, ProtocolError, RegistryError, RegistryOptions};
use serde_json::json;

const LISTING: ListingLimits = ListingLimits { page: 2, pages: 20, names: 30 };

fn catalog(server: &Server) -> Names {
    registry(&server.host(), RegistryOptions { listing: LISTING, ..options() }).repositories()
}

fn page(names: &[&str]) -> Answer {
    Answer::new(200, json!({ "repositories": names }).to_string())
}

fn linked(names: &[&str], link: &str) -> Answer {
    page(names).with("Link", &format!("<{link}>; rel=\"next\""))
}

/// The names of a listing that ends with an error, and the error.
fn failing(names: Names) -> (Vec<String>, RegistryError) {
    let mut good = Vec::new();
    let mut names = names;
    for name in names.by_ref() {
        match name {
            Ok(name) => good.push(name),
            Err(error) => {
                assert!(names.next().is_none(), "nothing follows `{error}`");
                return (good, error);
            }
        }
    }
    panic!("it ends well: {good:?}")
}

fn last(request: &Request) -> &str {
    request.path.split_once("last=").map_or("", |(_, last)| last)
}

#[test]
fn links_relative_and_absolute() {
    let server = Server::answering(|request, _| {
        let host = request.header("host").unwrap();
        match last(request) {
            "" => linked(&["a", "b"], "/v2/_catalog?n=2&last=b"),
            "b" => linked(&["c"], &format!("http://{host}/v2/_catalog?n=2&last=c")),
            "c" => linked(&[], "_catalog?n=2&last=d"),
            _ => page(&["e"]),
        }
    });
    let names: Result<Vec<String>, _> = catalog(&server).collect();
    assert_eq!(names.unwrap(), ["a", "b", "c", "e"]);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn links_as_registries_write_them() {
    let forms: [&[&str]; 9] = [
        &["</v2/_catalog?n=2&last=b>; rel=\"next\""],
        &["/v2/_catalog?n=2&last=b; rel=\"next\""],
        &["_catalog?n=2&last=b; rel=next"],
        &["<?n=2&last=b>; REL=\"next\""],
        &["</v2/_catalog?n=2&last=b>; title=\"x; y\"; rel=next"],
        &["</v2/_catalog>; rel=\"first\", </v2/_catalog?n=2&last=b>; rel=\"last next\""],
        &["/v2/_catalog; rel=first, /v2/_catalog?n=2&last=b; rel=next"],
        &["</v2/_catalog>; rel=first", "</v2/_catalog?n=2&last=b>; rel=next"],
        &["what?", "</v2/_catalog?n=2&last=b>; rel=next"],
    ];
    for form in forms {
        // One name: that a page is full is not what leads to the next.
        let server = Server::answering(move |request, _| match last(request) {
            "" => form.iter().fold(page(&["a"]), |answer, link| answer.with("Link", link)),
            _ => page(&["c"]),
        });
        let names: Result<Vec<String>, _> = catalog(&server).collect();
        assert_eq!(names.unwrap(), ["a", "c"], "{form:?}");
    }
}

#[test]
fn a_link_that_cannot_be_parsed_is_an_error_after_the_names() {
    for link in ["</v2/_catalog?last=b", "</v2/_catalog?last=b>", "next: /v2/_catalog", "<a>; rel", "<\u{a0}"] {
        for names in [&["a", "b"][..], &["a"], &[]] {
            let server = Server::answering(move |_, _| page(names).with("Link", link));
            let (listed, error) = failing(catalog(&server));
            assert_eq!(listed, names, "{link}");
            let expected = ProtocolError::LinkHeader;
            assert!(
                matches!(&error, RegistryError::Protocol { error, .. } if error.to_string() == expected.to_string()),
                "{link}: {error}"
            );
            assert_eq!(server.requests().len(), 1);
        }
    }
    let server = Server::answering(|_, _| Answer::new(200, r#"{"name":"a","tags":["x"]}"#).with("Link", "<what"));
    let (tags, error) = failing(registry(&server.host(), options()).tags("a").unwrap());
    assert!(tags == ["x"] && error.to_string().contains("Link header"), "{error}");
}

#[test]
fn no_links_but_full_pages() {
    let server = Server::answering(|request, _| match last(request) {
        "" => page(&["a", "b"]),
        "b" => page(&["c", "d"]),
        _ => page(&[]),
    });
    let names: Result<Vec<String>, _> = catalog(&server).collect();
    assert_eq!(names.unwrap(), ["a", "b", "c", "d"]);
}

#[test]
fn a_registry_without_pages() {
    for names in [&["a", "b"][..], &["a"], &["a", "b", "c"], &[]] {
        let own: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let server = Server::answering(move |_, _| Answer::new(200, json!({ "repositories": own }).to_string()));
        let listed: Result<Vec<String>, _> = catalog(&server).collect();
        assert_eq!(listed.unwrap(), names);
    }
    let server = Server::answering(|_, _| Answer::new(200, r#"{"name":"a","tags":null}"#));
    assert_eq!(registry(&server.host(), options()).tags("a").unwrap().count(), 0);
}

#[test]
fn pages_without_end() {
    let server = Server::answering(|request, _| {
        let count = last(request).parse::<u32>().unwrap_or(0) + 1;
        linked(&[&format!("a{count}")], &format!("/v2/_catalog?last={count}"))
    });
    let (names, error) = failing(catalog(&server));
    assert_eq!(names.len(), LISTING.pages);
    assert!(matches!(error, RegistryError::Endless { reason: EndlessListing::Pages(20), .. }), "{error}");
}

#[test]
fn empty_pages_without_end() {
    let server = Server::answering(|request, _| {
        let count = last(request).parse::<u32>().unwrap_or(0) + 1;
        linked(&[], &format!("/v2/_catalog?last={count}"))
    });
    let (names, error) = failing(catalog(&server));
    assert!(names.is_empty() && matches!(error, RegistryError::Endless { .. }), "{error}");
    assert_eq!(server.requests().len(), LISTING.pages);
}

#[test]
fn names_without_end() {
    let server = Server::answering(|_, _| {
        let names: Vec<String> = (0..40).map(|count| format!("a{count}")).collect();
        Answer::new(200, json!({ "repositories": names }).to_string())
    });
    let (names, error) = failing(catalog(&server));
    assert_eq!(names.len(), LISTING.names);
    assert!(matches!(error, RegistryError::Endless { reason: EndlessListing::Names(30), .. }), "{error}");
}

#[test]
fn a_page_that_leads_back() {
    let server = Server::answering(|request, _| match last(request) {
        "b" => linked(&["c"], "/v2/_catalog?last=a"),
        "a" => linked(&["b"], "/v2/_catalog?last=b"),
        _ => linked(&["a"], "/v2/_catalog?last=a"),
    });
    let (names, error) = failing(catalog(&server));
    assert_eq!(names, ["a", "b", "c"]);
    assert!(matches!(error, RegistryError::Endless { reason: EndlessListing::Circle, .. }), "{error}");
}

#[test]
fn a_page_that_does_not_change() {
    let server = Server::answering(|request, _| {
        let count = request.path.len();
        linked(&["a", "b"], &format!("/v2/_catalog?last={}", "b".repeat(count)))
    });
    let (names, error) = failing(catalog(&server));
    assert_eq!(names, ["a", "b"]);
    assert!(matches!(error, RegistryError::Endless { reason: EndlessListing::SamePage, .. }), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_page_on_another_host_is_not_requested() {
    let other = Server::answering(|_, _| page(&["stolen"]));
    let targets = [
        format!("http://{}/v2/_catalog?last=b", other.host()),
        format!("//{}/v2/_catalog", other.host()),
        "https://127.0.0.1/v2/_catalog".into(),
        "http://user@{host}/v2/_catalog".into(),
        "file:///etc/passwd".into(),
    ];
    for target in targets {
        let server = Server::answering(move |request, _| {
            linked(&["a", "b"], &target.replace("{host}", request.header("host").unwrap()))
        });
        let (names, error) = failing(catalog(&server));
        assert!(names == ["a", "b"] && matches!(error, RegistryError::Refused { .. }), "{names:?}: {error}");
    }
    assert!(other.requests().is_empty());
    let server = Server::answering(|request, _| {
        linked(&["a"], &format!("https://{}/v2/_catalog", request.header("host").unwrap()))
    });
    let (_, error) = failing(catalog(&server));
    assert!(error.to_string().contains("has scheme `https` instead of `http`; correct the external URL"), "{error}");
}

#[test]
fn invalid_names_are_errors_and_the_others_follow() {
    let server = Server::answering(|_, _| Answer::new(200, r#"{"repositories":["a","../b","C","d"]}"#));
    let names: Vec<Option<String>> = catalog(&server).map(Result::ok).collect();
    assert_eq!(names, [Some("a".into()), None, None, Some("d".into())]);
}

#[test]
fn invalid_listings() {
    for body in ["", "[]", r#"{"repositories":{}}"#, r#"{"repositories":[1]}"#, "<html>"] {
        let server = Server::answering(move |_, _| Answer::new(200, body));
        let (names, error) = failing(catalog(&server));
        assert!(names.is_empty() && matches!(error, RegistryError::Protocol { .. }), "{body}: {error}");
    }
}
