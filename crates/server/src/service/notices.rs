//! What a scan is the first to find is announced: in messages, where there is a receiver, and otherwise to nobody, so
//! that a receiver that comes later is told what is new then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use layersift_model::{Digest, LayerKey, NewFinding, SweepReport, calendar};
use layersift_report::Policy;
use layersift_source::registry::Reference;
use layersift_store::{NewNotification, RunId, Seconds, Store, StoreError};

use super::Service;
use super::decider::names;
use super::lookup::{add_asked_bases, layers_of_bases};
use crate::notify::{Message, Untold};
use crate::settings::NotifyFindings;

/// Digits of the name of a delivery.
const DELIVERY: usize = 32;

/// Announces what scans find.
pub(crate) struct Notices {
    pub(crate) service: Arc<Service>,
    /// Which findings are told; `None` where there is no receiver.
    pub(crate) findings: Option<NotifyFindings>,
}

/// What is to be told about one image.
struct Told {
    image: String,
    digest: Digest,
    delivery: String,
    untold: Vec<Untold>,
}

impl Notices {
    /// Announces what the sweep of `reference` found.
    ///
    /// # Errors
    /// When the store fails: then the next scan announces it.
    pub(crate) fn announce(
        &self,
        store: &Store,
        key: &LayerKey,
        reference: &Reference,
        report: &SweepReport,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let Some(findings) = self.findings.filter(|_| !report.news.is_empty()) else {
            return layersift_fleet::announce(store, report);
        };
        let told = self.told(store, key, reference, (report, findings), now)?;
        let scanned_at = format!("{}T{}Z", calendar::date(now), calendar::time(now));
        let compose = |things: &[String]| -> Vec<NewNotification> {
            let things: BTreeSet<&str> = things.iter().map(String::as_str).collect();
            let compose = |told: &Told| {
                let message = Message::about((&told.image, &told.digest), &scanned_at, &told.untold, &things)?;
                let message = serde_json::to_string(&message).ok()?;
                Some(NewNotification { delivery: told.delivery.clone(), message })
            };
            told.iter().filter_map(compose).collect()
        };
        let last = if report.news_are_complete { None } else { report.news.last().map(|news| &news.thing[..]) };
        let queued = store.notifications().announce(RunId::from_number(report.run), last, compose, now)?;
        if queued > 0 {
            tracing::info!(image = %reference, messages = queued, "new findings are to be told");
        }
        Ok(())
    }

    /// What is to be told, by image. A run may have the news of one that was killed: they are about other images.
    fn told(
        &self,
        store: &Store,
        key: &LayerKey,
        reference: &Reference,
        (report, findings): (&SweepReport, NotifyFindings),
        now: Seconds,
    ) -> Result<Vec<Told>, StoreError> {
        let own: BTreeSet<Digest> = match &reference.digest {
            Some(digest) => store.images().led_to(digest)?.into_iter().chain([digest.clone()]).collect(),
            None => BTreeSet::new(),
        };
        let mut by_image: BTreeMap<Digest, Vec<_>> = BTreeMap::new();
        for news in &report.news {
            let digest = reference.digest.as_ref().filter(|_| own.contains(&news.image)).unwrap_or(&news.image);
            by_image.entry(digest.clone()).or_default().push(news.clone());
        }
        let policy = self.service.decider.policy();
        let bases = layers_of_bases(store, policy.bases())?;
        let mut all = Vec::new();
        for (digest, news) in by_image {
            let image = match &reference.digest {
                Some(own) if *own == digest => reference.to_string(),
                _ => place(store, &digest)?,
            };
            let names = image.parse().as_ref().map(names).unwrap_or_default();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let terms = policy.terms(&names, None);
            let judging = (&terms.findings, &bases[..]);
            let untold = self.untold((store, key), &news, judging, findings == NotifyFindings::All)?;
            let delivery = Digest::of(format!("{} {digest} {now}", report.run).as_bytes());
            let delivery = delivery.hex().chars().take(DELIVERY).collect();
            all.push(Told { image, digest, delivery, untold });
        }
        Ok(all)
    }

    /// What of `news` is to be told. Their images are those of one index: one report is read after another.
    fn untold(
        &self,
        (store, key): (&Store, &LayerKey),
        news: &[NewFinding],
        (policy, bases): (&Policy, &[Vec<Digest>]),
        tells_all: bool,
    ) -> Result<Vec<Untold>, StoreError> {
        let images: BTreeSet<&Digest> = news.iter().map(|news| &news.image).collect();
        let mut untold = BTreeMap::new();
        for image in images {
            let entries = store.images().report_entries(std::slice::from_ref(image), Some(key), Some(&[]))?;
            let entry = entries.into_iter().flatten().next();
            let _memory =
                entry.as_ref().and_then(|entry| self.service.report_memory.lease_for_document(entry.memory()));
            let mut report = entry.map(|entry| store.images().read(&entry)).transpose()?.flatten();
            add_asked_bases(store, &mut report, policy)?;
            report.iter_mut().for_each(|report| policy.judge(report));
            let of_image = news.iter().enumerate().filter(|(_, news)| news.image == *image);
            untold.extend(of_image.filter_map(|(number, news)| {
                Some((number, crate::notify::untold(news, report.as_ref(), (policy, bases), tells_all)?))
            }));
        }
        // In the order in which they are announced.
        Ok(untold.into_values().collect())
    }
}

/// Where an image is, by its digest.
fn place(store: &Store, digest: &Digest) -> Result<String, StoreError> {
    let repository = store.notifications().repository_of(digest)?;
    Ok(repository.map_or_else(|| digest.to_string(), |repository| format!("{repository}@{digest}")))
}
