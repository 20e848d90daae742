//! Settings as a file and the environment have them.

use super::*;

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("serve.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let loaded = load(Some(&path), variables);
    loaded.map_err(|error| error.to_string().replace(&path.display().to_string(), "serve.toml"))
}

const LISTEN: &str = "[listen]\napi = '127.0.0.1:8443'\n";

#[test]
fn errors_have_their_line() {
    for (text, expected) in [
        ("[listen]\napo = '127.0.0.1:1'", "line 2 column 1"),
        ("[listen]\napi = 'localhost:1'", "line 2 column 7"),
        ("[listen]\napi = '127.0.0.1:1'\n[registries]\nallow = ['a b']", "line 4"),
        (
            "[listen]\napi = '127.0.0.1:1'\n[admission]\n[[admission.rule]]\nimages = ['[']",
            "line 4: [admission] invalid",
        ),
        ("[scans]\ntimeout = '1 day'", "line 2"),
        ("", "nothing to listen at"),
        ("[listen]\nhealth = '127.0.0.1:1'", "nothing to listen at"),
        ("[listen]\napi = '0.0.0.0:8443'", "must not cross a network unencrypted"),
        ("[listen]\nadmission = '127.0.0.1:8443'", "open to anyone"),
        ("[listen]\nsocket = '/x'\n[events]\nharbor-auth = '/x'", "needs `listen.api`"),
    ] {
        let error = load_text(text, &[]).unwrap_err();
        assert!(error.contains(expected) && error.contains("serve.toml"), "{text}: {error}");
    }
    assert!(load_text(LISTEN, &[]).is_ok());
}

#[test]
fn variables_override_the_file() {
    let settings = load_text(
        LISTEN,
        &[
            ("LAYERSIFT_SERVE_LISTEN__API", "127.0.0.1:9000"),
            ("LAYERSIFT_SERVE_STORE", "postgres://db/layersift"),
            ("LAYERSIFT_SERVE_SCANS__AT_ONCE", "2"),
            ("LAYERSIFT_SERVE_REGISTRIES__ALLOW", "[\"registry.example\"]"),
            ("LAYERSIFT_OTHER", "x"),
        ],
    )
    .unwrap();
    assert_eq!(settings.listen.api, Some("127.0.0.1:9000".parse().unwrap()));
    assert_eq!((settings.store.as_deref(), settings.scans.at_once), (Some("postgres://db/layersift"), 2));
    assert!(settings.registries.allow.admits(&"registry.example/app".parse().unwrap()));
    let rules = format!("{LISTEN}[admission]\n[[admission.rule]]\nimages = ['a/*']\nmode = 'audit'\n");
    let digest = layersift_model::Digest::of(b"pause");
    let allowed = format!("['{digest}']");
    let settings = load_text(&rules, &[("LAYERSIFT_SERVE_ADMISSION__ALLOWED_DIGESTS", &allowed)]).unwrap();
    let policy = settings.admission.policy(&Policy::default()).unwrap();
    assert!(policy.is_allowed(&digest) && policy.terms(&["a/b"], None).is_audit);
    let error = load_text(LISTEN, &[("LAYERSIFT_SERVE_LISTEN__APO", "127.0.0.1:9000")]).unwrap_err();
    assert!(
        error.contains("LAYERSIFT_SERVE_LISTEN__APO") && error.contains("unknown field `apo`, expected one of `api`"),
        "{error}"
    );
}
