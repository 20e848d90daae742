//! What Harbor makes of a report: one table of findings for a scanner, whose rows all images share, and the list and
//! the overview of one image.
//!
//! A finding's description, links, CWEs and attributes stay as they were first seen. Its severity, status, fixed
//! version and scores are those of the last scan of any image. Sources: `reports.json` and
//! `same-finding-in-two-images.json` of the recordings, and `src/pkg/scan/postprocessors/report_converters.go` of
//! Harbor for what keys are compared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::go_json::{decode, field, list, number, object, text, texts};

/// The most bytes of a row of an index of PostgreSQL.
const INDEX_ROW: usize = 2_704;

/// The most parameters of a statement.
const PARAMETERS: usize = 65_535;

/// The scanner's registration, 36 characters like any other.
const REGISTRATION: &str = "f68a45f3-eb6c-11f1-9f48-c2c65cd2b90f";

/// The id, the package and its version: what makes a finding another one.
pub type Key = (String, String, String);

/// A report as it was received.
#[derive(Clone, Debug)]
pub struct Report {
    /// What Harbor keeps of it besides the findings.
    pub summary: Value,
    pub findings: Vec<Finding>,
    /// Nothing at all: `{}`.
    pub is_empty_object: bool,
}

/// A finding of a report.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    pub key: Key,
    pub fix_version: String,
    pub severity: &'static str,
    pub status: String,
    pub description: String,
    pub links: Vec<String>,
    pub cwe_ids: Vec<String>,
    scores: [Option<f64>; 2],
    vectors: [String; 2],
    vendor_attributes: Option<Value>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub key: Key,
    pub fix_version: String,
    pub severity: &'static str,
    pub status: String,
    pub description: String,
    /// Links with `|` between them.
    pub urls: String,
    /// CWEs with `,` between them.
    pub cwe_ids: String,
    /// The scores of CVSS 3 and 2.
    pub scores: [Option<f64>; 2],
    pub vectors: [String; 2],
    pub vendor_attributes: Option<Value>,
    number: usize,
}

/// All findings of a scanner.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: HashMap<Key, Row>,
    by_id: HashMap<String, Vec<Key>>,
}

/// A severity as Harbor reads it.
pub fn severity(text: &str) -> &'static str {
    const KNOWN: [&str; 5] = ["Critical", "High", "Medium", "Low", "None"];
    match KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(text)) {
        Some(known) => known,
        None if text.eq_ignore_ascii_case("Negligible") => "None",
        None => "Unknown",
    }
}

/// How severe it is. What is unknown counts as none.
pub fn rank(severity: &str) -> usize {
    ["Low", "Medium", "High", "Critical"].iter().position(|known| *known == severity).map_or(0, |place| place + 1)
}

/// Reads a report, or says in Go's words what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Report, String> {
    if bytes.is_empty() {
        return Err("empty JSON data".into());
    }
    let document = decode(bytes)?;
    let Value::Object(fields) = &document else {
        let place = object(&document, "Go value", "vuln.Report");
        return place.map(|_| Report { summary: json!({}), findings: Vec::new(), is_empty_object: true });
    };
    let of = |name: &str| format!("Go struct field Report.{name}");
    let scanner = object(field(fields, "scanner"), &of("scanner"), "v1.Scanner")?;
    let words = |name: &str, of: &str| text(field(fields, name), of, "string");
    let findings = list(field(fields, "vulnerabilities"), &of("vulnerabilities"), "[]*vuln.VulnerabilityItem")?;
    let summary = json!({
        "generated_at": words("generated_at", &of("generated_at"))?,
        "scanner": scanner.map(|scanner| {
            let part = |name: &str| text(field(scanner, name), "Go struct field Scanner", "string");
            Ok::<_, String>(json!({ "name": part("name")?, "vendor": part("vendor")?, "version": part("version")? }))
        }).transpose()?,
        "severity": words("severity", &of("severity"))?,
    });
    let is_empty_object = fields.is_empty();
    Ok(Report { summary, findings: findings.iter().map(finding).collect::<Result<_, _>>()?, is_empty_object })
}

