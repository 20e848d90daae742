//! Tests of reading: all recorded requests, generated ones beside a search that knows no streams, bounds, and memory.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const TABLE: [(&str, &[&str]); 11] = [
    ("Pod", &["spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
    ("PodTemplate", &["template", "spec"]),
    ("ControllerRevision", &["data", "spec", "template", "spec"]),
    ("Rollout", &["spec", "template", "spec"]),
];

pub(crate) fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/recordings/kubernetes")
}

fn read_bytes(body: &[u8]) -> Result<Review, ReviewError> {
    read(body, &ReviewLimits::default())
}

/// Bodies of recorded requests with the names of their files.
fn recorded(folder: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(recordings().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        if value.get("body").is_some() {
            all.push((name, value["body"].take()));
        } else if value.get("request").is_some() {
            all.push((name, value));
        } else {
            assert!(["INDEX", "image-strings"].contains(&&name[..]), "{name}");
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// The images below the pod spec of a kind, in the order of the object.
fn naive(kind: &str, object: &Value) -> Vec<(String, String)> {
    let Some((_, steps)) = TABLE.iter().find(|(known, _)| *known == kind) else { return Vec::new() };
    let mut spec = object;
    for step in *steps {
        spec = &spec[*step];
    }
    let mut found = Vec::new();
    for (field, value) in spec.as_object().into_iter().flatten() {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            let (image, end) = match &field[..] {
                "containers" | "initContainers" | "ephemeralContainers" => (&item["image"], "image"),
                "volumes" => (&item["image"]["reference"], "image.reference"),
                _ => continue,
            };
            if let Some(image) = image.as_str() {
                found.push((image.to_owned(), format!("{}.{field}[{index}].{end}", steps.join("."))));
            }
        }
    }
    found
}

fn naive_new(request: &Value) -> Vec<(String, String)> {
    let kind = request["kind"]["kind"].as_str().unwrap();
    let old = match request["operation"].as_str() {
        Some("DELETE") => return Vec::new(),
        Some("UPDATE") => naive(kind, &request["oldObject"]),
        _ => Vec::new(),
    };
    let mut new = naive(kind, &request["object"]);
    new.retain(|(image, _)| old.iter().all(|(known, _)| known != image));
    new.sort();
    new
}

fn uses(review: &Review) -> Vec<(String, String)> {
    let uses =
        review.images.iter().flat_map(|image| image.paths.iter().map(|path| (image.reference.clone(), path.clone())));
    let mut uses: Vec<_> = uses.collect();
    uses.sort();
    uses
}

#[test]
fn every_recorded_request_is_read_for_the_images_that_a_search_finds() {
    let all = [recorded("requests"), recorded("controllers")].concat();
    assert!(all.len() >= 52, "{}", all.len());
    for (name, body) in &all {
        let request = &body["request"];
        let review = read_bytes(body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(uses(&review), naive_new(request), "{name}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let group = |value: &Value, name: &str| TypeName {
            group: text(&value["group"]),
            version: text(&value["version"]),
            name: text(&value[name]),
        };
        assert_eq!(review.head, Head { api_version: text(&body["apiVersion"]), uid: text(&request["uid"]) }, "{name}");
        assert_eq!(review.kind, group(&request["kind"], "kind"), "{name}");
        assert_eq!(review.resource, group(&request["resource"], "resource"), "{name}");
        assert_eq!(review.sub_resource, text(&request["subResource"]), "{name}");
        assert_eq!(review.name, text(&request["name"]), "{name}");
        assert_eq!(review.namespace, text(&request["namespace"]), "{name}");
        assert_eq!(review.username, text(&request["userInfo"]["username"]), "{name}");
        assert_eq!(review.is_dry_run, request["dryRun"] == true, "{name}");
    }
}

/// What the search above finds is itself right: known answers for what differs.
#[test]
fn recorded_requests_have_the_images_that_were_asked_about() {
    let count = |wanted: &str| {
        let all = [recorded("requests"), recorded("controllers")].concat();
        let (_, body) = all.into_iter().find(|(name, _)| name.starts_with(wanted)).unwrap();
        read_bytes(body.to_string().as_bytes()).unwrap()
    };
    let pod = count("create-pod");
    for wanted in ["registry.example.org/models/clf:v7", "registry.example.org/models/base@sha256:3333"] {
        let image = pod.images.iter().find(|image| image.reference.starts_with(wanted)).unwrap();
        assert!(image.paths[0].starts_with("spec.volumes[") && image.paths[0].ends_with("].image.reference"));
    }
    assert!(pod.images.iter().any(|image| image.paths[0] == "spec.initContainers[0].image"));
    assert!(!count("create-cronjob").images.is_empty());
    assert!(!count("create-podtemplate").images.is_empty());
    assert!(!count("create-controllerrevision-by-system_kube-controller-manager-daemonset").images.is_empty());
    // Only the debugging container is new.
    let debug = count("ephemeral-container-patch");
    assert_eq!((&debug.sub_resource[..], debug.images.len()), ("ephemeralcontainers", 1));
    assert_eq!(debug.images[0].paths, ["spec.ephemeralContainers[0].image"]);
    assert_eq!(count("update-pod-image-jsonpatch").images.len(), 1);
    assert_eq!(count("update-deployment-image").images.len(), 1);
    for nothing in [
        "update-pod-label-only",
        "pod-status-patch",
        "kubectl-rollout-restart",
        "scale-deployment",
        "scale-deployment-by-patching-it",
        "delete-pod",
        "eviction-pod",
        "binding-pod",
        "exec-pod",
        "attach-pod",
        "kubectl-exec",
    ] {
        assert_eq!(count(nothing).images, [], "{nothing}");
    }
    assert!(count("dryrun-create-pod").is_dry_run);
    assert_eq!(count("create-pod-v1beta1-review").head.api_version, "admission.k8s.io/v1beta1");
}

#[test]
fn the_exact_bytes_of_a_request_are_read() {
    let bytes = std::fs::read(recordings().join("requests/create-pod.raw.json")).unwrap();
    let bytes = bytes.trim_ascii_end();
    let review = read_bytes(bytes).unwrap();
    assert_eq!(review.operation, Operation::Create);
    assert_eq!((&review.name[..], &review.namespace[..], &review.username[..]), ("web", "shop", "alice"));
    for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(read_bytes(&bytes[..end]).is_err(), "a body that ends at {end}");
    }
    assert!(read_bytes(&[bytes, b" {}"].concat()).is_err(), "text after the JSON");
}

/// The API server hands on any string as an image.
#[test]
fn any_string_is_an_image() {
    let strings = std::fs::read(recordings().join("requests/image-strings.json")).unwrap();
    for image in serde_json::from_slice::<Vec<String>>(&strings).unwrap() {
        let body = review("CREATE", "Pod", &json!({"spec": {"containers": [{"image": image}]}}), &Value::Null);
        let review = read_bytes(body.to_string().as_bytes()).unwrap();
        assert_eq!(review.images[0].reference, image);
    }
}

fn review(operation: &str, kind: &str, object: &Value, old: &Value) -> Value {
    let group = OWN_KINDS.iter().find(|(_, kinds)| kinds.contains(&kind)).map_or("example.org", |(group, _)| group);
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "U-1", "kind": {"group": group, "version": "v1", "kind": kind}, "operation": operation,
        "object": object, "oldObject": old,
    }})
}

