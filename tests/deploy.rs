//! What an operator is given: the Helm chart, the settings in the documentation, and the demonstration. The service
//! must accept their settings. Helm lints and renders the chart, and its objects must belong together; that is skipped,
//! and says so, where there is no Helm.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_layersift");

const CHART: &str = "deploy/chart/layersift";

/// Where settings of a chart and of the documentation expect files.
const PLACES: [&str; 2] = ["/etc/layersift", "/run/layersift"];

/// Helm's expressions in the settings of the chart, and what they may become.
const EXPRESSIONS: [(&str, &str); 12] = [
    (r#"{{ include "layersift.oldKeys" . }}"#, r#"["/run/layersift/old-keys/2025"]"#),
    (r#"{{ include "layersift.pulls" . }}"#, "0"),
    (r#"{{ include "layersift.harbor" . }}"#, HARBOR),
    ("{{ toJson .Values.admission.mode }}", r#""audit""#),
    ("{{ toJson .Values.registries.allow }}", r#"["registry.example.org"]"#),
    ("{{ toJson .Values.admission.allowedDigests }}", "[]"),
    ("{{ toJson .Values.attestations.mode }}", r#""accept""#),
    (
        r#"{{ include "layersift.attestations" . }}"#,
        "[attestations]\nkeys = [\"/etc/layersift/attest.pub\"]\nmax-age = \"7d\"",
    ),
    (r#"{{ include "layersift.events" . }}"#, "[events]\nharbor-auth = \"/run/layersift/events/harbor-auth\""),
    (r#"{{ include "layersift.notify" . }}"#, "[notify]\nformat = \"json\""),
    (r#"{{ include "layersift.proxy" . }}"#, "proxy = \"0.0.0.0:8445\""),
    (r#"{{ include "layersift.prompts" . }}"#, "[prompts.upstreams.openai]\nurl = \"https://api.openai.com\""),
];

/// What the chart makes of a Secret for a Harbor.
const HARBOR: &str = "[harbor]\nsecrets = \"/run/layersift/harbor/harbor-secrets\"\n\
                      credentials-key = \"/run/layersift/harbor/credentials-key\"";

/// A key whose private half nobody has.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEP/XTkJ4xr/WM+iu5r5iRdJ5Q9bvv\n\
                          vVuxtrCOCFPln4tTw1NNzNOdx/lvMDoGFAcEc9tEppctNzn4giRDPyY+2g==\n\
                          -----END PUBLIC KEY-----\n";

/// A chart that turns YAML into a JSON object a line, so that no other parser of YAML is needed.
const CONVERTER: &str = r#"{{ range regexSplit "(?m)^---$" (.Files.Get "rendered.yaml") -1 }}{{ with fromYaml . }}
{{ . | toJson }}
{{ end }}{{ end }}"#;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Settings with the files that they name, below a folder that stands in for the root.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        for folder in PLACES {
            std::fs::create_dir_all(place.path(folder)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name.trim_start_matches('/'))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// What a Harbor shows, and the key of its logins.
    fn write_harbor(&self, folder: &str) {
        for name in ["harbor-secrets", "credentials-key"] {
            self.write(&format!("{folder}/{name}"), "random characters that are made up");
        }
    }

    /// What `layersift serve --check` says of settings whose paths are below this folder.
    fn check(&self, settings: &str) -> Result<(), String> {
        let below = |settings: String, place: &&str| settings.replace(place, &self.path(place).display().to_string());
        std::fs::write(self.path("serve.toml"), PLACES.iter().fold(settings.to_string(), below)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--check", "--config"]).arg(self.path("serve.toml"));
        // One that does not exist yet is none to check.
        command.env_clear().env("LAYERSIFT_STORE", self.path("store.db"));
        // Of the bucket for copies of the log of decisions, which is not asked.
        command.env("AWS_ACCESS_KEY_ID", "made-up").env("AWS_SECRET_ACCESS_KEY", "made-up");
        let output = command.output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        match output.status.success() && stdout == "the settings are valid\n" {
            true => Ok(()),
            false => Err(stdout + &String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn accept(&self, settings: &str) {
        assert_eq!(self.check(settings), Ok(()), "{settings}");
        let misspelt = format!("{settings}\n[misspelt]\n");
        assert!(self.check(&misspelt).unwrap_err().contains("misspelt"), "it has been checked");
    }
}

/// The text of the field `name: |` of a YAML document.
fn field(document: &str, name: &str) -> String {
    let begin = format!("\n{name}: |\n");
    let (_, rest) = document.split_once(&begin).unwrap();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("  "));
    lines.map(|line| format!("{}\n", line.get(2..).unwrap_or_default())).collect()
}

/// The settings of the chart, as Helm could render them.
fn settings_of_the_chart() -> String {
    let settings = field(&read("deploy/chart/layersift/values.yaml"), "config");
    let settings = EXPRESSIONS.iter().fold(settings, |settings, (expression, text)| {
        assert!(settings.contains(expression), "{expression}");
        settings.replace(expression, text)
    });
    assert!(!settings.contains("{{"), "an expression that this test does not know: {settings}");
    settings
}

/// The program, unless it is missing, which is written to standard error.
fn helm(test: &str) -> Option<Command> {
    let is_there = Command::new("helm").arg("version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        not_run(&format!("{test}: missing helm"));
    }
    is_there.then(|| Command::new("helm"))
}

fn not_run(why: &str) {
    std::io::stderr().write_all(format!("NOT RUN: {why}\n").as_bytes()).unwrap();
}

fn template(helm: &mut Command, chart: &Path, settings: &[&str]) -> Output {
    helm.arg("template").args(["layersift", "--namespace", "team", "--kube-version", "1.31.0"]).arg(chart);
    helm.args(settings.iter().flat_map(|setting| ["--set", setting])).output().unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The objects of the chart.
fn objects(settings: &[&str]) -> Vec<Value> {
    let rendered = text(template(&mut Command::new("helm"), Path::new(CHART), settings));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("templates")).unwrap();
    write("Chart.yaml", "apiVersion: v2\nname: converter\nversion: 0.1.0\n");
    write("rendered.yaml", &rendered);
    write("templates/objects.yaml", CONVERTER);
    let converted = text(template(&mut Command::new("helm"), folder.path(), &[]));
    let objects: Vec<Value> = converted
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), rendered.matches("\nkind: ").count(), "{converted}");
    objects
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn only<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

/// Whether every label that `selector` asks for is one of `labels`.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn check_pods(deployment: &Value) {
    let name = &deployment["metadata"]["name"];
    let (spec, template) = (&deployment["spec"], &deployment["spec"]["template"]);
    let labels = &template["metadata"]["labels"];
    assert!(selects(&spec["selector"]["matchLabels"], labels), "{name}");
    let pod = &template["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
    for constraint in pod["topologySpreadConstraints"].as_array().unwrap() {
        assert!(selects(&constraint["labelSelector"]["matchLabels"], labels), "{name}");
    }
    let names = |values: &Value| -> Vec<String> {
        let values = values.as_array().unwrap().iter();
        values.map(|value| value["name"].as_str().unwrap().into()).collect()
    };
    let claims = &spec["volumeClaimTemplates"];
    let claims =
        claims.as_array().into_iter().flatten().map(|claim| claim["metadata"]["name"].as_str().unwrap().into());
    let volumes = [names(&pod["volumes"]), claims.collect()].concat();
    for container in pod["containers"].as_array().unwrap() {
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        let mounted = names(&container["volumeMounts"]);
        assert_eq!(
            {
                let mut all = mounted;
                all.sort();
                all
            },
            {
                let mut all = volumes.clone();
                all.sort();
                all
            }
        );
        for probe in ["readinessProbe", "livenessProbe"] {
            let port = &container[probe]["httpGet"]["port"];
            let known = container["ports"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == *port));
            assert!(port.is_null() || known, "{name} {probe}");
        }
    }
}

/// What belongs together, whatever the settings are.
fn check(objects: &[Value]) {
    for object in objects {
        for field in ["apiVersion", "kind"] {
            assert!(object[field].is_string(), "{object}");
        }
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 63 && object["metadata"]["labels"].is_object(), "{name}");
    }
    let deployments = [of_kind(objects, "Deployment"), of_kind(objects, "StatefulSet")].concat();
    deployments.iter().for_each(|deployment| check_pods(deployment));
    let serve = deployments.iter().find(|deployment| deployment["metadata"]["name"] == "layersift-serve").unwrap();
    let labels = &serve["spec"]["template"]["metadata"]["labels"];
    let service = only(objects, "Service");
    assert!(selects(&service["spec"]["selector"], labels));
    for port in service["spec"]["ports"].as_array().unwrap() {
        let ports = serve["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(ports.iter().any(|known| known["name"] == port["targetPort"]), "{port}");
    }
    let budgets = of_kind(objects, "PodDisruptionBudget");
    assert_eq!(budgets.len(), usize::from(serve["spec"]["replicas"].as_u64().unwrap() > 1));
    for budget in budgets {
        assert!(selects(&budget["spec"]["selector"]["matchLabels"], labels));
        assert_eq!(budget["spec"]["maxUnavailable"], 1);
    }
    let config = only(objects, "ConfigMap");
    assert!(config["data"]["serve.toml"].as_str().unwrap().parse::<toml::Table>().is_ok());
    let volumes = serve["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == config["metadata"]["name"]));
    let policies = of_kind(objects, "NetworkPolicy");
    for deployment in &deployments {
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        let covering = policies.iter().filter(|policy| selects(&policy["spec"]["podSelector"]["matchLabels"], labels));
        assert_eq!(covering.count(), 1, "{}", deployment["metadata"]["name"]);
    }
}

/// A field of a Secret.
fn secret(objects: &[Value], name: &str, key: &str) -> String {
    use base64::Engine as _;
    let found = of_kind(objects, "Secret").into_iter().find(|secret| secret["metadata"]["name"] == name).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(found["data"][key].as_str().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn check_webhook(objects: &[Value]) {
    let webhooks = only(objects, "ValidatingWebhookConfiguration")["webhooks"].as_array().unwrap();
    let [webhook] = &webhooks[..] else { panic!("{webhooks:?}") };
    let service = only(objects, "Service");
    let target = &webhook["clientConfig"]["service"];
    assert_eq!(
        (&target["name"], &target["port"]),
        (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"])
    );
    let path = format!("/{}/admit/v1", secret(objects, "layersift-path", "secret-path"));
    assert_eq!((target["namespace"].as_str(), target["path"].as_str()), (Some("team"), Some(&path[..])));
    assert_eq!((&webhook["failurePolicy"], &webhook["timeoutSeconds"]), (&"Fail".into(), &10.into()));
    assert_eq!(webhook["sideEffects"], "NoneOnDryRun");
    let exempt = &webhook["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(exempt["key"], "kubernetes.io/metadata.name");
    assert_eq!(
        (&exempt["operator"], &exempt["values"]),
        (&"NotIn".into(), &serde_json::json!(["kube-system", "team"]))
    );
    let rules = webhook["rules"].as_array().unwrap();
    let covers = |group: &str, resource: &str| {
        rules.iter().any(|rule| {
            let has = |field: &str, value: &str| rule[field].as_array().unwrap().iter().any(|known| known == value);
            has("apiGroups", group)
                && has("resources", resource)
                && has("operations", "CREATE")
                && has("operations", "UPDATE")
        })
    };
    for (group, resources) in [
        ("", &["pods", "pods/ephemeralcontainers", "replicationcontrollers", "podtemplates"][..]),
        ("apps", &["deployments", "statefulsets", "daemonsets", "replicasets"]),
        ("batch", &["jobs", "cronjobs"]),
    ] {
        assert!(resources.iter().all(|resource| covers(group, resource)), "{group}");
    }
}

#[test]
fn the_chart_passes_lint() {
    let Some(mut helm) = helm("lint of the chart") else { return };
    text(helm.args(["lint", "--strict", "--kube-version", "1.31.0", CHART]).output().unwrap());
}

#[test]
fn the_objects_belong_together() {
    if helm("objects of the chart").is_none() {
        return;
    }
    let objects = objects(&[]);
    check(&objects);
    check_webhook(&objects);
    assert_eq!(of_kind(&objects, "Deployment").len(), 2);
    let webhook = &only(&objects, "ValidatingWebhookConfiguration")["webhooks"][0];
    let path = layersift_model::Digest::of(secret(&objects, "layersift-path", "secret-path").as_bytes());
    let serve = of_kind(&objects, "Deployment").into_iter().find(|one| one["metadata"]["name"] == "layersift-serve");
    let annotations = &serve.unwrap()["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["checksum/secret-path"], path.hex(), "a replica reads its path once");
    let tls = of_kind(&objects, "Secret").into_iter().find(|secret| secret["type"] == "kubernetes.io/tls").unwrap();
    assert_eq!(webhook["clientConfig"]["caBundle"], tls["data"]["ca.crt"], "the API server trusts the authority");
}

#[test]
fn the_service_accepts_what_helm_renders() {
    if helm("settings that Helm renders").is_none() {
        return;
    }
    let registries = "registries.allow={registry.example.org,docker.io/library/*}";
    let digest = format!("admission.allowedDigests={{sha256:{}}}", "0".repeat(64));
    let old = ["secrets.oldFingerprintKeys.name=old", "secrets.oldFingerprintKeys.keys={2025}"];
    let harbor = "secrets.harbor.name=harbor";
    let told = ["events.secret=events", "notify.secret=notify"];
    let key = format!("attestations.keys={PUBLIC_KEY}");
    let attested = ["attestations.mode=accept", &key];
    let all = [registries, &digest, old[0], old[1], told[0], told[1], "workers.replicas=0"];
    for settings in [&[][..], &[harbor], &attested, &all, &PROXY, &["prompts.enabled=true"]] {
        let objects = objects(settings);
        check(&objects);
        let place = Place::new();
        for name in ["key/fingerprint-key", "old-keys/2025"] {
            place.write(&format!("/run/layersift/{name}"), "random bytes that are made up");
        }
        place.write_harbor("/run/layersift/harbor");
        place.write("/run/layersift/events/harbor-auth", "a text that is made up\n");
        for key in ["tls.crt", "tls.key"] {
            place.write(&format!("/run/layersift/tls/{key}"), &secret(&objects, "layersift-tls", key));
        }
        place.write("/run/layersift/path/secret-path", &secret(&objects, "layersift-path", "secret-path"));
        let files = &only(&objects, "ConfigMap")["data"];
        for name in ["policy.toml", "attest.pub"] {
            files[name].as_str().into_iter().for_each(|text| place.write(&format!("/etc/layersift/{name}"), text));
        }
        place.accept(files["serve.toml"].as_str().unwrap());
    }
}

/// A proxy to models, one of which has a port of its own.
const PROXY: [&str; 8] = [
    "prompts.enabled=true",
    "prompts.settings.remembered=1000",
    "prompts.upstreams.vllm.url=http://vllm.models.svc:8000",
    "prompts.upstreams.vllm.plain-http=true",
    "prompts.egressPorts={8000}",
    "prompts.policies[0].clients={team:payments,key:laptop-*}",
    "prompts.policies[0].max-tokens=200000",
    "prompts.policies[1].deny=critical",
];

#[test]
fn the_proxy_is_reached_and_reaches_its_models() {
    if helm("a chart with a proxy").is_none() {
        return;
    }
    let ports = |objects: &[Value]| {
        let service = only(objects, "Service")["spec"]["ports"].to_string();
        let policies = of_kind(objects, "NetworkPolicy");
        let policy = policies.iter().find(|policy| policy["metadata"]["name"] == "layersift-serve").unwrap();
        (service, policy["spec"]["ingress"].to_string(), policy["spec"]["egress"].to_string())
    };
    let (service, ingress, egress) = ports(&objects(&PROXY));
    assert!(service.contains("8445") && ingress.contains("\"proxy\"") && egress.contains("8000"), "{service}");
    for settings in [&[][..], &["prompts.enabled=true"]] {
        let (service, ingress, egress) = ports(&objects(settings));
        assert!(!service.contains("8445") && !ingress.contains("\"proxy\"") && !egress.contains("8000"), "{service}");
    }
}

#[test]
fn a_store_in_a_file_has_one_replica() {
    if helm("a chart with a store in a file").is_none() {
        return;
    }
    let objects = objects(&["sqlite.enabled=true", "serve.replicas=1", "workers.replicas=0"]);
    check(&objects);
    let claim = only(&objects, "PersistentVolumeClaim");
    let serve = only(&objects, "Deployment");
    assert_eq!(serve["spec"]["strategy"]["type"], "Recreate", "the volume has one user at a time");
    let volumes = serve["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]));
    for (wrong, why) in [
        (&["sqlite.enabled=true"][..], "serve.replicas=1"),
        (&["sqlite.enabled=true", "serve.replicas=1"], "workers.replicas=0"),
        (&["attestations.mode=accept"], "attestations.keys"),
        (&["prompts.upstreams.a.url=https://a.example"], "prompts.enabled"),
        (&["webhook.secretPath.value=guess"], "at least 32"),
        (&["webhook.secretPath.existingSecret=own"], "webhook.secretPath.value"),
    ] {
        let output = template(&mut Command::new("helm"), Path::new(CHART), wrong);
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(why), "{wrong:?}");
    }
}

#[test]
fn each_replica_has_a_volume_for_its_log() {
    if helm("a chart with a log of decisions").is_none() {
        return;
    }
    let objects = objects(&["audit.enabled=true", "serve.extraEnvFrom[0].secretRef.name=bucket"]);
    check(&objects);
    let serve = only(&objects, "StatefulSet");
    assert_eq!(serve["spec"]["serviceName"], only(&objects, "Service")["metadata"]["name"]);
    assert!(serve["spec"]["strategy"].is_null(), "that is a field of Deployments");
    let container = &serve["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["envFrom"][0]["secretRef"]["name"], "bucket");
    let variables = container["env"].as_array().unwrap();
    let of = |name: &str| variables.iter().find(|one| one["name"] == name).unwrap()["value"].as_str().unwrap();
    let directory = of("LAYERSIFT_SERVE_AUDIT__DIRECTORY");
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == "audit").unwrap();
    assert!(directory.starts_with(&format!("{}/", mount["mountPath"].as_str().unwrap())), "{directory}");
    assert_eq!(of("LAYERSIFT_SERVE_AUDIT__SHIP_TO_STORE"), "true");
}

#[test]
fn certificates_come_from_elsewhere_too() {
    if helm("certificates of the chart").is_none() {
        return;
    }
    let managed = objects(&["tls.mode=cert-manager", "tls.issuer.name=ca", "secrets.registries.name=logins"]);
    check(&managed);
    let certificate = only(&managed, "Certificate");
    assert_eq!(certificate["spec"]["dnsNames"][0], "layersift.team.svc");
    let webhook = only(&managed, "ValidatingWebhookConfiguration");
    assert_eq!(webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], "team/layersift");
    assert!(of_kind(&managed, "Secret").iter().all(|secret| secret["type"] == "Opaque"), "no certificate");
    let existing = objects(&["tls.mode=existing", "tls.existingSecret=own", "tls.caBundle=PEM", "workers.replicas=0"]);
    check(&existing);
    let webhook = &only(&existing, "ValidatingWebhookConfiguration")["webhooks"][0];
    assert_eq!(webhook["clientConfig"]["caBundle"], "UEVN");
    for wrong in [&["tls.mode=cert-manager"][..], &["tls.mode=none"], &["tls.mode=existing", "tls.existingSecret=own"]]
    {
        assert!(!template(&mut Command::new("helm"), Path::new(CHART), wrong).status.success(), "{wrong:?}");
    }
}

#[test]
fn the_service_accepts_the_settings_of_the_chart() {
    let settings = settings_of_the_chart();
    let place = Place::new();
    place.write("/run/layersift/key/fingerprint-key", "random bytes that are made up");
    place.write("/run/layersift/old-keys/2025", "other bytes that are made up");
    place.write_harbor("/run/layersift/harbor");
    place.write("/run/layersift/path/secret-path", &"path".repeat(10));
    place.write("/run/layersift/events/harbor-auth", "a text that is made up\n");
    place.write("/etc/layersift/policy.toml", &field(&read("deploy/chart/layersift/values.yaml"), "policy"));
    place.write("/etc/layersift/attest.pub", PUBLIC_KEY);
    // Its files need not exist then.
    place.accept(&settings.replace("[tls]\n", "[tls]\nself-signed = [\"localhost\"]\n"));
}

#[test]
fn the_chart_mounts_what_its_settings_name() {
    let settings = settings_of_the_chart();
    let pod =
        read("deploy/chart/layersift/templates/serve.yaml") + &read("deploy/chart/layersift/templates/_helpers.tpl");
    let mounted: Vec<&str> =
        pod.split("mountPath: ").skip(1).map(|rest| rest.split(['}', ',']).next().unwrap()).collect();
    let named: Vec<&str> = settings.split('"').filter(|text| text.starts_with('/')).collect();
    assert!(named.len() >= 5, "{named:?}");
    for path in named {
        assert!(mounted.iter().any(|folder| path.starts_with(&format!("{folder}/"))), "{path}: {mounted:?}");
    }
    let listen = settings.parse::<toml::Table>().unwrap()["listen"].clone();
    for name in ["api", "admission", "health"] {
        let (_, port) = listen[name].as_str().unwrap().rsplit_once(':').unwrap();
        assert!(pod.contains(&format!("{{name: {name}, containerPort: {port}}}")), "{name}");
    }
}

/// The settings in a document.
fn documented(name: &str) -> String {
    let document = read(name);
    let blocks: Vec<&str> = document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [settings] = blocks[..] else { panic!("{} blocks of TOML", blocks.len()) };
    settings.to_string()
}

#[test]
fn the_service_accepts_the_settings_of_the_documentation() {
    let place = Place::new();
    for key in ["fingerprint-key", "fingerprint-key.2025"] {
        place.write(&format!("/etc/layersift/{key}"), "random bytes that are made up");
    }
    place.write("/etc/layersift/secret-path", &"path".repeat(10));
    place.write("/etc/layersift/policy.toml", "fail-on = \"high\"\n");
    place.write("/etc/layersift/registry-ca.crt", "");
    place.write_harbor("/etc/layersift");
    let key = layersift_attest::keys::PrivateKey::generate_p256().unwrap();
    place.write("/etc/layersift/attest.pub", &layersift_attest::keys::Signer::public_key(&key).to_pem());
    let key = layersift_audit::SigningKey::generate("audit.example.org/replica-1").unwrap();
    place.write("/etc/layersift/audit.key", &key.reveal());
    for name in ["harbor-auth", "distribution-auth", "notify-key"] {
        place.write(&format!("/etc/layersift/{name}"), "a text that is made up\n");
    }
    std::fs::create_dir(place.path("/etc/layersift/rules")).unwrap();
    let settings = documented("docs/service.md");
    place.accept(&settings);
    place.write("/etc/layersift/merge-login", "Bearer made-up");
    place.write("/etc/layersift/merge-ca.crt", "");
    place.write("/etc/layersift/harbor-login", "robot$layersift:made-up");
    let (before, rest) = settings.split_once("[harbor]").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    place.accept(&format!("{before}{}\n\n{after}", documented("docs/harbor.md")));
}

#[test]
fn the_documentation_has_all_settings() {
    fn collect(table: &toml::Table, names: &mut Vec<String>) {
        for (name, value) in table {
            names.push(name.clone());
            let inner = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            inner.iter().filter_map(toml::Value::as_table).for_each(|table| collect(table, names));
        }
    }
    let mut names = Vec::new();
    for document in ["docs/service.md", "docs/harbor.md"] {
        collect(&documented(document).parse().unwrap(), &mut names);
    }
    let tables = ["tables", "attestations", "audit", "events", "harbor", "notify"]
        .map(|name| read(&format!("crates/server/src/settings/{name}.rs")))
        .concat();
    let policy = read("crates/server/src/admission/policy.rs");
    let of_policy = ["struct Values {", "struct AdmissionTable {", "struct RuleTable {"].map(|begin| {
        let (_, rest) = policy.split_once(begin).unwrap();
        rest.split_once("\n}").unwrap().0
    });
    let mut known = 0;
    for line in tables.lines().chain(of_policy.iter().flat_map(|fields| fields.lines())) {
        let field = line.strip_prefix("    ").map(|line| line.strip_prefix("pub ").unwrap_or(line));
        let Some((name, _)) = field.and_then(|line| line.split_once(": ")) else { continue };
        let is_field =
            name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !["values", "unknown"].contains(&name);
        if is_field {
            known += 1;
            assert!(names.contains(&name.replace('_', "-")), "docs/service.md has no setting `{name}`: {names:?}");
        }
    }
    assert!(known > 63, "{known} fields were found");
}

/// Runs `make demo-serve` without make: what it prints is asked once.
#[test]
fn the_demonstration_answers_what_it_offers() {
    if !Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return not_run("the demonstration of the service: missing curl");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new("scripts/demo-serve");
    demo.args([PROGRAM, "testdata/incident.tar"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    demo.env("DEMO_ONCE", "1").env("TMPDIR", folder.path()).env("LAYERSIFT_LOG", "error");
    let output = demo.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for expected in [
        "{\"allowed\":false,\"message\":\"layersift: registry.internal.example/payments/seal-service@sha256:",
        "\nFAIL  5 critical, 6 high",
        "deleted in layer 3, still in layer 2 for anyone who pulls it",
        "\"masked\": \"ghp_****zA\"",
        "\nlayersift_admission_decisions_total{outcome=\"fail\",effect=\"deny\"} 1\n",
    ] {
        assert!(stdout.contains(expected), "{expected}\n{stdout}\n{stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it removes its files");
}
