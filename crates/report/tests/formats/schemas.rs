//! The schemas in `testdata/schemas`, whose README.md says where they are from.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::{Draft, Registry, Validator};
use serde_json::Value;

use crate::rendered;
use crate::sample::{clean, incident, judged, with_own_key};
use crate::skeleton::Element;

/// The documents that the schemas of CycloneDX refer to, by their names there.
const PARTS: [(&str, &str); 3] = [
    ("spdx.SNAPSHOT.schema.json", "cyclonedx-spdx.json"),
    ("jsf-0.82.SNAPSHOT.schema.json", "cyclonedx-jsf.json"),
    ("cryptography-defs.SNAPSHOT.schema.json", "cyclonedx-cryptography.json"),
];

/// Every schema by its format, compiled once.
static SCHEMAS: LazyLock<HashMap<&str, Schema>> = LazyLock::new(|| {
    let schemas = [
        ("sarif", "sarif-2.1.0.json"),
        ("cyclonedx", "cyclonedx-1.6.json"),
        ("cyclonedx-1.7", "cyclonedx-1.7.json"),
        ("gitlab", "gitlab-container-scanning.json"),
        ("spdx", "spdx-2.3.json"),
    ];
    schemas.into_iter().map(|(format, file)| (format, Schema::new(file))).collect()
});

/// Validates documents of one format.
pub struct Schema(Validator);

impl Schema {
    /// The schema of the format called `format`; `None` for one that has no JSON schema.
    pub fn of(format: &str) -> Option<&'static Schema> {
        SCHEMAS.get(format)
    }

    fn new(file: &str) -> Schema {
        let registry = PARTS.into_iter().fold(Registry::new(), |registry, (name, file)| {
            registry.add(format!("http://cyclonedx.org/schema/{name}"), read(file)).unwrap()
        });
        let registry = registry.prepare().unwrap();
        let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true);
        Schema(options.with_registry(&registry).build(&read(file)).unwrap())
    }

    /// Panics unless `text` is a document of the schema.
    pub fn check(&self, text: &str) {
        let faults = self.faults(&serde_json::from_str(text).unwrap());
        assert!(faults.is_empty(), "{faults:#?}\n{text}");
    }

    fn faults(&self, document: &Value) -> Vec<String> {
        let fault = |fault: jsonschema::ValidationError<'_>| format!("{}: {fault}", fault.instance_path());
        self.0.iter_errors(document).take(5).map(fault).collect()
    }
}

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/schemas").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    // The pattern of languages in SARIF's schema has a bracket too many. No language is written.
    serde_json::from_str(&text.replace("[a-zA-Z]{2}]?$", "[a-zA-Z]{2}?$")).unwrap()
}

#[test]
fn documents_are_valid_by_their_schemas() {
    for format in ["sarif", "cyclonedx", "cyclonedx-1.7", "gitlab"] {
        let schema = Schema::of(format).unwrap();
        let mut bare = layersift_model::ImageReport::default();
        let mut reproducible = judged(incident());
        reproducible.make_reproducible();
        schema.check(&rendered(format, &[bare.clone()], false));
        bare.findings = incident().findings;
        for reports in [
            vec![],
            vec![bare],
            vec![clean()],
            vec![reproducible],
            vec![judged(incident())],
            vec![with_own_key(judged(incident())), clean(), judged(incident())],
        ] {
            schema.check(&rendered(format, &reports, false));
        }
    }
}

#[test]
fn the_schemas_refuse_what_is_not_valid() {
    let breaks: [(&str, &str, Value); 5] = [
        ("sarif", "/runs/0/results/0/level", "severe".into()),
        ("sarif", "/runs/0/tool/driver/rules/0/helpUri", 7.into()),
        ("cyclonedx", "/components/0/cryptoProperties/relatedCryptoMaterialProperties/state", "leaked".into()),
        ("cyclonedx-1.7", "/components/0/type", "secret".into()),
        ("gitlab", "/scan/start_time", "2026-01-02T03:04:05Z".into()),
    ];
    for (format, pointer, value) in breaks {
        let mut document: Value = serde_json::from_str(&rendered(format, &[judged(incident())], false)).unwrap();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{format} {pointer}")) = value;
        assert!(!Schema::of(format).unwrap().faults(&document).is_empty(), "{format} {pointer}");
    }
}

/// What `junit-10.xsd` of Jenkins' xUnit plugin says of the elements that are written.
#[test]
fn junit_has_the_elements_that_build_servers_read() {
    let text = rendered("junit", &[with_own_key(judged(incident())), clean()], false);
    let root = Element::parse(&text);
    assert_eq!((&root.name[..], root.children.len()), ("testsuites", 2));
    for suite in &root.children {
        assert_eq!(suite.name, "testsuite");
        let attributes = ["name", "tests", "failures", "errors", "skipped", "time", "timestamp"];
        assert_eq!(suite.attributes(), attributes, "{suite:?}");
        let (properties, cases) = suite.children.split_first().unwrap();
        assert_eq!(properties.name, "properties");
        assert!(properties.children.iter().all(|one| one.name == "property" && one.attributes() == ["name", "value"]));
        let mut names = std::collections::BTreeSet::new();
        let mut outcomes = [("failure", 0), ("error", 0), ("skipped", 0)];
        for case in cases {
            assert_eq!((&case.name[..], case.attributes()), ("testcase", vec!["classname", "name", "time"]));
            assert!(names.insert((case.attribute("classname"), case.attribute("name"))), "{case:?}");
            assert!(case.children.len() <= 1, "{case:?}");
            for outcome in &case.children {
                assert_eq!(outcome.attributes(), ["message"]);
                outcomes.iter_mut().find(|(name, _)| *name == outcome.name).unwrap().1 += 1;
            }
        }
        let count = |name: &str| suite.attribute(name).parse::<usize>().unwrap();
        assert_eq!(count("tests"), cases.len());
        let counted = outcomes.map(|(_, count)| count);
        assert_eq!(counted, [count("failures"), count("errors"), count("skipped")]);
    }
}
