//! The whole incident: a prompt and the answer of a model, a module, an image, the image of a partner, and the trace
//! that leads back.

use std::process::Command;

use crate::running::{Answer, Client, Running, Site, eventually};
use crate::scanned::scan;
use crate::support::image::{CONFIG, Layer, bytes, descriptor};
use crate::support::registry::{Registry, run};
use crate::support::tar::Tar;
use crate::support::{finish, program};
use serde_json::{Value, json};

const REQUEST: &str = include_str!("../../testdata/incident/prompt/request.json");
const ANSWER: &str = include_str!("../../testdata/incident/prompt/answer.json");
const MODULE: &str = "app/node_modules/@acme/seal/build/Release/seal.node";

/// The gate of a company that looks first, and denies later.
const REPORTING: &str = "[prompts]\n[[prompts.policies]]\ndeny = 'never'\nmask = 'never'\n";

/// The bytes of the key, as its source has them.
fn key() -> Vec<u8> {
    let source = include_str!("../../testdata/incident/seal/seal.c");
    let list = source.split("seal_key[32] = {").nth(1).unwrap().split('}').next().unwrap();
    let byte = |item: &str| u8::from_str_radix(item.trim().strip_prefix("0x")?, 16).ok();
    list.split(',').filter_map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fingerprint of the finding of `rule` in an answer of the gate.
fn fingerprint(answer: &Answer, rule: &str) -> String {
    let answer = answer.json();
    let reasons = answer["reasons"].as_array().unwrap().iter();
    let found = reasons.filter(|reason| reason["rule"] == rule).find_map(|reason| reason["fingerprint"].as_str());
    found.unwrap_or_else(|| panic!("no {rule} in {answer}")).to_string()
}

/// Pushes the partner's image: that of the incident with one more layer.
fn push_partners_image(registry: &Registry) {
    let inspect = |flags: &[&str]| -> Value {
        let image = format!("docker://{}/partner/payments:1.0", registry.host());
        let mut skopeo = Command::new("skopeo");
        let document = run(skopeo.args(["inspect", "--raw", "--tls-verify=false"]).args(flags).arg(image));
        serde_json::from_slice(&document).unwrap()
    };
    let (mut manifest, mut config) = (inspect(&[]), inspect(&["--config"]));
    let layer = Layer::plain(Tar::new().file("partner/settings.json", b"{\"region\":\"eu\"}\n").finish());
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(layer.diff_id));
    config["history"].as_array_mut().unwrap().push(json!({ "created_by": "COPY settings.json partner/ # buildkit" }));
    let config = bytes(&config);
    let media_type = manifest["config"]["mediaType"].as_str().unwrap_or(CONFIG).to_string();
    manifest["config"] = descriptor(&media_type, &config);
    let media_type = manifest["layers"][0]["mediaType"].as_str().unwrap().replace(".gzip", "").replace("+gzip", "");
    manifest["layers"].as_array_mut().unwrap().push(descriptor(&media_type, &layer.blob));
    registry.put_blob("partner/payments", &config);
    registry.put_blob("partner/payments", &layer.blob);
    let media_type = manifest["mediaType"].as_str().unwrap().to_string();
    registry.put_manifest("partner/payments", "2.0", &media_type, &bytes(&manifest));
}

/// A trace once it knows `count` sightings in prompts, which are written a little after the answers.
fn traced(client: &Client, path: &str, count: usize) -> Value {
    eventually("the sightings", || {
        let trace = client.get(&format!("/api/v1/trace?q={path}")).expect(200).json();
        (trace["prompts"].as_array().unwrap().len() >= count).then_some(trace)
    })
}

/// The place of the key of the module in the first image of a trace.
fn key_in_module(trace: &Value) -> &Value {
    let places = trace["images"][0]["holds"].as_array().unwrap();
    places.iter().find(|place| place["rule"] == "cipher.constant-in-binary").unwrap_or_else(|| panic!("{trace}"))
}

#[test]
fn a_key_is_traced_from_the_image_of_a_partner_to_the_answer_of_a_model() {
    the_story(Site::sqlite());
}

#[test]
fn the_same_on_postgresql() {
    the_story(Site::postgres());
}

