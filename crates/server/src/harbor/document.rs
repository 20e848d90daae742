//! The form of a report, `application/vnd.security.vulnerability.report; version=1.1`, and what cuts it.
//!
//! Harbor stores all of a report or nothing of it. More than 65,535 findings, a NUL character, an index entry of more
//! than 2,704 bytes or a byte order mark lose it, so none of them is ever written. `{}` is stored as a scan that found
//! nothing: a report always has all fields.

use crate::harbor::scan_request::Artifact;
use layersift_model::json_output;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

/// The weakness of a gap: a protection that did not work. Harbor makes a list with an empty text of an empty list.
const GAP_WEAKNESS: u32 = 693;

/// Bytes that are kept free for the finding that counts what was left out.
const ROOM: usize = 2_048;

/// What is answered if a report cannot be written, which does not happen: it is not `{}`.
const UNWRITTEN: &[u8] =
    br#"{"vulnerabilities":[{"id":"GAP-not-written","package":"report","version":"","severity":"High"}]}"#;

/// A severity in Harbor's words, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Harbor shows it as None.
    Negligible,
    /// Also any word that Harbor does not know.
    Unknown,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// The bounds of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportLimits {
    /// Findings. Harbor gives each a parameter of a query, of which PostgreSQL takes 65,535.
    pub findings: usize,
    /// Bytes. Harbor waits 5 seconds for a report.
    pub bytes: usize,
}

impl Default for ReportLimits {
    fn default() -> ReportLimits {
        ReportLimits { findings: 60_000, bytes: 16 << 20 }
    }
}

/// The scanner that a report is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanner {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Who makes it.
    #[serde(default)]
    pub vendor: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
}

/// A report before it is cut and written.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When the scan began, as RFC 3339 writes it.
    pub generated_at: String,
    /// What was scanned.
    pub artifact: Artifact,
    /// The scanner.
    pub scanner: Scanner,
    /// The findings, those first that are to be kept.
    pub vulnerabilities: Vec<Vulnerability>,
    /// How many more there are.
    pub left_out: u64,
}

/// A finding as Harbor stores it. `id`, `package` and `version` are its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vulnerability {
    /// What the allow-list of a project names.
    pub id: String,
    /// Where it is.
    #[serde(default, deserialize_with = "or_default")]
    pub package: String,
    /// What else tells it apart.
    #[serde(default, deserialize_with = "or_default")]
    pub version: String,
    /// The version in which it is fixed; empty if there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub fix_version: String,
    /// The severity, in any word.
    #[serde(default, deserialize_with = "or_default")]
    pub severity: String,
    /// What its vendor does about it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// What it is.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// Where one can read about it.
    #[serde(default, deserialize_with = "or_default")]
    pub links: Vec<String>,
    /// Its score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_cvss: Option<Cvss>,
    /// The weaknesses that it is an example of.
    #[serde(default, deserialize_with = "or_default")]
    pub cwe_ids: Vec<String>,
    /// What else its scanner tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_attributes: Option<Map<String, Value>>,
}

/// A score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cvss {
    /// The score of version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_v3: Option<f64>,
    /// The score of version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_v2: Option<f64>,
    /// How the score of version 3 is made up.
    #[serde(default, deserialize_with = "or_default")]
    pub vector_v3: String,
    /// How the score of version 2 is made up.
    #[serde(default, deserialize_with = "or_default")]
    pub vector_v2: String,
}

#[derive(Serialize)]
struct Written<'r> {
    generated_at: &'r str,
    artifact: &'r Artifact,
    scanner: &'r Scanner,
    severity: &'static str,
    vulnerabilities: &'r [&'r Vulnerability],
}

/// As Go reads it: `null` leaves a field empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Level {
    const ALL: [Level; 6] =
        [Level::Negligible, Level::Unknown, Level::Low, Level::Medium, Level::High, Level::Critical];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Level::Negligible => "Negligible",
            Level::Unknown => "Unknown",
            Level::Low => "Low",
            Level::Medium => "Medium",
            Level::High => "High",
            Level::Critical => "Critical",
        }
    }

    /// What Harbor makes of a word.
    pub fn of(word: &str) -> Level {
        if word.eq_ignore_ascii_case("none") {
            return Level::Negligible;
        }
        Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(word)).unwrap_or(Level::Unknown)
    }
}

impl Scanner {
    /// This scanner. Harbor takes no empty version.
    pub fn layersift(version: &str) -> Scanner {
        let version = crate::admission::tidy(version, 64);
        let version = if version.trim().is_empty() { "unknown".into() } else { version };
        Scanner { name: "Layersift".into(), vendor: "Layersift".into(), version }
    }
}

impl Vulnerability {
    /// What is not known of an image.
    pub(super) fn of_gap(id: String, package: String, version: String, level: Level, description: String) -> Self {
        let attributes = json!({"layersift": {"gap": id.trim_start_matches("GAP-")}});
        Vulnerability {
            id,
            package,
            version,
            fix_version: String::new(),
            severity: level.name().into(),
            status: String::new(),
            description,
            links: vec![weakness_link(GAP_WEAKNESS)],
            preferred_cvss: None,
            cwe_ids: vec![format!("CWE-{GAP_WEAKNESS}")],
            vendor_attributes: attributes.as_object().cloned(),
        }
    }

    /// What Harbor makes of its severity.
    pub fn level(&self) -> Level {
        Level::of(&self.severity)
    }

