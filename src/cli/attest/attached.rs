//! Attaches signed statements in both forms, and says where they are.

use std::thread;

use anyhow::anyhow;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::attested::{Attested, Signed};
use layersift_attest::registry::{ListedIn, Pace, attach_bundles, attach_layers};
use layersift_model::{Digest, Verdict};
use layersift_report::plural;
use layersift_source::registry::Repository;

/// The version of the form of the JSON.
const SCHEMA: u32 = 1;

/// Attestations of an image that were attached in one form.
pub(super) struct Attached {
    subject: Digest,
    count: usize,
    listed_in: ListedIn,
}

/// Attaches all in both forms. The lists of images and forms are separate, and each is watched for some seconds.
pub(super) fn attach_all(repository: &Repository, signed: &[Signed<'_>]) -> anyhow::Result<Vec<Attached>> {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for signed in signed {
            threads.push(scope.spawn(|| attach_as_bundles(repository, signed)));
            threads.push(scope.spawn(|| attach_as_layers(repository, signed)));
        }
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<Attached>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread that attaches attestations panicked")))
        };
        threads.into_iter().map(join).collect()
    })
}

fn attach_as_bundles(repository: &Repository, signed: &Signed<'_>) -> anyhow::Result<Attached> {
    let (subject, now) = (signed.subject, Timestamp::now());
    let artifact = |attested: &Attested| attested.bundle.artifact(&attested.predicate_type, subject, now);
    let artifacts = signed.of.iter().map(artifact).collect::<Result<Vec<_>, _>>()?;
    let listed_in = attach_bundles(repository, &subject.digest, &artifacts, Pace::default())?;
    Ok(Attached { subject: subject.digest.clone(), count: artifacts.len(), listed_in })
}

fn attach_as_layers(repository: &Repository, signed: &Signed<'_>) -> anyhow::Result<Attached> {
    let layer = |attested: &Attested| attested.layer.to_append(&attested.predicate_type);
    let layers = signed.of.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
    let subject = &signed.subject.digest;
    let listed_in = attach_layers(repository, subject, &layers, Pace::default())?;
    Ok(Attached { subject: subject.clone(), count: layers.len(), listed_in })
}

impl Attached {
    /// The form of the attestations, and where they are.
    fn place(&self) -> (&'static str, &'static str) {
        match self.listed_in {
            ListedIn::Referrers => ("bundle", "referrers"),
            ListedIn::FallbackTag => ("bundle", "fallback-tag"),
            ListedIn::LegacyTag => ("layer", "att-tag"),
        }
    }
}

/// A line for each image and form.
pub(super) fn text(attached: &[Attached]) -> String {
    let line = |attached: &Attached| {
        let place = match attached.listed_in {
            ListedIn::Referrers => "bundles, in the registry's list of referrers",
            ListedIn::FallbackTag => "bundles, in the fallback tag, because the registry keeps no list of referrers",
            ListedIn::LegacyTag => "layers of .att",
        };
        format!("{}: {} attached as {place}\n", attached.subject, plural(attached.count as u64, "attestation"))
    };
    attached.iter().map(line).collect()
}

/// An object for each image: what was signed about it, and where that is attached.
pub(super) fn json(signed: &[Signed<'_>], attached: &[Attached], verdict: Verdict) -> anyhow::Result<Vec<u8>> {
    let image = |signed: &Signed<'_>| {
        let of_image = attached.iter().filter(|attached| attached.subject == signed.subject.digest);
        let places = of_image.map(|attached| {
            let (form, place) = attached.place();
            json!({ "form": form, "place": place })
        });
        let types: Vec<&str> = signed.of.iter().map(|attested| &attested.predicate_type[..]).collect();
        json!({ "digest": signed.subject.digest, "predicate_types": types, "attached": places.collect::<Vec<_>>() })
    };
    let images: Vec<Value> = signed.iter().map(image).collect();
    let mut bytes = serde_json::to_vec_pretty(&json!({ "schema": SCHEMA, "verdict": verdict, "images": images }))?;
    bytes.push(b'\n');
    Ok(bytes)
}
