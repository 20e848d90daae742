//! Admission as clusters ask for it: what an API server, Gatekeeper and containerd are answered, and when.

use serde_json::{Value, json};

use crate::images::{Registry, SECRET, clean, image, index, layer, leak, question, review, root};
use crate::running::{Answer, Client, Running, Site, eventually, pulling_from};
use crate::support::artifacts::Artifact;
use crate::support::image::{bytes, descriptor};
use crate::support::server::Answer as RegistryAnswer;
use crate::support::{finish, program, testdata};

const PATH: &str = "made-up-and-unguessable-0123456789";

/// Settings of a service with an address for admission behind a secret path.
fn settings(site: &Site, host: &str, more: &str) -> String {
    let path = site.write("path", format!("{PATH}\n").as_bytes());
    format!(
        "{more}\n[listen]\napi = '127.0.0.1:0'\nadmission = '127.0.0.1:0'\n\
         [clients.admission]\nsecret-path = '{}'\n{}",
        path.display(),
        pulling_from(host)
    )
}

/// Asks as an API server with this many seconds does.
fn ask(running: &Running, body: &Value, seconds: u64) -> Answer {
    Client::new(&running.url("admission")).post(&format!("/{PATH}/admit/v1?timeout={seconds}s"), body)
}

/// Asks until there is a verdict, as controllers do: the `response`.
fn response(running: &Running, image: &str, namespace: &str) -> Value {
    let body = review(image, namespace);
    eventually("a verdict", || {
        let response = ask(running, &body, 10).expect(200).json()["response"].clone();
        (response["status"]["code"] != 429).then_some(response)
    })
}

fn decide(running: &Running, site: &Site, images: &[String]) -> Value {
    running.client(&site.token(&["admit"])).post("/admit/v1/images", &question(images)).expect(200).json()
}

#[test]
fn an_image_that_is_not_known_yet_is_waited_for() {
    let (good, bad) = (clean("good"), image("bad", &[layer("etc/motd", "x"), leak()]));
    let registry = Registry::of(&[good.clone(), bad.clone()]);
    let site = Site::sqlite();
    let running = site.start(&settings(&site, &registry.host(), ""));
    registry.close();
    // Every request has the whole time of the webhook in `timeout`, however long the API server waits already.
    let body = review(&registry.by_tag(&good), "shop");
    let denied = ask(&running, &body, 3).expect(200).json();
    let (response, status) = (&denied["response"], &denied["response"]["status"]);
    assert_eq!((&response["allowed"], &status["code"]), (&json!(false), &json!(429)), "{denied}");
    assert!(status["details"]["retryAfterSeconds"].as_u64().unwrap() >= 1, "kubectl asks again by itself: {denied}");
    assert_eq!((&denied["kind"], &denied["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    assert_eq!(response["uid"], "2f4cd1a3-made-up");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(&running, &body, 30).expect(200).json());
        eventually("the scan", || {
            (site.fresh().rows("SELECT id FROM scan_requests WHERE state = 'running'").len() == 1).then_some(())
        });
        registry.open();
        assert_eq!(waiting.join().unwrap()["response"]["allowed"], true, "the verdict is waited for");
    });
    assert_eq!(self::response(&running, &registry.by_tag(&good), "shop")["allowed"], true);
    let denied = self::response(&running, &registry.by_tag(&bad), "shop");
    let status = &denied["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")), "{denied}");
    let message = status["message"].as_str().unwrap();
    for part in ["gitlab.personal-access-token", "app/.env", "layer 1", &root(&bad)[7..19]] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains(SECRET));
    let annotations = &denied["auditAnnotations"];
    assert!(annotations["image-0"].as_str().unwrap().contains("rules sha256:"), "{annotations}");
}

#[test]
fn a_recorded_review_is_answered_whatever_its_content_type() {
    let site = Site::sqlite();
    let running = site.start(&settings(&site, "127.0.0.1:1", ""));
    let body = std::fs::read(testdata("recordings/kubernetes/requests/create-pod.raw.json")).unwrap();
    let client = Client::new(&running.url("admission"));
    let path = format!("/{PATH}/admit/v1?timeout=10s");
    for content in ["application/json", "text/plain", ""] {
        let request = client.request(reqwest::Method::POST, &path).header("Content-Type", content).body(body.clone());
        let answer = Answer::of(request.send().unwrap()).expect(200).json();
        assert_eq!(answer["response"]["allowed"], false, "its registry is not one to ask: {answer}");
    }
    let large = "x".repeat(40 << 20);
    let answer = client.request(reqwest::Method::POST, &path).body(large).send();
    assert!(answer.is_err() || answer.unwrap().status() != 413, "413 passes where failures are ignored");
    for path in ["/admit/v1", "/made-up-and-unguessable-9999999999/admit/v1", "/api/v1/images"] {
        client.post(path, &json!({})).expect(404);
    }
}