fn problem(body: &str, limits: &ReviewLimits) -> (String, Option<String>) {
    let error = read(body.as_bytes(), limits).expect_err(body);
    (error.to_string(), error.head.map(|head| head.uid))
}

#[test]
fn what_goes_over_a_bound_is_an_error_that_knows_its_uid() {
    let limits = ReviewLimits { body_bytes: 4_000, depth: 20, images: 3, text_bytes: 40 };
    let pod = |images: &[&str]| {
        let containers: Vec<Value> = images.iter().map(|image| json!({"image": image})).collect();
        review("CREATE", "Pod", &json!({"spec": {"containers": containers}}), &Value::Null)
    };
    assert_eq!(read(pod(&["a", "b", "c"]).to_string().as_bytes(), &limits).unwrap().images.len(), 3);
    let uid = Some("U-1".to_owned());
    let many = pod(&["a"; 4]).to_string();
    assert_eq!(problem(&many, &limits), ("the object has more than 3 image references".into(), uid.clone()));
    let long = pod(&["a", &"b".repeat(41)]).to_string();
    let words = "request.object.spec.containers[1].image is longer than 40 bytes";
    assert_eq!(problem(&long, &limits), (words.into(), uid.clone()));
    let very_long = pod(&["a", &"b".repeat(3_000)]).to_string();
    assert_eq!(problem(&very_long, &limits), (words.into(), uid.clone()));
    assert!(read(pod(&[&"b".repeat(40)]).to_string().as_bytes(), &limits).is_ok());

    // As the API server writes it: the uid comes before the object.
    let begin = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"U-1","object":"#;
    let deep = format!("{begin}{}{}}}}}", "[".repeat(19), "]".repeat(19));
    assert_eq!(problem(&deep, &limits), ("the body is nested more than 20 levels deep".into(), uid.clone()));
    let large = format!("{begin}{{\"a\":\"{}\"}}}}}}", "x".repeat(4_000));
    assert_eq!(problem(&large, &limits), ("the body has more than 4000 bytes".into(), uid.clone()));
    let (words, known) = problem(&format!("{begin}{{\"a\":nul}}"), &limits);
    assert!(words.starts_with("the body cannot be read: expected"), "{words}");
    assert_eq!(known, uid);
    assert_eq!(problem(&deep.replace("U-1", &"u".repeat(41)), &limits).1, None, "a cut uid is no uid");
}

