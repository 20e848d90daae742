//! Sweeps and what refers to an image: read with a new image, and again only when asked to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use layersift_fleet::{Progress, Registries, Sweep, SweepLimits};
use layersift_model::{Digest, LayerKey, SweepReport, Verdict};
use layersift_report::Policy;
use layersift_source::catalog::{Filter, ImageList};
use layersift_store::Store;
use serde_json::json;

use super::sweep::{clock, scanner};
use crate::support::Fresh;
use crate::support::image::{INDEX, MANIFEST, bytes, descriptor, digest, index};
use crate::support::pull::options;
use crate::support::referred::Repository;
use crate::support::served::clean_layer;
use crate::support::server::{Answer, Server};

crate::on_both!(
    referrers_of_a_new_image_are_read_and_a_known_image_costs_one_request,
    what_was_attached_later_is_read_when_asked_for,
    an_index_and_its_images_have_their_own_referrers,
    an_image_whose_referrers_are_not_known_is_read_again,
);

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

fn repository() -> (Repository, String) {
    let repository = Repository::new(&[clean_layer()], true);
    let image = repository.named("v1");
    (repository, image)
}

fn attest(repository: &mut Repository, image: &str, note: &str) -> String {
    let mut document = repository.referrer(Some(image), &[]);
    document["annotations"] = json!({ note: TOKEN });
    repository.put(MANIFEST, &bytes(&document), None)
}

fn sweep(store: &Store, server: &Server, limits: &SweepLimits) -> SweepReport {
    let catalog = ImageList::parse(Path::new("the list"), &format!("{}/app:v1", server.host())).unwrap();
    let registries = Registries::new(options(), None);
    let (policy, progress) = (Policy::default(), Progress::default());
    let sweep =
        Sweep { scanner: scanner(), store, registries: &registries, policy: &policy, clock, progress: &progress };
    sweep.run("the list", &catalog, &Filter::default(), limits).unwrap()
}

fn limits() -> SweepLimits {
    SweepLimits { threads: 2, lease: 100_000, ..SweepLimits::default() }
}

/// The kinds of the documents with findings in the stored report of an image.
fn kinds(store: &Store, manifest: &str) -> Vec<String> {
    let manifest: Digest = manifest.parse().unwrap();
    let key = LayerKey::new(scanner().layer_key());
    let report = store.images().report(&manifest, &key).unwrap().unwrap().report;
    let report: serde_json::Value = serde_json::from_str(&layersift_model::to_json(&[report], false).unwrap()).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.filter_map(|finding| Some(finding["document"]["kind"].as_str()?.to_string())).collect()
}

fn referrers_of_a_new_image_are_read_and_a_known_image_costs_one_request(fresh: &Fresh) {
    let store = fresh.open();
    let (mut repository, image) = repository();
    attest(&mut repository, &image, "note");
    let server = repository.serve();
    let first = sweep(&store, &server, &limits());
    assert_eq!((first.verdict, first.failing), (Verdict::Fail, 1), "{first:?}");
    assert_eq!(kinds(&store, &image), ["referrer"]);
    let before = server.requests().len();
    let second = sweep(&store, &server, &limits());
    assert_eq!((second.verdict, server.requests().len() - before), (Verdict::Fail, 1));
}

fn what_was_attached_later_is_read_when_asked_for(fresh: &Fresh) {
    let store = fresh.open();
    let (mut repository, image) = repository();
    attest(&mut repository, &image, "note");
    let is_attached = Arc::new(AtomicBool::new(false));
    let attached = Arc::clone(&is_attached);
    let server = repository.serve_with(move |request, _, answer| {
        let is_hidden = request.path.contains("/referrers/") && !attached.load(Ordering::Relaxed);
        if is_hidden { Answer::new(200, bytes(&index(&[]))).with("Content-Type", INDEX) } else { answer }
    });
    assert_eq!(sweep(&store, &server, &limits()).failing, 0);
    is_attached.store(true, Ordering::Relaxed);
    assert_eq!(sweep(&store, &server, &limits()).failing, 0, "a known image is not looked up again");
    let blobs = server.requests_of("/blobs/").len();
    let again = sweep(&store, &server, &SweepLimits { reread_documents: true, ..limits() });
    assert_eq!((again.failing, kinds(&store, &image)), (1, vec!["referrer".to_string()]), "{again:?}");
    let read: Vec<_> = server.requests_of("/blobs/").split_off(blobs);
    let layer = digest(&clean_layer().blob);
    assert!(read.iter().all(|request| !request.path.ends_with(&layer)), "no layer is read again: {read:?}");
    let without = SweepLimits { with_referrers: false, reread_documents: true, ..limits() };
    let before = server.requests_of("/referrers/").len();
    sweep(&store, &server, &without);
    assert_eq!(server.requests_of("/referrers/").len(), before);
}

fn an_index_and_its_images_have_their_own_referrers(fresh: &Fresh) {
    let store = fresh.open();
    let (mut repository, image) = repository();
    let document = repository.document(&image);
    let mut entry = descriptor(MANIFEST, &document);
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let root = repository.put(INDEX, &bytes(&index(&[entry])), Some("v1"));
    attest(&mut repository, &image, "of-the-image");
    attest(&mut repository, &root, "of-the-index");
    let server = repository.serve();
    let report = sweep(&store, &server, &limits());
    assert_eq!((report.failing, report.incomplete), (2, 0), "{report:?}");
    assert_eq!((kinds(&store, &image), kinds(&store, &root)), (vec!["referrer".into()], vec!["referrer".into()]));
}

fn an_image_whose_referrers_are_not_known_is_read_again(fresh: &Fresh) {
    let store = fresh.open();
    let (repository, _) = repository();
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let server = repository.serve_with(move |request, _, answer| {
        let is_denied = request.path.contains("/referrers/") && down.load(Ordering::Relaxed);
        if is_denied { Answer::new(403, "") } else { answer }
    });
    let first = sweep(&store, &server, &limits());
    assert_eq!(first.verdict, Verdict::Incomplete, "{first:?}");
    assert!(first.problems[0].reason.contains("refers to the image"), "{first:?}");
    is_down.store(false, Ordering::Relaxed);
    assert_eq!(sweep(&store, &server, &limits()).verdict, Verdict::Pass);
}
