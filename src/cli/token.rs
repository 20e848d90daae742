//! `layersift token`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::serve::SettingsArgs;
use super::{context, output, values};
use layersift_report::clean;
use layersift_server::settings::Scope;
use layersift_server::tokens;
use layersift_store::{ApiToken, Store, StoreOptions};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it: it is not stored, and cannot be shown again
    Add(AddArgs),
    /// List tokens, without what is secret about them
    List {
        #[command(flatten)]
        service: SettingsArgs,
    },
    /// Revoke a token: it opens nothing after a few seconds
    Revoke {
        /// Number of the token, as `layersift token list` has it
        number: i64,

        #[command(flatten)]
        service: SettingsArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Name of whoever gets the token, for lists and logs
    name: String,

    /// What the token opens: scan, read, admit, harbor, prompt or admin; may be repeated
    #[arg(long, required = true, value_name = "SCOPE", value_parser = scope)]
    scope: Vec<Scope>,

    /// How long the token is good
    ///
    /// To rotate a token, make another one before it expires: both are good meanwhile.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = values::timeout)]
    expires_in: Duration,

    #[command(flatten)]
    service: SettingsArgs,
}

pub(crate) fn run(command: &TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Add(args) => add(args)?,
        TokenCommand::List { service } => list(service)?,
        TokenCommand::Revoke { number, service } => {
            let revoked = existing(service)?.api_tokens().revoke(*number, context::now())?;
            ensure!(revoked, "there is no token {number} that is not revoked: see `layersift token list`");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Only the token is written to standard output, so that it can go into a file.
fn add(args: &AddArgs) -> anyhow::Result<()> {
    let store = args.service.open_store(StoreOptions::default())?;
    let token = tokens::mint().context("the system has no random bytes")?;
    let scopes: BTreeSet<Scope> = args.scope.iter().copied().collect();
    let now = context::now();
    let expires = now.saturating_add(i64::try_from(args.expires_in.as_secs()).unwrap_or(i64::MAX));
    ensure!(!args.name.trim().is_empty(), "the name of a token cannot be empty");
    store.api_tokens().add(&args.name, &tokens::hash(&token), &tokens::scopes_text(&scopes), now, expires)?;
    output::write(format!("{token}\n").as_bytes(), None)
}

fn list(service: &SettingsArgs) -> anyhow::Result<()> {
    let now = context::now();
    let mut text = format!("{:>6}  {:<24}  {:<26}  {}\n", "NUMBER", "NAME", "SCOPES", "STATE");
    for token in existing(service)?.api_tokens().list()? {
        let ApiToken { id, name, scopes, expires_at, revoked_at, .. } = token;
        let state = match revoked_at {
            Some(at) => format!("revoked on {}", date(at)),
            None if expires_at <= now => format!("expired on {}", date(expires_at)),
            None => format!("{} days left, until {}", (expires_at - now + 86_399) / 86_400, date(expires_at)),
        };
        text.push_str(&format!("{id:>6}  {:<24}  {:<26}  {state}\n", clean(&name, 24), clean(&scopes, 60)));
    }
    output::write(text.as_bytes(), None)
}

fn existing(service: &SettingsArgs) -> anyhow::Result<Store> {
    service.open_store(StoreOptions { must_exist: true, ..StoreOptions::default() })
}

fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "an unknown day".into(), |time| time.strftime("%Y-%m-%d").to_string())
}

fn scope(text: &str) -> Result<Scope, String> {
    let names: Vec<&str> = Scope::ALL.iter().map(|scope| scope.name()).collect();
    Scope::named(text).ok_or_else(|| format!("expected {}", names.join(", ")))
}
