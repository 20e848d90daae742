//! Fills a store with made-up images and ten times as many findings, and measures traces in it and reads of whole
//! reports.
//!
//!     cargo bench -p layersift-store --bench trace -- STORE [IMAGES]
//!
//! STORE is a SQLite file or a `postgres://` URL; it is filled where it is empty. IMAGES are 100,000 if not given,
//! which takes minutes.

#![allow(unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../../../tests/support/records.rs"]
mod records;

use std::time::Instant;

use layersift_model::{Finding, Location, State};
use layersift_store::{Query, Store, TagSighting};

use records::*;

/// How many traces of each kind are measured, and how many reports.
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
fn findings(layers: &[String], random: &mut Numbers) -> Vec<Finding> {
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
            finding.id = digest(&format!("{layer} {at}")).hex()[..16].into();
            if own.below(3) == 0 {
                let (name, version) = (format!("package-{}", own.skewed(3000)), own.below(20).to_string());
                finding = in_package(&finding, &name, &version);
            }
            findings.push(finding);
        }
    }
    // One image in ten deletes something of its base.
    if layers.len() > 5 && random.below(10) == 0 {
        let at = random.below(40) as usize;
        findings[at] = ended(&findings[at], State::Deleted, layers.len() - 1);
    }
    findings
}

/// What to trace: some of the findings and layers that were made.
#[derive(Default)]
struct Examples {
    findings: Vec<Finding>,
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
        let is_own = |finding: &&Finding| layers[file(finding).layer.index].starts_with("own");
        examples.in_own_layers += findings.iter().filter(is_own).count() as u64;
        if random.below(50) == 0 {
            examples.findings.push(findings[random.below(findings.len() as u64) as usize].clone());
            examples.layers.push(layers[random.below(layers.len() as u64) as usize].clone());
        }
        if let Some(store) = store {
            put_image(store, number, &layers, &findings);
        }
    }
    examples
}

fn file(finding: &Finding) -> &layersift_model::FileLocation {
    match &finding.location {
        Location::File(file) => file,
        location => panic!("no finding was made in {location:?}"),
    }
}

fn put_image(store: &Store, number: u64, layers: &[String], findings: &[Finding]) {
    let names: Vec<&str> = layers.iter().map(String::as_str).collect();
    let mut report = image_report(&format!("image {number}"), &names, findings);
    report.platform = Some(["linux/amd64", "linux/arm64"][(number % 2) as usize].into());
    let id = store.images().put_report(&report, &key(), None, number as i64).unwrap();
    let tag = |tag: &str| TagSighting {
        repository: repository(&format!("app-{}", number % 5000)),
        tag: Some(tag.to_string()),
        digest: digest(&format!("image {number}")),
        image: id,
    };
    store.tags().see(&[tag(&format!("v{number}")), tag("latest")], number as i64).unwrap();
}

fn measure(store: &Store, examples: &Examples) {
    let Examples { findings, layers, .. } = examples;
    let own = |layer: &&String| layer.starts_with("own");
    let secret = |finding: &Finding| Query::Secret(finding.secret.clone().unwrap().fingerprint);
    let package = |finding: &Finding| {
        let name = file(finding).package.clone()?.name;
        Some(Query::Package { ecosystem: Some("npm".into()), name, version: None })
    };
    let kinds: [(&str, Vec<Query>); 7] = [
        ("finding", findings.iter().map(|finding| Query::Finding(finding.id.clone())).collect()),
        ("secret", findings.iter().map(secret).collect()),
        ("path", findings.iter().map(|finding| Query::Path(file(finding).path.clone())).collect()),
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
        let Some(last) = times.len().checked_sub(1) else {
            eprintln!("{kind:10} too few images for an example");
            continue;
        };
        let at = |percent: usize| times[last * percent / 100];
        eprintln!(
            "{kind:10} p50 {:8.2?}  p99 {:8.2?}  max {:8.2?}  ({} traces, images: median {}, most {})",
            at(50),
            at(99),
            at(100),
            times.len(),
            totals[last / 2],
            totals[last]
        );
    }
}

/// Reads whole reports, some images at a time, as a sweep over known images does.
fn measure_reports(store: &Store, images: u64) {
    let mut findings = 0;
    let begun = Instant::now();
    let count = images.min(TRACES as u64);
    for number in (images - count)..images {
        let stored = store.images().report(&digest(&format!("image {number}")), &key()).unwrap();
        findings += stored.expect("every image has a report").report.findings.len();
    }
    eprintln!("{count} whole reports with {findings} findings: {:.0?}", begun.elapsed());
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(text) = arguments.next() else {
        eprintln!("not measured: name a store, as in `cargo bench -p layersift-store --bench trace -- STORE [IMAGES]`");
        return;
    };
    let images: u64 = arguments.next().map_or(100_000, |count| count.parse().expect("IMAGES is a number"));
    let store = Store::open(&text).unwrap();
    let is_filled = store.images().find(&digest(&format!("image {}", images - 1))).unwrap().is_some();
    let begun = Instant::now();
    let examples = fill((!is_filled).then_some(&store), images);
    store.optimize().unwrap();
    eprintln!("{images} images, {} findings in layers of their own: {:.0?}", examples.in_own_layers, begun.elapsed());
    measure(&store, &examples);
    measure_reports(&store, images);
}