fn finding(value: &Value) -> Result<Finding, String> {
    let of = |name: &str| format!("Go struct field VulnerabilityItem.vulnerabilities.{name}");
    let empty = Map::new();
    let fields = object(value, "Go struct field Report.vulnerabilities", "vuln.VulnerabilityItem")?.unwrap_or(&empty);
    let word = |name: &str| text(field(fields, name), &of(name), "string");
    let attributes = object(field(fields, "vendor_attributes"), &of("vendor_attributes"), "map[string]interface {}")?;
    let cvss = object(field(fields, "preferred_cvss"), &of("preferred_cvss"), "vuln.CVSS")?.unwrap_or(&empty);
    let score = |name: &str| number(field(cvss, name), &of(name));
    let vector = |name: &str| text(field(cvss, name), &of(name), "string");
    Ok(Finding {
        key: (word("id")?, word("package")?, word("version")?),
        fix_version: word("fix_version")?,
        severity: severity(&text(field(fields, "severity"), &of("severity"), "vuln.Severity")?),
        status: word("status")?,
        description: word("description")?,
        links: texts(field(fields, "links"), &of("links"))?,
        cwe_ids: texts(field(fields, "cwe_ids"), &of("cwe_ids"))?,
        scores: [score("score_v3")?, score("score_v2")?],
        vectors: [vector("vector_v3")?, vector("vector_v2")?],
        vendor_attributes: attributes.filter(|fields| !fields.is_empty()).map(|fields| Value::from(fields.clone())),
    })
}

impl Table {
    /// Stores a report's findings and gives the keys of its rows, or PostgreSQL's words and nothing is stored. What
    /// is lost on the way, because a row was there already, goes into `lost`.
    pub fn convert(&mut self, report: &Report, lost: &mut Vec<String>) -> Result<Vec<Key>, String> {
        if report.findings.len() > PARAMETERS {
            return Err(format!("extended protocol limited to {PARAMETERS} parameters"));
        }
        // Harbor compares these words, and not the three parts.
        let mut first: HashMap<String, &Finding> = HashMap::new();
        for finding in &report.findings {
            first.entry(joined(&finding.key)).or_insert(finding);
        }
        let ids: BTreeSet<&String> = report.findings.iter().map(|finding| &finding.key.0).collect();
        let known: Vec<Key> = ids.into_iter().filter_map(|id| self.by_id.get(id)).flatten().cloned().collect();
        let (mut seen, mut taken) = (HashSet::new(), HashSet::new());
        let (mut keys, mut rewritten, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for key in known {
            let Some(finding) = first.get(&joined(&key)) else { continue };
            seen.insert(joined(&key));
            let mut row = self.rows[&key].clone();
            lost.extend(row.lost(finding));
            let is_other = |row: &Row| (row.severity, &row.status, &row.fix_version) != finding.last();
            if is_other(&row) {
                (row.severity, row.scores) = (finding.severity, finding.scores);
                (row.status, row.fix_version) = (finding.status.clone(), finding.fix_version.clone());
                rewritten.push(row);
            }
            keys.push(key);
        }
        for finding in report.findings.iter().filter(|finding| !seen.contains(&joined(&finding.key))) {
            let row = finding.row(self.rows.len() + made.len())?;
            // Of the same finding twice, the first stays.
            if taken.insert(row.key.clone()) {
                keys.push(row.key.clone());
                made.push(row);
            }
        }
        for row in made {
            self.by_id.entry(row.key.0.clone()).or_default().push(row.key.clone());
            self.rows.insert(row.key.clone(), row);
        }
        self.rows.extend(rewritten.into_iter().map(|row| (row.key.clone(), row)));
        Ok(keys)
    }

    /// A row.
    pub fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// All rows, in the order in which they were made.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_by_key(|row| row.number);
        rows
    }

    /// Rows of these keys, in the order in which they were made.
    pub fn of<'t>(&'t self, keys: impl IntoIterator<Item = &'t Key>) -> Vec<&'t Row> {
        let mut rows: Vec<&Row> = keys.into_iter().filter_map(|key| self.rows.get(key)).collect();
        rows.sort_by_key(|row| row.number);
        rows.dedup_by_key(|row| row.number);
        rows
    }
}

impl Finding {
    fn last(&self) -> (&'static str, &String, &String) {
        (self.severity, &self.status, &self.fix_version)
    }

