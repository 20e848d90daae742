//! Mirrors of registries, as containerd is told of them: `certs.d/HOST/hosts.toml`.
//!
//! Source: containerd, `docs/hosts.md`, and `core/remotes/docker/config/hosts.go` where that is silent. The first
//! directory that exists counts: `HOST_PORT_`, `HOST:PORT`, `_default`. Hosts are tried in the order of the file, and
//! `server` last. A `proxy`, the client's certificates and headers are not read: they are for this machine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use layersift_format::read_small_text;
use layersift_model::{ParseError, parse};
use reqwest::Url;
use serde::Deserialize;
use toml::de::DeTable;

/// The most mirrors of one registry.
const MAX_MIRRORS: usize = 64;

/// Where a repository can be read besides its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The URL of the repository in the registry's API, which `/manifests/REFERENCE` follows. containerd adds
    /// `?ns=HOST` to requests to it.
    pub url: String,
    /// Whether tags may be resolved there; otherwise it is asked for digests only.
    pub can_resolve: bool,
    /// Whether its certificate is not verified.
    pub skips_verification: bool,
    /// Files of the authorities that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
}

/// Why a `hosts.toml` cannot be used. containerd ignores such a file, and says so in its log only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The failure.
        #[source]
        error: io::Error,
    },
    /// The file is not TOML, or a field has another type.
    #[error("{path}: {error}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// The failure.
        #[source]
        error: ParseError,
    },
    /// A host is no URL.
    #[error("{path}: invalid host `{host}`: expected https://HOST[:PORT][/PATH], or http://")]
    Host {
        /// The file.
        path: PathBuf,
        /// The host as it is written.
        host: String,
    },
    /// A capability that containerd does not know.
    #[error("{path}: unknown capability `{capability}`: expected pull, resolve or push")]
    Capability {
        /// The file.
        path: PathBuf,
        /// The capability as it is written.
        capability: String,
    },
}

#[derive(Default, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<String, HostTable>,
    #[serde(flatten)]
    root: HostTable,
}

