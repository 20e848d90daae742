//! Every text field of a report holds what would break a format or mislead its reader.

use layersift_model::{FingerprintKey, ImageReport, ReportSet, Secret, changes_display, hex, to_json};
use layersift_report::FORMATS;
use proptest::prelude::*;
use serde_json::Value;

use crate::rendered;
use crate::sample::{OWN_KEY, VALUE, incident, judged};
use crate::schemas::Schema;
use crate::skeleton::skeleton;

/// Pieces of hostile names.
const PIECES: [&str; 30] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "-->",
    "]]>",
    "|",
    "\\|",
    "\n\n# Heading\n\n",
    "\r\n",
    "\t",
    "\0",
    "\x1b[31m",
    "\u{9b}",
    "\u{202e}",
    "\u{2066}",
    "\u{fffe}",
    "`",
    "```\n",
    "[click](https://evil.example)",
    "![image](https://evil.example/x.png)",
    "https://evil.example",
    "www.evil.example",
    "@octocat",
    "#1",
    "!1",
    "GH-1",
    ":tada:",
    "0123abcdef0123abcdef",
    "{0}%s%00",
    "\"'&amp;&",
    "../../目录/",
];

/// `report` with `evil` in every text. A field that does not take any text, such as a digest, is left as it is.
fn poisoned(report: &ImageReport, evil: &str) -> ImageReport {
    let mut json: Value = serde_json::from_str(&to_json(std::slice::from_ref(report), false).unwrap()).unwrap();
    let mut pointers = Vec::new();
    texts(&json, String::new(), &mut pointers);
    let mut taken = 0;
    for pointer in &pointers {
        let before = std::mem::replace(json.pointer_mut(pointer).unwrap(), evil.into());
        match ReportSet::from_json(json.to_string().as_bytes()) {
            Ok(_) => taken += 1,
            Err(_) => *json.pointer_mut(pointer).unwrap() = before,
        }
    }
    assert!(taken > 100, "only {taken} of {} texts", pointers.len());
    let mut poisoned = ReportSet::from_json(json.to_string().as_bytes()).unwrap().reports.remove(0);
    for secret in poisoned.findings.iter_mut().filter_map(|finding| finding.secret.as_mut()) {
        secret.value = Some(Secret::new(*VALUE));
    }
    poisoned
}

fn texts(value: &Value, pointer: String, out: &mut Vec<String>) {
    match value {
        Value::String(_) => out.push(pointer),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| texts(item, format!("{pointer}/{index}"), out));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| texts(value, format!("{pointer}/{name}"), out));
        }
        _ => {}
    }
}

/// Checks every format for a report whose every text is `evil`.
fn check(evil: &str) {
    // Rules are told apart by their ids, which are all the same then; and a place of one finding is that of another.
    let harmless = poisoned(&judged(incident()), "harmless");
    let hostile = poisoned(&judged(incident()), evil);
    for key in [FingerprintKey::default().id(), OWN_KEY.into()] {
        for format in FORMATS {
            let [harmless, hostile] = [&harmless, &hostile].map(|report| {
                let mut report = report.clone();
                report.tool.fingerprint_key = Some(key.clone());
                rendered(format.name, &[report.clone(), report], !format.shows_secrets)
            });
            check_secret(format.name, &hostile);
            if format.shows_secrets {
                continue;
            }
            let (found, expected) = (skeleton(format.name, &hostile), skeleton(format.name, &harmless));
            // A comment that would be too long has fewer rows.
            if format.name == "markdown" && evil.len() > 1_000 {
                check_closed(&found);
            } else {
                assert_eq!(found, expected, "{}", format.name);
            }
            check_display(format.name, &hostile);
            if let Some(schema) = Schema::of(format.name) {
                schema.check(&hostile);
            }
        }
    }
}

fn check_secret(format: &str, text: &str) {
    let value = std::str::from_utf8(VALUE).unwrap();
    // The middle of it, in any encoding that begins anywhere.
    for shape in [value, &value[5..20], &hex(VALUE), "MTIzNDU2Nzg5YWJj", "EyMzQ1Njc4OWFiY2", "xMjM0NTY3ODlhYmNk"] {
        assert!(!text.contains(shape), "{format}: {text}");
    }
}

/// Every element of a comment ends.
fn check_closed(shape: &str) {
    for element in ["p", "b", "table", "tr", "td", "details", "summary", "ul", "li"] {
        let count = |tag: String| shape.matches(&tag).count();
        assert_eq!(count(format!("<{element}>")), count(format!("</{element}>")), "{shape}");
    }
}

/// No character changes how the text after it is displayed, neither in the document nor in its strings.
fn check_display(format: &str, text: &str) {
    let is_safe = |text: &str| !text.chars().any(|c| changes_display(c) && c != '\n');
    assert!(is_safe(text), "{format}: {text:?}");
    let documents: Vec<Value> = match format {
        "timesketch" => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        _ => serde_json::from_str(text).into_iter().collect(),
    };
    for document in &documents {
        let mut pointers = Vec::new();
        texts(document, String::new(), &mut pointers);
        for pointer in pointers {
            // A name of a field with a `/` or `~` would need escapes here; none has one but a version of a fingerprint.
            let Some(text) = document.pointer(&pointer).and_then(Value::as_str) else { continue };
            assert!(is_safe(text), "{format} {pointer}: {text:?}");
        }
    }
}

#[test]
fn each_piece_breaks_nothing() {
    for piece in PIECES {
        check(&format!("a{piece}b"));
    }
}

#[test]
fn long_names_stay_bounded() {
    for evil in ["long ".repeat(20_000), "x".repeat(100_000), "|".repeat(50_000), "<&".repeat(50_000)] {
        check(&evil);
        let report = poisoned(&judged(incident()), &evil);
        assert!(rendered("markdown", &[report.clone(), report], false).len() < 65_536);
    }
}

#[test]
fn a_comment_has_room_for_ten_thousand_findings() {
    let mut report = judged(incident());
    report.findings = report.findings.iter().cycle().take(10_000).cloned().collect();
    let reports = vec![report; 30];
    let comment = rendered("markdown", &reports, false);
    assert!(comment.len() < 65_536, "{}", comment.len());
    assert!(comment.contains("more findings") && comment.contains("more images"), "{comment}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_mixture_breaks_anything(pieces in proptest::collection::vec(0..PIECES.len(), 1..8), any in ".{0,20}") {
        let mixture: Vec<&str> = pieces.into_iter().map(|index| PIECES[index]).collect();
        check(&format!("a{}{any}", mixture.join(&any)));
    }
}
