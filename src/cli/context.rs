//! What commands work with, made of their flags and the environment: analyzer, store, registries, policy.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::args::{FingerprintKeyArgs, PolicyArgs, ReadingArgs, RegistryArgs, StoreArgs};
use super::blocking;
use super::input_file;
use super::output;
use layersift_fleet::Registries;
use layersift_format::Cancellation;
use layersift_model::{FingerprintKey, Limits};
use layersift_report::{Baseline, FailOn, Policy};
use layersift_rules::Ruleset;
use layersift_scan::engine::load_built_in;
use layersift_scan::{Analyzer, Options};
use layersift_source::registry::{
    ByteLimit, ClientCertificate, Credentials, Host, Login, Rate, Reference, RegistryOptions,
};
use layersift_store::{Store, StoreOptions};

/// The bytes of the stack on which rules are loaded, which needs little.
const LOADING_STACK: usize = 256 << 10;

/// What `sweep` and `worker` work with.
pub(crate) struct FleetContext {
    pub(crate) store: Store,
    pub(crate) analyzer: Analyzer,
    /// Cancelled when the process is to end.
    pub(crate) cancellation: Cancellation,
    registry_options: RegistryOptions,
}

/// What ends the requests of a sweep or a worker.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// Ends requests, reads and waits.
    pub(crate) cancellation: Cancellation,
    /// Ends waits for another attempt.
    pub(crate) patience: Cancellation,
    /// The most bytes of all registries.
    pub(crate) byte_limit: Option<ByteLimit>,
}

impl FleetContext {
    /// Opens the store and compiles the rules.
    pub(crate) fn new(args: &ReadingArgs, cancellation: Cancellation) -> anyhow::Result<FleetContext> {
        let store = open_store(&args.store, store_options(args, &cancellation))?;
        let ruleset = ruleset(&args.rules.rules)?;
        let analyzer = analyzer(ruleset, fingerprint_key(&args.fingerprint_key)?, args.threads.threads)?;
        let rate = Rate {
            requests_per_second: args.max_requests,
            bytes_per_second: args.max_rate.and_then(std::num::NonZeroU64::new),
        };
        let registry_options = RegistryOptions { rate, ..registry_options(&args.registry, &cancellation)? };
        Ok(FleetContext { store, analyzer, cancellation, registry_options })
    }

    /// Clients of registries that have pulled nothing yet. Credentials of the environment are for `trusted` alone, or
    /// for the registry that LAYERSIFT_REGISTRY_HOST names. `ends` says when requests and waits end.
    pub(crate) fn registries(&self, trusted: Option<NamedHost>, ends: &Ends) -> anyhow::Result<Registries> {
        let trusted = match trusted {
            Some(host) => Some(host),
            None => environment("LAYERSIFT_REGISTRY_HOST").as_deref().map(parse_host).transpose()?,
        };
        let Ends { cancellation, patience, byte_limit } = ends.clone();
        let options = RegistryOptions { cancellation, patience, byte_limit, ..self.registry_options.clone() };
        let registries = Registries::new(options, trusted.as_ref().map(|named| named.host.clone()));
        Ok(match trusted {
            Some(NamedHost { host, plain_http: Some(plain_http) }) => registries.with_plain_http(host, plain_http),
            _ => registries,
        })
    }
}

/// The built-in rules and those of `files`, for an analyzer.
pub(crate) fn ruleset(files: &[PathBuf]) -> anyhow::Result<Ruleset> {
    load_ahead();
    let Some(pipe) = files.iter().find(|file| blocking::may_wait(file)) else { return Ok(Ruleset::with_files(files)?) };
    let files = files.to_vec();
    input_file::load(pipe, move |_| Ruleset::with_files(&files))
}

/// Loads what was compiled of the built-in rules on a thread of its own, while rules are read and other things happen.
pub(crate) fn load_ahead() {
    // Without that thread, the analyzer loads them.
    let _ = thread::Builder::new().stack_size(LOADING_STACK).spawn(load_built_in);
}

/// An analyzer with the rules of `ruleset`. Warnings about them are printed.
pub(crate) fn analyzer(ruleset: Ruleset, key: FingerprintKey, threads: usize) -> anyhow::Result<Analyzer> {
    analyzer_within(ruleset, key, threads, Limits::default())
}

/// As [`analyzer`], with `limits`.
pub(crate) fn analyzer_within(
    ruleset: Ruleset,
    key: FingerprintKey,
    threads: usize,
    limits: Limits,
) -> anyhow::Result<Analyzer> {
    let analyzer = Analyzer::new(ruleset, Options { threads, key, limits, cache: cache(), ..Options::default() })?;
    output::warn(analyzer.notes());
    Ok(analyzer)
}

