//! Fills a store with 100,000 made-up images and 1,000,000 findings, and measures traces in it, on SQLite and, with the
//! same rows, on PostgreSQL. It takes minutes: `cargo test --release --test store fill -- --ignored --nocapture`.
//! FILL_IMAGES says how many images, FILL_STORE names a SQLite file to keep, or to use when it is there, FILL_URL a
//! PostgreSQL store with the same rows, to measure only that.

use std::time::Instant;

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::State;
use layersift_store::{FindingRecord, Query, Store, TagSighting};
use rusqlite::types::ValueRef;

/// How many traces of each kind are measured.
const TRACES: usize = 300;

/// A small generator of numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    /// A number below `end`, small ones far more often.
    fn skewed(&mut self, end: u64) -> u64 {
        let unit = self.below(1 << 30) as f64 / (1_u64 << 30) as f64;
        (unit.powi(4) * end as f64) as u64
    }
}

/// The layers of the made-up image `number`: an operating system, a runtime, an application and two of its own. The
/// first 2,500 images are the bases themselves.
fn layers(number: u64, random: &mut Numbers) -> Vec<String> {
    let (os, runtime, app) = (random.skewed(50), random.skewed(20), random.skewed(10));
    let mut layers = vec![format!("os {os}"), format!("os {os} patch")];
    if number < 100 {
        return layers;
    }
    layers.extend([format!("runtime {os} {runtime}"), format!("runtime {os} {runtime} packages")]);
    if number < 1000 {
        return layers;
    }
    layers.push(format!("app {os} {runtime} {app}"));
    if number >= 2500 {
        layers.extend([format!("own {number}"), format!("own {number} config")]);
    }
    layers
}

/// The findings of an image: ten of its own or so, and those of its bases, some of them deleted.
fn findings(layers: &[String], random: &mut Numbers) -> Vec<FindingRecord> {
    let mut findings = Vec::new();
    for (position, layer) in layers.iter().enumerate() {
        // What a layer has is the same wherever it turns up.
        let mut own = Numbers(u64::from_str_radix(&digest(layer).hex()[..15], 16).unwrap() | 1);
        let count = if layer.starts_with("own") { 5 } else { 20 };
        for at in 0..count {
            let path = match own.below(4) {
                0 => "app/.env".to_string(),
                1 => format!("usr/lib/{}/settings.json", own.below(5000)),
                _ => format!("srv/{}/{at}/key.pem", own.below(1 << 40)),
            };
            let mut finding = secret(layer, position, &path, &own.skewed(400_000).to_string());
            finding.finding_id = digest(&format!("{layer} {at}")).hex()[..16].into();
            if own.below(3) == 0 {
                finding.package = package(&format!("package-{}", own.skewed(3000)), &own.below(20).to_string());
            }
            findings.push(finding);
        }
    }
    // One image in ten deletes something of its base.
    if layers.len() > 5 && random.below(10) == 0 {
        let at = random.below(40) as usize;
        (findings[at].state, findings[at].ended_by) = (State::Deleted, Some(layers.len() - 1));
    }
    findings
}

/// What to trace: some of the findings and layers that were made.
#[derive(Default)]
struct Examples {
    findings: Vec<FindingRecord>,
    layers: Vec<String>,
    in_own_layers: u64,
}

/// Makes `images` images, and puts them into `store`, if there is one.
fn fill(store: Option<&Store>, images: u64) -> Examples {
    let mut random = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut examples = Examples::default();
    for number in 0..images {
        let layers = layers(number, &mut random);
        let findings = findings(&layers, &mut random);
        let is_own = |finding: &&FindingRecord| layers[finding.position.unwrap()].starts_with("own");
        examples.in_own_layers += findings.iter().filter(is_own).count() as u64;
        if random.below(50) == 0 {
            examples.findings.push(findings[random.below(findings.len() as u64) as usize].clone());
            examples.layers.push(layers[random.below(layers.len() as u64) as usize].clone());
        }
        if let Some(store) = store {
            put(store, number, &layers, findings);
        }
    }
    examples
}

fn put(store: &Store, number: u64, layers: &[String], findings: Vec<FindingRecord>) {
    let names: Vec<&str> = layers.iter().map(String::as_str).collect();
    let mut record = image(&format!("image {number}"), &names);
    record.platform = Some(["linux/amd64", "linux/arm64"][(number % 2) as usize].into());
    let id = store.put_assembled(&assembled(record, &findings), None, number as i64).unwrap();
    let tag = |tag: &str| TagSighting {
        repository: repository(&format!("app-{}", number % 5000)),
        tag: Some(tag.to_string()),
        digest: digest(&format!("image {number}")),
        image: id,
    };
    store.see_tags(&[tag(&format!("v{number}")), tag("latest")], number as i64).unwrap();
}