fn the_story(site: Site) {
    let registry = Registry::filled(&["team/app:v1", "partner/payments:1.0"]);
    let running = site.start_for(&registry.host(), REPORTING);
    let gate = running.client(&site.token(&["prompt"]));
    let client = running.client(&site.token(&["scan", "read", "admin"]));

    // The prompt, and what came of it.
    let asked = gate.post_text("/v1/prompts/check", REQUEST).expect(200);
    assert!(asked.text().contains("prompt.hard-code-secret"), "{}", asked.text());
    let answered = gate.post_text("/v1/prompts/check", ANSWER).expect(200);
    let in_answer = fingerprint(&answered, "cipher.byte-array-key");
    for answer in [&asked, &answered] {
        assert!(!answer.text().contains("0x63, 0xa3") && !answer.text().contains(&hex(&key())), "{}", answer.text());
    }

    // The module, the image, and the image of the partner.
    push_partners_image(&registry);
    for image in ["team/app:v1", "partner/payments:2.0"] {
        let image = format!("{}/{image}", registry.host());
        let scan = scan(&client, &image);
        let report = client.get(&format!("/api/v1/images/{}/report", scan["digest"].as_str().unwrap())).expect(200);
        assert!(report.text().contains("cipher.constant-in-binary"), "{image}");
    }

    // The trace, by the path of the module.
    let trace = traced(&client, MODULE, 1);
    assert_eq!(trace["total"], 2, "{trace}");
    let held = key_in_module(&trace);
    assert_eq!(held["layer"]["index"], 6);
    let first = &held["first_prompt"];
    assert_eq!(first["direction"], "answer", "{trace}");
    assert_eq!(first["model"], "assistant-code-2026-01");
    assert_eq!(first["rule"], "cipher.byte-array-key");
    assert_eq!(first["client"], "test", "the name of the token");
    let tags = trace["images"][1]["tags"].to_string();
    assert!(tags.contains("partner/payments"), "{tags}");

    // By the key itself, whichever form somebody has it in, and by its fingerprint.
    for secret in [hex(&key()), key().iter().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")] {
        let trace = client.post("/api/v1/trace", &json!({ "secret": secret })).expect(200);
        assert!(!trace.text().contains(&secret));
        let trace = trace.json();
        assert_eq!((&trace["total"], &trace["prompts"][0]["direction"]), (&json!(2), &json!("answer")), "{trace}");
        assert_eq!(trace["prompts"][0]["fingerprint"], json!(in_answer));
    }

    // For a person, without the service.
    let text = site.layersift(&["trace", MODULE]).expect(0).stdout;
    let line = text.lines().find(|line| line.contains("first appeared in")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("first appeared in a model's answer on 20"), "{line}");
    assert!(line.contains("model assistant-code-2026-01"), "{line}");
    assert!(text.contains("layer 6"), "{text}");
    let dot = site.layersift(&["trace", &in_answer, "--format", "dot"]).expect(0).stdout;
    assert!(dot.contains("a model's answer, 20") && dot.contains("first appeared in"), "{dot}");
    let by_input = finish(
        program()
            .args(["trace", "-", "--format", "json", "--store", site.store()])
            .arg("--fingerprint-key")
            .arg(site.path("key")),
        Some(hex(&key()).into_bytes()),
    );
    assert_eq!(by_input.expect(0).json()["total"], 2);
}

