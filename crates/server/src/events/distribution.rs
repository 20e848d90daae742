//! Notifications of Docker's registry, Distribution (`application/vnd.docker.distribution.events.v1+json`): any number
//! of events in one body, of which pushes of manifests and indexes count.
//!
//! The host is that of the request which pushed: behind a proxy, the registry has to be told its name
//! (`http.host`) or be given the header `Host` as it was.

use std::io::Read;

use serde::Deserialize;

use super::{Event, InvalidEvent, MOST_EVENTS, Push, nullable};

/// What is pushed last, and names the rest.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

#[derive(Deserialize)]
struct Body {
    events: Vec<Notification>,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(default, deserialize_with = "nullable")]
    action: String,
    #[serde(default, deserialize_with = "nullable")]
    target: Target,
    #[serde(default, deserialize_with = "nullable")]
    request: Request,
}

#[derive(Default, Deserialize)]
struct Target {
    #[serde(rename = "mediaType", default, deserialize_with = "nullable")]
    media_type: String,
    #[serde(default, deserialize_with = "nullable")]
    digest: String,
    #[serde(default, deserialize_with = "nullable")]
    repository: String,
    #[serde(default, deserialize_with = "nullable")]
    tag: String,
}

#[derive(Default, Deserialize)]
struct Request {
    #[serde(default, deserialize_with = "nullable")]
    host: String,
}

/// Reads a body, with an event for each of its own.
///
/// # Errors
/// For a body of another form, or over a bound.
pub fn read(body: impl Read) -> Result<Vec<Event>, InvalidEvent> {
    let Body { events } = super::read(body)?;
    if events.len() > MOST_EVENTS {
        return Err(InvalidEvent::Count);
    }
    Ok(events.iter().map(event).collect())
}

fn event(notification: &Notification) -> Event {
    let Notification { action, target, request } = notification;
    if action != "push" || !MANIFESTS.contains(&&target.media_type[..]) {
        return Event::Other;
    }
    let tag = Some(&target.tag[..]).filter(|tag| !tag.is_empty());
    match Push::new(&request.host, &target.repository, tag, &target.digest) {
        Ok(push) => Event::Push(push),
        Err(why) => Event::Unnamed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn digest() -> String {
        format!("sha256:{}", "ab".repeat(32))
    }

    fn push(media_type: &str, tag: Option<&str>) -> Value {
        let digest = digest();
        json!({
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7", "timestamp": "2016-03-09T14:44:26.402973972-08:00",
            "action": "push", "target": { "mediaType": media_type, "size": 708, "digest": digest, "length": 708,
                "repository": "library/hello-world", "url": format!("http://192.168.100.227:5000/v2/{digest}"),
                "tag": tag },
            "request": { "id": "6df24a34", "addr": "192.168.64.11:42961", "host": "192.168.100.227:5000",
                "method": "PUT", "useragent": "curl/7.38.0" },
            "actor": {}, "source": { "addr": "xtal.local:5000", "instanceID": "a53db899-3b4b-4a62-a067-8dd013beaca4" },
        })
    }

    #[test]
    fn pushes_of_manifests_count() {
        let mut other = push(MANIFESTS[0], None);
        other["action"] = "pull".into();
        let blob = push("application/octet-stream", None);
        let body = json!({ "events": [push(MANIFESTS[2], Some("latest")), blob, push(MANIFESTS[1], None), other] });
        let events = read(body.to_string().as_bytes()).unwrap();
        let reference = format!("192.168.100.227:5000/library/hello-world@{}", digest());
        let untagged: Vec<Option<bool>> = events
            .iter()
            .map(|event| match event {
                Event::Push(push) => {
                    assert_eq!(push.reference.to_string(), reference);
                    Some(push.is_untagged)
                }
                event => {
                    assert_eq!(*event, Event::Other);
                    None
                }
            })
            .collect();
        assert_eq!(untagged, [Some(false), None, Some(true), None]);
    }

    #[test]
    fn a_push_without_a_host_has_no_name() {
        let mut event = push(MANIFESTS[0], None);
        event["request"] = Value::Null;
        let events = read(json!({ "events": [event] }).to_string().as_bytes()).unwrap();
        assert!(matches!(events[0], Event::Unnamed(_)));
    }

    #[test]
    fn what_is_not_an_envelope_is_an_error() {
        for body in ["", "{}", "[]", "{\"events\":{}}", "{\"events\":[1]}"] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(read(b"{\"events\":[]}".as_slice()).unwrap(), []);
        let many = json!({ "events": vec![json!({}); MOST_EVENTS + 1] });
        assert!(matches!(read(many.to_string().as_bytes()), Err(InvalidEvent::Count)));
        let endless = format!("{{\"x\":\"{}\"}}", "a".repeat(5 << 20));
        assert!(matches!(read(endless.as_bytes()), Err(InvalidEvent::Bound(_))));
    }
}
