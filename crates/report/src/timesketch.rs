//! JSON Lines for Timesketch: the history of the image and of every finding, an event a line.
//!
//! Source: Timesketch, "Import from JSON or CSV": `message`, `datetime` in ISO 8601 and `timestamp_desc`.
//!
//! The times of layers are those of the image's history, and those of files are in the layers: who builds an image may
//! set them to anything. An event whose layer has none is put at the time of the scan, and says so.

use std::io::{self, Write};

use jiff::Timestamp;
use layersift_model::{Finding, ImageReport, LayerSummary, State};
use serde_json::{Map, Value, json};

use crate::RenderOptions;
use crate::exchange;
use crate::terminal::human;

/// Writes the events of all reports.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    for report in reports {
        Timeline { report, out: &mut *out }.write()?;
    }
    Ok(())
}

/// Writes the events of one image.
struct Timeline<'w> {
    report: &'w ImageReport,
    out: &'w mut dyn Write,
}

impl Timeline<'_> {
    fn write(&mut self) -> io::Result<()> {
        for layer in &self.report.layers {
            self.layer(layer)?;
        }
        for finding in &self.report.findings {
            self.finding(finding)?;
        }
        for gap in &self.report.gaps {
            let fields = json!({ "event": "gap", "reason": gap.gap.reason.name(), "layer": gap.layer });
            self.event(self.report.scanned_at, "Not read", &exchange::gap(gap), fields)?;
        }
        self.scan()
    }

    fn scan(&mut self) -> io::Result<()> {
        let report = self.report;
        let mut fields = json!({
            "event": "scan",
            "verdict": report.verdict().name(),
            "findings": report.findings.len(),
            "gaps": report.gaps.len(),
            "ruleset": exchange::name(&report.tool.ruleset),
        });
        if let (false, Value::Object(fields)) = (exchange::has_own_key(report), &mut fields) {
            fields.insert("fingerprints".into(), exchange::NO_FINGERPRINTS.into());
        }
        let message =
            format!("Scanned {}: {}: {}", exchange::image_name(report), report.verdict().name(), exchange::why(report));
        self.event(report.scanned_at, "Scan started", &message, fields)
    }

    fn layer(&mut self, layer: &LayerSummary) -> io::Result<()> {
        let instruction = layer.created_by.as_deref().map(exchange::sentence).unwrap_or_default();
        let message = format!("Layer {} was created: {instruction}", layer.index);
        let fields = json!({
            "event": "layer",
            "layer": layer.index,
            "layer_digest": layer.digest,
            "diff_id": layer.diff_id,
            "origin": layer.origin.map(layersift_model::LayerOrigin::name),
            "files": layer.files,
            "size": human(layer.bytes),
            "is_read": layer.is_read,
        });
        self.event(layer.created_at, "Layer created", &message, fields)
    }

    /// The finding was written with its file, enters with its layer, and may end with another.
    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let fields = self.fields(finding);
        let Some(file) = finding.file() else {
            let created = self.report.layers.iter().filter_map(|layer| layer.created_at).next_back();
            return self.event(created, "Image created", &exchange::summary(finding), fields);
        };
        if let Some(modified) = file.attributes.as_ref().and_then(|attributes| attributes.modified_at) {
            self.event(Some(modified), "File modified", &exchange::summary(finding), fields.clone())?;
        }
        self.event(self.time_of(file.layer.index), "Finding added", &exchange::summary(finding), fields.clone())?;
        let (ended, what) = match (file.state, &file.ended_by) {
            (State::Present, _) => return Ok(()),
            (state, Some(by)) => (by.index, format!("Finding {}", state.name())),
            (state, None) => (file.layer.index, format!("Finding {}", state.name())),
        };
        let message =
            format!("{} in {} was {}", exchange::title(finding), exchange::place(finding), exchange::fate(file));
        self.event(self.time_of(ended), &what, &message, fields)
    }

    fn fields(&self, finding: &Finding) -> Value {
        let file = finding.file();
        let attributes = file.and_then(|file| file.attributes.as_ref());
        json!({
            "event": "finding",
            "rule": exchange::name(&finding.rule.id),
            "severity": finding.severity.name(),
            "confidence": finding.rule.confidence.name(),
            "place": exchange::place(finding),
            "line": exchange::line(finding),
            "state": finding.state().name(),
            "file_size": attributes.map(|attributes| attributes.size),
            "file_mode": attributes.map(|attributes| format!("{:04o}", attributes.mode)),
            "file_uid": attributes.and_then(|attributes| attributes.uid),
            "file_gid": attributes.and_then(|attributes| attributes.gid),
            "layer": file.map(|file| file.layer.index),
            "layer_digest": file.and_then(|file| file.layer.digest.clone()),
            "ended_by": file.and_then(|file| file.ended_by.as_ref()).map(|layer| layer.index),
            "secret": finding.secret.as_ref().map(|secret| exchange::name(&secret.masked)),
            "fingerprint": exchange::fingerprint(self.report, finding).map(exchange::name),
            "origin": finding.origin.map(layersift_model::LayerOrigin::name),
            "instruction": finding.step.as_ref().map(|step| format!("{}:{}", exchange::name(&step.file), step.line)),
            "exempt": exchange::exempt(finding),
            "fails": exchange::fails(self.report, finding),
        })
    }

    /// When the layer was created.
    fn time_of(&self, layer: usize) -> Option<Timestamp> {
        self.report.layers.iter().find(|known| known.index == layer)?.created_at
    }

    /// Writes an event. Fields that are null are left out.
    fn event(&mut self, at: Option<Timestamp>, what: &str, message: &str, fields: Value) -> io::Result<()> {
        let report = self.report;
        let (at, what) = match (at, report.scanned_at) {
            (Some(at), _) => (at, what.to_string()),
            (None, Some(scanned)) => (scanned, format!("{what} (time unknown; time of the scan)")),
            (None, None) => (Timestamp::UNIX_EPOCH, format!("{what} (time unknown)")),
        };
        let mut event = Map::new();
        if let Value::Object(fields) = fields {
            event.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
        }
        event.insert("message".into(), message.into());
        event.insert("datetime".into(), at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string().into());
        event.insert("timestamp_desc".into(), what.into());
        event.insert("data_type".into(), "layersift:image".into());
        event.insert("image".into(), exchange::image_name(report).into());
        event.insert("platform".into(), exchange::platform(report).into());
        if let Some(digest) = &report.manifest_digest {
            event.insert("manifest_digest".into(), digest.to_string().into());
        }
        layersift_model::json_output::write_line(&mut *self.out, &event)?;
        writeln!(self.out)
    }
}
