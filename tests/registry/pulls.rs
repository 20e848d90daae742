//! The registry transport against Debian's `docker-registry`: images, indexes, listings, and what is not there.

use crate::support::pull::{open, options, pull, registry, registry_error, source};
use crate::support::registry::Registry;
use layersift_format::{Fetched, ImageSource, Listed};
use layersift_model::Digest;
use layersift_source::registry::{At, ListingLimits, RegistryError, RegistryErrorCode, RegistryOptions};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn an_image_by_its_tag_and_by_its_digest() {
    let server = Registry::filled(&["team/app:v1"]);
    let name = format!("docker://{}/team/app", server.host());
    let by_tag = source(&format!("{name}:v1"), options());
    let image = pull(&by_tag).unwrap();
    assert_eq!(image.reference.as_deref(), Some(format!("{}/team/app:v1", server.host()).as_str()));
    let config: Value = serde_json::from_slice(&image.config).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), image.layers.len());
    assert!(image.layers.len() > 1 && image.layers.iter().all(|(_, bytes)| !bytes.is_empty()));
    let usage = by_tag.registry().usage();
    let bytes: usize = image.layers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + image.config.len();
    assert_eq!(usage.requests as usize, 2 + image.layers.len());
    assert!(usage.bytes as usize > bytes);

    let by_digest = pull(&source(&format!("{name}:other@{}", image.manifest), options())).unwrap();
    assert_eq!(by_digest.manifest, image.manifest);
    assert_eq!(by_digest.layers, image.layers);
}

#[test]
fn a_tag_that_still_names_the_same_is_not_sent_again() {
    let server = Registry::filled(&["team/app:v1", "team/app:v2"]);
    let name = format!("{}/team/app", server.host());
    let asked = registry(&server.host(), options());
    let known = asked.manifest("team/app", &At::Tag("v1".into())).unwrap();
    let tag = source(&format!("{name}:v1"), options());
    assert!(tag.still_names(&known.digest).unwrap());
    assert_eq!((tag.registry().usage().requests, tag.registry().usage().bytes), (1, 0));

    server.put_manifest("team/app", "v1", INDEX, br#"{"schemaVersion": 2, "manifests": []}"#);
    assert!(!tag.still_names(&known.digest).unwrap());
    // What it names instead is there already.
    let requests = tag.registry().usage().requests;
    assert_ne!(tag.root().unwrap().digest, known.digest);
    assert_eq!(tag.registry().usage().requests, requests);

    let digest = source(&format!("{name}@{}", known.digest), options());
    assert!(digest.still_names(&known.digest).unwrap());
    assert!(!digest.still_names(&Digest::of(b"another")).unwrap());
}

#[test]
fn an_index_and_the_manifests_it_names() {
    let server = Registry::filled(&["team/app:v1"]);
    let asked = registry(&server.host(), options());
    let manifest = asked.manifest("team/app", &At::Tag("v1".into())).unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
        "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.bytes.len(),
        "platform": {"os": "linux", "architecture": "amd64"},
    }]});
    server.put_manifest("team/app", "many", INDEX, index.to_string().as_bytes());

    let source = source(&format!("{}/team/app:many", server.host()), options());
    let Listed::Manifest { location, digest, .. } = source.list().unwrap().remove(0) else { panic!() };
    assert_eq!(digest, Some(Digest::of(index.to_string().as_bytes())));
    assert_eq!(open(&source, &location).unwrap(), index.to_string().into_bytes());
    assert_eq!(open(&source, &source.locate_manifest(&manifest.digest)).unwrap(), manifest.bytes);
    // A manifest is not among the blobs, which is why there are two kinds of location.
    assert!(matches!(source.open(&source.locate(&manifest.digest)), Ok(Fetched::Missing)));
}

