//! `generate-key`, `attest` and `verify` against Debian's `docker-registry`, which has no referrers API.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::image::{CONFIG, INDEX, Layer, MANIFEST, bytes, config, descriptor, digest, index, manifest};
use crate::support::pull::{options, registry};
use crate::support::registry::{Registry, Setup, USER, run};
use crate::support::tar::Tar;
use crate::support::time_stamps::{answers, authority};
use crate::support::tools::{missing, say};
use crate::support::{Run, finish, program};
use layersift_source::registry::At;

const PASSWORD: &str = "a made-up password";

pub(crate) struct Setting {
    pub(crate) registry: Registry,
    directory: TempDir,
}

impl Setting {
    pub(crate) fn new() -> Setting {
        let setting = Setting { registry: Setup::default().start(), directory: tempfile::tempdir().unwrap() };
        setting.run(&["generate-key", &setting.path("attest")]).expect(0);
        setting
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        finish(program().args(arguments).env("LAYERSIFT_KEY_PASSWORD", PASSWORD), None)
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.host())
    }

    pub(crate) fn attest(&self, name: &str, more: &[&str]) -> Run {
        let key = self.path("attest.key");
        let image = self.image(name);
        self.run(&[&["attest", &image, "--key", &key, "--plain-http", "-q"], more].concat())
    }

    pub(crate) fn verify(&self, name: &str, more: &[&str]) -> Run {
        let (key, image) = (self.path("attest.pub"), self.image(name));
        self.run(&[&["verify", &image, "--key", &key, "--plain-http"], more].concat())
    }

    /// Puts an image in which nothing is found, and returns its manifest.
    pub(crate) fn put_clean(&self, repository: &str, tag: &str, architecture: &str) -> Vec<u8> {
        let layers = [Layer::plain(Tar::new().file("app/readme", format!("for {architecture}")).finish())];
        let mut config = config(&layers);
        config["architecture"] = architecture.into();
        let config = bytes(&config);
        let manifest = bytes(&manifest(&config, &layers));
        self.registry.put_blob(repository, &config);
        self.registry.put_blob(repository, &layers[0].blob);
        self.registry.put_manifest(repository, tag, MANIFEST, &manifest);
        manifest
    }

    /// Puts an index of two platforms and of something that no platform runs.
    pub(crate) fn put_index(&self, repository: &str, tag: &str) -> (Vec<u8>, [Vec<u8>; 2]) {
        let manifests = ["amd64", "arm64"].map(|architecture| self.put_clean(repository, architecture, architecture));
        let entry = |manifest: &Vec<u8>, architecture: &str| {
            let mut entry = descriptor(MANIFEST, manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        };
        let index = bytes(&index(&[entry(&manifests[0], "amd64"), entry(&manifests[1], "arm64")]));
        self.registry.put_manifest(repository, tag, INDEX, &index);
        (index, manifests)
    }

    /// A document of the registry.
    pub(crate) fn get(&self, repository: &str, reference: &str) -> Value {
        let at = reference.parse().map_or_else(|_| At::Tag(reference.into()), At::Digest);
        let manifest = registry(&self.registry.host(), options()).manifest(repository, &at).unwrap();
        serde_json::from_slice(&manifest.bytes).unwrap()
    }
}

