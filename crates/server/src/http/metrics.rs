//! What Prometheus reads: requests by route, decisions, the queue, layers, the cache, and what will expire.

pub(crate) mod audit;

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::audit::AuditMetrics;

/// Seconds: an answer from memory takes less than a millisecond, a webhook has ten seconds.
const DURATIONS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0];

/// A route with the status that it was answered with.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Route {
    pub(crate) route: String,
}

/// A label, and its value.
pub(crate) type Label = [(&'static str, String); 1];

/// A decision: what is known, and what became of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct DecisionLabels {
    pub(crate) outcome: &'static str,
    pub(crate) effect: &'static str,
}

/// An event of a registry: whose it is, and what became of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct EventLabels {
    pub(crate) source: &'static str,
    pub(crate) outcome: &'static str,
}

/// A prompt or an answer: in whose words it was asked about, and the verdict.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct PromptLabels {
    pub(crate) envelope: &'static str,
    pub(crate) verdict: &'static str,
}

/// The metrics of the service.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    pub(crate) decisions: Family<DecisionLabels, Counter>,
    pub(crate) refused: Family<Label, Counter>,
    /// Requests for scans that wait, by class.
    pub(crate) queued: Family<Label, Gauge>,
    /// Layers in the queue, by state.
    pub(crate) layers: Family<Label, Gauge>,
    pub(crate) scanned: Family<Label, Counter>,
    pub(crate) cache: Family<Label, Counter>,
    pub(crate) gaps: Counter,
    pub(crate) connections: Family<Label, Gauge>,
    pub(crate) layers_read: Counter,
    pub(crate) bytes_read: Counter,
    /// Seconds until it expires, by name of the token.
    pub(crate) tokens: Family<Label, Gauge<i64, AtomicI64>>,
    pub(crate) certificates: Family<Label, Gauge<i64, AtomicI64>>,
    pub(crate) is_leader: Gauge,
    /// Scans for a Harbor that ended here, by result.
    pub(crate) harbor_scans: Family<Label, Counter>,
    pub(crate) harbor_open: Gauge,
    /// Scans that a Harbor was asked for, by what it answered.
    pub(crate) harbor_rescans: Family<Label, Counter>,
    pub(crate) audit: AuditMetrics,
    pub(crate) events: Family<EventLabels, Counter>,
    /// Messages that were sent here, by result.
    pub(crate) notifications: Family<Label, Counter>,
    pub(crate) notifications_waiting: Gauge,
    /// Images whose attestations were read, by result.
    pub(crate) attestations: Family<Label, Counter>,
    /// Prompts and answers that were checked, by who asked and verdict.
    pub(crate) prompts: Family<PromptLabels, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        let metrics = Metrics {
            registry: Registry::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            decisions: Family::default(),
            refused: Family::default(),
            queued: Family::default(),
            layers: Family::default(),
            scanned: Family::default(),
            cache: Family::default(),
            gaps: Counter::default(),
            connections: Family::default(),
            layers_read: Counter::default(),
            bytes_read: Counter::default(),
            tokens: Family::default(),
            certificates: Family::default(),
            is_leader: Gauge::default(),
            harbor_scans: Family::default(),
            harbor_open: Gauge::default(),
            harbor_rescans: Family::default(),
            audit: AuditMetrics::default(),
            events: Family::default(),
            notifications: Family::default(),
            notifications_waiting: Gauge::default(),
            attestations: Family::default(),
            prompts: Family::default(),
        };
        let mut registry = Registry::with_prefix("layersift");
        metrics.register(&mut registry);
        Metrics { registry, ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests by route and status", self.requests.clone());
        registry.register("http_request_duration_seconds", "Time to the answer by route", self.durations.clone());
        registry.register("http_connections", "Open connections, by listener", self.connections.clone());
        registry.register("refused_requests", "Requests refused, by reason", self.refused.clone());
        registry.register("admission_decisions", "Decisions by outcome and effect", self.decisions.clone());
        registry.register("scan_requests_queued", "Images that wait for a scan, by class", self.queued.clone());
        registry.register("scan_requests_ended", "Images scanned here, by result", self.scanned.clone());
        registry.register("scan_gaps", "Gaps in the reports that were decided by", self.gaps.clone());
        registry.register("layer_jobs", "Layers in the queue, by state", self.layers.clone());
        registry.register("layers_read", "Layers that were read here", self.layers_read.clone());
        registry.register("layer_bytes_read", "Bytes of layers that were read here", self.bytes_read.clone());
        registry.register("decision_cache", "Decisions looked up, by where they were found", self.cache.clone());
        registry.register("token_expiry_seconds", "Seconds until a token expires", self.tokens.clone());
        registry.register(
            "certificate_expiry_seconds",
            "Seconds until the certificate of an address expires",
            self.certificates.clone(),
        );
        registry.register("harbor_scans_open", "Scans that Harbor waits for", self.harbor_open.clone());
        registry.register("harbor_scans_ended", "Scans for Harbor ended here, by result", self.harbor_scans.clone());
        registry.register("harbor_rescans", "Scans that Harbor was asked for, by answer", self.harbor_rescans.clone());
        registry.register("events", "Events of registries, by what became of them", self.events.clone());
        registry.register("notifications", "Messages sent here, by result", self.notifications.clone());
        registry.register("notifications_waiting", "Messages to be sent", self.notifications_waiting.clone());
        registry.register("attestations_read", "Images whose attestations were read, by result", {
            self.attestations.clone()
        });
        registry.register(
            "prompt_checks",
            "Prompts and answers checked, by envelope and verdict",
            self.prompts.clone(),
        );
        registry.register("leader", "Whether this replica does the periodic work", self.is_leader.clone());
        self.audit.register(registry);
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&Answered { route: route.into(), status }).inc();
        self.durations.get_or_create(&Route { route: route.into() }).observe(took.as_secs_f64());
    }

    /// The metrics as Prometheus reads them.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A label of one name.
pub(crate) fn label(name: &'static str, value: impl Into<String>) -> Label {
    [(name, value.into())]
}