/// The policy of the flags, the policy file and the baseline together; a flag is stronger than a file.
pub(crate) fn policy(args: &PolicyArgs) -> anyhow::Result<Policy> {
    let mut policy = match &args.policy {
        Some(path) => input_file::load(path, |path| Policy::read(path, today()))?,
        None => Policy::default(),
    };
    if let Some(FailOn(limit)) = args.fail_on {
        policy.fail_on = limit;
    }
    policy.baseline = args.baseline.as_deref().map(|path| input_file::load(path, Baseline::read)).transpose()?;
    Ok(policy)
}

/// The store that the flag or the environment names, or the user's own.
pub(crate) fn open_store(args: &StoreArgs, options: StoreOptions) -> anyhow::Result<Store> {
    Ok(match args.name() {
        Some(text) => Store::open_with(text, options)?,
        None => Store::open_default_with(options)?,
    })
}

/// The store, as [`open_store`], if it exists: a command that only reads creates none.
pub(crate) fn open_existing_store(args: &StoreArgs) -> anyhow::Result<Store> {
    open_store(args, StoreOptions { must_exist: true, ..StoreOptions::default() })
}

/// The same, which is not waited for after `cancellation`.
pub(crate) fn open_existing_store_until(args: &StoreArgs, cancellation: &Cancellation) -> anyhow::Result<Store> {
    let options = options_until(cancellation);
    let patience = cancellation.remaining().map_or(options.patience, |left| left.min(options.patience));
    open_store(args, StoreOptions { must_exist: true, patience, ..options })
}

/// Waits for the store as long as for one layer, if that has a limit, and not after the process was told to end.
fn store_options(args: &ReadingArgs, cancellation: &Cancellation) -> StoreOptions {
    let options = options_until(cancellation);
    StoreOptions { patience: args.timeout.timeout.unwrap_or(options.patience), ..options }
}

fn options_until(cancellation: &Cancellation) -> StoreOptions {
    let cancellation = cancellation.clone();
    StoreOptions { cancelled: Some(Arc::new(move || cancellation.is_cancelled())), ..StoreOptions::default() }
}

/// The key in the file that the flag names, or the built-in one.
pub(crate) fn fingerprint_key(args: &FingerprintKeyArgs) -> anyhow::Result<FingerprintKey> {
    let Some(path) = &args.fingerprint_key else { return Ok(FingerprintKey::default()) };
    Ok(FingerprintKey::new(input_file::read(path)?))
}

/// How registries are talked to, until `cancellation` ends every request and wait.
///
/// # Errors
/// If the environment names a user without a password, or the reverse: that is a login that was not given whole.
pub(crate) fn registry_options(args: &RegistryArgs, cancellation: &Cancellation) -> anyhow::Result<RegistryOptions> {
    let certificate = args.registry_cert.clone().zip(args.registry_key.clone());
    Ok(RegistryOptions {
        login: login(args.anonymous)?,
        plain_http: args.plain_http,
        extra_roots: args.registry_ca.clone(),
        client_certificate: certificate.map(|(certificate, key)| ClientCertificate { certificate, key }),
        cancellation: cancellation.clone(),
        ..RegistryOptions::default()
    })
}

/// A registry as it was named on the command line.
pub(crate) struct NamedHost {
    pub(crate) host: Host,
    /// What its scheme says, if it was named with one.
    pub(crate) plain_http: Option<bool>,
}

/// Parses a registry's host, which may be written as a URL: the scheme is then taken for what it says.
pub(crate) fn parse_host(text: &str) -> anyhow::Result<NamedHost> {
    let (bare, plain_http) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(bare), _) => (bare, Some(false)),
        (None, Some(bare)) => (bare, Some(true)),
        (None, None) => (text, None),
    };
    let invalid = || format!("invalid registry `{text}`: expected HOST or HOST:PORT");
    let reference: Reference = format!("{}/x", bare.trim_end_matches('/')).parse().with_context(invalid)?;
    anyhow::ensure!(reference.repository == "x", invalid());
    Ok(NamedHost { host: reference.host, plain_http })
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Where this user's programs keep what can be made again (XDG Base Directory Specification): compiled rules.
pub(crate) fn cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("layersift"))
}

pub(crate) fn login(anonymous: bool) -> anyhow::Result<Login> {
    const USER: &str = "LAYERSIFT_REGISTRY_USER";
    const PASSWORD: &str = "LAYERSIFT_REGISTRY_PASSWORD";
    match (environment(USER), environment(PASSWORD)) {
        _ if anonymous => Ok(Login::Anonymous),
        (Some(user), Some(password)) => Ok(Login::As(Credentials::Password { user, password })),
        (None, None) => Ok(Login::Stored),
        (Some(_), None) => anyhow::bail!("{USER} is set and {PASSWORD} is not: set both, or neither"),
        (None, Some(_)) => anyhow::bail!("{PASSWORD} is set and {USER} is not: set both, or neither"),
    }
}

/// A variable that is set and not empty.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Today's date in UTC. A clock that is beyond every calendar is broken: then it is the last day, so that no exception
/// outlives the clock.
pub(crate) fn today() -> Date {
    Timestamp::try_from(SystemTime::now()).map_or(Date::MAX, |now| TimeZone::UTC.to_datetime(now).date())
}