#[test]
fn a_dry_run_queues_nothing_and_a_burst_queues_once() {
    let app = clean("app");
    let registry = Registry::of(std::slice::from_ref(&app));
    let site = Site::sqlite();
    let running = site.start(&settings(&site, &registry.host(), "[scans]\nat-once = 0"));
    let mut dry = review(&registry.by_tag(&app), "shop");
    dry["request"]["dryRun"] = true.into();
    let answer = ask(&running, &dry, 2).expect(200).json();
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    assert_eq!(site.fresh().count("scan_requests"), 0);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| ask(&running, &review(&registry.by_tag(&app), "shop"), 2).expect(200));
        }
    });
    assert_eq!(site.fresh().count("scan_requests"), 1);
    assert_eq!(registry.server.requests_of("/manifests/v1").len(), 1, "the registry is asked once");
}

#[test]
fn rules_of_places_warn_or_demand_digests() {
    let (good, bad) = (clean("good"), image("bad", &[leak()]));
    let registry = Registry::of(&[good.clone(), bad.clone()]);
    let site = Site::sqlite();
    let rules = format!(
        "[[admission.rule]]\nnamespaces = ['dev-*']\nmode = 'audit'\n\
         [[admission.rule]]\nnamespaces = ['strict']\nimages = ['{}/team/*']\nrequire-digest = true\n",
        registry.host()
    );
    let running = site.start(&settings(&site, &registry.host(), &rules));
    // While it is not known yet, that is a warning as well.
    let audited = eventually("the warning", || {
        let audited = response(&running, &registry.by_tag(&bad), "dev-a");
        audited["warnings"][0].as_str().unwrap().contains("gitlab").then_some(audited)
    });
    assert_eq!(audited["allowed"], true);
    assert!(audited["warnings"][0].as_str().unwrap().contains("would deny"), "{audited}");
    assert_eq!(response(&running, &registry.by_tag(&bad), "shop")["allowed"], false);
    let denied = response(&running, &registry.by_tag(&good), "strict");
    assert!(denied["status"]["message"].as_str().unwrap().contains("by its digest"), "{denied}");
    assert_eq!(response(&running, &registry.by_digest(&good), "strict")["allowed"], true);
}

#[test]
fn a_review_that_cannot_be_judged_is_denied_by_the_rules_of_its_namespace() {
    let site = Site::sqlite();
    let rules = "[admission]\nmode = 'audit'\n[[admission.rule]]\nnamespaces = ['prod']\nmode = 'enforce'\n";
    let running = site.start(&settings(&site, "127.0.0.1:1", rules));
    let long = "x".repeat(2_000);
    let allowed = |namespace: &str| {
        let answer = ask(&running, &review(&long, namespace), 10).expect(200).json();
        answer["response"]["allowed"].as_bool().unwrap()
    };
    assert_eq!((allowed("prod"), allowed("dev")), (false, true));
    // Where the namespace is not known, it may be any.
    let cut = review(&long, "dev").to_string().replacen("\"namespace\":\"dev\"", "\"namespace\":[]", 1);
    let answer = Client::new(&running.url("admission")).post_text(&format!("/{PATH}/admit/v1?timeout=10s"), &cut);
    assert!(answer.status != 200 || answer.json()["response"]["allowed"] == false, "{}", answer.text());
}

#[test]
fn a_tag_beside_a_digest_does_not_choose_the_rule() {
    let bad = image("bad", &[leak()]);
    let registry = Registry::of(std::slice::from_ref(&bad));
    let site = Site::sqlite();
    let name = registry.by_tag(&bad);
    let rules = format!("[[admission.rule]]\nimages = ['{name}']\nmode = 'audit'\n");
    let running = site.start(&settings(&site, &registry.host(), &rules));
    assert_eq!(response(&running, &format!("{name}@{}", root(&bad)), "shop")["allowed"], false);
    assert_eq!(response(&running, &name, "shop")["allowed"], true);
}

