//! Images of a registry as the scanner reads them: by tag, by digest, and of an index, by platform.

use crate::support::pull::{options, registry, source};
use crate::support::registry::Registry;
use layersift_format::Opened;
use layersift_format::manifest::images;
use layersift_format::platform::Choice;
use layersift_model::{Digest, GapReason, Limits};
use layersift_source::registry::{At, RegistryOptions};
use layersift_source::{Target, open};
use serde_json::json;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn an_image_of_a_registry() {
    let server = Registry::filled(&["team/app:v1"]);
    let target = Target::parse(&format!("docker://{}/team/app:v1", server.host())).unwrap();
    let Opened::Source(source) = open(&target, &Limits::default(), &options()).unwrap() else { panic!() };
    let found = images(&*source, &Choice::Default, &Limits::default()).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reference.as_deref(), Some(target.reference.unwrap().as_str()));
    assert!(found[0].has_config && found[0].gaps.is_empty() && found[0].layers.len() > 1, "{:?}", found[0]);
    let plain = RegistryOptions { plain_http: false, ..options() };
    let target = Target::parse(&format!("docker://{}/team/app:v1", server.host())).unwrap();
    let Opened::Source(source) = open(&target, &Limits::default(), &plain).unwrap() else { panic!() };
    assert!(images(&*source, &Choice::Default, &Limits::default()).is_err(), "plain HTTP is asked for by nobody");
}

#[test]
fn an_index_of_a_registry() {
    let server = Registry::filled(&["team/app:v1"]);
    let manifest = registry(&server.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap();
    let entry = |digest: &Digest, architecture: &str| {
        json!({"mediaType": manifest.media_type, "digest": digest, "size": manifest.bytes.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&manifest.digest, "amd64")]});
    server.put_manifest("team/app", "many", INDEX, index.to_string().as_bytes());
    let source = source(&format!("{}/team/app:many", server.host()), options());
    let found = images(&source, &Choice::All, &Limits::default()).unwrap();
    assert_eq!(found[0].manifest_digest, Some(manifest.digest.clone()));
    assert!(found[0].gaps.is_empty() && found[0].has_config, "{:?}", found[0].gaps);
    // The index, the manifest and the configuration, each once.
    assert_eq!(source.registry().usage().requests, 3);
}

#[test]
fn an_image_whose_layers_are_gone_is_a_gap_and_one_that_is_not_there_an_error() {
    let server = Registry::filled(&["team/app:v1"]);
    let missing = source(&format!("{}/team/app:v2", server.host()), options());
    let error = images(&missing, &Choice::Default, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("/v2/team/app/manifests/v2: not found"), "{error}");
    let proxy = crate::support::fault_proxy::start(server.port, |request, _| match request.path.contains("/blobs/") {
        true => crate::support::fault_proxy::Fault::Answer(crate::support::server::Answer::new(404, "")),
        false => crate::support::fault_proxy::Fault::None,
    });
    let source = source(&format!("{}/team/app:v1", proxy.host()), options());
    let found = images(&source, &Choice::Default, &Limits::default()).unwrap();
    assert!(found[0].gaps.iter().any(|gap| gap.reason == GapReason::MissingBlob), "{:?}", found[0].gaps);
}