#[test]
fn an_index_and_its_platforms_are_attested_and_verified() {
    let setting = Setting::new();
    let (index, manifests) = setting.put_index("team/app", "v1");
    let attested = setting.attest("team/app:v1", &[]).expect(0);
    for document in [&index, &manifests[0], &manifests[1]] {
        assert!(attested.stdout.contains(&digest(document)), "{attested:?}");
        let tag = digest(document).replace(':', "-");
        assert_eq!(setting.get("team/app", &tag)["manifests"].as_array().unwrap().len(), 2);
        assert_eq!(setting.get("team/app", &format!("{tag}.att"))["layers"].as_array().unwrap().len(), 2);
    }
    let verified = setting.verify("team/app:v1", &["--max-age", "1h"]).expect(0);
    assert_eq!(verified.stdout.matches(": accepted").count(), 3, "{verified:?}");
    let one = setting.verify("team/app:v1", &["--platform", "linux/arm64"]).expect(0);
    assert_eq!(one.stdout.matches(": accepted").count(), 2, "{one:?}");
    setting.verify("team/app@sha256:0000", &[]).expect(2);

    // Another key, other rules, another image.
    setting.run(&["generate-key", "--ed25519", &setting.path("other")]).expect(0);
    let image = setting.image("team/app:v1");
    let other = setting.run(&["verify", &image, "--key", &setting.path("other.pub"), "--plain-http"]).expect(1);
    assert!(other.stdout.contains("not signed by a trusted key"), "{other:?}");
    let rules = setting.verify("team/app:v1", &["--ruleset", "another"]).expect(1);
    assert!(rules.stdout.contains("the rule set"), "{rules:?}");
    setting.put_clean("team/app", "v2", "riscv64");
    let nothing = setting.verify("team/app:v2", &[]).expect(1);
    assert!(nothing.stdout.contains("no attestation is attached"), "{nothing:?}");
}

#[test]
fn an_image_that_fails_gets_nothing_unless_that_is_asked_for() {
    let setting = Setting::new();
    setting.registry.push("team/leaky:v1", &["--dest-tls-verify=false"]);
    let refused = setting.attest("team/leaky:v1", &[]).expect(1);
    assert!(refused.stderr.contains("nothing is attested"), "{refused:?}");
    let nothing = setting.verify("team/leaky:v1", &[]).expect(1);
    assert!(nothing.stdout.contains("no attestation is attached"), "{nothing:?}");
    setting.attest("team/leaky:v1", &["--attach-failing"]).expect(1);
    let other_type = setting.verify("team/leaky:v1", &[]).expect(1);
    assert!(other_type.stdout.contains("scan-not-passed"), "{other_type:?}");
}

#[test]
fn a_report_is_attested_to_a_file_and_verified_from_it() {
    let setting = Setting::new();
    let manifest = setting.put_clean("team/app", "v1", "amd64");
    let (report, bundles) = (setting.path("report.json"), setting.path("bundles.jsonl"));
    let image = setting.image("team/app:v1");
    setting.run(&["scan", &image, "--plain-http", "-q", "--format", "json", "-o", &report]).expect(0);
    setting.attest("team/app:v1", &["--report", &report, "-o", &bundles]).expect(0);
    let text = std::fs::read_to_string(&bundles).unwrap();
    assert_eq!(text.lines().count(), 2);
    let key = setting.path("attest.pub");
    setting.run(&["verify", &digest(&manifest), "--key", &key, "--bundle", &bundles]).expect(0);
    setting.run(&["verify", &digest(b"another"), "--key", &key, "--bundle", &bundles]).expect(1);
    // The report of one image does not attest another.
    setting.put_clean("team/app", "v2", "arm64");
    setting.attest("team/app:v2", &["--report", &report]).expect(2);
    assert!(setting.verify("team/app:v1", &[]).expect(1).stdout.contains("no attestation is attached"));
}

#[test]
fn keys_are_made_once_and_not_for_images() {
    use std::os::unix::fs::PermissionsExt;
    let setting = Setting::new();
    let private = PathBuf::from(setting.path("attest.key"));
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&private).unwrap().starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----"));
    let made = setting.run(&["generate-key", &setting.path("second")]).expect(0);
    assert!(made.stderr.contains("for attestations only"), "{made:?}");
    setting.run(&["generate-key", &setting.path("attest")]).expect(2);
    let image_key = setting.run(&["generate-key", &setting.path("cosign")]).expect(2);
    assert!(image_key.stderr.contains("a key that signs images"), "{image_key:?}");
    std::fs::copy(&private, setting.path("cosign.key")).unwrap();
    let image = setting.image("team/app:v1");
    let refused = setting.run(&["attest", &image, "--key", &setting.path("cosign.key"), "--plain-http"]).expect(2);
    assert!(refused.stderr.contains("a key that signs images"), "{refused:?}");
    let wrong = finish(
        program()
            .args(["attest", &image, "--key", &setting.path("attest.key"), "--plain-http"])
            .env("LAYERSIFT_KEY_PASSWORD", "wrong"),
        None,
    );
    assert!(wrong.expect(2).stderr.contains("wrong password"));
}

