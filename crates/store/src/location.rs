//! Where a store is: a file, or a PostgreSQL server by URL. A password is never shown.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::config::SslMode;

use super::error::StoreError;

/// Where a store is. `Debug` and `Display` show no password.
#[derive(Clone)]
pub(super) enum Location {
    /// SQLite, in a file.
    File(PathBuf),
    /// PostgreSQL.
    Server(Box<Server>),
}

/// A PostgreSQL server and a database of it.
#[derive(Clone)]
pub(super) struct Server {
    config: postgres::Config,
    root_certificate: Option<PathBuf>,
    shown: String,
}

impl Location {
    /// Reads a path or a `postgres://` or `postgresql://` URL.
    pub(super) fn parse(text: &OsStr) -> Result<Location, StoreError> {
        let lossy = text.to_string_lossy();
        match text.to_str() {
            Some(text) => Location::parse_text(text),
            // A path need not be text, and a URL has to be.
            None if !lossy.contains("://") && !is_like_an_address(&lossy) => Ok(Location::File(PathBuf::from(text))),
            None => Err(StoreError::Location { store: redacted(&lossy), reason: "the URL is not UTF-8".into() }),
        }
    }

    fn parse_text(text: &str) -> Result<Location, StoreError> {
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        match (is_url, text.split_once("://")) {
            (true, _) => Server::parse(text).map(|server| Location::Server(Box::new(server))),
            (false, Some((scheme, _))) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                let reason = format!("unsupported scheme `{scheme}`");
                Err(StoreError::Location { store: redacted(text), reason })
            }
            _ if text.is_empty() => Err(StoreError::Location { store: String::new(), reason: "empty name".into() }),
            _ if is_like_an_address(text) => {
                let reason = "it looks like the address of a server; write ./ before the name of a file".into();
                Err(StoreError::Location { store: HIDDEN.into(), reason })
            }
            _ => Ok(Location::File(PathBuf::from(text))),
        }
    }

    /// `$XDG_DATA_HOME/layersift/store.db`, or `.local/share/layersift/store.db` in the home directory, by the XDG
    /// base directory specification; `variable` looks up environment variables.
    pub(super) fn default_path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let absolute = |path: &PathBuf| path.is_absolute();
        let data = variable("XDG_DATA_HOME").filter(absolute);
        let home = || variable("HOME").filter(absolute).map(|home| home.join(".local/share"));
        data.or_else(home).map(|directory| directory.join("layersift/store.db"))
    }
}

/// What stands for an address that is not understood, and so cannot be shown without a password.
const HIDDEN: &str = "****";

/// Whether a text is an address in a form that is not understood: a file of that name would show the password in it.
fn is_like_an_address(text: &str) -> bool {
    if text.starts_with(['/', '.']) {
        return false;
    }
    let is_scheme = |start: &str| {
        start.starts_with(|c: char| c.is_ascii_alphabetic())
            && start.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let has_scheme = text.split_once(":/").is_some_and(|(start, _)| is_scheme(start));
    let has_login = text.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'));
    // The words of a connection string of libpq.
    let is_option = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| OPTIONS.contains(&&name.trim().to_ascii_lowercase()[..]))
    };
    has_scheme || has_login || text.replace(" =", "=").split_whitespace().any(is_option)
}

/// Options of which a connection string has at least one.
const OPTIONS: [&str; 9] = ["host", "hostaddr", "port", "dbname", "user", "password", "passfile", "sslmode", "service"];

