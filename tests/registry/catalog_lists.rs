//! Whole registries, lists of images in a file, and filters.

use std::path::Path;

use crate::support::fault_proxy::{self, Fault};
use crate::support::pull::{options, registry};
use crate::support::registry::{Registry, Setup, USER};
use crate::support::served::{clean_layer, serve};
use crate::support::server::{Answer, Server};
use crate::support::{layersift, text};
use layersift_model::Digest;
use layersift_source::catalog::{Catalog, CatalogError, Entry, Filter, ImageList, ListedRepositories, WholeRegistry};
use layersift_source::registry::{Credentials, Login, RegistryError, RegistryOptions};

fn listed(catalog: &dyn Catalog, filter: &Filter) -> (Vec<String>, Vec<CatalogError>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for found in catalog.entries(filter) {
        match found {
            Ok(entry) => entries.push(entry.reference().to_string()),
            Err(error) => errors.push(error),
        }
    }
    (entries, errors)
}

fn whole(host: &str, options: RegistryOptions) -> WholeRegistry {
    WholeRegistry::new(registry(host, options))
}

/// An image without anything that one would look at but its name.
fn entry(repository: &str, tags: &[&str], pushed_at: Option<i64>) -> Entry {
    Entry {
        host: "h.example".parse().unwrap(),
        project: None,
        repository: repository.into(),
        tags: tags.iter().map(ToString::to_string).collect(),
        digest: Some(Digest::of(b"")),
        pushed_at,
    }
}

fn list(text: &str) -> ImageList {
    ImageList::parse(Path::new("images.txt"), text).unwrap()
}

#[test]
fn every_tag_of_a_registry() {
    let registry = Registry::filled(&["team/app:v1", "team/app:v2", "tool:latest", "a/b/c-d_e:x"]);
    let host = registry.host();
    let catalog = whole(&host, options());
    let (mut entries, errors) = listed(&catalog, &Filter::default());
    entries.sort();
    assert!(errors.is_empty(), "{errors:?}");
    let names = ["a/b/c-d_e:x", "team/app:v1", "team/app:v2", "tool:latest"];
    assert_eq!(entries, names.map(|name| format!("{host}/{name}")));
    let filter = Filter::new(&["team/*", "tool:*"], &["*:v2"]).unwrap().pushed_since(Some(0));
    let (mut entries, _) = listed(&catalog, &filter);
    entries.sort();
    assert_eq!(entries, ["team/app:v1", "tool:latest"].map(|name| format!("{host}/{name}")));
    let found = catalog.entries(&filter).next().unwrap().unwrap();
    assert_eq!((found.digest.clone(), found.pushed_at, &found.project), (None, None, &None));
    assert!(!catalog.request_scan(&found).unwrap());
}

#[test]
fn what_a_listing_without_a_known_next_page_lists_is_an_entry() {
    for (part, is_whole) in [("_catalog", true), ("tags/list", false)] {
        let registry = Registry::filled(&["team/app:v1", "tool:latest"]);
        let proxy = fault_proxy::start(registry.port, move |request, _| match request.path.contains(part) {
            true => Fault::Header("Link", "<what".into()),
            false => Fault::None,
        });
        let (entries, errors) = listed(&whole(&proxy.host(), options()), &Filter::default());
        assert_eq!(entries.len(), 2, "{part}");
        assert_eq!(errors.len(), if is_whole { 1 } else { 2 }, "{errors:?}");
        assert!(errors.iter().all(|error| error.is_whole() == is_whole), "{errors:?}");
    }
}

