//! `layersift serve`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tracing::level_filters::LevelFilter;

use super::args::StoreArgs;
use super::input_file;
use super::{context, output, signals};
use layersift_fleet::Registries;
use layersift_format::{Cancellation, return_large_memory};
use layersift_model::FingerprintKey;
use layersift_prompts::Gate;
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, MemoryBudget, Options};
use layersift_server::Parts;
use layersift_server::settings::{self, Settings};
use layersift_source::endpoint::Endpoint;
use layersift_source::registry::{Rate, RegistryOptions, Retry};
use layersift_store::{Store, StoreError, StoreOptions};

/// Where the settings are if there is a file and none was named.
const USUAL: &str = "/etc/layersift/serve.toml";

/// How long an answer waits for a store that is out of reach. Somebody waits for the answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Memory for the files in prompts that are read at a time, in bytes.
const PROMPT_FILES: u64 = 96 << 20;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Second scanner of the Harbor, whose findings are passed on with ours; harbor.merge-adapter in the settings
    #[arg(long, value_name = "URL")]
    merge_adapter: Option<Endpoint>,

    /// Tell this URL what is found for the first time and fails [default: `notify.url` of the settings]
    #[arg(long, value_name = "URL")]
    notify: Option<String>,

    /// Check the settings and what they name, and do not serve
    #[arg(long)]
    check: bool,
}

/// The settings of the service, and its store.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// File with the settings [default: /etc/layersift/serve.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "LAYERSIFT_SERVE_CONFIG")]
    config: Option<PathBuf>,

    #[command(flatten)]
    store: StoreArgs,
}

impl ServeArgs {
    /// A service is watched by its log.
    pub(crate) fn log_level(&self) -> LevelFilter {
        if self.check { LevelFilter::WARN } else { LevelFilter::INFO }
    }
}

impl ServeArgs {
    /// The settings, with what flags say in place of variables.
    fn settings(&self) -> anyhow::Result<Settings> {
        let flags = [
            ("LAYERSIFT_SERVE_HARBOR__MERGE_ADAPTER", self.merge_adapter.as_ref().map(Endpoint::to_string)),
            ("LAYERSIFT_SERVE_NOTIFY__URL", self.notify.clone()),
        ];
        let flags = flags.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        self.settings.settings(&flags.collect::<Vec<_>>())
    }
}

impl SettingsArgs {
    /// The settings of the file and of the environment, with `flags` in place of variables of their names.
    fn settings(&self, flags: &[(String, String)]) -> anyhow::Result<Settings> {
        let is_own = |name: &str| name == "LAYERSIFT_SERVE_CONFIG" || flags.iter().any(|(flag, _)| flag == name);
        let variables = std::env::vars().filter(|(name, _)| !is_own(name)).chain(flags.iter().cloned());
        Ok(settings::load(self.file().as_deref(), variables)?)
    }

    fn file(&self) -> Option<PathBuf> {
        let usual = || Some(PathBuf::from(USUAL)).filter(|path| path.exists());
        self.config.clone().or_else(usual)
    }

    /// The store of the service: that of the flag or the environment, of the settings, or the user's own.
    pub(crate) fn open_store(&self, options: StoreOptions) -> anyhow::Result<Store> {
        // Without a file there are no settings that would have to be good.
        let of_settings = match (self.store.name(), self.file()) {
            (None, Some(_)) => self.settings(&[])?.store,
            _ => None,
        };
        self.open_named(of_settings.as_deref(), options)
    }

    fn open_named(&self, of_settings: Option<&str>, options: StoreOptions) -> anyhow::Result<Store> {
        Ok(match self.store.name().or(of_settings.map(OsStr::new)) {
            Some(name) => Store::open_with(name, options)?,
            None => Store::open_default_with(options)?,
        })
    }
}

/// Serves until a signal ends it, or checks the settings.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    return_large_memory();
    let settings = args.settings()?;
    if args.check {
        return check(args, &settings);
    }
    let ending = signals::cancellation()?;
    let parts = parts(args, settings, &ending)?;
    let (store, layer_key) = (parts.store.name().to_string(), parts.analyzer.layer_key());
    parts.serve(ending, |addresses| {
        tracing::info!(store, layer_key, "service started");
        for address in addresses {
            tracing::info!(address, "listening");
        }
    })?;
    tracing::info!("the service ended");
    Ok(ExitCode::SUCCESS)
}

/// Checks the settings and all that they name. It writes nothing: a store that does not exist yet is not checked.
fn check(args: &ServeArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    layersift_server::check(settings, &key(settings)?, &*findings(settings), &context::environment)?;
    old_keys(settings)?;
    Ruleset::with_files(&settings.rules)?;
    prompt_rules(settings)?;
    registries(settings, &Cancellation::new())?;
    match args.settings.open_named(
        settings.store.as_deref(),
        StoreOptions { must_exist: true, patience: PATIENCE, ..StoreOptions::default() },
    ) {
        Err(error) if !matches!(error.downcast_ref(), Some(StoreError::Missing { .. })) => return Err(error),
        _ => {}
    }
    output::write(b"the settings are valid\n", None)?;
    Ok(ExitCode::SUCCESS)
}