impl Server {
    fn parse(url: &str) -> Result<Server, StoreError> {
        let shown = redacted(url);
        let failed = |reason: String| StoreError::Location { store: shown.clone(), reason };
        if is_ambiguous(url) {
            return Err(failed("write `?` in a user or password as %3F, and `:` as %3A".into()));
        }
        let (plain, options) = split_options(url);
        let config: postgres::Config = plain.parse().map_err(|error: postgres::Error| {
            // The parser names options, and none of their values.
            failed(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(failed("missing host".into()));
        }
        let mut server = Server { config, root_certificate: options.root_certificate, shown };
        if options.verify {
            server.config.ssl_mode(SslMode::Require);
        }
        server.config.application_name("layersift");
        if server.config.get_connect_timeout().is_none() {
            server.config.connect_timeout(Duration::from_secs(10));
        }
        // A server whose machine vanished says nothing any more: that is noticed within a minute.
        if server.config.get_tcp_user_timeout().is_none() {
            server.config.tcp_user_timeout(Duration::from_secs(60));
            server.config.keepalives_idle(Duration::from_secs(30));
            server.config.keepalives_interval(Duration::from_secs(10));
        }
        Ok(server)
    }

    /// What to connect with.
    pub(super) fn config(&self) -> &postgres::Config {
        &self.config
    }

    /// Whether TLS is used where the server offers it (`sslmode=prefer`, the default) or insisted on.
    pub(super) fn wants_tls(&self) -> bool {
        self.config.get_ssl_mode() != SslMode::Disable
    }

    /// The file of the authorities to trust instead of the system's.
    pub(super) fn root_certificate(&self) -> Option<&Path> {
        self.root_certificate.as_deref()
    }
}

/// Options of libpq's URLs that the PostgreSQL client does not know.
#[derive(Default)]
struct Options {
    root_certificate: Option<PathBuf>,
    verify: bool,
}

/// Takes `sslrootcert` and the `verify-` modes of `sslmode` out of a URL (PostgreSQL, section 34.18, "SSL Support").
fn split_options(url: &str) -> (String, Options) {
    let mut options = Options::default();
    let Some((base, query)) = url.split_once('?') else { return (url.to_string(), options) };
    let mut kept: Vec<&str> = Vec::new();
    for option in query.split('&') {
        match option.split_once('=') {
            Some(("sslrootcert", path)) => options.root_certificate = Some(PathBuf::from(path)),
            Some(("sslmode", "verify-ca" | "verify-full")) => options.verify = true,
            _ => kept.push(option),
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    (format!("{base}{query}"), options)
}

/// A URL without its password, wherever it stands: before the host, or among the options.
fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    if is_ambiguous(url) {
        return format!("{scheme}://****");
    }
    // A password may hold an unescaped `@` or `/`: everything up to the last `@` counts as user and password.
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:****@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.to_string(),
    };
    let query = query.map(|query| {
        let shown = |option: &str| match option.split_once('=') {
            Some((name, _)) if !SHOWN.contains(&name) => format!("{name}=****"),
            _ => option.to_string(),
        };
        let options: Vec<String> = query.split('&').map(shown).collect();
        format!("?{}", options.join("&"))
    });
    format!("{scheme}://{authority}{}", query.unwrap_or_default())
}

/// Whether what looks like options or like a port may be part of a password.
fn is_ambiguous(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port.split('/').next().unwrap_or(""));
    !authority.contains('@') && (query.contains('@') || !port.bytes().all(|b| b.is_ascii_digit()))
}

/// Options that are shown as they are.
const SHOWN: [&str; 7] = ["host", "port", "dbname", "user", "sslmode", "sslrootcert", "connect_timeout"];

/// The name of a file, which may be a misspelled address with a password: `postgres:/user:password@host`, or the words
/// of a connection string.
fn without_password(name: &str) -> String {
    let name = match name.rsplit_once('@') {
        Some((front, host)) => {
            let scheme = front.find(":/").map_or(0, |colon| colon + 1);
            match front[scheme..].find(':') {
                Some(colon) => format!("{}:****@{host}", &front[..scheme + colon]),
                None => name.to_string(),
            }
        }
        None => name.to_string(),
    };
    let is_password =
        |word: &str| word.split_once('=').is_some_and(|(name, _)| name.to_ascii_lowercase().contains("pass"));
    let first = name.split(' ').position(is_password);
    match first {
        // The value may have blanks.
        Some(index) => name.split(' ').take(index).chain(["password=****"]).collect::<Vec<_>>().join(" "),
        None => name,
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => f.write_str(&without_password(&path.display().to_string())),
            Location::Server(server) => f.write_str(&server.shown),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