fn measure(database: &str, store: &Store, examples: &Examples) {
    let Examples { findings, layers, .. } = examples;
    let own = |layer: &&String| layer.starts_with("own");
    let secret = |finding: &FindingRecord| Query::Secret(finding.secret.clone().unwrap().fingerprint);
    let package = |finding: &FindingRecord| {
        let name = finding.package.clone()?.name;
        Some(Query::Package { ecosystem: Some("npm".into()), name, version: None })
    };
    let kinds: [(&str, Vec<Query>); 7] = [
        ("finding", findings.iter().map(|finding| Query::Finding(finding.finding_id.clone())).collect()),
        ("secret", findings.iter().map(secret).collect()),
        ("path", findings.iter().map(|finding| Query::Path(finding.path.clone().unwrap())).collect()),
        ("package", findings.iter().filter_map(package).collect()),
        ("own layer", layers.iter().filter(own).map(|layer| Query::Layer(digest(layer))).collect()),
        ("base layer", layers.iter().filter(|layer| !own(layer)).map(|layer| Query::Layer(digest(layer))).collect()),
        ("unknown", (0..TRACES).map(|n| Query::Secret(fingerprint(&format!("unknown {n}")))).collect()),
    ];
    for (kind, queries) in kinds {
        let mut times = Vec::new();
        let mut totals = Vec::new();
        for query in queries.iter().take(TRACES) {
            let begun = Instant::now();
            let trace = store.trace(query, None, 100).unwrap();
            times.push(begun.elapsed());
            totals.push(trace.total);
            assert_eq!(trace.total == 0, kind == "unknown", "{query:?}");
        }
        times.sort();
        totals.sort();
        let last = times.len().checked_sub(1).expect("too few images for an example of each kind");
        let at = |percent: usize| times[last * percent / 100];
        eprintln!(
            "{database:10} {kind:10} p50 {:8.2?}  p99 {:8.2?}  max {:8.2?}  ({} traces, images: median {}, most {})",
            at(50),
            at(99),
            at(100),
            times.len(),
            totals[last / 2],
            totals[last]
        );
    }
}

/// The tables, in an order in which each refers only to those before it.
const TABLES: [&str; 18] = [
    "rulesets",
    "layers",
    "layer_reports",
    "chains",
    "instructions",
    "images",
    "image_layers",
    "repositories",
    "tags",
    "rules",
    "packages",
    "layer_findings",
    "findings",
    "image_findings",
    "image_verdicts",
    "runs",
    "sightings",
    "jobs",
];

/// Copies all rows of a SQLite store to an empty PostgreSQL store.
fn copy(file: &str, url: &str) {
    let from = rusqlite::Connection::open(file).unwrap();
    let mut to = ::postgres::Client::connect(url, ::postgres::NoTls).unwrap();
    for table in TABLES {
        let mut statement = from.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns: Vec<String> = statement.column_names().map(String::from).collect();
        let mut sink = to.copy_in(&format!("COPY {table} ({}) FROM STDIN", columns.join(", "))).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let text = |column| match row.get_ref(column).unwrap() {
                ValueRef::Null => "\\N".to_string(),
                ValueRef::Integer(number) => number.to_string(),
                other => escaped(other.as_str().unwrap()),
            };
            let line: Vec<String> = (0..columns.len()).map(text).collect();
            std::io::Write::write_all(&mut sink, (line.join("\t") + "\n").as_bytes()).unwrap();
        }
        sink.finish().unwrap();
    }
}

/// A text in the form that COPY reads (PostgreSQL, COPY, "Text Format").
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}

#[test]
#[ignore = "takes minutes"]
fn traces_take_milliseconds() {
    let images: u64 = std::env::var("FILL_IMAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    if let Ok(url) = std::env::var("FILL_URL") {
        return measure("PostgreSQL", &Store::open(&url).unwrap(), &fill(None, images));
    }
    let fresh = Fresh::sqlite();
    let file = std::env::var("FILL_STORE").unwrap_or_else(|_| fresh.text.clone());
    let is_there = std::path::Path::new(&file).exists();
    let store = Store::open(&file).unwrap();
    let begun = Instant::now();
    let examples = fill((!is_there).then_some(&store), images);
    store.tidy().unwrap();
    eprintln!("{images} images, {} findings in layers of their own: {:.0?}", examples.in_own_layers, begun.elapsed());
    measure("SQLite", &store, &examples);
    eprintln!("SQLite: {} MB", std::fs::metadata(&file).unwrap().len() / 1_000_000);
    let fresh = Fresh::postgres();
    let store = fresh.open();
    let begun = Instant::now();
    copy(&file, &fresh.text);
    store.tidy().unwrap();
    eprintln!("copied to PostgreSQL: {:.0?}", begun.elapsed());
    measure("PostgreSQL", &store, &examples);
    if std::env::var_os("FILL_WAIT").is_some() {
        eprintln!("{}: waiting", fresh.text);
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}