#[test]
fn many_repositories_with_links_elsewhere_are_not_the_end() {
    let names: Vec<String> = (0..60).map(|number| format!("team/app{number}")).collect();
    let server = Server::answering(move |request, _| match request.path.contains("_catalog") {
        true => Answer::new(200, serde_json::json!({ "repositories": names }).to_string()),
        false => Answer::new(200, r#"{"tags":["v1"]}"#).with("Link", "<http://other.example/>; rel=next"),
    });
    let (entries, errors) = listed(&whole(&server.host(), options()), &Filter::default());
    assert_eq!((entries.len(), errors.len()), (60, 60), "{errors:?}");
    assert!(errors.iter().all(|error| matches!(error, CatalogError::Repository { .. })), "{errors:?}");
}

#[test]
fn a_sweep_of_a_listing_without_a_known_next_page_is_incomplete() {
    let swept = |link: &'static str| {
        let server = serve(&[clean_layer()], move |request, _, answer| match request.path.contains("_catalog") {
            true => answer.with("Link", link),
            false => answer,
        });
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store.db");
        let sweep = ["sweep", "registry", &server.host(), "--plain-http", "--anonymous", "--format", "json", "--store"];
        layersift(&[&sweep[..], &[text(&store)]].concat())
    };
    swept("<first>; rel=prev").expect(0);
    for (link, said) in [("<what", "Link header cannot be parsed"), ("<//other/x>; rel=next", "has host `other`")] {
        let report = swept(link).expect(3).json();
        assert_eq!((report["images"].as_u64(), report["verdict"].as_str()), (Some(1), Some("incomplete")));
        let told = report["not_looked_at"].to_string();
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn a_registry_that_requires_credentials() {
    let registry = Setup::default().basic().start();
    let login = format!("--dest-creds={}:{}", USER.0, USER.1);
    registry.push("team/app:v1", &["--dest-tls-verify=false", &login]);
    let credentials = Credentials::Password { user: USER.0.into(), password: USER.1.into() };
    let robot = RegistryOptions { login: Login::As(credentials), ..options() };
    let (entries, errors) = listed(&whole(&registry.host(), robot), &Filter::default());
    assert_eq!((entries.len(), errors.len()), (1, 0), "{errors:?}");
    let (entries, errors) = listed(&whole(&registry.host(), options()), &Filter::default());
    assert!(entries.is_empty());
    let [CatalogError::Whole { error, .. }] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(matches!(**error, RegistryError::Unauthorized { .. }), "{error}");
}

#[test]
fn a_repository_that_is_gone_costs_only_itself() {
    let registry = Registry::filled(&["a/one:x", "b/two:x", "c/three:x"]);
    let proxy = fault_proxy::start(registry.port, |request, _| match request.path.contains("/b/two/tags") {
        true => Fault::Answer(Answer::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)),
        false => Fault::None,
    });
    let catalog = whole(&proxy.host(), options());
    let (entries, errors) = listed(&catalog, &Filter::default());
    assert_eq!(entries, ["a/one:x", "c/three:x"].map(|name| format!("{}/{name}", proxy.host())));
    let coverage = catalog.coverage().unwrap();
    assert!(errors.is_empty() && coverage.is_checked, "{errors:?}");
    let listed = ListedRepositories::Only(vec!["a/one".into(), "c/three".into()]);
    assert_eq!(coverage.listed[0].repositories, listed);
    assert!(coverage.notes[0].contains("b/two"), "{:?}", coverage.notes);
}

/// GitLab, Quay and others show a stranger that a repository is there, and nothing in it.
#[test]
fn a_repository_without_tags_is_said_and_not_seen() {
    let registry = Registry::filled(&["a/one:x", "b/two:x"]);
    for body in [r#"{"name":"b/two","tags":[]}"#, r#"{"name":"b/two","tags":null}"#] {
        let proxy = fault_proxy::start(registry.port, move |request, _| match request.path.contains("/b/two/tags") {
            true => Fault::Answer(Answer::new(200, body)),
            false => Fault::None,
        });
        let catalog = whole(&proxy.host(), options());
        let (entries, errors) = listed(&catalog, &Filter::default());
        assert_eq!((entries.len(), errors.len()), (1, 0), "{errors:?}");
        let coverage = catalog.coverage().unwrap();
        assert_eq!(coverage.listed[0].repositories, ListedRepositories::Only(vec!["a/one".into()]));
        assert!(coverage.notes[0].contains("b/two"), "{:?}", coverage.notes);
    }
    for body in ["{}", r#"{"errors":[{"code":"DENIED"}]}"#, r#"{"repositories":[]}"#] {
        let proxy = fault_proxy::start(registry.port, move |request, _| match request.path.contains("/b/two/tags") {
            true => Fault::Answer(Answer::new(200, body)),
            false => Fault::None,
        });
        let (_, errors) = listed(&whole(&proxy.host(), options()), &Filter::default());
        assert!(matches!(&errors[..], [CatalogError::Repository { .. }]), "{body}: {errors:?}");
    }
}

#[test]
fn what_is_excluded_is_not_requested() {
    let registry = Registry::filled(&["a/one:x", "b/two:x"]);
    let proxy = fault_proxy::start(registry.port, |_, _| Fault::None);
    let filter = Filter::new::<&str>(&[], &["b/*"]).unwrap();
    let (entries, errors) = listed(&whole(&proxy.host(), options()), &filter);
    assert_eq!((entries.len(), errors.len()), (1, 0));
    assert_eq!(proxy.requests_of("/tags/list").len(), 1);
}

#[test]
fn invalid_names_and_listings_that_fail() {
    let server = Server::answering(|request, _| match request.path.as_str() {
        path if path.contains("/a/tags") => Answer::new(200, r#"{"tags":["good","..","also"]}"#),
        path if path.contains("last=") => Answer::new(500, ""),
        _ => Answer::new(200, r#"{"repositories":["../b","a"]}"#).with("Link", "</v2/_catalog?last=a>; rel=\"next\""),
    });
    let found: Vec<_> = whole(&server.host(), options()).entries(&Filter::default()).map(|found| found.err()).collect();
    let [Some(name), None, Some(tag), None, Some(last)] = found.as_slice() else { panic!("{found:?}") };
    assert!(matches!(name, CatalogError::Entry { .. }) && matches!(tag, CatalogError::Entry { .. }));
    assert!(last.is_whole() && last.to_string().starts_with(&server.host()), "{last}");
}

#[test]
fn a_list_of_several_registries() {
    let digest = Digest::of(b"");
    let text = format!(
        "\u{feff}# what runs\r\n\r\nh.example/team/app:v1\r\n  docker://g.example:5000/tool@{digest}  # pinned\n\
         alpine\n\th.example/team/app:v1\n#h.example/not:this\nh.example/team/app:v2@{digest}"
    );
    let list = list(&text);
    let (entries, errors) = listed(&list, &Filter::default());
    assert!(errors.is_empty(), "{errors:?}");
    let expected = [
        "h.example/team/app:v1".to_string(),
        format!("g.example:5000/tool@{digest}"),
        "docker.io/library/alpine:latest".into(),
        format!("h.example/team/app:v2@{digest}"),
    ];
    assert_eq!(entries, expected);
    let hosts: Vec<String> = list.hosts().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["docker.io", "g.example:5000", "h.example"]);
    let (entries, _) = listed(&list, &Filter::new(&["team/*"], &["*:v2"]).unwrap());
    assert_eq!(entries, ["h.example/team/app:v1"]);
}

#[test]
fn invalid_lines() {
    let list = list("h.example/a\nh.example/A\n\nh.example/b c\nh.example/b#c\nh.example/d@sha256:1\nh.example/e");
    let (entries, errors) = listed(&list, &Filter::default());
    assert_eq!(entries, ["h.example/a:latest", "h.example/e:latest"]);
    let lines: Vec<usize> = errors
        .iter()
        .map(|error| match error {
            CatalogError::Line { line, .. } => *line,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(lines, [2, 4, 5, 6]);
    assert!(errors[0].to_string().starts_with("images.txt: line 2: invalid repository `A`"), "{}", errors[0]);
    assert!(errors.iter().all(|error| !error.is_whole()));
}

#[test]
fn invalid_lists() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("images.txt");
    assert!(matches!(ImageList::read(&path), Err(CatalogError::File { .. })));
    std::fs::write(&path, b"h.example/a\xff").unwrap();
    assert!(matches!(ImageList::read(&path), Err(CatalogError::File { .. })));
    std::fs::write(&path, "h.example/a:1\n").unwrap();
    assert_eq!(ImageList::read(&path).unwrap().entries(&Filter::default()).count(), 1);
    std::fs::write(&path, "X\n".repeat(250_001)).unwrap();
    let error = ImageList::read(&path).unwrap_err().to_string();
    assert!(error.contains("images.txt") && error.contains("divide"), "{error}");
    std::fs::File::create(&path).unwrap().set_len((32 << 20) + 1).unwrap();
    assert!(ImageList::read(&path).unwrap_err().to_string().contains("bytes"));
}

#[test]
fn patterns_of_repositories_and_tags() {
    let kept = |include: &[&str], exclude: &[&str], repository: &str, tags: &[&str]| {
        let filter = Filter::new(include, exclude).unwrap();
        let kept = filter.apply(entry(repository, tags, None));
        assert!(kept.is_none() || filter.admits_repository(repository), "{repository} would not be asked for");
        kept.map(|entry| entry.tags.join(","))
    };
    let is = |text: &str| Some(text.to_string());
    assert_eq!(kept(&[], &[], "team/app", &["v1", "v2"]), is("v1,v2"));
    assert_eq!(kept(&["team/*"], &[], "team/a/b", &["v1"]), is("v1"));
    assert_eq!(kept(&["team/?pp"], &[], "team/app", &["v1"]), is("v1"));
    assert_eq!(kept(&["team/*"], &[], "teams/app", &["v1"]), None);
    assert_eq!(kept(&["*:v*"], &[], "team/app", &["v1", "dev", "v2"]), is("v1,v2"));
    assert_eq!(kept(&["*:v*"], &[], "team/app", &["dev"]), None);
    assert_eq!(kept(&["*:v*"], &[], "team/app", &[]), None);
    assert_eq!(kept(&["x/*", "*:v1"], &[], "team/app", &["v1", "v2"]), is("v1"));
    assert_eq!(kept(&["*"], &["team/*"], "team/app", &["v1"]), None);
    assert_eq!(kept(&["team/*"], &["*:dev", "*:tmp-*"], "team/app", &["dev", "v1", "tmp-1"]), is("v1"));
    assert_eq!(kept(&["team/*"], &["*:dev"], "team/app", &["dev"]), None);
    assert_eq!(kept(&["team/*"], &["*:dev"], "team/app", &[]), is(""));
    assert_eq!(kept(&["{a,b}/*"], &[], "b/app", &[]), is(""));
}

#[test]
fn invalid_patterns() {
    for wrong in ["", " ", "a[", "{a", "x:[z-a]"] {
        for (include, exclude) in [(vec![wrong], vec![]), (vec![], vec!["fine", wrong])] {
            let error = Filter::new(&include, &exclude).unwrap_err();
            assert!(matches!(&error, CatalogError::Glob { glob, .. } if glob == wrong), "{error}");
        }
    }
}

#[test]
fn images_by_age() {
    let filter = Filter::default().pushed_since(Some(100));
    for (pushed_at, is_kept) in [(Some(99), false), (Some(100), true), (Some(101), true), (None, true)] {
        assert_eq!(filter.apply(entry("a", &["x"], pushed_at)).is_some(), is_kept, "{pushed_at:?}");
    }
    assert!(Filter::default().apply(entry("a", &["x"], Some(i64::MIN))).is_some());
}