#[test]
fn what_is_no_review_has_no_uid() {
    let limits = ReviewLimits::default();
    let good = review("CREATE", "Pod", &json!({}), &Value::Null).to_string();
    assert!(read_bytes(good.as_bytes()).is_ok());
    for (from, to) in [
        ("AdmissionReview", "admissionreview"),
        ("admission.k8s.io/v1", "admission.k8s.io/v2"),
        ("U-1", ""),
        ("\"uid\"", "\"UID\""),
        ("\"request\"", "\"Request\""),
    ] {
        let words = "the body is not an AdmissionReview of admission.k8s.io/v1 with a request and its uid";
        assert_eq!(problem(&good.replace(from, to), &limits), (words.into(), None), "{to}");
    }
    for body in ["", "null", "[]", "7", "\"x\"", "{}", "[".repeat(1_000_000).as_str()] {
        assert_eq!(problem(body, &limits).1, None);
    }
}

#[test]
fn a_value_of_another_type_is_an_error_only_where_the_type_is_known() {
    let odd = [
        json!({"spec": {"containers": {"a": {"image": "x"}}}}),
        json!({"spec": {"containers": [{"image": {"name": "x"}}]}}),
        json!({"spec": {"containers": [{"image": ["x"]}]}}),
        json!({"spec": {"containers": [["x"]]}}),
        json!({"spec": {"volumes": [{"image": "x"}]}}),
        json!({"spec": ["x"]}),
        json!({"spec": 5}),
        json!(7.5),
        json!("text"),
    ];
    for object in &odd {
        let own = review("CREATE", "Pod", object, &Value::Null).to_string();
        let (words, uid) = problem(&own, &ReviewLimits::default());
        assert!(words.ends_with("has an unexpected type") && uid.is_some(), "{words}");
        let foreign = review("CREATE", "Thing", object, &Value::Null).to_string();
        assert_eq!(read_bytes(foreign.as_bytes()).unwrap().images, []);
    }
    let nothing = json!({"spec": {"containers": null, "volumes": [null, {"image": null}], "initContainers": [{}]}});
    assert!(read_bytes(review("CREATE", "Pod", &nothing, &Value::Null).to_string().as_bytes()).is_ok());
}

#[test]
fn fields_that_are_given_twice_never_hide_an_image() {
    let body = |object: &str, old: &str| {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"U-1",
            "operation":"UPDATE","kind":{{"group":"","version":"v1","kind":"Pod"}},
            "object":{object},"oldObject":{old}}}}}"#
        )
    };
    let images = |object: &str, old: &str| -> Vec<String> {
        let review = read_bytes(body(object, old).as_bytes()).unwrap();
        review.images.into_iter().map(|image| image.reference).collect()
    };
    let twice = r#"{"spec":{"containers":[{"image":"a","image":"b"}],"containers":[{"image":"c"}]},"spec":{"volumes":[
        {"image":{"reference":"d"},"image":{"reference":"e"}}]}}"#;
    assert_eq!(images(twice, "null"), ["a", "b", "c", "d", "e"]);
    let pod = |image: &str| format!(r#"{{"spec":{{"containers":[{{"image":"{image}"}}]}}}}"#);
    assert_eq!(images(&pod("a"), &pod("a")), [""; 0]);
    let two_olds = r#"{"spec":{"containers":[{"image":"b"}],"containers":[{"image":"a"}]}}"#;
    assert_eq!(images(&pod("a"), two_olds), ["a"], "which of the two was there is not certain");
    // Fields that decide about everything.
    for (from, to) in [
        ("\"uid\":\"U-1\"", "\"uid\":\"U-1\",\"uid\":\"U-2\""),
        ("\"operation\":\"UPDATE\"", "\"operation\":\"DELETE\",\"operation\":\"UPDATE\""),
        ("\"oldObject\"", "\"oldObject\":null,\"oldObject\""),
    ] {
        let (words, _) = problem(&body(&pod("a"), &pod("a")).replace(from, to), &ReviewLimits::default());
        assert!(words.ends_with("is given twice"), "{words}");
    }
}

