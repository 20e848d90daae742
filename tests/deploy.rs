//! The Helm chart: it is linted and rendered by Helm, and its objects must belong together. Skipped, and says so, where
//! there is no Helm.

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

const CHART: &str = "deploy/chart/layersift";

/// A chart that turns YAML into a JSON object a line, so that no other parser of YAML is needed.
const CONVERTER: &str = r#"{{ range regexSplit "(?m)^---$" (.Files.Get "rendered.yaml") -1 }}{{ with fromYaml . }}
{{ . | toJson }}
{{ end }}{{ end }}"#;

/// The program, unless it is missing, which is written to standard error.
fn helm(test: &str) -> Option<Command> {
    let is_there = Command::new("helm").arg("version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        std::io::stderr().write_all(format!("NOT RUN: {test}: missing helm\n").as_bytes()).unwrap();
    }
    is_there.then(|| Command::new("helm"))
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
    let volumes = names(&pod["volumes"]);
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
    let deployments = of_kind(objects, "Deployment");
    deployments.iter().for_each(|deployment| check_pods(deployment));
    let serve = deployments.iter().find(|deployment| deployment["metadata"]["name"] == "layersift-serve").unwrap();
    let labels = &serve["spec"]["template"]["metadata"]["labels"];
    assert!(serve["spec"]["replicas"].as_u64().unwrap() >= 2);
    let service = only(objects, "Service");
    assert!(selects(&service["spec"]["selector"], labels));
    let budget = only(objects, "PodDisruptionBudget");
    assert!(selects(&budget["spec"]["selector"]["matchLabels"], labels));
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
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

fn check_webhook(objects: &[Value]) {
    let webhooks = only(objects, "ValidatingWebhookConfiguration")["webhooks"].as_array().unwrap();
    let [webhook] = &webhooks[..] else { panic!("{webhooks:?}") };
    let service = only(objects, "Service");
    let target = &webhook["clientConfig"]["service"];
    assert_eq!(
        (&target["name"], &target["port"]),
        (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"])
    );
    assert_eq!((target["namespace"].as_str(), target["path"].as_str()), (Some("team"), Some("/admit/v1")));
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
    let secret = only(&objects, "Secret");
    let webhook = &only(&objects, "ValidatingWebhookConfiguration")["webhooks"][0];
    assert_eq!(webhook["clientConfig"]["caBundle"], secret["data"]["ca.crt"], "the API server trusts the authority");
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
    assert!(of_kind(&managed, "Secret").is_empty());
    let existing = objects(&["tls.mode=existing", "tls.existingSecret=own", "tls.caBundle=PEM", "workers.replicas=0"]);
    check(&existing);
    let webhook = &only(&existing, "ValidatingWebhookConfiguration")["webhooks"][0];
    assert_eq!(webhook["clientConfig"]["caBundle"], "UEVN");
    for wrong in [&["tls.mode=cert-manager"][..], &["tls.mode=none"], &["tls.mode=existing", "tls.existingSecret=own"]]
    {
        assert!(!template(&mut Command::new("helm"), Path::new(CHART), wrong).status.success(), "{wrong:?}");
    }
}
