//! Admission: a question in one of three envelopes, the one decision, and its answer in the same envelope. The decision
//! is in the log before that, if there is one.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use layersift_audit::Entry;
use tokio::time::Instant;

use crate::admission::kubernetes::{self, ASK_AGAIN_SECONDS, Answer, Mode, Review, ReviewError, ReviewLimits};
use crate::admission::{AdmissionPolicy, Decision, Effect, Outcome, beginning, gatekeeper, plain};
use crate::http::body;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::audit::NotEntered;
use crate::service::audit::admission::Asked as Logged;
use crate::service::decider::{Asked, Judged};

/// Images of one question that are looked up at a time.
const AT_ONCE: usize = 32;

/// The time that an API server gives if it does not say, and the most that is believed.
const WEBHOOK: Duration = Duration::from_secs(10);
const LONGEST_WEBHOOK: Duration = Duration::from_secs(30);

/// What is left of a webhook's time to the answer itself.
const MARGIN: Duration = Duration::from_secs(1);

/// How much of that may go by until the decision is in the log.
const ENTERING: Duration = Duration::from_millis(500);

/// What must be left for the API server to ask again: its pause, and the answer after it.
const AGAIN: Duration = Duration::from_millis(2_500);

/// The time for a provider of Gatekeeper, whose own webhook has 3 s.
const PROVIDER: Duration = Duration::from_millis(900);

/// The time for a question in plain JSON, and how much longer it may ask to wait.
const PLAIN: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The pause before what is not known yet is looked up again.
const PAUSE: Duration = Duration::from_millis(500);

/// Bytes of the name that a quota is counted by.
const QUOTA: usize = 200;

/// Decisions, and whether all of them are by rules that only warn.
struct Decided {
    decisions: Vec<Decision>,
    is_audit: bool,
    /// Whether an image is not let in because the store is out of reach.
    is_outage: bool,
    /// What it was decided by.
    policy: Arc<AdmissionPolicy>,
}

/// `POST /admit/v1`: an AdmissionReview.
///
/// What is not known yet is waited for until shortly before the API server's deadline, and then denied with code 429,
/// so that clients come again. The API server could be told to come again by itself, with status 503, but it gives each
/// of those requests the whole of its time in `timeout`: nobody would know when to deny, and a call that comes to its
/// deadline has failed, which passes under `failurePolicy: Ignore`.
pub(super) async fn kubernetes(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let begun = Instant::now();
    let time = webhook_time(query.as_deref());
    let until = begun + time.saturating_sub(MARGIN).max(MARGIN / 2);
    let read = |reader: &mut dyn std::io::Read| kubernetes::read(reader, &ReviewLimits::default());
    let question = match body::parse(body, service.bodies(&client), until - begun, read).await {
        // The API server asks again.
        Err(problem) => return problem.into_response(),
        Ok(question) => question,
    };
    let entered_until = (until + ENTERING).min(begun + time - ENTERING / 4);
    let answer = match question {
        Err(error) => refuse_review(&service, &client, &error, entered_until).await,
        Ok(review) => {
            let namespace = Some(review.namespace.clone()).filter(|name| !name.is_empty());
            let asked = review.images.iter().map(|image| Asked {
                image: image.reference.clone(),
                digest: None,
                namespace: namespace.clone(),
                mirrors: Vec::new(),
                client: quota(&client, namespace.as_deref()),
                may_queue: !review.is_dry_run,
                until,
            });
            // Nothing is scanned for a dry run.
            let wait_until = if review.is_dry_run { begun } else { until };
            let decided = decide_until(&service, &client, asked.collect(), wait_until).await;
            // Another replica has the time that this one has not.
            let may_ask_again = service.ending.is_cancelled() && time.saturating_sub(begun.elapsed()) >= AGAIN;
            answer_review(&service, &client, (&review, &decided), may_ask_again, entered_until).await
        }
    };
    match answer {
        Answer::Body { json, .. } => json_response(StatusCode::OK, json),
        Answer::AskAgain => {
            let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ASK_AGAIN_SECONDS));
            response
        }
        Answer::NotAReview(text) => (StatusCode::BAD_REQUEST, text).into_response(),
    }
}

