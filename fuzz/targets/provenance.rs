//! Statements of provenance and Dockerfiles: from any bytes to lines, or to notes.
//!
//! The input is a statement, a configuration and a Dockerfile, with a zero byte between them.
#![no_main]

use layersift_format::build::{Build, BuildClaims, BuildHints, NamedDockerfile};
use layersift_format::config::ImageConfig;
use layersift_format::json::Node;
use layersift_format::manifest::{Image, LayerSource};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |&byte| byte == 0);
    let (statement, config) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let mut claims = BuildClaims::default();
    if let Ok(node) = Node::parse(statement) {
        claims.add_statement(&node, None);
        claims.add_manifest(&node);
    }
    let config = ImageConfig::parse(config).unwrap_or_default();
    let layers = config.rootfs.diff_ids.iter();
    let layers: Vec<LayerSource> =
        layers.map(|digest| LayerSource { digest: Some(digest.clone()), ..LayerSource::default() }).collect();
    // The statement is about whatever it names first.
    let manifest_digest = layersift_format::provenance::Provenance::read(&Node::parse(statement).unwrap_or(Node::Null))
        .and_then(|provenance| provenance.subjects.into_iter().next());
    let image = Image { manifest_digest, config: config.into(), has_config: true, layers, ..Image::default() };
    for dockerfile in [None, Some(NamedDockerfile::new("Dockerfile", &text))] {
        let lines = text.lines().count() as u64;
        let is_named = dockerfile.is_some();
        let build = Build::of(&image.unpack(), &BuildHints { dockerfile, bases: Vec::new() }, &claims);
        assert_eq!((build.layers.len(), build.history.len()), (image.layers.len(), image.config.read().history.len()));
        for step in build.layers.iter().chain(&build.history).flatten() {
            assert!(step.line > 0 && step.line <= step.end_line && (!is_named || step.end_line <= lines));
        }
    }
});