#[derive(Default, Deserialize)]
struct HostTable {
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    skip_verify: bool,
    ca: Option<Files>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

/// The mirrors that may be asked for manifests of `repository` at the registry `host`, in the order in which containerd
/// asks them. None if nothing is said of the registry below `root`; the registry itself is not among them.
///
/// # Errors
/// For a file that cannot be used.
pub fn mirrors(root: &Path, host: &str, repository: &str) -> Result<Vec<Mirror>, HostsError> {
    let Some(directory) = directories(root, host).into_iter().find(|directory| directory.exists()) else {
        return Ok(Vec::new());
    };
    let path = directory.join("hosts.toml");
    let failed = |error| HostsError::Read { path: path.clone(), error };
    let text = match read_small_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut mirrors = parse(&path, &text)?;
    mirrors.truncate(MAX_MIRRORS);
    for mirror in &mut mirrors {
        mirror.url = format!("{}/{repository}", mirror.url);
    }
    Ok(mirrors)
}

/// The directories that may say something of `host`, the strongest first.
fn directories(root: &Path, host: &str) -> Vec<PathBuf> {
    if host.is_empty() || host.starts_with('.') || host.contains(['/', '\0']) {
        return Vec::new();
    }
    let with_port = host.rsplit_once(':').map(|(name, port)| root.join(format!("{name}_{port}_")));
    with_port.into_iter().chain([root.join(host), root.join("_default")]).collect()
}

/// The hosts of the file `path` with the text `text`, and its server.
fn parse(path: &Path, text: &str) -> Result<Vec<Mirror>, HostsError> {
    let failed = |error| HostsError::Toml { path: path.into(), error };
    let file: HostsFile = parse::toml(text).map_err(failed)?;
    let mut mirrors = Vec::new();
    for host in hosts_in_order(text).map_err(failed)? {
        let Some(table) = file.host.get(&host) else { continue };
        mirrors.extend(mirror(path, &host, table)?);
    }
    if let Some(server) = file.server.filter(|server| !server.is_empty()) {
        mirrors.extend(mirror(path, &server, &file.root)?);
    }
    Ok(mirrors)
}

/// The names of the tables `host`, in the order of the file.
fn hosts_in_order(text: &str) -> Result<Vec<String>, ParseError> {
    let document = DeTable::parse(text).map_err(|error| ParseError::in_text(error.message(), error.span(), text))?;
    let hosts = document.get_ref().get("host").and_then(|hosts| hosts.get_ref().as_table());
    let mut hosts: Vec<_> = hosts.into_iter().flatten().map(|(name, _)| (name.span().start, name.get_ref())).collect();
    hosts.sort_unstable_by_key(|(start, _)| *start);
    Ok(hosts.into_iter().map(|(_, name)| name.to_string()).collect())
}

/// A host, unless nothing may be pulled from it.
fn mirror(path: &Path, host: &str, table: &HostTable) -> Result<Option<Mirror>, HostsError> {
    let invalid = || HostsError::Host { path: path.into(), host: host.chars().take(160).collect() };
    let text = if host.starts_with("http") { host.to_string() } else { format!("https://{host}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(invalid)?;
    let name = url.host_str().ok_or_else(invalid)?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let folder = url.path().trim_end_matches('/');
    let is_root = table.override_path || folder.ends_with("/v2");
    let folder = if is_root { folder.to_string() } else { format!("{folder}/v2") };
    let (mut can_pull, mut can_resolve) = (table.capabilities.is_empty(), table.capabilities.is_empty());
    for capability in &table.capabilities {
        match &capability.to_ascii_lowercase()[..] {
            "pull" => can_pull = true,
            "resolve" => can_resolve = true,
            "push" => {}
            _ => return Err(HostsError::Capability { path: path.into(), capability: capability.clone() }),
        }
    }
    let files = match &table.ca {
        None => &[][..],
        Some(Files::One(file)) => std::slice::from_ref(file),
        Some(Files::Several(files)) => files,
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mirror = Mirror {
        url: format!("{}://{name}{port}{folder}", url.scheme()),
        can_resolve,
        skips_verification: table.skip_verify,
        ca: files.iter().map(|file| directory.join(file)).collect(),
    };
    Ok(can_pull.then_some(mirror))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<String> {
        parse(Path::new("/c/hosts.toml"), text).unwrap().into_iter().map(|mirror| mirror.url).collect()
    }

    #[test]
    fn a_local_mirror_for_docker() {
        let text = r#"
server = "https://registry-1.docker.io"    # Exclude this to not use upstream

[host."https://public-mirror.example.com"]
  capabilities = ["pull"]                  # Requires less trust, won't resolve tag to digest from this host
[host."https://docker-mirror.internal"]
  capabilities = ["pull", "resolve"]
  ca = "docker-mirror.crt"                 # Or absolute path /etc/containerd/certs.d/docker.io/docker-mirror.crt
"#;
        let found = parse(Path::new("/etc/containerd/certs.d/docker.io/hosts.toml"), text).unwrap();
        let said: Vec<_> = found.iter().map(|mirror| (&mirror.url[..], mirror.can_resolve)).collect();
        assert_eq!(
            said,
            [
                ("https://public-mirror.example.com/v2", false),
                ("https://docker-mirror.internal/v2", true),
                ("https://registry-1.docker.io/v2", true)
            ]
        );
        assert_eq!(found[1].ca, [PathBuf::from("/etc/containerd/certs.d/docker.io/docker-mirror.crt")]);
    }

    #[test]
    fn the_order_of_the_file_is_kept() {
        let text = r#"
[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "/etc/certs/mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    x-custom-2 = ["value1", "value2"]

[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true

[host."http://mirror.registry"]
  capabilities = ["pull"]

[host."https://test-1.registry"]
  capabilities = ["pull", "resolve", "push"]
  ca = ["/etc/certs/test-1-ca.pem", "/etc/certs/special.pem"]
  client = [["/etc/certs/client.cert", "/etc/certs/client.key"],["/etc/certs/client.pem", ""]]

[host."https://non-compliant-mirror.registry/v2/upstream"]
  capabilities = ["pull"]
  override_path = true

[host."https://a-push-target.registry"]
  capabilities = ["push"]
"#;
        let found = parse(Path::new("/c/hosts.toml"), text).unwrap();
        let said: Vec<_> = found.iter().map(|mirror| (&mirror.url[..], mirror.skips_verification)).collect();
        assert_eq!(
            said,
            [
                ("https://mirror.registry/v2", false),
                ("https://mirror-bak.registry/us/v2", true),
                ("http://mirror.registry/v2", false),
                ("https://test-1.registry/v2", false),
                ("https://non-compliant-mirror.registry/v2/upstream", false)
            ]
        );
        assert_eq!(found[3].ca.len(), 2);
    }

    #[test]
    fn paths_and_schemes() {
        assert_eq!(urls("server = \"registry.example.com\""), ["https://registry.example.com/v2"]);
        assert_eq!(urls("server = \"https://r.example:5000/v2/\""), ["https://r.example:5000/v2"]);
        assert_eq!(
            urls("[host.\"http://192.168.31.250:5000\"]\nskip_verify = true"),
            ["http://192.168.31.250:5000/v2"]
        );
        assert!(urls("").is_empty());
        for wrong in
            ["server = \"https://\"", "[host.\"http:\"]", "[host.\"https://x\"]\ncapabilities = [\"fly\"]", "="]
        {
            assert!(parse(Path::new("/c/hosts.toml"), wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_directory_that_exists_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |directory: &str, server: &str| {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("hosts.toml"), format!("server = \"{server}\"")).unwrap();
        };
        let asked = |host: &str| {
            let found = mirrors(root.path(), host, "team/app").unwrap();
            found.into_iter().map(|mirror| mirror.url).collect::<Vec<_>>()
        };
        assert!(asked("myregistry.io:5000").is_empty());
        put("_default", "https://default");
        assert_eq!(asked("myregistry.io:5000"), ["https://default/v2/team/app"]);
        put("myregistry.io:5000", "https://colon");
        assert_eq!(asked("myregistry.io:5000"), ["https://colon/v2/team/app"]);
        put("myregistry.io_5000_", "https://underscores");
        assert_eq!(asked("myregistry.io:5000"), ["https://underscores/v2/team/app"]);
        std::fs::create_dir(root.path().join("quiet.example")).unwrap();
        assert!(asked("quiet.example").is_empty(), "a directory without the file is not the default");
        assert!(asked("..").is_empty());
    }
}
