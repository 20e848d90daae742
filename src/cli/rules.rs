//! `layersift rules`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Subcommand;

use super::args::RulesArgs;
use super::formats::{Format, OutputArgs};
use super::{context, output, report, rules_catalogue, terminal};
use layersift_model::{FingerprintKey, Severity, Verdict};
use layersift_report::{FORMATS, Policy, RenderOptions};
use layersift_rules::Ruleset;

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// List rules: severity, confidence, id, title
    List {
        /// List only rules with this text in their id or title
        filter: Option<String>,

        #[command(flatten)]
        rules: RulesArgs,

        #[command(flatten)]
        output: OutputArgs<RulesFormat>,
    },
    /// Show a rule: what it finds, what an attacker can do with it, what to do, and examples
    Show {
        /// Id of the rule
        id: String,

        #[command(flatten)]
        rules: RulesArgs,
    },
    /// Check signature files, and run their examples and counterexamples
    ///
    /// Without files the built-in rules are checked. The exit status is 1 if an example fails, and 2 if a file is
    /// invalid.
    Check {
        /// Signature file, or directory of signature files
        paths: Vec<PathBuf>,
    },
    /// Show what the rules find in a file that is not in an image
    Test {
        /// File to scan
        file: PathBuf,

        #[command(flatten)]
        rules: RulesArgs,

        /// Show the values of secrets
        #[arg(long)]
        show_secrets: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RulesFormat {
    Text,
    Json,
    Markdown,
}

impl Format for RulesFormat {
    fn all() -> Vec<Self> {
        vec![RulesFormat::Text, RulesFormat::Json, RulesFormat::Markdown]
    }

    fn name(self) -> &'static str {
        match self {
            RulesFormat::Text => "text",
            RulesFormat::Json => "json",
            RulesFormat::Markdown => "markdown",
        }
    }

    fn about(self) -> &'static str {
        match self {
            RulesFormat::Text => "for a person",
            RulesFormat::Json => "for a program",
            RulesFormat::Markdown => "the catalogue in docs/signatures.md",
        }
    }
}

/// Runs one of the commands on rules.
pub(crate) fn run(command: &RulesCommand) -> anyhow::Result<ExitCode> {
    match command {
        RulesCommand::List { filter, rules, output } => list(filter.as_deref().unwrap_or_default(), rules, output),
        RulesCommand::Show { id, rules } => show(id, rules),
        RulesCommand::Check { paths } => check(paths),
        RulesCommand::Test { file, rules, show_secrets } => test(file, rules, *show_secrets),
    }
}

fn list(filter: &str, rules: &RulesArgs, output: &OutputArgs<RulesFormat>) -> anyhow::Result<ExitCode> {
    let rules = load(rules)?;
    let rendered = match output.format {
        RulesFormat::Text => rules_catalogue::list(&rules, filter),
        RulesFormat::Json => rules_catalogue::list_json(&rules, filter)? + "\n",
        RulesFormat::Markdown => rules_catalogue::catalogue(&rules),
    };
    output::write(rendered.as_bytes(), output.output.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn show(id: &str, rules: &RulesArgs) -> anyhow::Result<ExitCode> {
    let rules = load(rules)?;
    let page = rules_catalogue::page(&rules, id, terminal::width(None));
    let page = page.with_context(|| format!("unknown rule `{id}`{}", similar(&rules, id)))?;
    output::write(page.as_bytes(), None)?;
    Ok(ExitCode::SUCCESS)
}

/// Scans one file, and lists every finding.
fn test(file: &Path, rules: &RulesArgs, show_secrets: bool) -> anyhow::Result<ExitCode> {
    let analyzer = context::analyzer(Ruleset::with_files(&rules.rules)?, FingerprintKey::default(), 0)?;
    let cannot_read = || format!("cannot read {}", file.display());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let found = analyzer.file(&name, File::open(file).with_context(cannot_read)?).with_context(cannot_read)?;
    let mut reports = vec![analyzer.report_of_file(&file.display().to_string(), found)];
    let policy = Policy::failing_on(None);
    for report in &mut reports {
        policy.judge(report);
        report.make_reproducible();
    }
    let options = RenderOptions { show_secrets, show: Severity::Info, width: terminal::width(None) };
    let text = FORMATS.first().context("there are no formats of reports")?;
    let mut bytes = Vec::new();
    (text.render)(&reports, &options, &mut bytes)?;
    output::write(&bytes, None)?;
    Ok(report::exit_status(&reports))
}

/// The built-in rules and those of the flags, with their examples. Warnings about them are printed.
fn load(args: &RulesArgs) -> anyhow::Result<Ruleset> {
    let rules = Ruleset::with_files(&args.rules)?.with_built_in_examples()?;
    output::warn(&rules.notes);
    Ok(rules)
}

/// Runs the examples of rules. Exit status 1 where one does not hold.
fn check(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let all = Ruleset::with_files(paths)?.with_built_in_examples()?;
    let analyzer = context::analyzer(all.clone(), FingerprintKey::default(), 0)?;
    let checked = if paths.is_empty() { all } else { Ruleset::only_files(paths)? };
    let foreign = checked.signatures.iter().filter(|rule| rule.foreign.is_some()).count()
        + checked.files.iter().filter(|rule| rule.foreign.is_some()).count();
    let count = checked.signatures.len() + checked.files.len() - foreign;
    ensure!(count > 0 || !checked.is_empty(), "there are no rules in these files");
    let faults = analyzer.check_examples(&checked);
    let mut out: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    out += &format!("{count} rules with examples, {} faults\n", faults.len());
    if foreign > 0 {
        out += &format!("{foreign} rules of other scanners read; they have no examples\n");
    }
    output::write(out.as_bytes(), None)?;
    Ok(ExitCode::from(if faults.is_empty() { Verdict::Pass } else { Verdict::Fail }.exit_code()))
}

/// Ids with the same first part, for a person who mistyped the rest.
fn similar(rules: &Ruleset, id: &str) -> String {
    let family = id.split('.').next().unwrap_or_default();
    let known: Vec<&str> = rules.ids().filter(|known| known.split('.').next() == Some(family)).take(8).collect();
    if known.is_empty() {
        "; `layersift rules list` lists them".into()
    } else {
        format!("; did you mean {}?", known.join(", "))
    }
}