#[test]
fn a_login_is_used_for_writing() {
    let registry = Setup::default().basic().start();
    let (user, password) = USER;
    registry.push("team/app:v1", &["--dest-tls-verify=false", "--dest-creds", &format!("{user}:{password}")]);
    let setting = Setting { registry, directory: tempfile::tempdir().unwrap() };
    let key = setting.path("attest");
    setting.run(&["generate-key", &key]).expect(0);
    let (private, image) = (format!("{key}.key"), setting.image("team/app:v1"));
    let attest = ["attest", &image, "--key", &private, "--plain-http", "-q", "--attach-failing"];
    let run = |password: &str| {
        let mut command = program();
        command.args(attest).env("LAYERSIFT_KEY_PASSWORD", PASSWORD);
        finish(command.env("LAYERSIFT_REGISTRY_USER", user).env("LAYERSIFT_REGISTRY_PASSWORD", password), None)
    };
    run("wrong").expect(2);
    assert!(run(password).expect(1).stdout.contains("attached as bundles"));
}

/// SoftHSM stands for a token. Where it is missing, the test says so.
#[test]
fn a_key_in_a_token_signs() {
    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    if missing("softhsm2-util").is_some() || !Path::new(MODULE).exists() {
        return say("SKIPPED: softhsm2 is not installed");
    }
    let setting = Setting::new();
    let configuration = setting.path("softhsm2.conf");
    std::fs::create_dir(setting.path("tokens")).unwrap();
    std::fs::write(&configuration, format!("directories.tokendir = {}\n", setting.path("tokens"))).unwrap();
    let tool = |arguments: &[&str]| {
        run(Command::new("softhsm2-util").args(arguments).env("SOFTHSM2_CONF", &configuration));
    };
    tool(&["--init-token", "--free", "--label", "made up", "--so-pin", "1234", "--pin", "5678"]);
    setting.put_clean("team/app", "v1", "amd64");
    for (label, id, options) in
        [("ec", "01", ["EC", "ec_paramgen_curve:P-256"]), ("rsa", "02", ["RSA", "rsa_keygen_bits:2048"])]
    {
        let (pem, public) = (setting.path(label), setting.path(&format!("{label}.pub")));
        let make = ["genpkey", "-algorithm", options[0], "-pkeyopt", options[1], "-out", &pem];
        run(Command::new("openssl").args(make));
        run(Command::new("openssl").args(["pkey", "-in", &pem, "-pubout", "-out", &public]));
        tool(&["--import", &pem, "--token", "made up", "--label", label, "--id", id, "--pin", "5678"]);
        let uri = format!("pkcs11:token=made%20up;object={label}?module-path={MODULE}");
        let (bundles, image) = (setting.path(&format!("{label}.jsonl")), setting.image("team/app:v1"));
        let sign = ["attest", &image, "--key", &uri, "--plain-http", "-q", "-o", &bundles];
        let attest = |pin: &str| {
            let mut command = program();
            command.args(sign).env("LAYERSIFT_KEY_PASSWORD", pin).env("SOFTHSM2_CONF", &configuration);
            finish(&mut command, None)
        };
        attest("0000").expect(2);
        attest("5678").expect(0);
        let manifest = setting.get("team/app", "v1");
        let subject = digest(&setting.put_clean("team/app", "v1", "amd64"));
        assert_eq!(manifest["mediaType"], MANIFEST);
        setting.run(&["verify", &subject, "--key", &public, "--bundle", &bundles]).expect(0);
        setting.run(&["verify", &subject, "--key", &setting.path("attest.pub"), "--bundle", &bundles]).expect(1);
    }
}

