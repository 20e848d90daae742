//! Harbor's webhooks: `PUSH_ARTIFACT` in its default format, and `harbor.artifact.pushed` as a CloudEvent.
//!
//! Harbor 2.16 sends an event for each image of an index, under its digest, and then one for the index. What a scan
//! pushes, which is a bill of materials, is an event as well: its operator is the robot of the scan.

use std::io::Read;

use serde::Deserialize;

use super::{Event, InvalidEvent, MOST_EVENTS, Push, nullable};

/// Digits and dashes of a UUID.
const UUID: usize = 36;

/// An event in either format. Fields that are not read here are taken as they come.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    operator: String,
    #[serde(default, alias = "event_data")]
    data: Option<Data>,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default, deserialize_with = "nullable")]
    resources: Vec<Resource>,
    #[serde(default)]
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default, deserialize_with = "nullable")]
    digest: String,
    #[serde(default, deserialize_with = "nullable")]
    tag: String,
    #[serde(default, deserialize_with = "nullable")]
    resource_url: String,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default, deserialize_with = "nullable")]
    repo_full_name: String,
}

/// Reads a webhook. It tells of several things only where Harbor says so.
///
/// # Errors
/// For a body of another form, or over a bound.
pub fn read(body: impl Read) -> Result<Vec<Event>, InvalidEvent> {
    let body: Body = super::read(body)?;
    if !matches!(&body.kind[..], "PUSH_ARTIFACT" | "harbor.artifact.pushed") {
        return Ok(vec![Event::Other]);
    }
    let Data { resources, repository } = body.data.unwrap_or_default();
    if resources.len() > MOST_EVENTS {
        return Err(InvalidEvent::Count);
    }
    let repository = repository.map(|repository| repository.repo_full_name).unwrap_or_default();
    let is_of_scan = is_robot_of_scan(&body.operator, &repository);
    Ok(resources.iter().map(|resource| event(resource, &repository, is_of_scan)).collect())
}

fn event(resource: &Resource, repository: &str, is_of_scan: bool) -> Event {
    let Resource { digest, tag, resource_url } = resource;
    // What has no tag is named by its digest.
    let tag = Some(&tag[..]).filter(|tag| !tag.is_empty() && tag != digest);
    // A robot may have any name: what has a tag was made by somebody else.
    if is_of_scan && tag.is_none() {
        return Event::OfScanner;
    }
    // The URL is the host, the repository and the tag, without a scheme.
    let host = resource_url.split_once('/').and_then(|(host, rest)| rest.starts_with(repository).then_some(host));
    match host.map(|host| Push::new(host, repository, tag, digest)) {
        Some(Ok(push)) => Event::Push(push),
        Some(Err(why)) => Event::Unnamed(why),
        None => Event::Unnamed("`resource_url` does not begin with a host and the repository".into()),
    }
}