#[test]
fn what_cannot_be_read_is_an_answer_of_its_own() {
    let (gone, secret, gap) = (clean("gone"), clean("secret"), clean("gap"));
    let mut broken = gap.clone();
    // Its layer is another one than the manifest says.
    broken.blobs[0] = vec![0; broken.blobs[0].len()];
    let schema_1 = json!({ "schemaVersion": 1, "name": "old", "tag": "v1", "fsLayers": [], "history": [] });
    let old = Artifact {
        name: "old",
        manifests: vec![("application/vnd.docker.distribution.manifest.v1+json".into(), bytes(&schema_1))],
        blobs: Vec::new(),
        is_old: true,
    };
    let registry = Registry::of(&[broken, old.clone()]);
    let closed = Registry::answering(std::slice::from_ref(&secret), |_| {
        RegistryAnswer::new(403, "{\"errors\":[{\"code\":\"DENIED\"}]}")
    });
    let site = Site::sqlite();
    let allow =
        format!("[registries]\nallow = ['{0}', '{1}']\nplain-http = ['{0}', '{1}']\n", registry.host(), closed.host());
    let running = site.start(&allow);
    let answer = decide(
        &running,
        &site,
        &[
            registry.by_tag(&gone),
            closed.by_tag(&secret),
            registry.by_tag(&gap),
            "registry.example.org/app:1".into(),
            "::bad::".into(),
            registry.by_tag(&old),
        ],
    );
    let outcome = |decision: &Value| (decision["outcome"].clone(), decision["unreadable"].clone());
    let outcomes: Vec<(Value, Value)> = answer["decisions"].as_array().unwrap().iter().map(outcome).collect();
    let unreadable = |why: &str| (json!("unreadable"), json!(why));
    let expected = [
        unreadable("not-found"),
        unreadable("unauthorized"),
        (json!("incomplete"), Value::Null),
        unreadable("refused"),
        unreadable("refused"),
        unreadable("unsupported"),
    ];
    assert_eq!(outcomes, expected, "{answer}");
    assert_eq!(answer["allowed"], false);
    assert!(answer["decisions"].as_array().unwrap().iter().all(|decision| decision["effect"] == "deny"));
}

#[test]
fn an_index_is_all_of_its_images() {
    let clean_layer = [layer("etc/motd", "x")];
    let (leaking, leaking_layers) = ("leaking", [leak()]);
    let index = index(leaking, &[("amd64", &clean_layer), ("arm64", &leaking_layers)]);
    let registry = Registry::of(std::slice::from_ref(&index));
    let site = Site::sqlite();
    let running = site.start_for(&registry.host(), "");
    let answer = decide(&running, &site, &[registry.by_tag(&index), registry.by_digest(&index)]);
    for decision in answer["decisions"].as_array().unwrap() {
        assert_eq!((&decision["outcome"], &decision["digest"]), (&json!("fail"), &json!(root(&index))), "{decision}");
        assert_eq!(decision["platforms"], json!(["linux/amd64", "linux/arm64"]));
        assert_eq!(decision["reasons"][0]["platform"], "linux/arm64");
    }
    // Each image by itself is known from the index.
    let digest = |number: usize| crate::support::image::digest(&index.manifests[number].1);
    let name = |number| format!("{}/team/{leaking}@{}", registry.host(), digest(number));
    let answer = decide(&running, &site, &[name(0), name(1)]);
    let effects: Vec<&Value> = answer["decisions"].as_array().unwrap().iter().map(|found| &found["effect"]).collect();
    assert_eq!(effects, ["allow", "deny"]);
}

#[test]
fn findings_of_a_base_image_do_not_deny_what_begins_with_its_layers() {
    let base = image("base", &[leak()]);
    let built = image("built", &[leak(), layer("app/main", "x")]);
    let copied = image("copied", &[layer("app/main", "x"), leak()]);
    let registry = Registry::of(&[base.clone(), built.clone(), copied.clone()]);
    let site = Site::sqlite();
    let rules = format!("[admission]\nbase-images = ['{}']\n", root(&base));
    let running = site.start_for(&registry.host(), &rules);
    decide(&running, &site, &[registry.by_tag(&base)]);
    let answer = decide(&running, &site, &[registry.by_tag(&built), registry.by_tag(&copied)]);
    let effects: Vec<&Value> = answer["decisions"].as_array().unwrap().iter().map(|found| &found["effect"]).collect();
    assert_eq!(effects, ["allow", "deny"], "{answer}");
}

