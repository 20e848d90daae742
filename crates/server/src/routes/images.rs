//! `/api/v1/images`: what is stored of images, by digest. An index stands for all of its images.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use layersift_model::{Digest, FingerprintKey, ImageReport, Severity};
use layersift_report::RenderOptions;
use layersift_store::{ImageId, Seconds, StoreError, StoredImage};
use serde::{Deserialize, Serialize};

use super::parameters::{DigestPath, NoParameters, PageParameters, Parameters, number, page_size};
use crate::admission::{AdmissionPolicy, Decision};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::service::Service;
use crate::service::lookup::{Judging, Older, add_bases, find, layers_of_bases};

/// Columns of a report in text.
const WIDTH: usize = 100;

#[derive(Serialize)]
struct ImagesView {
    images: Vec<ImageView>,
    /// What `after` is for the next page.
    next: Option<i64>,
}

#[derive(Serialize)]
struct ImageView {
    digest: Digest,
    config_digest: Option<Digest>,
    platform: Option<String>,
    layers: u64,
    first_seen: Seconds,
}

impl From<StoredImage> for ImageView {
    fn from(stored: StoredImage) -> ImageView {
        let StoredImage { manifest_digest, config_digest, platform, layers_count, first_seen, .. } = stored;
        ImageView { digest: manifest_digest, config_digest, platform, layers: layers_count, first_seen }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportParameters {
    format: Option<String>,
    show: Option<Severity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingsParameters {
    severity: Option<Severity>,
    after: Option<u64>,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct FindingsView {
    findings: Vec<FindingView>,
    total: u64,
    next: Option<u64>,
}

#[derive(Serialize)]
struct FindingView {
    image: Option<Digest>,
    platform: Option<String>,
    finding: serde_json::Value,
}

/// `GET /api/v1/images`.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Parameters(PageParameters { after, limit }): Parameters<PageParameters>,
) -> Result<Response, Problem> {
    let limit = page_size(limit)?;
    let after = number(after)?.map(ImageId::from_number);
    let page = service.with_store(move |service| service.store.images().listed(after, limit)).await?;
    let next = page.items.last().filter(|_| !page.is_complete).map(|image| image.id.number());
    Ok(Json(ImagesView { images: page.items.into_iter().map(ImageView::from).collect(), next }).into_response())
}

/// `GET /api/v1/images/{digest}`: the decision about it where no rule for a place holds.
pub(super) async fn image(
    State(service): State<Arc<Service>>,
    DigestPath(digest): DigestPath,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Response, Problem> {
    let policy = service.decider.policy();
    let decision: Option<Decision> = service
        .with_reports(move |service, reading| {
            let Some(found) = find(&service.store, &digest, &service.key, Older::Served)? else { return Ok(None) };
            let terms = policy.terms(&[], None);
            let judging = Judging {
                terms,
                generation: policy.generation(),
                bases: Arc::new(layers_of_bases(&service.store, policy.bases())?),
                remembered: service.decider.remembered(),
            };
            let Some(reports) = found.judged(reading, &judging)? else { return Ok(None) };
            let mut decision = reports.decide((&digest.to_string(), &digest), terms, (service.clock)());
            terms.apply(&mut decision, true);
            Ok(Some(decision))
        })
        .await?;
    decision.map(|decision| Json(decision).into_response()).ok_or_else(unknown)
}

/// `GET /api/v1/images/{digest}/report`: in any format of `layersift render`.
pub(super) async fn report(
    State(service): State<Arc<Service>>,
    DigestPath(digest): DigestPath,
    Parameters(ReportParameters { format, show }): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let name = format.unwrap_or_else(|| "json".into());
    let format = layersift_report::format(&name).ok_or_else(|| {
        let known: Vec<&str> = layersift_report::FORMATS.iter().map(|format| format.name).collect();
        Problem::invalid(format!("invalid format `{name}`: expected {}", known.join(", ")))
    })?;
    let options = RenderOptions { width: WIDTH, show: show.unwrap_or(Severity::Medium), show_secrets: false };
    let policy = service.decider.policy();
    let answer = service.with_reports(move |service, reading| {
        let Some(found) = find(&service.store, &digest, &service.key, Older::Any)? else { return Ok(None) };
        let Some(mut found) = found.whole(reading)? else { return Ok(None) };
        found.reports.iter_mut().try_for_each(|report| prepare(service, &policy, report))?;
        Ok(Some(service.answers.answer(|out| (format.render)(&found.reports, &options, out))))
    });
    Ok(answer.await?.ok_or_else(unknown)??.into_response(format.media_type))
}

/// `GET /api/v1/images/{digest}/findings`.
pub(super) async fn findings(
    State(service): State<Arc<Service>>,
    DigestPath(digest): DigestPath,
    Parameters(FindingsParameters { severity, after, limit }): Parameters<FindingsParameters>,
) -> Result<Response, Problem> {
    let limit = page_size(limit)?;
    // Of the same range as everywhere.
    number(after)?;
    let after = after.unwrap_or(0);
    let policy = service.decider.policy();
    let page = service.with_reports(move |service, reading| {
        let Some(found) = find(&service.store, &digest, &service.key, Older::Any)? else { return Ok(None) };
        let mut page = FindingsPage { severity, after, limit, findings: Vec::new(), total: 0 };
        let known = found.each(reading, |_, mut report| {
            prepare(service, &policy, &mut report)?;
            page.add(report);
            Ok(())
        });
        Ok(known?.then(|| page.view()))
    });
    Ok(Json(page.await?.ok_or_else(unknown)?).into_response())
}

/// A page of the findings of all reports, from the one numbered `after` on. Only those of the page are written.
struct FindingsPage {
    severity: Option<Severity>,
    after: u64,
    limit: u64,
    findings: Vec<FindingView>,
    /// How many findings there are so far, on the page and before and after it.
    total: u64,
}

impl FindingsPage {
    /// Adds the findings of the next report.
    fn add(&mut self, mut report: ImageReport) {
        let mut wanted = Vec::new();
        for finding in std::mem::take(&mut report.findings) {
            if self.severity.is_some_and(|least| finding.severity < least) {
                continue;
            }
            if self.total >= self.after && ((self.findings.len() + wanted.len()) as u64) < self.limit {
                wanted.push(finding);
            }
            self.total += 1;
        }
        // A finding is written as a part of its report.
        let (image, platform) = (report.manifest_digest.clone(), report.platform.clone());
        report.findings = wanted;
        let written = serde_json::to_value(&report).unwrap_or_default();
        let findings = written.get("findings").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let view = |finding| FindingView { image: image.clone(), platform: platform.clone(), finding };
        self.findings.extend(findings.into_iter().map(view));
    }

    fn view(self) -> FindingsView {
        let FindingsPage { findings, total, after, .. } = self;
        let end = after.saturating_add(findings.len() as u64);
        let next = (end < total && !findings.is_empty()).then_some(end);
        FindingsView { findings, total, next }
    }
}

/// Makes of a stored report one that is shown, judged where no rule for a place holds.
fn prepare(service: &Service, policy: &AdmissionPolicy, report: &mut ImageReport) -> Result<(), StoreError> {
    add_bases(&service.store, [&mut *report])?;
    withhold(report);
    policy.terms(&[], None).findings.judge(report);
    Ok(())
}

/// Takes fingerprints out of a report that were made with the public key: anyone can try secrets against them.
fn withhold(report: &mut ImageReport) {
    if report.tool.fingerprint_key.as_ref().is_none_or(|id| *id == FingerprintKey::default().id()) {
        for secret in report.findings.iter_mut().filter_map(|finding| finding.secret.as_mut()) {
            secret.fingerprint = String::new();
        }
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no report of this image")
}
