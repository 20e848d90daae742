//! `layersift audit export`: the copies of logs that a store has, as directories that `layersift audit verify --copy`
//! reads.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use layersift_audit::{DirectorySink, Sink};
use layersift_report::{clean, plural};
use layersift_store::{AuditCopy, Store, StoreOptions};

use crate::cli::output;
use crate::cli::serve::SettingsArgs;

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Directory to write to: each log gets a directory in it
    directory: PathBuf,

    #[command(flatten)]
    service: SettingsArgs,
}

/// Writes what is not there yet; a file that has other bytes is an error.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let store = args.service.open_store(StoreOptions { must_exist: true, ..StoreOptions::default() })?;
    let copies = store.audit_copies().list()?;
    ensure!(!copies.is_empty(), "the store {} has no copies of audit logs", store.name());
    let mut text = String::new();
    for of_log in copies.chunk_by(|one, next| one.instance == next.instance) {
        let directory = args.directory.join(folder(of_log));
        for copy in of_log {
            export(&store, copy, &directory)?;
        }
        let name = clean(&directory.display().to_string(), 200);
        text.push_str(&format!("{name}: {}\n", plural(of_log.len() as u64, "file")));
    }
    output::write(text.as_bytes(), None)?;
    Ok(ExitCode::SUCCESS)
}

fn export(store: &Store, copy: &AuditCopy, directory: &Path) -> anyhow::Result<()> {
    let AuditCopy { instance, name, .. } = copy;
    // Whoever can write to the store must not choose where this writes.
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    ensure!(!name.starts_with('.') && name.chars().all(is_plain), "the store has a copy called {name:?}");
    let bytes = store.audit_copies().get(instance, name)?;
    let bytes = bytes.with_context(|| format!("the copy {name} of {instance} is gone"))?;
    let mut sink = DirectorySink::new(directory);
    if !sink.has(name, &bytes)? {
        sink.put(name, &bytes)?;
    }
    Ok(())
}

/// The name of the log as that of a directory.
fn folder(copies: &[AuditCopy]) -> String {
    let instance = copies.first().map(|copy| &copy.instance[..]).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+') { c } else { '_' };
    instance.chars().map(plain).collect()
}
