//! Tests of the configuration checks and of the rules that come with the build.

use super::pattern::Pattern;
use super::*;
use layersift_format::config::HistoryEntry;
use layersift_model::Severity;
use layersift_rules::{Example, Ruleset};

fn rules() -> Ruleset {
    Ruleset::built_in().unwrap().with_built_in_examples().unwrap()
}

fn checks() -> Checks {
    let rules = rules();
    Checks::new(&rules.ports, &rules.checks, 0).unwrap()
}

/// Findings of the built-in rules.
fn run(document: &str, reference: Option<&str>, layers: usize, urls: &[String]) -> Vec<ConfigFinding> {
    let config = ImageConfig::parse(document.as_bytes()).unwrap();
    checks().run(&Subject { config: &config, reference, layers, foreign_urls: urls })
}

fn names(document: &str) -> Vec<String> {
    let found = run(document, None, 0, &[]);
    found.iter().map(|finding| format!("{} {}", finding.rule.id, finding.at)).collect()
}

/// A configuration whose only strings are `runtime`, with a user and a health check so that hygiene is silent.
fn quiet(runtime: &str) -> String {
    format!(r#"{{"config":{{"User":"app","Healthcheck":{{"Test":["CMD","true"]}},{runtime}}}}}"#)
}

fn search(pattern: &Pattern, kind: ConfigField, text: &str) -> FieldMatches {
    let mut matches = FieldMatches::default();
    pattern.search(&Field { kind, name: "x".into(), text: text.into() }, &mut matches);
    matches
}

#[test]
fn every_example_is_found_and_no_counterexample() {
    let mut examples = 0;
    for check in rules().checks {
        let Some(source) = &check.pattern else {
            assert!(check.examples.is_empty() && check.counterexamples.is_empty(), "{}", check.id);
            continue;
        };
        let pattern = Pattern::new(&check.id, source, &check.fields, false).unwrap();
        assert!(!check.examples.is_empty() && !check.counterexamples.is_empty(), "{}", check.id);
        for Example { input, secret, .. } in &check.examples {
            let matches = search(&pattern, check.fields[0], input);
            assert_eq!(matches.list.len(), 1, "{}: {input}: {matches:?}", check.id);
            let found = matches.list[0].secret.as_ref().map(|secret| String::from_utf8_lossy(secret.reveal()));
            assert_eq!(found.as_deref(), secret.as_deref(), "{}: {input}", check.id);
            examples += 1;
        }
        for counterexample in &check.counterexamples {
            let matches = search(&pattern, check.fields[0], &counterexample.input);
            assert!(matches.list.is_empty(), "{}: {}: {matches:?}", check.id, counterexample.input);
        }
    }
    assert!(examples > 100);
}

#[test]
fn ports_have_the_severities_of_the_catalogue() {
    let rules = rules();
    let expected = [
        (Severity::Critical, &[2375, 10250, 2379][..]),
        (Severity::High, &[9229, 5005, 9222, 5678, 2345, 1099, 9010, 23, 512, 513, 514, 5900, 2376]),
        (Severity::Medium, &[22, 21, 445, 3389, 3306, 5432, 6379, 9200, 11211, 27017, 5984, 8888, 8000]),
        (Severity::Info, &[443, 8443, 6443, 15672, 9090, 5601]),
    ];
    for (severity, ports) in expected {
        for port in ports {
            let document = quiet(&format!(r#""ExposedPorts":{{"{port}/tcp":{{}}}}"#));
            let found = run(&document, None, 0, &[]);
            assert_eq!(found.len(), 1, "{port}");
            assert_eq!((found[0].rule.severity, &found[0].at), (severity, &format!("ExposedPorts.{port}/tcp")));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for (port, rule) in rules.ports.iter().flat_map(|rule| rule.ports.iter().map(move |port| (*port, rule))) {
        assert!(seen.insert((port, rule.protocol.clone())), "{port} twice");
    }
}

#[test]
fn roles_are_those_that_chains_ask_for() {
    let rules = rules();
    let with = |role: &str| {
        let ports = rules.ports.iter().filter(|rule| rule.roles.iter().any(|r| r == role));
        ports.flat_map(|rule| rule.ports.clone()).collect::<Vec<u16>>()
    };
    assert_eq!(with("debug"), [9229, 5005, 9222, 5678, 2345, 1099, 9010]);
    assert_eq!(with("admin"), [2375, 10250, 2379, 2376]);
    assert!([443, 8443, 6443].iter().all(|port| with("tls").contains(port)));
    for chain in &rules.chains {
        assert!(chain.exposure.iter().all(|role| !with(role).is_empty()), "{}", chain.id);
    }
}

#[test]
fn keys_of_exposed_ports() {
    let ids = |key: &str| names(&quiet(&format!(r#""ExposedPorts":{{"{key}":{{}}}}"#)));
    assert_eq!(ids("9229"), ["config.port.node-inspector ExposedPorts.9229"]);
    assert_eq!(ids("9229/TCP"), ["config.port.node-inspector ExposedPorts.9229/TCP"]);
    assert!(ids("9229/udp").is_empty() && ids("12345/tcp").is_empty() && ids("80/sctp").is_empty());
    assert_eq!(ids("514/udp"), ["config.port.syslog ExposedPorts.514/udp"]);
    let range = run(&quiet(r#""ExposedPorts":{"9005-9015/tcp":{}}"#), None, 0, &[]);
    assert_eq!(range.len(), 1);
    assert_eq!(range[0].rule.id, "config.port.jmx-rmi");
    assert_eq!(range[0].note.as_deref(), Some("9010 in the range"));
    let shells = run(&quiet(r#""ExposedPorts":{"512-514/tcp":{}}"#), None, 0, &[]);
    assert_eq!((shells.len(), shells[0].note.as_deref()), (1, Some("512, 513, 514 in the range")));
    let malformed =
        ["", "/tcp", "http", "0/tcp", "65536/tcp", "99999999999999", "+80", "-80", "80-", "20-10", "80/x", "$P"];
    for key in malformed {
        let found = ids(key);
        assert_eq!(found, [format!("config.runtime.port-malformed ExposedPorts.{key}")], "{key}");
    }
}

#[test]
fn who_runs_as_root() {
    let root = |document: &str| names(document).iter().any(|name| name == "config.runtime.root User");
    for user in ["", "root", "0", "0:0", "root:root", "00", " 0", ":1000"] {
        assert!(root(&format!(r#"{{"config":{{"User":"{user}"}}}}"#)), "{user}");
    }
    for user in ["app", "1000", "1000:0", "rooted", "nobody:root"] {
        assert!(!root(&format!(r#"{{"config":{{"User":"{user}"}}}}"#)), "{user}");
    }
    assert!(root("{}") && !root(r#"{"os":"windows"}"#));
    assert!(root(r#"{"os":"windows","config":{"User":"ContainerAdministrator"}}"#));
}

#[test]
fn health_checks_and_triggers() {
    let has = |document: &str, id: &str| names(document).iter().any(|name| name.starts_with(id));
    assert!(has("{}", "config.runtime.no-healthcheck"));
    assert!(has(r#"{"config":{"Healthcheck":{"Test":["NONE"]}}}"#, "config.runtime.no-healthcheck"));
    assert!(!has(&quiet(r#""OnBuild":null"#), "config.runtime"));
    assert!(has(&quiet(r#""OnBuild":["COPY . /app"]"#), "config.runtime.onbuild"));
}

#[test]
fn history_and_digests_have_to_fit_the_layers() {
    let digest = format!("\"sha256:{}\"", "0".repeat(64));
    let document = |history: &str, digests: usize| {
        let list = vec![digest.clone(); digests].join(",");
        format!(r#"{{"history":[{history}],"rootfs":{{"diff_ids":[{list}]}}}}"#)
    };
    let at = |document: String, layers| -> Vec<String> {
        let found = run(&document, None, layers, &[]);
        found.into_iter().filter(|f| f.rule.id == "config.image.history-mismatch").map(|f| f.at).collect()
    };
    let entry = r#"{"created_by":"COPY a b"}"#;
    assert!(at(document(entry, 1), 1).is_empty() && at(document("", 2), 2).is_empty());
    assert_eq!(at(document(entry, 2), 2), ["history"]);
    assert_eq!(at(document(entry, 2), 1), ["rootfs.diff_ids"]);
    assert!(at(document(&format!(r#"{entry},{{"empty_layer":true}}"#), 1), 1).is_empty());
}

#[test]
fn foreign_layers_are_named_without_their_credentials() {
    let urls = ["https://user:hunter2@blobs.example:8443/layer?sig=hunter2".to_string(), "nonsense".to_string()];
    let found = run(&quiet(r#""Env":null"#), None, 0, &urls);
    let notes: Vec<_> = found.iter().map(|finding| (finding.at.as_str(), finding.note.as_deref())).collect();
    assert_eq!(notes, [("layers.urls[0]", Some("https://blobs.example:8443")), ("layers.urls[1]", None)]);
}

#[test]
fn the_tag_latest() {
    let latest = |name| run(&quiet(r#""Env":null"#), Some(name), 0, &[]).len() == 1;
    for name in ["app:latest", "registry:5000/team/app:latest", "registry:5000/team/app", "latest"] {
        assert!(latest(name), "{name}");
    }
    let digest = format!("registry/app@sha256:{}", "0".repeat(64));
    for name in ["app:1.0", "registry:5000/app:1", "1.0", &digest] {
        assert!(!latest(name), "{name}");
    }
}

#[test]
fn every_field_has_its_name() {
    let config = ImageConfig::parse(
        br#"{"config":{"User":"u","WorkingDir":"/w","Env":["A=1","","B=2"],"Labels":{"k":"v"},"Cmd":["c"],
        "Entrypoint":["e"],"Healthcheck":{"Test":["CMD","h"]},"OnBuild":["o"],"Volumes":{"/data":{}}},
        "history":[{"created_by":"x","comment":"y"},{"author":"z"}]}"#,
    );
    let config = config.unwrap();
    let all: Vec<String> = fields(&config).map(|field| format!("{}|{}", field.name, field.text)).collect();
    let expected = [
        "Env[0]|A=1",
        "Env[2]|B=2",
        "Labels.k|k=v",
        "Cmd[0]|c",
        "Entrypoint[0]|e",
        "Healthcheck.Test[0]|CMD",
        "Healthcheck.Test[1]|h",
        "OnBuild[0]|o",
        "history[0].created_by|x",
        "history[0].comment|y",
        "history[1].author|z",
        "User|u",
        "WorkingDir|/w",
        "Volumes./data|/data",
    ];
    assert_eq!(all, expected);
}

#[test]
fn a_switch_is_found_in_every_field_and_across_words() {
    let id = "config.debug.node-inspector-public";
    for (part, at) in [
        (r#""Env":["NODE_OPTIONS=--inspect=0.0.0.0"]"#, "Env[0]"),
        (r#""Cmd":["node","--inspect=0.0.0.0"]"#, "Cmd[1]"),
        (r#""Entrypoint":["node","--inspect=0.0.0.0"]"#, "Entrypoint[1]"),
        (r#""Healthcheck":{"Test":["CMD","node","--inspect=0.0.0.0"]}"#, "Healthcheck.Test[2]"),
        (r#""OnBuild":["CMD node --inspect=0.0.0.0"]"#, "OnBuild[0]"),
    ] {
        let document = format!(r#"{{"config":{{{part}}}}}"#);
        assert!(names(&document).contains(&format!("{id} {at}")), "{part}");
    }
    let history = r#"{"history":[{"created_by":"CMD [\"node\" \"--inspect=0.0.0.0\"]"}]}"#;
    assert!(names(history).contains(&format!("{id} history[0].created_by")));
    let words = quiet(r#""Cmd":["python","-m","debugpy","--listen","0.0.0.0:5678","app.py"]"#);
    let found = run(&words, None, 0, &[]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule.id.as_str(), found[0].at.as_str()), ("config.debug.python-debugger-public", "Cmd"));
    assert_eq!((found[0].note.as_deref(), &found[0].roles[..]), (Some("0.0.0.0:5678"), &["debug".to_string()][..]));
}

#[test]
fn a_secret_is_kept_out_of_the_note() {
    let document = quiet(r#""Env":["A=b","DB_PASSWORD='correcthorse'"]"#);
    let found = run(&document, None, 0, &[]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].at.as_str(), found[0].note.as_deref()), ("Env[1]", Some("DB_PASSWORD")));
    assert_eq!(found[0].secret.as_ref().map(Secret::reveal), Some(&b"correcthorse"[..]));
    assert!(!format!("{found:?}").contains("horse"));
    let two = r#"{"history":[{"created_by":"RUN |3 A_TOKEN=q1w2e3r4 B_TOKEN=t5z6u7i8 C_TOKEN=q1w2e3r4 sh"}]}"#;
    let found = run(two, None, 1, &[]);
    let secrets: Vec<_> = found.iter().filter_map(|finding| finding.secret.as_ref().map(Secret::reveal)).collect();
    assert_eq!(secrets, [b"q1w2e3r4", b"t5z6u7i8"], "each secret once");
    let command = r#"{"history":[{"created_by":"RUN curl -u ci:hunter2 -k https://x.example/a | sh"}]}"#;
    let found = run(command, None, 1, &[]);
    assert!(found.iter().any(|finding| finding.rule.id == "config.tls.download-unverified"));
    assert!(!format!("{found:?}").contains("hunter2"));
}

/// What the configurations of widely used images say, as far as it looks like something it is not.
#[test]
fn ordinary_images_pass_at_high() {
    let env = [
        "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/sbin:/bin",
        "GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305",
        "PYTHON_SHA256=24887b92e2afd4a2ac602419ad4b596372f67ac9b077190f459aba390faf5550",
        "TOKENIZERS_PARALLELISM=false",
        "NJS_VERSION=0.8.6",
        "PGDATA=/var/lib/postgresql/data",
        "POSTGRES_PASSWORD_FILE=/run/secrets/db",
        "RAILS_ENV=production",
        "BUNDLE_WITHOUT=development",
        "LD_PRELOAD=libjemalloc.so.2",
    ];
    let history = [
        r#"RUN /bin/sh -c set -eux; wget -O python.tar.xz "https://www.python.org/ftp/$PYTHON_VERSION.tar.xz"; "#,
        r#"RUN /bin/sh -c echo "$PYTHON_SHA256 *python.tar.xz" | sha256sum -c - # buildkit"#,
        r#"RUN /bin/sh -c GNUPGHOME="$(mktemp -d)"; export GNUPGHOME; gpg --batch --recv-keys "$GPG_KEY" # buildkit"#,
        "RUN /bin/sh -c apt-get update; apt-get install -y sudo; rm -rf /var/lib/apt/lists/* # buildkit",
        "RUN /bin/sh -c install --directory --owner postgres --mode 3777 /var/run/postgresql # buildkit",
        "RUN /bin/sh -c key='B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8'; gpg --recv-keys \"$key\" # buildkit",
        r#"RUN /bin/sh -c NGINX_GPGKEYS="573BFD6B3D8FBC641079A6ABABF5BD827BD9BF62"; gpg1 $NGINX_GPGKEYS # buildkit"#,
        "RUN |1 RUBY_VERSION=3.3.5 /bin/sh -c SECRET_KEY_BASE_DUMMY=1 ./bin/rails assets:precompile # buildkit",
        "RUN /bin/sh -c useradd rails --uid 1000 --create-home && chown -R rails:rails db log # buildkit",
        "RUN --mount=type=secret,id=npm,env=NPM_TOKEN /bin/sh -c npm ci # buildkit",
    ];
    let mut config = ImageConfig::default();
    config.config.env = env.map(String::from).into();
    config.config.cmd = ["nginx", "-g", "daemon off;"].map(String::from).into();
    config.config.exposed_ports = [("5432/tcp".into(), serde_json::Value::Null)].into();
    config.config.volumes = [("/var/lib/postgresql/data".into(), serde_json::Value::Null)].into();
    config.config.working_dir = "/usr/src/app".into();
    config.history = history.map(|line| HistoryEntry { created_by: line.into(), ..Default::default() }).into();
    let found = checks().run(&Subject { config: &config, reference: None, layers: 10, foreign_urls: &[] });
    let mut ids: Vec<&str> = found.iter().map(|finding| finding.rule.id.as_str()).collect();
    ids.dedup();
    let expected = [
        "config.port.postgresql",
        "config.build.preload-file",
        "config.image.history-mismatch",
        "config.runtime.root",
        "config.runtime.no-healthcheck",
    ];
    ids.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(ids, expected, "the history names ten layers, the digests none");
    assert!(found.iter().all(|finding| finding.rule.severity < Severity::High && finding.secret.is_none()));
}

#[test]
fn values_that_are_secrets() {
    for value in ["postgres", "password", "hunter2", "123456", "$2y$10$abcdefghij", "/abc+def=", "a"] {
        assert!(literal::is_secret(value.as_bytes()), "{value}");
    }
    for value in [
        "",
        "  ",
        "true",
        "${X}",
        "$X",
        "$(cat x)",
        "{{ x }}",
        "%X%",
        "<x>",
        "/run/secrets/x",
        "~/x",
        "***",
        "xxxx",
        "changeme",
        "your-token",
        "vault:kv/x",
        "op://x/y",
        "None",
        "XXXX-XXXX",
    ] {
        assert!(!literal::is_secret(value.as_bytes()), "{value}");
    }
}

#[test]
fn rules_that_cannot_work_are_errors() {
    let check = |text: &str| {
        let head = "[[check]]\nid='config.x.y'\ntitle='t'\nseverity='low'\nwhat='w'\nrisk='r'\nfix='f'\n";
        let text = format!("{head}{text}");
        let rules = Ruleset::from_files([("x.toml".to_string(), text)]).unwrap();
        Checks::new(&[], &rules.checks, 0).map(|_| ()).unwrap_err().to_string()
    };
    assert!(check("built_in = 'no-such'").contains("expected one of runs-as-root, healthcheck-missing"));
    assert!(check("pattern = '('\nfields = ['Env']").contains("config.x.y"));
    assert!(check("pattern = 'a{900}{900}'\nfields = ['Env']").contains("size"));
    assert!(check("pattern = 'a'").contains("fields"));
    assert!(check("").contains("neither") && check("pattern = 'a'\nbuilt_in = 'latest-tag'").contains("both"));
    let port = "[[port]]\nid='config.port.x'\ntitle='t'\nseverity='low'\nwhat='w'\nrisk='r'\nfix='f'\n";
    for (rest, reason) in [("ports=[]", "no port"), ("ports=[1]\nprotocol='http'", "protocol")] {
        let rules = Ruleset::from_files([("x.toml".to_string(), format!("{port}{rest}"))]).unwrap();
        assert!(Checks::new(&rules.ports, &[], 0).err().unwrap().to_string().contains(reason));
    }
}

#[test]
fn every_built_in_check_has_a_rule() {
    let rules = rules();
    for (name, _) in BUILT_IN {
        assert_eq!(rules.checks.iter().filter(|check| check.built_in.as_deref() == Some(name)).count(), 1, "{name}");
    }
}

#[test]
fn many_places_are_counted_not_listed() {
    let ports: Vec<String> = (0..5_000).map(|i| format!(r#""x{i}":{{}}"#)).collect();
    let found = run(&quiet(&format!(r#""ExposedPorts":{{{}}}"#, ports.join(","))), None, 0, &[]);
    assert_eq!(found.len(), MAX_FINDINGS);
    assert_eq!(found[999].note.as_deref(), Some("not a number; and in 4000 more places"));
}

#[test]
fn long_names_are_not_quoted() {
    let document = quiet(&format!(r#""Labels":{{"{}-token":"hunter22"}}"#, "b".repeat(5_000)));
    let found = run(&document, None, 0, &[]);
    assert!(found.iter().any(|finding| finding.at == "Labels.(5006 characters)"));
    assert!(found.iter().all(|finding| finding.at.len() < 900));
    let document = quiet(&format!(r#""Volumes":{{"/etc/{}":{{}}}}"#, "b".repeat(5_000)));
    assert!(names(&document).iter().all(|name| name.len() < 900));
}

/// Texts that cost a backtracking engine, or a search that begins anew at every match, quadratic time.
#[test]
fn megabytes_take_linear_time() {
    let checks = checks();
    let size = 1 << 20;
    let units = ["a", "curl ", "DB_PASSWORD=x ", "TOKEN=$x ", "--inspect=0", "sudo ", "http://a:", "PASSWORD=", "dlv "];
    for unit in units {
        let text = unit.repeat(size / unit.len());
        let mut config = ImageConfig::default();
        config.config.env = vec![text.clone(), format!("A={text}")];
        config.history = vec![HistoryEntry { created_by: text, ..Default::default() }];
        let start = std::time::Instant::now();
        checks.run(&Subject { config: &config, reference: None, layers: 1, foreign_urls: &[] });
        assert!(start.elapsed().as_secs() < 20, "{unit}: {:?}", start.elapsed());
    }
}