#[test]
fn missing_tags_repositories_and_digests() {
    use RegistryErrorCode::{ManifestUnknown, NameUnknown};
    let is_unknown = |error: &RegistryError| {
        error.codes().iter().any(|code| matches!(code, ManifestUnknown | NameUnknown)) && !error.is_temporary()
    };
    let server = Registry::filled(&["team/app:v1"]);
    let other = Digest::of(b"nothing");
    let names = ["team/app:v2".to_string(), "team/nothing:v1".to_string(), format!("team/app@{other}")];
    for name in names {
        let error = registry_error(pull(&source(&format!("{}/{name}", server.host()), options())));
        assert!(matches!(error, RegistryError::NotFound { .. }) && is_unknown(&error), "{error}");
        assert!(error.to_string().contains("/v2/team/"), "{error}");
    }
    let source = source(&format!("{}/team/app:v1", server.host()), options());
    source.list().unwrap();
    assert!(matches!(source.open(&source.locate(&other)), Ok(Fetched::Missing)));
    assert!(matches!(source.open(&source.locate_manifest(&other)), Ok(Fetched::Missing)));
}

#[test]
fn small_blobs_are_verified_and_bounded() {
    let server = Registry::filled(&["team/app:v1"]);
    let image = pull(&source(&format!("{}/team/app:v1", server.host()), options())).unwrap();
    let digest = Digest::of(&image.config);
    let asked = registry(&server.host(), options());
    assert_eq!(asked.small_blob("team/app", &digest).unwrap(), image.config);
    let document_bytes = image.config.len() as u64 - 1;
    let tight = registry(&server.host(), RegistryOptions { document_bytes, ..options() });
    assert!(matches!(tight.small_blob("team/app", &digest), Err(RegistryError::TooLarge { .. })));
}

#[test]
fn a_manifest_over_the_limit_is_refused() {
    let server = Registry::filled(&["team/app:v1"]);
    let asked = registry(&server.host(), RegistryOptions { document_bytes: 100, ..options() });
    let error = asked.manifest("team/app", &At::Tag("v1".into())).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { limit: 100, .. }), "{error}");
}

#[test]
fn listings_in_pages_of_any_size() {
    let names = ["a/one:x", "a/three:x", "a/two:x", "a/two:y", "b:x", "b:y", "b:z"];
    let server = Registry::filled(&names);
    for page in [1, 2, 3, 4, 1_000] {
        let listing = ListingLimits { page, ..ListingLimits::default() };
        let asked = registry(&server.host(), RegistryOptions { listing, ..options() });
        let repositories: Result<Vec<String>, _> = asked.repositories().collect();
        assert_eq!(repositories.unwrap(), ["a/one", "a/three", "a/two", "b"], "{page}");
        let tags: Result<Vec<String>, _> = asked.tags("b").unwrap().collect();
        let mut tags = tags.unwrap();
        tags.sort();
        assert_eq!(tags, ["x", "y", "z"], "{page}");
    }
}

#[test]
fn a_listing_is_lazy() {
    let server = Registry::filled(&["a:x", "b:x", "c:x"]);
    let listing = ListingLimits { page: 1, ..ListingLimits::default() };
    let asked = registry(&server.host(), RegistryOptions { listing, ..options() });
    let mut names = asked.repositories();
    assert_eq!(asked.usage().requests, 0);
    assert_eq!(names.next().unwrap().unwrap(), "a");
    assert_eq!(asked.usage().requests, 1);
    assert_eq!(names.next().unwrap().unwrap(), "b");
    assert_eq!(asked.usage().requests, 2);
}

#[test]
fn invalid_names_are_not_requested() {
    let asked = registry("127.0.0.1:1", options());
    let digest = Digest::of(b"");
    for name in ["../x", "A", "a//b", "a?b", "a#b", "", "a/%2e%2e/b"] {
        assert!(
            matches!(asked.manifest(name, &At::Digest(digest.clone())), Err(RegistryError::Reference(_))),
            "{name}"
        );
        assert!(matches!(asked.blob(name, &digest, None), Err(RegistryError::Reference(_))), "{name}");
        assert!(asked.tags(name).is_err(), "{name}");
    }
    assert!(asked.manifest("a", &At::Tag("../b".into())).is_err());
    assert_eq!(asked.usage().requests, 0);
}

#[test]
fn a_port_that_nobody_listens_on() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = registry_error(pull(&source(&format!("127.0.0.1:{port}/app:v1"), options())));
    assert!(matches!(error, RegistryError::Unreachable { attempts: 6, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("after 6 attempts") && message.contains("refused"), "{message}");
}