#[test]
fn an_image_is_asked_once_with_all_its_places() {
    let object = json!({"spec": {"template": {"spec": {
        "containers": [{"image": "a"}, {"image": "b"}, {"image": "a"}], "initContainers": [{"image": "b"}],
    }}}});
    let review = read_bytes(review("CREATE", "Service", &object, &Value::Null).to_string().as_bytes()).unwrap();
    let found: Vec<(&str, usize)> =
        review.images.iter().map(|image| (&image.reference[..], image.paths.len())).collect();
    assert_eq!(found, [("a", 2), ("b", 2)]);
    assert_eq!(review.images[0].paths[1], "spec.template.spec.containers[2].image");
}

/// Counts what is read and gives it in pieces: a large body that is never whole in memory.
struct Generated {
    pieces: Vec<(Vec<u8>, usize)>,
    at: usize,
    largest: usize,
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.largest = self.largest.max(buffer.len());
        let Some((piece, times)) = self.pieces.first_mut() else { return Ok(0) };
        let size = (piece.len() - self.at).min(buffer.len());
        buffer[..size].copy_from_slice(&piece[self.at..self.at + size]);
        self.at += size;
        if self.at == piece.len() {
            self.at = 0;
            *times -= 1;
            if *times == 0 {
                self.pieces.remove(0);
            }
        }
        Ok(size)
    }
}