/// Answers what cannot be judged.
async fn refuse_review(service: &Service, client: &Client, error: &ReviewError, until: Instant) -> Answer {
    tracing::warn!(%error, "a review cannot be judged");
    let policy = service.decider.policy();
    let is_audit = match &error.namespace {
        Some(namespace) => policy.terms(&[], Some(&namespace[..]).filter(|name| !name.is_empty())).is_audit,
        None => policy.is_audit_everywhere(),
    };
    let head = error.head.as_deref();
    let uid = head.map_or("", |head| &head.uid);
    let more = [("uid", uid), ("namespace", error.namespace.as_deref().unwrap_or_default())];
    // Without a uid nothing is let in.
    let is_let_in = is_audit && head.is_some();
    let logged =
        Logged { envelope: "kubernetes", client: &client.name, policy: &policy, is_audit: is_let_in, more: &more };
    if let Err(why) = enter(service, || vec![logged.refusal()], until).await {
        return kubernetes::not_entered(head, &why.to_string());
    }
    kubernetes::refuse(error, if is_audit { Mode::Audit } else { Mode::Enforce { may_ask_again: false } })
}

/// Answers what was decided, once it is in the log. That somebody is to ask again is not a decision.
async fn answer_review(
    service: &Service,
    client: &Client,
    (review, decided): (&Review, &Decided),
    may_ask_again: bool,
    until: Instant,
) -> Answer {
    let Review { head, kind, operation, name, username, namespace, .. } = review;
    let Decided { decisions, is_audit, policy, .. } = decided;
    // Whoever asks chose the names: they are in the log of decisions alone.
    tracing::debug!(?operation, images = decisions.len(), "review");
    let mode = if *is_audit { Mode::Audit } else { Mode::Enforce { may_ask_again } };
    let answer = kubernetes::answer(review, decisions, mode);
    if answer == Answer::AskAgain {
        return answer;
    }
    let kind = kind.to_string();
    let more = [
        ("uid", &head.uid[..]),
        ("kind", &kind),
        ("operation", operation.name()),
        ("name", name),
        ("namespace", namespace),
        ("user", username),
        ("dry-run", if review.is_dry_run { "true" } else { "" }),
    ];
    let (client, is_audit) = (&client.name[..], *is_audit);
    let logged = Logged { envelope: "kubernetes", client, policy, is_audit, more: &more };
    let entries = || logged.entries(decisions.iter().map(|decision| (None, decision)));
    match enter(service, entries, until).await {
        Ok(()) => answer,
        Err(why) => kubernetes::not_entered(Some(head), &why.to_string()),
    }
}