#[test]
fn an_exception_for_a_base_image_holds_for_what_begins_with_its_layers() {
    let base = image("base", &[leak()]);
    let built = image("built", &[leak(), layer("app/main", "x")]);
    let copied = image("copied", &[layer("app/main", "x"), leak()]);
    let registry = Registry::of(&[base.clone(), built.clone(), copied.clone()]);
    let site = Site::sqlite();
    let allow = format!("[[allow]]\nbase = '{}'\nreason = 'known'\nexpires = 2999-01-01\n", root(&base));
    let policy = site.write("policy.toml", allow.as_bytes());
    let running = site.start_for(&registry.host(), &format!("policy = '{}'\n", policy.display()));
    let answer = decide(&running, &site, &[registry.by_tag(&base)]);
    assert_eq!(answer["decisions"][0]["effect"], "deny", "the base is not built on itself: {answer}");
    let answer = decide(&running, &site, &[registry.by_tag(&built), registry.by_tag(&copied)]);
    let effects: Vec<&Value> = answer["decisions"].as_array().unwrap().iter().map(|found| &found["effect"]).collect();
    assert_eq!(effects, ["allow", "deny"], "{answer}");
    // The report says why.
    let client = running.client(&site.token(&["read"]));
    let report = client.get(&format!("/api/v1/images/{}/report", root(&built))).expect(200).json();
    let found = &report["image"]["base"];
    assert_eq!((&found["digest"], &found["is_proven"]), (&json!(root(&base)), &json!(true)), "{report}");
    assert_eq!(report["verdict"], "pass", "{report}");
}

#[test]
fn gatekeeper_has_no_item_for_what_is_not_known_yet() {
    let (good, bad, new) = (clean("good"), image("bad", &[leak()]), clean("new"));
    let registry = Registry::of(&[good.clone(), bad.clone(), new.clone()]);
    let site = Site::sqlite();
    let running = site.start(&settings(&site, &registry.host(), ""));
    decide(&running, &site, &[registry.by_digest(&good), registry.by_digest(&bad)]);
    registry.close();
    let keys = [registry.by_digest(&good), format!("[shop]{}", registry.by_digest(&bad)), registry.by_digest(&new)];
    let request = json!({ "apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest",
        "request": { "keys": keys } });
    let client = Client::new(&running.url("admission"));
    // A loaded machine may take longer than Gatekeeper waits.
    let answer = eventually("both items", || {
        let answer = client.post(&format!("/{PATH}/gatekeeper/v1"), &request).expect(200).json();
        (answer["response"]["items"].as_array().unwrap().len() >= 2).then_some(answer)
    });
    let items = answer["response"]["items"].as_array().unwrap();
    assert_eq!((items.len(), &answer["response"]["systemError"]), (2, &json!("")), "{answer}");
    assert_eq!(items[0]["value"]["allowed"], true);
    assert!(items[1]["error"].as_str().unwrap().contains("gitlab"), "{answer}");
}

#[test]
fn containerd_asks_over_a_socket() {
    let (good, bad) = (clean("good"), image("bad", &[leak()]));
    let registry = Registry::of(&[good.clone(), bad.clone()]);
    let site = Site::sqlite();
    let socket = site.path("serve.sock");
    let settings = format!("[listen]\nsocket = '{}'\n{}", socket.display(), pulling_from(&registry.host()));
    let _running = site.start(&settings);
    let config = site.write("verifier.toml", format!("service = 'unix://{}'\n", socket.display()).as_bytes());
    for (artifact, expected) in [(&good, "allowed"), (&bad, "gitlab.personal-access-token")] {
        let mut command = program();
        command.env("LAYERSIFT_VERIFIER_CONFIG", &config).args(["image-verifier", "-name", &registry.by_tag(artifact)]);
        command.args(["-digest", &root(artifact)]);
        command.args(["-stdin-media-type", "application/vnd.oci.descriptor.v1+json"]);
        let (media_type, manifest) = &artifact.manifests[0];
        let input = descriptor(media_type, manifest).to_string().into_bytes();
        // What is not scanned within the eight seconds that it has is denied, and asked about again.
        let run = eventually(expected, || {
            let run = finish(&mut command, Some(input.clone()));
            run.stdout.contains(expected).then_some(run)
        });
        run.expect(i32::from(expected != "allowed"));
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
}