#[test]
fn a_body_of_18_megabytes_is_read_in_small_pieces() {
    let object = |times: usize| {
        [
            (br#"{"spec":{"containers":[{"env":[{"name":"A","value":""#.to_vec(), 1),
            (br"\u003c".to_vec(), times),
            (br#""}],"image":"registry.example.org/a:1"},{"image":""#.to_vec(), 1),
            (b"b:".to_vec(), 1),
        ]
    };
    let begin = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"U",
        "operation":"UPDATE","object":"#;
    let mut pieces = vec![(begin.to_vec(), 1)];
    pieces.extend(object(1_500_000));
    pieces.push((b"2\"}]}},\"oldObject\":".to_vec(), 1));
    pieces.extend(object(1_500_000));
    pieces.push((b"1\"}]}}}}".to_vec(), 1));
    let size: usize = pieces.iter().map(|(piece, times)| piece.len() * times).sum();
    assert!(size > 18_000_000);
    let mut body = Generated { pieces, at: 0, largest: 0 };
    let review = read(&mut body, &ReviewLimits::default()).unwrap();
    assert_eq!(review.images.len(), 1);
    assert_eq!(review.images[0].reference, "b:2");
    assert!(body.largest <= 16 << 10);
}

/// JSON that keeps the order of its fields, and may have one twice.
#[derive(Clone, Debug)]
enum Json {
    Text(String),
    Number(i32),
    Null,
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn write(&self, out: &mut String) {
        match self {
            Json::Text(text) => out.push_str(&json!(text).to_string().replace('<', "\\u003C")),
            Json::Number(number) => out.push_str(&number.to_string()),
            Json::Null => out.push_str("null"),
            Json::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { " , " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if index > 0 { ",\n" } else { "" });
                    Json::Text(name.clone()).write(out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn has_duplicates(&self) -> bool {
        match self {
            Json::List(items) => items.iter().any(Json::has_duplicates),
            Json::Object(fields) => {
                let names: HashSet<&str> = fields.iter().map(|(name, _)| &name[..]).collect();
                names.len() < fields.len() || fields.iter().any(|(_, value)| value.has_duplicates())
            }
            _ => false,
        }
    }

    /// The same with the order of all fields turned round, so that another one of two equal names is the last.
    fn reversed(&self) -> Json {
        match self {
            Json::List(items) => Json::List(items.iter().map(Json::reversed).collect()),
            Json::Object(fields) => {
                Json::Object(fields.iter().rev().map(|(name, value)| (name.clone(), value.reversed())).collect())
            }
            other => other.clone(),
        }
    }
}

/// Objects of the names that matter, in any order and at any place, mostly where they belong.
fn object() -> impl Strategy<Value = Json> {
    let name = prop::sample::select(vec![
        "spec",
        "template",
        "jobTemplate",
        "data",
        "containers",
        "initContainers",
        "ephemeralContainers",
        "volumes",
        "image",
        "reference",
        "rbd",
        "status",
        "Spec",
        "name",
        "f:image",
    ]);
    let leaf = prop_oneof![
        4 => prop::sample::select(vec!["a", "b:1", "c@sha256:0", "<d>", "é", ""]).prop_map(|t| Json::Text(t.into())),
        1 => any::<i32>().prop_map(Json::Number),
        1 => Just(Json::Null),
    ];
    let anything = leaf.prop_recursive(12, 80, 5, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            3 => prop::collection::vec((name.clone().prop_map(String::from), inner), 0..5).prop_map(Json::Object),
        ]
    });
    let image =
        prop::sample::select(vec!["a", "b:1", "c@sha256:0", "<d>", "é"]).prop_map(|text| Json::Text(text.into()));
    let field = |name: &str, value: Json| (name.to_owned(), value);
    let container = (image.clone(), anything.clone())
        .prop_map(move |(image, other)| Json::Object(vec![field("env", other), field("image", image)]));
    let volume = (image, anything.clone()).prop_map(move |(image, other)| {
        let image = Json::Object(vec![field("pullPolicy", other.clone()), field("reference", image)]);
        Json::Object(vec![field("rbd", other), field("image", image)])
    });
    let part = prop_oneof![
        (
            prop::sample::select(vec!["containers", "initContainers", "ephemeralContainers"]),
            prop::collection::vec(container, 0..4)
        )
            .prop_map(move |(name, list)| field(name, Json::List(list))),
        prop::collection::vec(volume, 0..3).prop_map(move |list| field("volumes", Json::List(list))),
        anything.clone().prop_map(move |other| field("securityContext", other)),
        anything.prop_map(move |other| field("template", other)),
    ];
    (prop::collection::vec(part, 0..6), prop::sample::select(TABLE.to_vec())).prop_map(move |(parts, (_, steps))| {
        steps.iter().rev().fold(Json::Object(parts), |inner, step| {
            Json::Object(vec![field("metadata", Json::Null), (step.to_string(), inner)])
        })
    })
}

/// All images of an object at all known places, the last one of equal names.
fn naive_everywhere(text: &str) -> Vec<(String, String)> {
    let value: Value = serde_json::from_str(text).unwrap();
    let mut found: Vec<_> = ["Pod", "Deployment", "CronJob", "PodTemplate", "ControllerRevision"]
        .iter()
        .flat_map(|kind| naive(kind, &value))
        .collect();
    found.sort();
    found
}

proptest! {
    #[test]
    fn generated_objects_have_the_images_that_a_search_finds(new in object(), old in object(), is_update: bool) {
        let (new_text, old_text) = (new.to_text(), old.to_text());
        let operation = if is_update { "UPDATE" } else { "CREATE" };
        let body = format!(
            r#"{{"request":{{"oldObject":{old_text},"object":{new_text},"operation":"{operation}","uid":"U-1"}},
            "apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}}"#
        );
        let review = read_bytes(body.as_bytes()).unwrap();
        let found = uses(&review);
        let known: HashSet<String> = match is_update {
            true => naive_everywhere(&old_text).into_iter().map(|(image, _)| image).collect(),
            false => HashSet::new(),
        };
        let is_exact = !new.has_duplicates() && !old.has_duplicates();
        let mut wanted = naive_everywhere(&new_text);
        wanted.retain(|(image, _)| !known.contains(image));
        if is_exact {
            prop_assert_eq!(found, wanted);
        } else {
            // Whichever of two equal names counts, no image is missing.
            let mut first = naive_everywhere(&new.reversed().to_text());
            first.retain(|(image, _)| !known.contains(image));
            for (image, _) in wanted.iter().chain(&first) {
                prop_assert!(review.images.iter().any(|found| found.reference == *image), "{} in {}", image, body);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_review_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes(&bytes);
    }
}
