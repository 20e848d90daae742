//! Asking the service about an image, for as long as there is time.

use std::time::Duration;

use layersift_format::Cancellation;
use layersift_source::registry::mirrors;
use layersift_source::service::{Service, ServiceAnswer, ServiceError};
use serde::Serialize;

use super::answer::{self, Next};
use super::call::Image;
use super::config::{Config, OnUnavailable};
use super::reason::{Judgement, clean, shortened};

/// Where the service is asked about images.
const PATH: &str = "/admit/v1/images";

/// Attempts to reach a service that does not answer.
const ATTEMPTS: u32 = 3;

/// The wait before the second attempt, if the service does not say how long to wait.
const PAUSE: Duration = Duration::from_millis(250);

/// What the service must leave of the time to the answer itself.
const MARGIN: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Question<'q> {
    images: Vec<ImageQuestion<'q>>,
    wait: String,
}

#[derive(Serialize)]
struct ImageQuestion<'q> {
    image: &'q str,
    digest: String,
    /// Where this machine would pull it from: a hint, as the service may not know the mirrors of a cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<String>,
    /// Those of them whose certificates this machine does not verify.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirrors_skip_verify: Vec<String>,
}

/// What became of one request.
enum Attempt {
    Judged(Judgement),
    /// The service says when to ask again.
    Later(Duration, Judgement),
    /// The service cannot be asked, or failed. The judgement is for when the attempts are used up.
    Failed(Judgement),
}

/// Asks the service about `image` for at most `time`. Whatever is not understood is a denial.
pub(super) fn judge(config: &Config, image: &Image, time: Duration) -> Judgement {
    let cancellation = Cancellation::with_deadline(time);
    let service = match config.service() {
        Ok(service) => service,
        Err(error) => return Judgement::deny(&format!("{error:#}")),
    };
    let mut failures = 0;
    loop {
        let body = question(config, image, &cancellation);
        let (pause, judgement) = match attempt(service.post(PATH, body, &cancellation), config, image) {
            Attempt::Judged(judgement) => return judgement,
            Attempt::Later(pause, judgement) => (pause, judgement),
            Attempt::Failed(judgement) => {
                failures += 1;
                tracing::debug!(failures, said = judgement.text(), "no decision");
                if failures >= ATTEMPTS {
                    return judgement;
                }
                (PAUSE * failures, judgement)
            }
        };
        // Whoever cannot wait that long has the last answer.
        if cancellation.remaining().is_none_or(|left| left <= pause) || cancellation.wait(pause) {
            return judgement;
        }
    }
}

/// Asks about no image, to see whether the service answers and takes the token.
pub(super) fn probe(service: &Service, time: Duration) -> Result<(), String> {
    let body = br#"{"images":[],"wait":"0s"}"#.to_vec();
    match service.post(PATH, body, &Cancellation::with_deadline(time)) {
        // A question about nothing may be an invalid one.
        Ok(answer) if matches!(answer.status, 200 | 400 | 422) => Ok(()),
        Ok(answer) => Err(refusal(&answer)),
        Err(error) => Err(error.to_string()),
    }
}

fn question(config: &Config, image: &Image, cancellation: &Cancellation) -> Vec<u8> {
    let found = mirrors(&config.containerd_certs, &image.host, &image.repository).unwrap_or_else(|error| {
        // containerd ignores such a file as well.
        tracing::debug!(%error, "no mirrors");
        Vec::new()
    });
    let unverified = found.iter().filter(|mirror| mirror.skips_verification).map(|mirror| mirror.url.clone());
    let question = ImageQuestion {
        image: &image.reference,
        digest: image.digest.to_string(),
        mirrors_skip_verify: unverified.collect(),
        mirrors: found.into_iter().map(|mirror| mirror.url).collect(),
    };
    let wait = cancellation.remaining().unwrap_or_default().saturating_sub(MARGIN).as_secs();
    // Strings and lists can always be written.
    serde_json::to_vec(&Question { images: vec![question], wait: format!("{wait}s") }).unwrap_or_default()
}

fn attempt(answer: Result<ServiceAnswer, ServiceError>, config: &Config, image: &Image) -> Attempt {
    match answer {
        Ok(answer) => match (answer.status, answer.retry_after) {
            (200, _) => match answer::judge(&answer.body, &image.digest) {
                Next::Judged(judgement) => Attempt::Judged(judgement),
                Next::Wait(pause, judgement) => Attempt::Later(pause, judgement),
            },
            // It may be busy, or not know the image yet: neither allows an image whose service is only unavailable.
            (429 | 503, Some(pause)) => {
                let why = format!("not known yet: {}; try again", refusal(&answer));
                Attempt::Later(pause.max(PAUSE), Judgement::deny(&why))
            }
            // It was asked, and it may be the image that it fails on.
            (500, _) => Attempt::Failed(Judgement::deny(&refusal(&answer))),
            (502..=504, _) => Attempt::Failed(unavailable(config, &refusal(&answer))),
            _ => Attempt::Judged(Judgement::deny(&refusal(&answer))),
        },
        Err(error) if error.is_temporary() => Attempt::Failed(unavailable(config, &error.to_string())),
        Err(error) => Attempt::Judged(Judgement::deny(&error.to_string())),
    }
}

fn unavailable(config: &Config, why: &str) -> Judgement {
    let why = format!("the service cannot be asked: {why}");
    match config.on_unavailable {
        OnUnavailable::Deny => Judgement::deny(&why),
        OnUnavailable::Allow => Judgement::allow(&format!("without a decision, as on-unavailable says: {why}")),
    }
}

/// A status other than 200 in words, with the beginning of what the service wrote.
fn refusal(answer: &ServiceAnswer) -> String {
    let what = match answer.status {
        401 => "the service does not accept the token (status 401)".to_string(),
        403 => "the token may not ask about images (status 403)".to_string(),
        status => format!("the service answered with status {status}"),
    };
    let beginning = answer.body.get(..300).unwrap_or(&answer.body);
    let text = shortened(&clean(&String::from_utf8_lossy(beginning)), 200);
    if text.is_empty() { what } else { format!("{what}: {text}") }
}
