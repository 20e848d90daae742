//! What can be wrong with, or unusual about, the JSON of an image.

use super::documents::CONFIG_TYPES;
use super::draft::Draft;
use super::json::Json;
use crate::support::image::{INDEX, MANIFEST};

/// A kind of document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Document {
    Config,
    Manifest,
    Index,
    DockerList,
}

impl Document {
    fn name(self) -> &'static str {
        match self {
            Document::Config => "configuration",
            Document::Manifest => "manifest",
            Document::Index => "index",
            Document::DockerList => "manifest.json",
        }
    }

    /// The members that readers act upon.
    fn paths(self) -> &'static [&'static [&'static str]] {
        match self {
            Document::Config => &[
                &["rootfs"],
                &["config"],
                &["rootfs", "diff_ids"],
                &["rootfs", "diff_ids", "0"],
                &["rootfs", "type"],
                &["config", "User"],
                &["architecture"],
                &["os"],
                &["history"],
                &["config", "Env"],
                &["config", "Labels"],
            ],
            Document::Manifest => &[
                &["layers"],
                &["config"],
                &["layers", "0", "digest"],
                &["layers", "0", "size"],
                &["layers", "0", "mediaType"],
                &["layers", "0"],
                &["config", "digest"],
                &["config", "size"],
                &["config", "mediaType"],
                &["mediaType"],
                &["schemaVersion"],
            ],
            Document::Index => &[
                &["manifests"],
                &["manifests", "0", "digest"],
                &["manifests", "0"],
                &["manifests", "0", "size"],
                &["manifests", "0", "mediaType"],
                &["manifests", "0", "platform"],
                &["manifests", "0", "platform", "architecture"],
                &["manifests", "0", "platform", "os"],
                &["manifests", "0", "annotations"],
                &["mediaType"],
                &["schemaVersion"],
            ],
            Document::DockerList => {
                &[&["0", "Layers"], &["0", "Config"], &["0", "RepoTags"], &["0", "Layers", "0"], &["0"]]
            }
        }
    }
}

/// Changes `document`. `other` is the decoy's, whose values may stand next to the image's.
pub fn mutate(draft: &mut Draft, kind: Document, document: &mut Json, other: &Json) {
    match draft.below(8) {
        0 => {}
        1..=3 => twin(draft, kind, document, other),
        4 => replace(draft, kind, document),
        5 => number(draft, kind, document),
        6 => add(draft, kind, document, other),
        _ => media_type(draft, kind, document),
    }
}

/// One of the paths that the document has: the path of the parent, and the last key. The first ones, which say what the
/// image is made of, come up most.
fn place(draft: &mut Draft, kind: Document, document: &mut Json) -> Option<(&'static [&'static str], &'static str)> {
    let mut paths = kind.paths().to_vec();
    paths.retain(|path| document.at(path).is_some());
    let count = if draft.chance(50) { paths.len() } else { paths.len().min(2) };
    if count == 0 {
        return None;
    }
    let (last, parent) = paths[draft.below(count)].split_last().unwrap();
    Some((parent, last))
}

/// Writes a member twice, with the image's and the decoy's value, and the second one's key in another spelling. The
/// rest of the document is either the image's or the decoy's, so that one reading of it is a whole and valid one.
fn twin(draft: &mut Draft, kind: Document, document: &mut Json, other: &Json) {
    let mut other = other.clone();
    let is_decoy = draft.below(2) == 1;
    if is_decoy {
        std::mem::swap(document, &mut other);
    }
    let Some((parent, key)) = place(draft, kind, document) else { return };
    let value = other.at(&[parent, &[key]].concat()).map_or(Json::raw("null"), |value| value.clone());
    let (spelling, is_null) = (*draft.pick(&SPELLINGS), draft.chance(10));
    let added = (spelled(spelling, key), if is_null { Json::raw("null") } else { value });
    let is_first = draft.below(2) == 1;
    let Some(members) = document.at(parent).and_then(Json::members) else { return };
    let at = members.iter().position(|(name, _)| name == key).unwrap();
    members.insert(if is_first { at } else { at + 1 }, added);
    draft.note(format!(
        "{} of {}: {} again, {spelling}, {}, {}",
        kind.name(),
        if is_decoy { "the decoy" } else { "the image" },
        [parent, &[key]].concat().join("."),
        if is_first { "before" } else { "after" },
        if is_null { "null" } else { "with the other's value" },
    ));
}

const SPELLINGS: [&str; 11] = [
    "same",
    "same",
    "other case",
    "other case",
    "upper case",
    "capitalized",
    "long s",
    "Kelvin",
    "escaped",
    "blank after",
    "NUL after",
];

fn spelled(spelling: &str, key: &str) -> String {
    let capitalized = || key[..1].to_uppercase() + &key[1..];
    match spelling {
        "other case" if key == key.to_lowercase() => capitalized(),
        "other case" => key.to_lowercase(),
        "upper case" => key.to_uppercase(),
        "capitalized" => capitalized(),
        "long s" => key.replace(['s', 'S'], "\u{17f}"),
        "Kelvin" => key.replace(['k', 'K'], "\u{212a}"),
        "escaped" => format!("\\u{:04x}{}", u32::from(key.as_bytes()[0]), &key[1..]),
        "blank after" => format!("{key} "),
        "NUL after" => format!("{key}\\u0000"),
        _ => key.to_string(),
    }
}