/// Whether an operator is the robot that Harbor makes for one scan in a project: `robot$PROJECT+PREFIX-SCANNER-UUID`,
/// where the scanner may have any name.
fn is_robot_of_scan(operator: &str, repository: &str) -> bool {
    let Some((project, name)) = operator.strip_prefix("robot$").and_then(|rest| rest.split_once('+')) else {
        return false;
    };
    let Some(at) = name.len().checked_sub(UUID + 1) else { return false };
    let Some((prefix, uuid)) = name.split_at_checked(at) else { return false };
    let is_uuid = uuid.strip_prefix('-').is_some_and(|uuid| {
        uuid.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
    });
    is_uuid && prefix.contains('-') && repository.split_once('/').is_some_and(|(of, _)| of == project)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const RECORDED: &str = include_str!("../../../../testdata/recordings/harbor/webhooks/events.json");
    const ROBOT: &str = "robot$hooks+hrbscan-Layersift-c79ab506-eb6e-11f1-b170-c2c65cd2b90f";

    fn recorded() -> Vec<(String, String)> {
        let recorded: Value = serde_json::from_str(RECORDED).unwrap();
        let mut bodies = Vec::new();
        for (step, deliveries) in recorded.as_object().unwrap() {
            for delivery in deliveries.as_array().unwrap() {
                bodies.extend(delivery["body"].as_str().map(|body| (step.clone(), body.to_string())));
            }
        }
        bodies
    }

    fn only(body: &str) -> Event {
        let mut events = read(body.as_bytes()).unwrap();
        assert_eq!(events.len(), 1, "{body}");
        events.remove(0)
    }

    #[test]
    fn what_a_real_harbor_sent_is_told_apart() {
        let mut pushed: Vec<(String, String, bool)> = Vec::new();
        let mut of_scanner = 0;
        let recorded = recorded();
        assert!(recorded.len() > 30);
        for (step, body) in &recorded {
            match only(body) {
                Event::Push(push) => {
                    assert!(body.contains("PUSH_ARTIFACT") || body.contains("harbor.artifact.pushed"));
                    let Push { reference, is_untagged, is_accessory, .. } = push;
                    assert!(!is_accessory && reference.host.name() == "127.0.0.1:18000");
                    pushed.push((step.clone(), reference.repository, is_untagged));
                }
                Event::OfScanner => {
                    assert_eq!(step, "sbom");
                    of_scanner += 1;
                }
                Event::Other => assert!(!body.contains("PUSH_ARTIFACT") && !body.contains("artifact.pushed")),
                Event::Unnamed(why) => panic!("{why}: {body}"),
            }
        }
        assert_eq!(of_scanner, 3, "one for each policy");
        let count = |step: &str, is_untagged: bool| {
            pushed.iter().filter(|(of, _, untagged)| of == step && *untagged == is_untagged).count()
        };
        // Three policies: two images of an index, and the index.
        assert_eq!((count("push", false), count("push_index", true), count("push_index", false)), (3, 6, 3));
        // A copy, and the bill of materials that was copied with it.
        assert_eq!((count("copy_artifact", false), count("copy_artifact", true)), (3, 3));
        assert!(pushed.iter().any(|(_, repository, _)| repository == "hooks/app/api"));
    }

    #[test]
    fn both_formats_say_the_same() {
        let of = |kind: &str| -> Vec<Event> {
            let recorded = recorded();
            let bodies = recorded.iter().filter(|(step, body)| step == "push" && body.contains(kind));
            bodies.map(|(_, body)| only(body)).collect()
        };
        let (default, cloud) = (of("PUSH_ARTIFACT"), of("harbor.artifact.pushed"));
        assert_eq!(default[0], cloud[0]);
    }

    #[test]
    fn the_robot_of_a_scan_is_known_by_its_name() {
        assert!(is_robot_of_scan(ROBOT, "hooks/app/api"));
        assert!(is_robot_of_scan("robot$p+x-A B-c79ab506-eb6e-11f1-b170-c2c65cd2b90f", "p/app"), "any name");
        for (operator, repository) in [
            (ROBOT, "other/app"),
            ("admin", "hooks/app"),
            ("robot$hooks+ci", "hooks/app"),
            ("robot$hooks+c79ab506-eb6e-11f1-b170-c2c65cd2b90f", "hooks/app"),
            ("robot$hooks+hrbscan-x-c79ab506_eb6e-11f1-b170-c2c65cd2b90f", "hooks/app"),
            ("robot$hooks+éééééééééééééééééééééééééééééééééééé", "hooks/app"),
            ("hooks+hrbscan-Layersift-c79ab506-eb6e-11f1-b170-c2c65cd2b90f", "hooks/app"),
        ] {
            assert!(!is_robot_of_scan(operator, repository), "{operator}");
        }
    }

    #[test]
    fn a_tag_is_never_the_work_of_a_scan() {
        let (digest, _) = (format!("sha256:{}", "a".repeat(64)), ());
        let body = json!({ "type": "PUSH_ARTIFACT", "operator": ROBOT, "event_data": {
            "resources": [{ "digest": digest, "tag": "evil", "resource_url": "h.example/hooks/app:evil" }],
            "repository": { "repo_full_name": "hooks/app" } } });
        assert!(matches!(only(&body.to_string()), Event::Push(_)));
    }

    #[test]
    fn what_is_not_an_event_is_an_error() {
        for body in ["", "[]", "{}", "null", "{\"type\": 1}", "{\"type\":\"PUSH_ARTIFACT\",\"event_data\":1}"] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        let resource = json!({ "digest": "x" });
        let many = json!({ "type": "PUSH_ARTIFACT", "event_data": { "resources": vec![resource; MOST_EVENTS + 1] } });
        assert!(matches!(read(many.to_string().as_bytes()), Err(InvalidEvent::Count)));
        assert_eq!(read(b"{\"type\":\"PUSH_ARTIFACT\"}".as_slice()).unwrap(), []);
        let null = json!({ "type": "PUSH_ARTIFACT", "event_data": { "resources": null, "repository": null } });
        assert_eq!(read(null.to_string().as_bytes()).unwrap(), []);
    }

    #[test]
    fn a_host_that_is_not_before_the_repository_is_not_taken() {
        for url in ["evil.example/other/app:1", "harbor.example", "", "http://harbor.example/hooks/app:1"] {
            let body = json!({ "type": "PUSH_ARTIFACT", "event_data": { "repository": { "repo_full_name": "hooks/app" },
                "resources": [{ "digest": format!("sha256:{}", "a".repeat(64)), "tag": "1", "resource_url": url }] } });
            assert!(matches!(only(&body.to_string()), Event::Unnamed(_)), "{url}");
        }
    }
}
