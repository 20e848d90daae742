//! Requests as Harbor 2.16 sends them, and others.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// As `recordings/harbor/a-scanner/one-scan-seen-by-adapter.json` has it.
const SENT: &str = concat!(
    r#"{"registry":{"url":"http://127.0.0.1:18000","authorization":"Basic cm9ib3QkbGFiK2hyYnNjYW4tTGF5ZXJzaWZ0LTQx"#,
    r#"NGI1YTg3LWViNmQtMTFmMS1iMTcwLWMyYzY1Y2QyYjkwZjpTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTU1NTUw==","#,
    r#""insecure":false},"#,
    r#""artifact":{"repository":"lab/one","tag":"1","digest":"sha256:a9e9f51d0d7e83e7696cfd4c4a909875410d93fca223fde0"#,
    r#"7ec3dfd22d53ab7d","mime_type":"application/vnd.oci.image.manifest.v1+json","size":848},"enabled_capabilities":"#,
    r#"[{"type":"vulnerability","produces_mime_types":["application/vnd.security.vulnerability.report; version=1.1"],"#,
    r#""parameters":null}]}"#
);

fn sent() -> Value {
    serde_json::from_str(SENT).unwrap()
}

fn with(pointer: &str, value: Value) -> Result<ScanRequest, RequestError> {
    let mut body = sent();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[field] = value;
    read(body.to_string().as_bytes())
}

#[test]
fn a_request_of_harbor_is_read() {
    let request = read(SENT.as_bytes()).unwrap();
    assert_eq!((request.registry.host.authority(), request.registry.is_plain_http), ("127.0.0.1:18000", true));
    let user = "robot$lab+hrbscan-Layersift-414b5a87-eb6d-11f1-b170-c2c65cd2b90f".to_owned();
    let password = "S".repeat(32);
    assert_eq!(request.registry.credentials, Some(Credentials::Password { user, password }));
    assert_eq!((&request.artifact.repository[..], &request.artifact.tag[..]), ("lab/one", "1"));
    assert_eq!((request.artifact.digest.short(), request.artifact.size), ("a9e9f51d0d7e", 848));
    assert_eq!(request.wanted, [Wanted::Vulnerabilities]);
    assert_eq!(serde_json::to_value(&request.artifact).unwrap(), sent()["artifact"], "reports repeat it");
}

#[test]
fn what_other_versions_send_is_read() {
    assert_eq!(with("/enabled_capabilities", json!(null)).unwrap().wanted, [Wanted::Vulnerabilities]);
    assert_eq!(with("/enabled_capabilities", json!([{}])).unwrap().wanted, [Wanted::Vulnerabilities]);
    let sbom = json!([{
        "type": "sbom", "produces_mime_types": [SBOM], "parameters": {"sbom_media_types": ["application/spdx+json"]},
    }]);
    let wanted = with("/enabled_capabilities", sbom).unwrap().wanted;
    assert_eq!(wanted, [Wanted::Sbom(vec!["application/spdx+json".into()])]);
    assert_eq!(with("/artifact/tag", json!("")).unwrap().artifact.tag, "");
    assert_eq!(with("/artifact/tag", json!(null)).unwrap().artifact.tag, "");
    assert!(with("/artifact/namespace_id", json!(7)).is_ok(), "in versions that send it");
    assert_eq!(with("/unknown", json!({"x": [1]})).unwrap(), read(SENT.as_bytes()).unwrap());
    assert!(!with("/registry/url", json!("https://harbor.example/")).unwrap().registry.is_plain_http);
}

#[test]
fn logins_are_told_apart() {
    let login = |text: Value| with("/registry/authorization", text).map(|request| request.registry.credentials);
    assert_eq!(login(json!("Bearer a.b.c")).unwrap(), Some(Credentials::AccessToken("a.b.c".into())));
    for nothing in [json!(""), json!(null)] {
        assert_eq!(login(nothing).unwrap(), None);
    }
    for wrong in ["Basic", "Basic !", "Basic bm9jb2xvbg==", "Bearer ", "Bearer a b", "Digest x", "hunter2-hunter2"] {
        let error = login(json!(wrong)).unwrap_err();
        assert_eq!((&error, error.status()), (&RequestError::Authorization, 400), "{wrong}");
    }
}

#[test]
fn no_error_and_no_debug_output_has_the_credentials() {
    let request = read(SENT.as_bytes()).unwrap();
    let shown = format!("{request:?}");
    assert!(!shown.contains("SSSS") && !shown.contains("robot$"), "{shown}");
    for pointer in ["/registry", "/artifact", "/enabled_capabilities", "/artifact/size"] {
        let error = with(pointer, json!("Basic hunter2")).unwrap_err();
        let body = String::from_utf8(error.body()).unwrap();
        assert!(!body.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{pointer}: {body}");
    }
}

#[test]
fn what_cannot_be_scanned_is_refused() {
    let status = |pointer: &str, value: Value| with(pointer, value).map_err(|error| error.status());
    for index in
        ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"]
    {
        assert_eq!(status("/artifact/mime_type", json!(index)), Err(422));
    }
    for digest in ["", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../x"] {
        assert_eq!(status("/artifact/digest", json!(digest)), Err(422), "{digest}");
    }
    for repository in ["", "a//b", "../x", "A/b", "a?b", "a b"] {
        assert_eq!(status("/artifact/repository", json!(repository)), Err(422), "{repository}");
    }
    for url in ["", "ftp://h", "http://", "http://user@h", "http://h/some/path", "http://h?x", "file:///etc/passwd"] {
        assert_eq!(status("/registry/url", json!(url)), Err(422), "{url}");
    }
    for kind in ["secret", "SBOM"] {
        assert_eq!(status("/enabled_capabilities", json!([{"type": kind}])), Err(422), "{kind}");
    }
    let old =
        json!([{"produces_mime_types": ["application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0"]}]);
    assert_eq!(status("/enabled_capabilities", old), Err(422));
    assert_eq!(status("/artifact/mime_type", json!("x".repeat(600))), Err(400));
    assert_eq!(status("/artifact/tag", json!("a b")), Err(422));
    assert_eq!(status("/enabled_capabilities", json!(vec![json!({}); 17])), Err(400));
}

#[test]
fn what_is_no_request_is_400_with_a_message() {
    for body in ["", "{}", "[]", "null", "\u{feff}{}", r#"{"registry":{},"registry":{}}"#] {
        let error = read(body.as_bytes()).unwrap_err();
        assert_eq!(error.status(), 400);
        let answer: Value = serde_json::from_slice(&error.body()).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("line"), "{answer}");
    }
    assert_eq!(read(&vec![b' '; MOST_BYTES + 1]).unwrap_err().status(), 400);
    assert!(read("[".repeat(MOST_BYTES).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(error) = read(&bytes) {
            prop_assert!([400, 422].contains(&error.status()));
        }
    }

    #[test]
    fn any_texts_are_a_request_or_an_error(url in "\\PC{0,30}", login in "\\PC{0,30}", media_type in "\\PC{0,30}") {
        let mut body = sent();
        body["registry"] = json!({"url": url, "authorization": login});
        body["artifact"]["mime_type"] = json!(media_type);
        if let Err(error) = read(body.to_string().as_bytes()) {
            prop_assert!([400, 422].contains(&error.status()));
            prop_assert!(serde_json::from_slice::<Value>(&error.body()).is_ok());
        }
    }
}
