//! `layersift completions` and `layersift man`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::output;

/// Prints the completions of `program` for `shell`.
pub(crate) fn completions(shell: clap_complete::Shell, program: &mut clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, program, "layersift", &mut script);
    output::write(&script, None)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a man page of `program`, and of each of its commands, to `directory`.
pub(crate) fn man(directory: &Path, program: clap::Command) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(program, directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
