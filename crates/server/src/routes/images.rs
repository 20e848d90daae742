//! `/api/v1/images`: what is stored of images, by digest. An index stands for all of its images.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
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
use crate::service::lookup::{Known, Older, Reports, add_asked_bases, add_bases, layers_of_bases, look_up};

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
        .with_reports(move |service| {
            let Known::Reports(mut reports) = look_up(&service.store, &digest, &service.key, Older::Served)? else {
                return Ok(None);
            };
            let terms = policy.terms(&[], None);
            add_asked_bases(&service.store, &mut reports.reports, &terms.findings)?;
            let bases = layers_of_bases(&service.store, policy.bases())?;
            let name = digest.to_string();
            let mut decision = reports.judge((&name, &digest), terms, &bases, (service.clock)());
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
    let render = move |reports: Vec<ImageReport>| {
        let mut bytes = Vec::new();
        (format.render)(&reports, &options, &mut bytes).map(|()| plain(bytes)).ok()
    };
    let failed = || Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be written");
    let bytes = with_judged(&service, digest, render).await?.ok_or_else(failed)?;
    Ok(([(CONTENT_TYPE, format.media_type)], bytes).into_response())
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
    let page = move |reports: Vec<ImageReport>| page_of(reports, severity, after, limit);
    Ok(Json(with_judged(&service, digest, page).await?).into_response())
}

/// A page of the findings of all reports, from the one numbered `after` on. Only those of the page are written.
fn page_of(reports: Vec<ImageReport>, severity: Option<Severity>, after: u64, limit: u64) -> FindingsView {
    let mut page = Vec::new();
    let mut total = 0_u64;
    for mut report in reports {
        let mut wanted = Vec::new();
        for finding in std::mem::take(&mut report.findings) {
            if severity.is_some_and(|least| finding.severity < least) {
                continue;
            }
            if total >= after && ((page.len() + wanted.len()) as u64) < limit {
                wanted.push(finding);
            }
            total += 1;
        }
        // A finding is written as a part of its report.
        let (image, platform) = (report.manifest_digest.clone(), report.platform.clone());
        report.findings = wanted;
        let written = serde_json::to_value(&report).unwrap_or_default();
        let findings = written.get("findings").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let view = |finding| FindingView { image: image.clone(), platform: platform.clone(), finding };
        page.extend(findings.into_iter().map(view));
    }
    let end = after.saturating_add(page.len() as u64);
    let next = (end < total && !page.is_empty()).then_some(end);
    FindingsView { findings: page, total, next }
}

/// What `make` makes of the reports of an image, judged where no rule for a place holds. Both happens on a thread that
/// may block, and for few requests at a time: reports may be large.
async fn with_judged<T: Send + 'static>(
    service: &Arc<Service>,
    digest: Digest,
    make: impl FnOnce(Vec<ImageReport>) -> T + Send + 'static,
) -> Result<T, Problem> {
    let policy = service.decider.policy();
    let made = service.with_reports(move |service| {
        let Known::Reports(Reports { mut reports, .. }) = look_up(&service.store, &digest, &service.key, Older::Any)?
        else {
            return Ok::<_, StoreError>(None);
        };
        add_bases(&service.store, &mut reports)?;
        judge(&policy, &mut reports);
        Ok(Some(make(reports)))
    });
    made.await?.ok_or_else(unknown)
}

fn judge(policy: &AdmissionPolicy, reports: &mut [ImageReport]) {
    for report in reports {
        withhold(report);
        policy.terms(&[], None).findings.judge(report);
    }
}

/// Takes fingerprints out of a report that were made with the public key: anyone can try secrets against them.
fn withhold(report: &mut ImageReport) {
    if report.tool.fingerprint_key.as_ref().is_none_or(|id| *id == FingerprintKey::default().id()) {
        for secret in report.findings.iter_mut().filter_map(|finding| finding.secret.as_mut()) {
            secret.fingerprint = String::new();
        }
    }
}

/// Text without colours, which are for terminals.
fn plain(bytes: Vec<u8>) -> Vec<u8> {
    let mut stripped = anstream::StripStream::new(Vec::new());
    match std::io::Write::write_all(&mut stripped, &bytes) {
        Ok(()) => stripped.into_inner(),
        Err(_) => bytes,
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no report of this image")
}