/// `POST /gatekeeper/v1`: a ProviderRequest.
pub(super) async fn gatekeeper(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Response {
    let until = Instant::now() + PROVIDER;
    let read = |reader: &mut dyn std::io::Read| gatekeeper::read(reader, &gatekeeper::KeyLimits::default());
    let keys = match body::parse(body, service.bodies(&client), PROVIDER, read).await {
        Err(_) => return json_response(StatusCode::OK, gatekeeper::outage("too many requests")),
        Ok(keys) => keys,
    };
    let answer = match keys {
        Ok(keys) => answer_keys(&service, &client, &keys, until).await,
        Err(error) => {
            let policy = service.decider.policy();
            let logged = of_provider(&client, &policy);
            let entered = enter(&service, || vec![logged.refusal()], until + ENTERING).await;
            gatekeeper::outage(&entered.err().map_or_else(|| error.to_string(), |why| why.to_string()))
        }
    };
    json_response(StatusCode::OK, answer)
}

/// Answers what was decided about each key, once it is in the log.
async fn answer_keys(service: &Service, client: &Client, keys: &[gatekeeper::Key], until: Instant) -> Vec<u8> {
    let asked = keys.iter().map(|key| Asked {
        image: key.image.clone(),
        digest: None,
        namespace: key.namespace.clone(),
        mirrors: Vec::new(),
        client: quota(client, key.namespace.as_deref()),
        may_queue: true,
        until,
    });
    let asked: Vec<Asked> = asked.collect();
    let decided = decide(service, service.decider.policy(), &asked).await;
    let (is_outage, is_audit, policy) = (decided.is_outage, decided.is_audit, Arc::clone(&decided.policy));
    let mut decisions = decided.softened();
    if is_outage {
        // It denies all keys of the call.
        decisions.iter_mut().for_each(|decision| decision.effect = Effect::Deny);
    }
    let more = [("answer", if is_outage { "outage" } else { "" })];
    let logged = Logged { is_audit: is_audit && !is_outage, more: &more, ..of_provider(client, &policy) };
    let namespaces = asked.iter().map(|asked| asked.namespace.as_deref());
    if let Err(why) = enter(service, || logged.entries(namespaces.zip(&decisions)), until + ENTERING).await {
        return gatekeeper::outage(&why.to_string());
    }
    if is_outage {
        return gatekeeper::outage("the store cannot be reached");
    }
    let of = |wanted: &gatekeeper::Key| {
        let index = keys.iter().position(|key| key == wanted)?;
        decisions.get(index)
    };
    gatekeeper::answer(keys, of)
}

fn of_provider<'a>(client: &'a Client, policy: &'a AdmissionPolicy) -> Logged<'a> {
    Logged { envelope: "gatekeeper", client: &client.name, policy, is_audit: false, more: &[] }
}

/// `POST /admit/v1/images`: plain JSON.
pub(super) async fn plain(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Response {
    let begun = Instant::now();
    let read = |reader: &mut dyn std::io::Read| plain::read(reader, &plain::QuestionLimits::default());
    let question = match body::parse(body, service.bodies(&client), PLAIN, read).await {
        Err(problem) => return problem.into_response(),
        Ok(Err(error)) => {
            let policy = service.decider.policy();
            let logged = of_plain(&client, &policy, false);
            let entered = enter(&service, || vec![logged.refusal()], begun + PLAIN + ENTERING).await;
            let body = entered.map_or_else(|why| plain::refuse(&why), |()| plain::refuse(&error));
            return json_response(StatusCode::BAD_REQUEST, body);
        }
        Ok(Ok(question)) => question,
    };
    let wait = question.wait.unwrap_or_default().min(LONGEST_WAIT);
    let asked: Vec<Asked> = question
        .images
        .iter()
        .map(|image| Asked {
            image: image.image.clone(),
            digest: image.digest.clone(),
            namespace: question.namespace.clone(),
            mirrors: image.mirrors.iter().filter_map(|url| mirror_host(url)).collect(),
            client: quota(&client, question.namespace.as_deref()),
            may_queue: true,
            until: begun + PLAIN.max(wait),
        })
        .collect();
    let decided = decide_until(&service, &client, asked, begun + wait).await;
    let (policy, is_audit) = (Arc::clone(&decided.policy), decided.is_audit);
    let decisions = decided.softened();
    let logged = of_plain(&client, &policy, is_audit);
    let entries = || logged.entries(decisions.iter().map(|decision| (question.namespace.as_deref(), decision)));
    let answer = match enter(&service, entries, begun + PLAIN.max(wait) + ENTERING).await {
        Ok(()) => plain::answer(&question, &decisions),
        Err(why) => plain::not_entered(&question, &why.to_string()),
    };
    json_response(StatusCode::OK, answer)
}

fn of_plain<'a>(client: &'a Client, policy: &'a AdmissionPolicy, is_audit: bool) -> Logged<'a> {
    Logged { envelope: "plain", client: &client.name, policy, is_audit, more: &[] }
}

/// Enters what was decided, if there is a log.
async fn enter(service: &Service, entries: impl FnOnce() -> Vec<Entry>, until: Instant) -> Result<(), NotEntered> {
    if service.audit.is_kept() { service.audit.record(entries(), until).await } else { Ok(()) }
}

/// Decides about each image as soon as something is known about all of them, or at `until`. Where too many wait
/// already, at once.
async fn decide_until(service: &Service, client: &Client, asked: Vec<Asked>, until: Instant) -> Decided {
    let mut decided = decide(service, service.decider.policy(), &asked).await;
    if !decided.may_change() || Instant::now() + PAUSE > until {
        return decided;
    }
    let Ok(_place) = service.waiting(client).try_acquire() else { return decided };
    while decided.may_change() && Instant::now() + PAUSE <= until && !service.ending.is_cancelled() {
        tokio::time::sleep(PAUSE).await;
        // Each time by the present policy: it may have been replaced meanwhile.
        decided = decide(service, service.decider.policy(), &asked).await;
    }
    decided
}

/// Decides about each image, in their order. Where some rules only warn, their effects are warnings; where all do, the
/// envelope may say what would have been.
async fn decide(service: &Service, policy: Arc<AdmissionPolicy>, asked: &[Asked]) -> Decided {
    let mut decided = Vec::with_capacity(asked.len());
    for asked in asked {
        decided.push(service.decider.decide(&policy, asked));
    }
    let decided: Vec<Judged> = futures_util::stream::iter(decided).buffered(AT_ONCE).collect().await;
    let is_audit = !decided.is_empty() && decided.iter().all(|judged| judged.is_audit);
    let is_outage = decided.iter().any(|judged| judged.is_outage && judged.decision.effect > Effect::Warn);
    let of_rule = |judged: Judged| {
        if judged.is_audit && !is_audit { warning(judged.decision) } else { judged.decision }
    };
    Decided { decisions: decided.into_iter().map(of_rule).collect(), is_audit, is_outage, policy }
}

impl Decided {
    /// Whether an image is not let in, or only with a warning, because nothing is known about it yet.
    fn may_change(&self) -> bool {
        self.decisions.iter().any(|decision| decision.outcome == Outcome::Unknown && decision.effect != Effect::Allow)
    }

    /// The decisions for an envelope that has no other way to say that a rule only warns.
    fn softened(self) -> Vec<Decision> {
        if self.is_audit { self.decisions.into_iter().map(warning).collect() } else { self.decisions }
    }
}

/// What a rule that only warns makes of a decision.
fn warning(decision: Decision) -> Decision {
    Decision { effect: decision.effect.min(Effect::Warn), ..decision }
}

/// Whose quota of the queue an image is counted in: a cluster is one client, and its namespaces are many.
fn quota(client: &Client, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => beginning(&format!("{} {namespace}", client.name), QUOTA).to_string(),
        None => client.name.clone(),
    }
}

/// The time that the API server gives: `timeout=10s` in its query.
fn webhook_time(query: Option<&str>) -> Duration {
    let timeout = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let seconds = timeout.and_then(|text| text.strip_suffix('s')).and_then(|text| text.parse().ok());
    seconds.map_or(WEBHOOK, Duration::from_secs).clamp(MARGIN, LONGEST_WEBHOOK)
}

/// The host of a mirror that has repositories under the names that the registry has.
fn mirror_host(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    matches!(path.trim_end_matches('/'), "" | "v2").then(|| host.to_string())
}

fn json_response(status: StatusCode, json: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_webhook_is_bounded() {
        for (query, seconds) in
            [(None, 10), (Some("timeout=3s"), 3), (Some("a=b&timeout=30s"), 30), (Some("timeout=0s"), 1)]
        {
            assert_eq!(webhook_time(query), Duration::from_secs(seconds), "{query:?}");
        }
        assert_eq!(webhook_time(Some("timeout=99999s")), LONGEST_WEBHOOK);
        assert_eq!(webhook_time(Some("timeout=x")), WEBHOOK);
    }

    #[test]
    fn a_mirror_has_the_repositories_of_its_registry() {
        assert_eq!(mirror_host("https://mirror.example:5000/v2").as_deref(), Some("mirror.example:5000"));
        assert_eq!(mirror_host("https://mirror.example").as_deref(), Some("mirror.example"));
        assert_eq!(mirror_host("https://harbor.example/v2/proxy"), None);
        assert_eq!(mirror_host("mirror.example"), None);
    }
}