/// Writes a member under another spelling, with another type, or not at all.
fn replace(draft: &mut Draft, kind: Document, document: &mut Json) {
    let Some((parent, key)) = place(draft, kind, document) else { return };
    let choice = draft.below(15);
    let Some(target) = document.at(parent) else { return };
    let described = match choice {
        0..=5 => {
            let value = ["null", "{}", "[]", "\"\"", "0", "true"][choice];
            if let Some(member) = target.at(&[key]) {
                *member = Json::raw(value);
            }
            format!("is {value}")
        }
        6 => {
            let Some(members) = target.members() else { return };
            members.retain(|(name, _)| name != key);
            "is missing".to_string()
        }
        _ => {
            let spelling = SPELLINGS[choice - 4];
            let Some(members) = target.members() else { return };
            members.iter_mut().filter(|(name, _)| name == key).for_each(|(name, _)| *name = spelled(spelling, key));
            format!("is written {spelling}")
        }
    };
    draft.note(format!("{}: {} {described}", kind.name(), [parent, &[key]].concat().join(".")));
}

/// Writes a number or a digest in another form.
fn number(draft: &mut Draft, kind: Document, document: &mut Json) {
    let Some((parent, key)) = place(draft, kind, document) else { return };
    let form = draft.below(12);
    let Some(Json::Raw(text)) = document.at(parent).and_then(|target| target.at(&[key])) else { return };
    let before = text.clone();
    let Some((name, after)) = other_form(&before, form) else { return };
    *text = after;
    draft.note(format!("{}: {} {name}", kind.name(), [parent, &[key]].concat().join(".")));
}

fn other_form(before: &str, form: usize) -> Option<(&'static str, String)> {
    if let Ok(number) = before.parse::<u64>() {
        return Some(match form {
            0 => ("as a fraction", format!("{before}.0")),
            1 => ("with an exponent", format!("{before}e0")),
            2 => ("as text", format!("\"{before}\"")),
            3 => ("negative", format!("-{before}")),
            4 => ("one less", (number - 1).to_string()),
            5 => ("one more", (number + 1).to_string()),
            6 => ("zero", "0".to_string()),
            7 => ("-1", "-1".to_string()),
            8 => ("too large", "9223372036854775808".to_string()),
            _ => return None,
        });
    }
    let text = before.strip_prefix('"')?.strip_suffix('"')?;
    Some(match form {
        0 => ("in upper case", format!("\"{}\"", text.to_uppercase())),
        1 => ("with a blank before", format!("\" {text}\"")),
        2 => ("with a blank after", format!("\"{text} \"")),
        3 => ("escaped", format!("\"\\u{:04x}{}\"", u32::from(*text.as_bytes().first()?), text.get(1..)?)),
        4 => ("in a list", format!("[{before}]")),
        5 => ("with a NUL", format!("\"{text}\\u0000\"")),
        6 => ("with a lone surrogate", format!("\"{text}\\ud800\"")),
        7 => ("with dots", format!("\"./{text}\"")),
        _ => return None,
    })
}