    /// The row that is made of it, or what PostgreSQL says.
    fn row(&self, number: usize) -> Result<Row, String> {
        let (urls, cwe_ids) = (self.links.join("|"), self.cwe_ids.join(","));
        let (id, package, version) = (&self.key.0, &self.key.1, &self.key.2);
        let texts = [id, package, version, &self.fix_version, &self.status, &self.description, &urls, &cwe_ids];
        if texts.into_iter().chain(&self.vectors).any(|text| text.contains('\0')) {
            return Err("ERROR: invalid byte sequence for encoding \"UTF8\": 0x00 (SQLSTATE 22021)".into());
        }
        let size = index_row(&[id, REGISTRATION, package, version]);
        if size > INDEX_ROW {
            return Err(format!(
                "ERROR: index row size {size} exceeds btree version 4 maximum {INDEX_ROW} for index \
                 \"vulnerability_record_cve_id_registration_uuid_package_packa_key\" (SQLSTATE 54000)"
            ));
        }
        let mut scores = self.scores;
        if let (None, Some(attributes)) = (scores[0], &self.vendor_attributes) {
            scores[0] = Some(attributes["CVSS"]["nvd"]["V3Score"].as_f64().unwrap_or(0.0));
        }
        Ok(Row {
            key: self.key.clone(),
            fix_version: self.fix_version.clone(),
            severity: self.severity,
            status: self.status.clone(),
            description: self.description.clone(),
            urls,
            cwe_ids,
            scores,
            vectors: self.vectors.clone(),
            vendor_attributes: self.vendor_attributes.clone(),
            number,
        })
    }
}

impl Row {
    /// What is lost if `finding` is stored as this row.
    fn lost(&self, finding: &Finding) -> Vec<String> {
        let what = |name: &str| format!("{name} of {} differs from image to image", joined(&self.key));
        let mut lost = Vec::new();
        let frozen = [
            ("the description", self.description == finding.description),
            ("the links", self.urls == finding.links.join("|")),
            ("the CWEs", self.cwe_ids == finding.cwe_ids.join(",")),
            ("vendor_attributes", self.vendor_attributes == finding.vendor_attributes),
            ("severity, status or fix_version", finding.last() == (self.severity, &self.status, &self.fix_version)),
        ];
        lost.extend(frozen.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| what(name)));
        lost
    }

    /// The row in the list of an image, or of an index with these images.
    pub fn shown(&self, digests: &[String]) -> Value {
        let parts = |text: &str, by: char| -> Value { text.split(by).collect() };
        json!({
            "id": self.key.0, "package": self.key.1, "version": self.key.2, "fix_version": self.fix_version,
            "severity": self.severity, "status": self.status, "description": self.description,
            "links": parts(&self.urls, '|'), "artifact_digests": digests,
            "preferred_cvss": {
                "score_v3": self.scores[0], "score_v2": self.scores[1],
                "vector_v3": self.vectors[0], "vector_v2": self.vectors[1],
            },
            "cwe_ids": parts(&self.cwe_ids, ','), "vendor_attributes": self.vendor_attributes,
        })
    }
}

/// The worst severity of rows, and how many there are of each.
pub fn counted(rows: &[&Row]) -> (&'static str, Value) {
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut seen, mut fixable) = (HashSet::new(), 0);
    for row in rows {
        if seen.insert(joined(&row.key)) {
            *by.entry(row.severity).or_default() += 1;
            fixable += usize::from(!row.fix_version.is_empty());
        }
    }
    let worst = rows.iter().map(|row| row.severity).max_by_key(|severity| rank(severity));
    let worst = worst.filter(|severity| rank(severity) > 0).unwrap_or("None");
    (worst, json!({ "total": seen.len(), "fixable": fixable, "summary": by }))
}

fn joined(key: &Key) -> String {
    format!("{}-{}-{}", key.0, key.1, key.2)
}

/// The size of a row of an index over texts that do not get smaller by compression: its head, and each text after one
/// byte of length, or after four on a multiple of four.
fn index_row(texts: &[&str]) -> usize {
    let end = texts.iter().fold(8, |at: usize, text| match text.len() {
        short @ ..127 => at + 1 + short,
        long => at.next_multiple_of(4) + 4 + long,
    });
    end.next_multiple_of(8)
}
