//! The APIs of models that requests are forwarded to.
//!
//! ```text
//! answer  answers that are checked as a whole
//! stream  answers that are checked while they pass
//! ```

mod answer;
mod stream;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::response::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use layersift_prompts::{Gate, Verdict};
use layersift_source::registry::{RegistryError, service_tls};

use crate::http::problem::Problem;
use crate::prompts::encoding::Decoder;
use crate::prompts::forwarded::{self, is_stream, is_utf8};
use crate::prompts::plain;
use crate::service::Service;
use crate::settings::Upstream;

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long a model may take until its answer begins, as the SDKs wait; and for an answer that is not a stream.
pub(crate) const ANSWERING: Duration = Duration::from_secs(600);

/// How long a connection waits for its next request, and how many do for one model.
const IDLE: Duration = Duration::from_secs(30);
const MOST_IDLE: usize = 64;

/// Bytes that are read ahead of what was handed on. The head of an answer has to fit.
const READ_AHEAD: usize = 16 << 10;

/// The APIs of models, by name.
pub(crate) struct Models(BTreeMap<String, Model>);

/// The API of one model.
pub(crate) struct Model {
    name: String,
    url: Uri,
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A request that was checked.
pub(crate) struct Checked {
    pub(crate) method: Method,
    /// The path and the query at the model's API.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer of which only the head was read.
struct Answer {
    head: Parts,
    body: Incoming,
    decoder: Decoder,
    asker: Asker,
}

/// Who asked, as policies name clients.
#[derive(Clone)]
pub(crate) struct Asker {
    /// The name that keeps what is remembered apart.
    pub(crate) name: String,
    pub(crate) names: Vec<String>,
}

impl Models {
    /// Reads the certificates that the settings name.
    ///
    /// # Errors
    /// With the name of the API and the reason.
    pub(crate) fn open(upstreams: &BTreeMap<String, Upstream>) -> Result<Models, String> {
        let open = |(name, upstream): (&String, &Upstream)| -> Result<(String, Model), String> {
            let failed = |reason: String| format!("{name}: {reason}");
            let url = upstream.url().map_err(failed)?;
            let tls = service_tls(upstream.ca.as_deref(), None);
            let tls = tls.map_err(|error: RegistryError| failed(chain(&error)))?;
            Ok((name.clone(), Model { name: name.clone(), url, http: client(tls) }))
        };
        Ok(Models(upstreams.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// The API with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Model> {
        self.0.get(name)
    }
}

fn client(tls: rustls::ClientConfig) -> HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECTING));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
    HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MOST_IDLE)
        .http1_max_buf_size(READ_AHEAD)
        .build(connector)
}

impl Model {
    /// Sends a request that was checked, and answers with what comes back, which is checked as well.
    ///
    /// # Errors
    /// 502 without an answer, 504 if there is none in time, and as the gate for answers.
    pub(crate) async fn ask(
        &self,
        checked: Checked,
        asker: Asker,
        service: &Arc<Service>,
    ) -> Result<Response<Body>, Problem> {
        let is_head = checked.method == Method::HEAD;
        let answer = self.send(checked).await?;
        let status = answer.status();
        if status.is_redirection() || status.is_informational() {
            // Whoever follows leaves what is checked.
            return Err(bad_gateway("the model's API redirects, which is not followed"));
        }
        let gate = service.prompts.as_ref().ok_or_else(|| bad_gateway("prompts are not checked here"))?;
        let (head, body) = answer.into_parts();
        let is_stream = is_stream(&head.headers) && !is_head;
        let (kind, most) = match is_stream {
            true => (stream::KIND, stream::MOST_DECOMPRESSED),
            false => (answer::KIND, gate.most_bytes()),
        };
        let Some(decoder) = Decoder::of(&head.headers, most).filter(|_| is_utf8(&head.headers)) else {
            let unknown = Gate::unreadable("the answer is encoded in a way that is not known").of_answer();
            return Ok(denied(service, kind, &unknown));
        };
        let answer = Answer { head, body, decoder, asker };
        if is_stream { stream::pass(answer, gate, service).await } else { answer::pass(answer, gate, service).await }
    }

    async fn send(&self, checked: Checked) -> Result<Response<Incoming>, Problem> {
        let Checked { method, path, headers, body } = checked;
        let unreadable = || Problem::invalid("the path cannot be forwarded");
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = self.uri(&path).ok_or_else(unreadable)?;
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let late = |_| Problem::new(StatusCode::GATEWAY_TIMEOUT, "the model's API did not answer in time");
        match tokio::time::timeout(ANSWERING, self.http.request(request)).await.map_err(late)? {
            Ok(answer) => Ok(answer),
            Err(error) => {
                tracing::warn!(upstream = self.name, error = chain(&error), "no answer from the API of a model");
                Err(bad_gateway("the model's API cannot be reached"))
            }
        }
    }

    /// The URL of a path. Scheme, host and port are those of the settings, whatever the path says.
    fn uri(&self, path: &str) -> Option<Uri> {
        let mut parts = self.url.clone().into_parts();
        let base = self.url.path().trim_end_matches('/');
        parts.path_and_query = Some(format!("{base}{path}").parse::<PathAndQuery>().ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// The head of an answer that goes on.
fn head(head: &Parts, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = forwarded::answer_headers(&head.headers);
    response
}

/// A denial, with the reasons as JSON. It is counted as one of `kind`.
pub(crate) fn denied(service: &Service, kind: &'static str, verdict: &Verdict) -> Response<Body> {
    service.count_prompt(kind, verdict.decision.name());
    let mut response = Response::new(Body::from(plain::answer(verdict, true).1));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn bad_gateway(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, detail)
}

/// An error with its causes. None of them has anything of a request.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