#[test]
fn a_deleted_referrer_and_a_copied_image_do_not_stop_it() {
    let setting = Setting::new();
    let manifest = setting.put_clean("team/app", "v1", "amd64");
    // `cosign copy` leaves the image itself under the tag.
    let tag = digest(&manifest).replace(':', "-");
    setting.registry.put_manifest("team/app", &tag, MANIFEST, &manifest);
    setting.attest("team/app:v1", &[]).expect(0);
    setting.verify("team/app:v1", &[]).expect(0);
    assert_eq!(setting.get("team/app", &tag)["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(setting.get("team/app", "v1")["config"]["mediaType"], CONFIG);
}

#[test]
fn what_was_signed_before_is_attached_with_time_stamps_from_files() {
    let setting = Setting::new();
    setting.put_clean("team/app", "v1", "amd64");
    authority(setting.directory.path());
    let (signed, requests, root) = (setting.path("signed.jsonl"), setting.path("requests"), setting.path("ca.pem"));
    setting.attest("team/app:v1", &["-o", &signed, "--timestamp-requests", &requests]).expect(0);
    let stamps = answers(setting.directory.path(), Path::new(&requests));
    assert_eq!(stamps.len(), 4, "two attestations in two forms");
    let (image, key) = (setting.image("team/app:v1"), setting.path("attest.pub"));
    let attach = |image: &str, key: &str, given: &[String]| {
        let mut arguments = vec!["attest", image, "--signed", &signed, "--public-key", key, "--plain-http", "-q"];
        given.iter().for_each(|answer| arguments.extend(["--timestamp-token", answer]));
        arguments.extend(["--timestamp-authorities", &root].iter().filter(|_| !given.is_empty()));
        setting.run(&arguments)
    };
    // Each needs its own, and no other one.
    assert!(attach(&image, &key, &stamps[..3]).expect(2).stderr.contains("no time stamp is over"));
    let other = setting.path("seal.json");
    std::fs::write(&other, "something else").unwrap();
    std::fs::create_dir(setting.path("others")).unwrap();
    let query = ["ts", "-query", "-data", &other, "-sha256", "-cert", "-out", &setting.path("others/other.tsq")];
    run(Command::new("openssl").args(query));
    let others = answers(setting.directory.path(), Path::new(&setting.path("others")));
    let unused = attach(&image, &key, &[&stamps[..], &others].concat()).expect(2);
    assert!(unused.stderr.contains("over none of the attestations"), "{unused:?}");
    // Another key, and another image.
    setting.run(&["generate-key", &setting.path("other")]).expect(0);
    assert!(attach(&image, &setting.path("other.pub"), &stamps).expect(2).stderr.contains("not signed by the key"));
    setting.put_clean("team/app", "v2", "arm64");
    let wrong = attach(&setting.image("team/app:v2"), &key, &stamps).expect(2);
    assert!(wrong.stderr.contains("is not an image of"), "{wrong:?}");
    assert!(setting.verify("team/app:v1", &[]).expect(1).stdout.contains("no attestation is attached"));

    let attached = attach(&image, &key, &stamps).expect(0);
    assert!(attached.stdout.contains("2 attestations attached as bundles"), "{attached:?}");
    setting.verify("team/app:v1", &["--timestamp-authorities", &root]).expect(0);
    // Without time stamps, or to a file.
    attach(&image, &key, &[]).expect(0);
    let stamped = setting.path("stamped.jsonl");
    let mut arguments =
        vec!["attest", &image, "--signed", &signed, "--public-key", &key, "--plain-http", "-o", &stamped];
    stamps.iter().for_each(|answer| arguments.extend(["--timestamp-token", answer]));
    arguments.extend(["--timestamp-authorities", &root]);
    setting.run(&arguments).expect(0);
    assert_eq!(std::fs::read_to_string(&stamped).unwrap().matches("rfc3161Timestamps").count(), 2);
}

#[test]
fn a_failing_image_that_was_signed_before_gets_nothing_unless_that_is_asked_for() {
    let setting = Setting::new();
    setting.registry.push("team/leaky:v1", &["--dest-tls-verify=false"]);
    let signed = setting.path("signed.jsonl");
    setting.attest("team/leaky:v1", &["-o", &signed, "--attach-failing"]).expect(1);
    let (image, key) = (setting.image("team/leaky:v1"), setting.path("attest.pub"));
    let attach = ["attest", &image, "--signed", &signed, "--public-key", &key, "--plain-http"];
    assert!(setting.run(&attach).expect(1).stderr.contains("nothing is attached"));
    assert!(setting.verify("team/leaky:v1", &[]).expect(1).stdout.contains("no attestation is attached"));
    setting.run(&[&attach[..], &["--attach-failing"]].concat()).expect(1);
    assert!(setting.verify("team/leaky:v1", &[]).expect(1).stdout.contains("scan-not-passed"));
}

/// `script` runs a command at a terminal of its own, and shows what that shows. A line is typed at each question.
fn at_terminal(command: &str, typed: &[&str]) -> (bool, String) {
    let mut script = Command::new("script");
    script.args(["-qec", command, "/dev/null"]).env_remove("LAYERSIFT_KEY_PASSWORD");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (mut shown, mut asked) = (Vec::new(), 0);
    let mut byte = [0];
    while screen.read(&mut byte).unwrap_or(0) > 0 {
        shown.push(byte[0]);
        let text = String::from_utf8_lossy(&shown);
        if text.ends_with(": ") && text.matches("Enter ").count() > asked {
            let line = typed.get(asked).copied().unwrap_or_default();
            keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
            asked += 1;
        }
    }
    (script.wait().unwrap().success(), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn a_password_is_asked_for_at_a_terminal_and_not_shown() {
    let setting = Setting { registry: Setup::default().start(), directory: tempfile::tempdir().unwrap() };
    let layersift = env!("CARGO_BIN_EXE_layersift");
    let name = setting.path("typed");
    // Without a terminal, nobody is asked.
    let mut unasked = program();
    let unasked = finish(unasked.args(["generate-key", &name]).env_remove("LAYERSIFT_KEY_PASSWORD"), None).expect(2);
    for part in ["the password of", "--password-file", "LAYERSIFT_KEY_PASSWORD", "terminal"] {
        assert!(unasked.stderr.contains(part), "{unasked:?}");
    }
    if missing("script").is_some() {
        return say("SKIPPED: script is not installed");
    }
    let (is_made, shown) = at_terminal(&format!("{layersift} generate-key {name}"), &["typed by hand", "another"]);
    assert!(!is_made && shown.contains("not the same"), "{shown}");
    let (is_made, shown) =
        at_terminal(&format!("{layersift} generate-key {name}"), &["typed by hand", "typed by hand"]);
    assert!(is_made && shown.contains("Enter a new password of") && !shown.contains("typed by hand"), "{shown}");
    setting.put_clean("team/app", "v1", "amd64");
    let attest = format!("{layersift} attest {} --key {name}.key --plain-http -q", setting.image("team/app:v1"));
    let (is_attested, shown) = at_terminal(&format!("{attest} -o {name}.jsonl"), &["typed by hand"]);
    assert!(is_attested && shown.contains("Enter the password of") && !shown.contains("typed by hand"), "{shown}");
    let (is_attested, shown) = at_terminal(&format!("{attest} -o {name}.jsonl"), &["wrong"]);
    assert!(!is_attested && shown.contains("wrong password"), "{shown}");
}