    fn counting(left_out: u64) -> Vulnerability {
        let description = "The report has more findings than Harbor takes. Those that are left out are not worse than \
                           the others of their scanner. Layersift itself can show all.";
        let (id, package, version) = ("GAP-too-many-findings".into(), "report".into(), format!("{left_out}-more"));
        Vulnerability::of_gap(id, package, version, Level::High, description.into())
    }
}

/// The page of a weakness in the Common Weakness Enumeration.
pub(super) fn weakness_link(number: u32) -> String {
    format!("https://cwe.mitre.org/data/definitions/{number}.html")
}

impl Report {
    /// The worst severity, as Harbor writes it.
    pub fn severity(&self) -> &'static str {
        let counting = (self.left_out > 0).then_some(Level::High);
        severity(self.vulnerabilities.iter().map(Vulnerability::level).chain(counting))
    }

    /// The report as JSON within `limits`: what is first is kept, and one more finding counts the rest.
    pub fn to_json(&self, limits: &ReportLimits) -> Vec<u8> {
        let kept = self.that_fit(limits);
        let left_out = self.left_out.saturating_add((self.vulnerabilities.len() - kept) as u64);
        let counting = (left_out > 0).then(|| Vulnerability::counting(left_out));
        let all: Vec<&Vulnerability> = self.vulnerabilities.iter().take(kept).chain(&counting).collect();
        self.write(&all).unwrap_or_else(|_| UNWRITTEN.to_vec())
    }

    fn write(&self, vulnerabilities: &[&Vulnerability]) -> serde_json::Result<Vec<u8>> {
        json_output::line(&Written {
            generated_at: &self.generated_at,
            artifact: &self.artifact,
            scanner: &self.scanner,
            severity: severity(vulnerabilities.iter().map(|one| one.level())),
            vulnerabilities,
        })
    }

    /// How many findings fit, with one more if something is left out.
    fn that_fit(&self, limits: &ReportLimits) -> usize {
        let frame = self.write(&[]).map_or(0, |frame| frame.len());
        let mut room = limits.bytes.saturating_sub(frame + ROOM);
        let mut kept = 0;
        for one in &self.vulnerabilities {
            // With the comma.
            let size = json_output::line(one).map_or(usize::MAX, |bytes| bytes.len() + 1);
            let Some(left) = room.checked_sub(size) else { break };
            room = left;
            kept += 1;
        }
        let is_whole = self.left_out == 0 && kept == self.vulnerabilities.len();
        kept.min(if is_whole && kept <= limits.findings { kept } else { limits.findings.saturating_sub(1) })
    }
}

/// Harbor takes the severity of an image from its findings. This is what it shows above the list.
fn severity(levels: impl Iterator<Item = Level>) -> &'static str {
    levels.max().map_or("None", Level::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: usize) -> Report {
        let gap = |number: usize| {
            let (id, package) = (format!("GAP-{number}"), "x".repeat(100));
            Vulnerability::of_gap(id, package, "v".into(), Level::Low, "d".into())
        };
        Report {
            generated_at: "2026-11-29T10:00:00Z".into(),
            artifact: Artifact::default(),
            scanner: Scanner::layersift(""),
            vulnerabilities: (0..findings).map(gap).collect(),
            left_out: 0,
        }
    }

    fn written(report: &Report, findings: usize, bytes: usize) -> (Vec<Value>, Value) {
        let text = report.to_json(&ReportLimits { findings, bytes });
        assert!(text.len() <= bytes, "{} of {bytes}", text.len());
        let value: Value = serde_json::from_slice(&text).unwrap();
        (value["vulnerabilities"].as_array().unwrap().clone(), value["severity"].clone())
    }

    #[test]
    fn nothing_found_is_a_whole_report() {
        let value: Value = serde_json::from_slice(&report(0).to_json(&ReportLimits::default())).unwrap();
        let digest = Artifact::default().digest;
        let expected = json!({
            "generated_at": "2026-11-29T10:00:00Z",
            "artifact": {"repository": "", "digest": digest, "tag": "", "mime_type": "", "size": 0},
            "scanner": {"name": "Layersift", "vendor": "Layersift", "version": "unknown"},
            "severity": "None",
            "vulnerabilities": [],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (all, severity) = written(&report(10), 10, 1 << 20);
        assert_eq!((all.len(), severity), (10, json!("Low")));
        let (some, severity) = written(&report(11), 10, 1 << 20);
        assert_eq!((some.len(), severity), (10, json!("High")));
        assert_eq!((&some[9]["id"], &some[9]["version"]), (&json!("GAP-too-many-findings"), &json!("2-more")));
        let (some, _) = written(&Report { left_out: 5, ..report(10) }, 10, 1 << 20);
        assert_eq!((some.len(), &some[9]["version"]), (10, &json!("6-more")));
        let (few, severity) = written(&report(1_000), 60_000, 10_000);
        assert_eq!(severity, "High");
        assert!((10..40).contains(&few.len()), "{}", few.len());
        assert_eq!(few.last().unwrap()["version"], format!("{}-more", 1_001 - few.len()));
        for findings in 0..3 {
            assert_eq!(written(&report(5), findings, 1 << 20).0.len(), findings.max(1));
        }
    }

    #[test]
    fn words_are_severities_as_harbor_reads_them() {
        let words =
            [("HIGH", Level::High), ("none", Level::Negligible), ("Info", Level::Unknown), ("", Level::Unknown)];
        for (word, level) in words {
            assert_eq!(Level::of(word), level, "{word}");
        }
        assert_eq!(Level::ALL.into_iter().map(|level| Level::of(level.name())).collect::<Vec<_>>(), Level::ALL);
    }
}