fn parts(args: &ServeArgs, settings: Settings, ending: &Cancellation) -> anyhow::Result<Parts> {
    let analyzer = context::analyzer(context::ruleset(&settings.rules)?, key(&settings)?, settings.scans.threads)?;
    let prompt_analyzer = settings.prompts.as_ref().map(|_| prompt_analyzer(&settings)).transpose()?;
    // Requests are answered for a while after the signal to end.
    let answering = Cancellation::new();
    let until = |token: &Cancellation| -> Option<Arc<dyn Fn() -> bool + Send + Sync>> {
        let token = token.clone();
        Some(Arc::new(move || token.is_cancelled()))
    };
    let patient = StoreOptions { cancelled: until(ending), ..StoreOptions::default() };
    let quick = StoreOptions { patience: PATIENCE, cancelled: until(&answering), ..StoreOptions::default() };
    Ok(Parts {
        store: args.settings.open_named(settings.store.as_deref(), quick)?,
        scan_store: args.settings.open_named(settings.store.as_deref(), patient)?,
        registries: registries(&settings, ending)?,
        answer_registries: registries(&settings, &answering)?,
        findings: findings(&settings),
        old_keys: old_keys(&settings)?,
        clock: context::now,
        variable: context::environment,
        settings,
        analyzer,
        prompt_analyzer,
        answering,
    })
}

/// The analyzer for prompts: with the key of all others, their rules and those for prompts, and limits of its own.
fn prompt_analyzer(settings: &Settings) -> anyhow::Result<Analyzer> {
    let options = Options {
        threads: 1,
        limits: Gate::limits(),
        key: key(settings)?,
        memory: MemoryBudget::new(PROMPT_FILES),
        ..Options::default()
    };
    Ok(Analyzer::new(prompt_rules(settings)?, options)?)
}

/// The rules for prompts. A misspelled name in `allow-rules` is refused: what it was to allow would be denied, and
/// nobody would know why.
fn prompt_rules(settings: &Settings) -> anyhow::Result<Ruleset> {
    let rules = Ruleset::for_prompts(&settings.rules)?;
    let ids = || rules.signatures.iter().map(|rule| &rule.id).chain(rules.files.iter().map(|rule| &rule.id));
    let policies = settings.prompts.iter().flat_map(|prompts| &prompts.policies);
    for wanted in policies.flat_map(|policy| &policy.allow_rules) {
        let is_named = |id: &String| id == wanted || (wanted.ends_with('.') && id.starts_with(&wanted[..]));
        anyhow::ensure!(
            ids().any(is_named),
            "[prompts] unknown rule `{wanted}` in `allow-rules`: expected the id of a rule, or the beginning of ids \
             that ends in a dot; see `layersift rules list`"
        );
    }
    Ok(rules)
}

/// The key of the operator. The built-in one is refused, with the words of the service.
fn key(settings: &Settings) -> anyhow::Result<FingerprintKey> {
    settings.fingerprint_key.as_deref().map_or_else(|| Ok(FingerprintKey::default()), fingerprint_key)
}

fn old_keys(settings: &Settings) -> anyhow::Result<Vec<FingerprintKey>> {
    settings.old_fingerprint_keys.iter().map(|path| fingerprint_key(path)).collect()
}

fn fingerprint_key(path: &Path) -> anyhow::Result<FingerprintKey> {
    let bytes = input_file::read(path).context("the fingerprint key")?;
    anyhow::ensure!(bytes.len() >= 16, "{}: a fingerprint key has at least 16 bytes", path.display());
    Ok(FingerprintKey::new(bytes))
}

/// The logins are those that docker and podman have stored, or for one registry that of the environment.
fn registries(settings: &Settings, ending: &Cancellation) -> anyhow::Result<Registries> {
    let options = RegistryOptions {
        login: context::login(false)?,
        extra_roots: settings.registries.ca.clone(),
        rate: Rate { requests_per_second: settings.registries.max_requests, bytes_per_second: None },
        cancellation: ending.clone(),
        patience: ending.clone(),
        // A request is tried again by the queue.
        retry: Retry { longest_retry_after: Duration::from_secs(300), ..Retry::default() },
        ..RegistryOptions::default()
    };
    let trusted = context::environment("LAYERSIFT_REGISTRY_HOST").as_deref().map(context::parse_host).transpose()?;
    let mut registries = Registries::new(options, trusted.map(|named| named.host));
    for name in &settings.registries.plain_http {
        registries = registries.with_plain_http(context::parse_host(name)?.host, true);
    }
    Ok(registries)
}

/// Reads the policy file, if there is one.
fn findings(settings: &Settings) -> Box<dyn Fn() -> Result<Policy, String> + Send + Sync> {
    let path = settings.policy.clone();
    Box::new(move || match &path {
        Some(path) => Policy::read(path, context::today()).map_err(|error| format!("{:#}", anyhow::Error::from(error))),
        None => Ok(Policy::default()),
    })
}