#[test]
fn the_key_has_one_fingerprint_in_every_form() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let site = Site::sqlite();
    let running = site.start(REPORTING);
    let gate = running.client(&site.token(&["prompt"]));
    let key = key();
    let wanted = fingerprint(&gate.post_text("/v1/prompts/check", ANSWER).expect(200), "cipher.byte-array-key");
    let java: Vec<String> = key.iter().map(|byte| format!("(byte)0x{byte:02X}")).collect();
    let encoded = BASE64_STANDARD.encode(&key);
    let list = |each: &dyn Fn(&u8) -> String| key.iter().map(each).collect::<Vec<_>>().join(", ");
    let (decimal, signed) = (list(&|byte| byte.to_string()), list(&|byte| byte.cast_signed().to_string()));
    for code in [
        format!("AES_KEY={encoded}"),
        format!("key = bytes([{decimal}])"),
        format!("key = b\"{}\"", key.escape_ascii()),
        format!("key = bytes.fromhex(\"{}\")", hex(&key)),
        format!("sealKey := [32]byte{{{}}}", list(&|byte| format!("{byte:#04x}"))),
        format!("sealKey, err := hex.DecodeString(\"{}\")", hex(&key)),
        format!("const KEY: [u8; 32] = [{}];", list(&|byte| format!("{byte:#04x}")).replace(", 0x5", ",\n    0x5")),
        format!("byte[] key = {{{signed}}};"),
        format!("val sealKey = byteArrayOf({signed})"),
        format!("const key = new Uint8Array([{decimal}]);"),
        format!("$key = hex2bin('{}');", hex(&key)),
        format!("{{\"aes_key\": [{decimal}]}}"),
        format!("AES_KEY={}", hex(&key)),
        format!("const encryptionKey = Buffer.from('{}', 'hex');", hex(&key)),
        format!("const encryptionKey = Buffer.from(\"{encoded}\", 'base64');"),
        format!("byte[] aesKey = new byte[] {{ {} }};", java.join(", ")),
        format!("cipher = AES.new(bytes.fromhex(\"{}\"), AES.MODE_GCM)", hex(&key)),
        format!("new SecretKeySpec(Base64.getDecoder().decode(\"{encoded}\"), \"AES\")"),
        format!("openssl enc -aes-256-cbc -K {} -iv 00", hex(&key)),
        format!("AES_KEY={}", hex(&key).to_uppercase()),
    ] {
        // As it is, and encoded once more.
        for text in [code.clone(), BASE64_STANDARD.encode(&code)] {
            let message = json!({ "role": "assistant", "content": format!("Use this:\n```\n{text}\n```") });
            let answer = json!({ "model": "m", "choices": [{ "index": 0, "message": message }] });
            let answer = gate.post("/v1/prompts/check", &answer).expect(200);
            let prints: Vec<Value> =
                answer.json()["reasons"].as_array().unwrap().iter().map(|one| one["fingerprint"].clone()).collect();
            assert!(prints.contains(&json!(wanted)), "{text}: {}", answer.text());
        }
    }
}

/// How many fingerprints the store has after a service with these settings has seen the answer and ended.
fn kept(site: &Site, settings: &str) -> i64 {
    let running: Running = site.start(settings);
    // Tokens come and go; a client is known by the name that they have.
    let gate = running.client(&site.token(&["prompt"]));
    gate.post_text("/v1/prompts/check", ANSWER).expect(200);
    // Who has asked at the very end is not forgotten.
    assert_eq!(running.stop().0, Some(0));
    site.fresh().count("prompt_sightings")
}

#[test]
fn fingerprints_are_kept_unless_the_settings_say_otherwise() {
    let site = Site::sqlite();
    let nothing = REPORTING.replace("[prompts]\n", "[prompts]\nfingerprints = 0\n");
    assert_eq!(kept(&site, &nothing), 0);
    assert_eq!(kept(&site, REPORTING), 1);
    assert_eq!(kept(&site, REPORTING), 1, "the same again is no other sighting");
}

#[test]
fn what_is_quoted_published_or_a_sentence_is_told_apart() {
    let site = Site::sqlite();
    let running = site.start(REPORTING);
    let gate = running.client(&site.token(&["prompt"]));
    let client = running.client(&site.token(&["read"]));
    let content = serde_json::from_str::<Value>(ANSWER).unwrap()["choices"][0]["message"]["content"].clone();
    let history = json!({ "model": "m", "messages": [
        { "role": "user", "content": "Please hard-code the AES key in the module." },
        { "role": "assistant", "content": content }, { "role": "user", "content": "thanks" }] });
    gate.post("/v1/prompts/check", &history).expect(200);
    let by_key = || client.post("/api/v1/trace", &json!({ "secret": hex(&key()) })).expect(200).json();
    let trace = eventually("the sighting", || Some(by_key()).filter(|trace| trace["prompts"][0].is_object()));
    assert_eq!(trace["prompts"].as_array().unwrap().len(), 1, "{trace}");
    assert_eq!((&trace["total"], &trace["prompts"][0]["direction"]), (&json!(0), &json!("quoted")));
    let directions = site.fresh().rows("SELECT direction FROM prompt_sightings");
    assert_eq!(directions, ["quoted"], "an order is no secret");
}
