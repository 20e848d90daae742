//! Metrics of the log of decisions.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::http::metrics::Label;

/// Metrics of the log; clones count together. Copies are told apart by where they go `to`.
#[derive(Clone, Default)]
pub(crate) struct AuditMetrics {
    pub(crate) entries: Counter,
    pub(crate) failures: Counter,
    /// Whether the last checkpoint could not be written.
    pub(crate) checkpoint_failed: Gauge,
    pub(crate) removed: Counter,
    pub(crate) copy_failures: Family<Label, Counter>,
    pub(crate) uncopied: Family<Label, Gauge>,
    /// Seconds since a copy was complete.
    pub(crate) copied: Family<Label, Gauge<i64, AtomicI64>>,
}

impl AuditMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("audit_entries", "Decisions that were logged", self.entries.clone());
        registry.register("audit_failures", "Decisions that could not be logged", self.failures.clone());
        registry.register(
            "audit_checkpoint_failed",
            "Whether the last checkpoint of the log could not be written",
            self.checkpoint_failed.clone(),
        );
        registry.register("audit_removed", "Entries of the log that retention removed", self.removed.clone());
        registry.register("audit_copy_failures", "Failed attempts to copy the log", self.copy_failures.clone());
        registry.register("audit_uncopied_entries", "Entries that a copy does not have yet", self.uncopied.clone());
        registry.register(
            "audit_copy_age_seconds",
            "Seconds since a copy had all entries that there were",
            self.copied.clone(),
        );
    }
}
