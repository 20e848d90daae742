//! Harbor's webhooks: the bodies of its two formats, and three tries of three seconds each.
//!
//! `events.json` and `retries.json` in `testdata/recordings/harbor/webhooks/` have what a real one sent.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::go_client::exchange;

/// How often an event is tried, and for how long each time.
const TRIES: usize = 3;
const LIMIT: Duration = Duration::from_secs(3);

/// Seconds between tries, of which there are so many by chance.
const BETWEEN: std::ops::RangeInclusive<u64> = 20..=110;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Default,
    CloudEvents,
}

/// A policy of a project: where its events go.
#[derive(Clone, Debug)]
pub struct Policy {
    pub url: String,
    /// The text of `Authorization`, as the operator wrote it.
    pub auth_header: String,
    pub format: Format,
    /// The project's number and that of the policy.
    pub numbers: (u64, u64),
    /// What every wait is multiplied by.
    pub pace: f64,
    /// How long a try may take.
    pub limit: Duration,
}

impl Policy {
    pub fn new(url: &str, auth_header: &str, format: Format) -> Policy {
        let (url, auth_header) = (url.into(), auth_header.into());
        Policy { url, auth_header, format, numbers: (6, 2), pace: 0.001, limit: LIMIT }
    }
}

/// An event of an artifact that was pushed, pulled or deleted.
#[derive(Clone, Debug)]
pub struct Event {
    /// `PUSH_ARTIFACT`, `PULL_ARTIFACT` or `DELETE_ARTIFACT`.
    pub kind: String,
    /// Seconds after 1970.
    pub occur_at: i64,
    /// Who did it.
    pub operator: String,
    pub digest: String,
    /// The tag; what has none is named by its digest.
    pub tag: String,
    /// The registry's host.
    pub host: String,
    /// With its project.
    pub repository: String,
    /// When the repository was made, in seconds after 1970.
    pub date_created: Option<i64>,
    pub is_public: bool,
    /// The ids of the event and of the request that CloudEvents have.
    pub ids: (String, String),
}

impl Event {
    /// A push by a user. Without a tag, it is named by its digest.
    pub fn push(host: &str, repository: &str, tag: &str, digest: &str) -> Event {
        let now = jiff::Timestamp::now().as_second();
        let id = || format!("{:08x}-83fe-4307-a741-8e2dc6c3cda6", fastrand::u32(..));
        Event {
            kind: "PUSH_ARTIFACT".into(),
            occur_at: now,
            operator: "admin".into(),
            digest: digest.into(),
            tag: if tag.is_empty() { digest.into() } else { tag.into() },
            host: host.into(),
            repository: repository.into(),
            date_created: Some(now),
            is_public: false,
            ids: (id(), id()),
        }
    }

    /// The body, byte by byte as Harbor writes it.
    pub fn body(&self, policy: &Policy) -> String {
        let (namespace, name) = self.repository.split_once('/').unwrap();
        let separator = if self.tag == self.digest { '@' } else { ':' };
        let data = Data {
            resources: [Resource {
                digest: &self.digest,
                tag: &self.tag,
                resource_url: format!("{}/{}{separator}{}", self.host, self.repository, self.tag),
            }],
            repository: Repository {
                date_created: self.date_created,
                name,
                namespace,
                repo_full_name: &self.repository,
                repo_type: if self.is_public { "public" } else { "private" },
            },
        };
        let (kind, operator) = (self.kind.as_str(), self.operator.as_str());
        let text = match policy.format {
            Format::Default => {
                serde_json::to_string(&Default { r#type: kind, occur_at: self.occur_at, operator, event_data: data })
            }
            Format::CloudEvents => serde_json::to_string(&CloudEvent {
                specversion: "1.0",
                id: &self.ids.0,
                source: format!("/projects/{}/webhook/policies/{}", policy.numbers.0, policy.numbers.1),
                r#type: match kind {
                    "PUSH_ARTIFACT" => "harbor.artifact.pushed",
                    "PULL_ARTIFACT" => "harbor.artifact.pulled",
                    _ => "harbor.artifact.deleted",
                },
                datacontenttype: "application/json",
                time: jiff::Timestamp::from_second(self.occur_at).unwrap().to_string(),
                data,
                operator,
                requestid: &self.ids.1,
            }),
        };
        text.unwrap()
    }
}

#[derive(Serialize)]
struct Default<'e> {
    r#type: &'e str,
    occur_at: i64,
    operator: &'e str,
    event_data: Data<'e>,
}

#[derive(Serialize)]
struct CloudEvent<'e> {
    specversion: &'e str,
    id: &'e str,
    source: String,
    r#type: &'e str,
    datacontenttype: &'e str,
    time: String,
    data: Data<'e>,
    operator: &'e str,
    requestid: &'e str,
}

#[derive(Serialize)]
struct Data<'e> {
    resources: [Resource<'e>; 1],
    repository: Repository<'e>,
}

#[derive(Serialize)]
struct Resource<'e> {
    digest: &'e str,
    tag: &'e str,
    resource_url: String,
}

#[derive(Serialize)]
struct Repository<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    date_created: Option<i64>,
    name: &'e str,
    namespace: &'e str,
    repo_full_name: &'e str,
    repo_type: &'e str,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub body: String,
    /// The status of each try; `None` where there was no answer in time.
    pub tries: Vec<Option<u16>>,
    /// Whether Harbor takes it as told. Whatever is not is lost.
    pub is_done: bool,
}

/// The sender of one policy.
pub struct Webhooks {
    policy: Policy,
    threads: Mutex<Vec<JoinHandle<()>>>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Webhooks {
    pub fn start(policy: Policy) -> Webhooks {
        Webhooks { policy, threads: Mutex::default(), deliveries: Arc::default() }
    }

    /// Sends an event, in the background.
    pub fn send(&self, event: &Event) {
        self.send_text(event.body(&self.policy));
    }

    /// Sends any body in the policy's format, such as one that was recorded.
    pub fn send_text(&self, body: String) {
        let (policy, deliveries) = (self.policy.clone(), Arc::clone(&self.deliveries));
        let thread = std::thread::spawn(move || {
            let delivery = deliver(&policy, body);
            deliveries.lock().unwrap().push(delivery);
        });
        self.threads.lock().unwrap().push(thread);
    }

    /// Waits until every event was told or is lost, and gives what became of them.
    pub fn finish(&self) -> Vec<Delivery> {
        let threads: Vec<JoinHandle<()>> = self.threads.lock().unwrap().drain(..).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.deliveries.lock().unwrap().clone()
    }
}

fn deliver(policy: &Policy, body: String) -> Delivery {
    let media_type = match policy.format {
        Format::Default => "application/json",
        Format::CloudEvents => "application/cloudevents+json",
    };
    let mut headers = Vec::new();
    if !policy.auth_header.is_empty() {
        headers.push(("Authorization", policy.auth_header.clone()));
    }
    headers.push(("Content-Type", media_type.to_string()));
    let mut tries = Vec::new();
    let is_done = loop {
        let answer = exchange("POST", &policy.url, &headers, Some(body.as_bytes()), policy.limit);
        let status = answer.ok().map(|answer| answer.status);
        tries.push(status);
        // A redirect is as good as told.
        if status.is_some_and(|status| status < 400) {
            break true;
        }
        if tries.len() == TRIES {
            break false;
        }
        std::thread::sleep(Duration::from_secs(fastrand::u64(BETWEEN)).mul_f64(policy.pace));
    };
    Delivery { body, tries, is_done }
}