/// Adds members that others have, or nobody.
fn add(draft: &mut Draft, kind: Document, document: &mut Json, other: &Json) {
    let mut other = other.clone();
    let token = draft.token(&format!("{}: added", kind.name()));
    let text = Json::string(&format!("GITHUB_TOKEN={token}"));
    let annotations = Json::Object(vec![("org.example.note".into(), text.clone())]);
    let encoded = {
        use base64::Engine as _;
        Json::string(&base64::engine::general_purpose::STANDARD.encode(format!("GITHUB_TOKEN={token}\n")))
    };
    let choice = draft.below(12);
    let described = match (kind, choice) {
        (_, 0) => return,
        (Document::Manifest | Document::Index, 1) => {
            document.push("annotations", annotations);
            "token in an annotation"
        }
        (Document::Manifest, 2) => {
            document.at(&["layers", "0"]).into_iter().for_each(|layer| layer.push("annotations", annotations.clone()));
            "token in an annotation of a layer"
        }
        (Document::Manifest, 3) => {
            document.at(&["config"]).into_iter().for_each(|config| config.push("data", encoded.clone()));
            "token in the data of a descriptor"
        }
        (Document::Manifest, 4) => {
            let url = Json::string(&format!("https://example.com/{token}"));
            document
                .at(&["layers", "0"])
                .into_iter()
                .for_each(|layer| layer.push("urls", Json::Array(vec![url.clone()])));
            "token in a URL of a layer"
        }
        (Document::Manifest, 5) => {
            document.push("manifests", Json::Array(Vec::new()));
            "empty manifests"
        }
        (Document::Manifest, 6) => {
            document.push("Manifests", Json::Array(vec![Json::Object(Vec::new())]));
            "manifests in another case"
        }
        (Document::Manifest, 7) => {
            document.push("artifactType", Json::string("application/vnd.example"));
            "artifact type"
        }
        (Document::Manifest, 8) => {
            let layer = document.at(&["layers", "0"]).map(|layer| layer.clone());
            if let (Some(layer), Some(Json::Array(layers))) = (layer, document.at(&["layers"])) {
                layers.push(layer);
            }
            "a layer twice"
        }
        (Document::Manifest, 9) => {
            let theirs = other.at(&["layers", "0"]).map(|layer| layer.clone());
            if let (Some(theirs), Some(Json::Array(layers))) = (theirs, document.at(&["layers"])) {
                layers.push(theirs);
            }
            "a layer more than the configuration says"
        }
        (Document::Index, 2..=4) => {
            let theirs = other.at(&["manifests", "0"]).map(|item| item.clone());
            if let (Some(theirs), Some(Json::Array(items))) = (theirs, document.at(&["manifests"])) {
                items.insert(if choice == 2 { 0 } else { items.len() }, theirs);
            }
            "a second image"
        }
        (Document::Index, 5) => {
            document.push("layers", Json::Array(Vec::new()));
            "empty layers"
        }
        (Document::DockerList, 1..=3) => {
            let theirs = other.at(&["0"]).map(|item| item.clone());
            if let (Some(theirs), Json::Array(items)) = (theirs, document) {
                items.insert(if choice == 1 { 0 } else { items.len() }, theirs);
            }
            "a second image"
        }
        (Document::DockerList, 4) => {
            document.at(&["0"]).into_iter().for_each(|item| item.push("Parent", text.clone()));
            "token in an unknown member"
        }
        (Document::Config, 1) => {
            if let Some(Json::Array(ids)) = document.at(&["rootfs", "diff_ids"]) {
                ids.pop();
            }
            "a diff_id less"
        }
        (Document::Config, 2) => {
            let theirs = other.at(&["rootfs", "diff_ids", "0"]).map(|id| id.clone());
            if let (Some(theirs), Some(Json::Array(ids))) = (theirs, document.at(&["rootfs", "diff_ids"])) {
                ids.push(theirs);
            }
            "a diff_id more"
        }
        (Document::Config, 3) => {
            if let Some(ids) = document.at(&["rootfs", "diff_ids"]) {
                *ids = Json::Array(Vec::new());
            }
            "no diff_ids"
        }
        (Document::Config, 4) => {
            document.push("x", Json::raw(&format!("{}{}{}", "[".repeat(200), text.text(), "]".repeat(200))));
            "deeply nested token"
        }
        (Document::Config, 5) => {
            let escaped: String = token.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
            document.push("comment", Json::Raw(format!("\"GITHUB_TOKEN={escaped}\"")));
            "escaped token"
        }
        _ => {
            document.push("x-unknown", text);
            "token in an unknown member"
        }
    };
    draft.note(format!("{}: {described}", kind.name()));
}

fn media_type(draft: &mut Draft, kind: Document, document: &mut Json) {
    let types = [
        ("OCI manifest", MANIFEST),
        ("OCI index", INDEX),
        ("Docker manifest", "application/vnd.docker.distribution.manifest.v2+json"),
        ("Docker list", "application/vnd.docker.distribution.manifest.list.v2+json"),
        ("Docker schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ("OCI artifact", "application/vnd.oci.artifact.manifest.v1+json"),
        ("empty", ""),
        ("JSON", "application/json"),
    ];
    match kind {
        Document::Manifest if draft.chance(50) => {
            let value = *draft.mutate("media type of the configuration", &CONFIG_TYPES);
            document.at(&["config", "mediaType"]).into_iter().for_each(|member| *member = Json::string(value));
        }
        Document::Manifest | Document::Index => {
            let path: &[&str] = match (kind, draft.below(2)) {
                (Document::Index, 1) => &["manifests", "0", "mediaType"],
                _ => &["mediaType"],
            };
            let what = format!("{}: {}", kind.name(), path.join("."));
            let value = *draft.mutate(&what, &types);
            document.at(path).into_iter().for_each(|member| *member = Json::string(value));
        }
        _ => {}
    }
}

/// The bytes of a document, with what may stand around it.
pub fn finish(draft: &mut Draft, name: &str, document: &Json, mutations: usize) -> Vec<u8> {
    let text = document.text();
    if mutations == 0 || !draft.chance(20) {
        return text.into_bytes();
    }
    let forms = [
        ("plain", text.clone().into_bytes()),
        ("with a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("with blanks around", format!(" \r\n\t{text}\n\n").into_bytes()),
        ("with NUL after", format!("{text}\0\0").into_bytes()),
        ("twice", format!("{text}{text}").into_bytes()),
        ("with an object after", format!("{text}{{}}").into_bytes()),
        ("with garbage after", format!("{text}garbage").into_bytes()),
        ("with a comment", format!("/* x */{text}").into_bytes()),
        ("with a comma at the end", format!("{},}}", &text[..text.len() - 1]).into_bytes()),
        ("not UTF-8", [&text.as_bytes()[..1], b"\"x\":\"\xff\",", &text.as_bytes()[1..]].concat()),
    ];
    draft.mutate(name, &forms).clone()
}
