//! `layersift rules`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Subcommand, ValueEnum};

use super::args::RulesArgs;
use super::formats::{Format, OutputArgs, TextOrJson};
use super::output_file::Readers;
use super::{context, output, report, rules_catalogue, terminal};
use layersift_format::open_file_with_end;
use layersift_model::{FingerprintKey, Severity, Verdict};
use layersift_report::{Policy, RenderOptions};
use layersift_rules::{Ruleset, Scope};

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
        /// File to scan, or directory whose files are scanned; of these, only those with findings are shown
        path: PathBuf,

        /// Take the file for a part of a conversation with a model, and use the rules for prompts as well
        #[arg(long, value_enum, value_name = "PART")]
        part: Option<ConversationPart>,

        #[command(flatten)]
        rules: RulesArgs,

        /// Show the values of secrets
        #[arg(long)]
        show_secrets: bool,

        #[command(flatten)]
        output: OutputArgs<TextOrJson>,
    },
}

/// A part of a conversation with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConversationPart {
    /// What a person wrote
    Prompt,
    /// What a model wrote
    Answer,
    /// What a model asks a tool to do
    ToolInput,
    /// What a tool answered, and files and pages that were read
    ToolOutput,
}

impl ConversationPart {
    fn scope(self) -> Scope {
        match self {
            ConversationPart::Prompt => Scope::Prompt,
            ConversationPart::Answer => Scope::Answer,
            ConversationPart::ToolInput => Scope::ToolInput,
            ConversationPart::ToolOutput => Scope::ToolOutput,
        }
    }
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
        RulesCommand::Test { path, part, rules, show_secrets, output } => {
            test(path, part.map(ConversationPart::scope), rules, *show_secrets, output)
        }
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

/// Scans one file, or all files of a directory, and lists every finding.
fn test(
    path: &Path,
    scope: Option<Scope>,
    rules: &RulesArgs,
    show_secrets: bool,
    output: &OutputArgs<TextOrJson>,
) -> anyhow::Result<ExitCode> {
    let ruleset = if scope.is_some() { Ruleset::for_prompts(&rules.rules) } else { Ruleset::with_files(&rules.rules) };
    let analyzer = context::analyzer(ruleset?, FingerprintKey::default(), 0)?;
    let policy = Policy::failing_on(None);
    let mut reports = Vec::new();
    let files = files(path)?;
    for file in &files {
        let cannot_read = || format!("cannot read {}", file.display());
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut found =
            analyzer.file(&name, open_file_with_end(file).with_context(cannot_read)?).with_context(cannot_read)?;
        if let Some(scope) = scope {
            found.findings.retain(|finding| analyzer.counts_in(&finding.rule.id, scope));
        }
        if files.len() > 1 && found.findings.is_empty() && found.gaps.is_empty() {
            continue;
        }
        let mut report = analyzer.report_of_file(&file.display().to_string(), found);
        policy.judge(&mut report);
        report.make_reproducible();
        reports.push(report);
    }
    let options = RenderOptions { show_secrets, show: Severity::Info, width: terminal::width(None) };
    let format = layersift_report::format(output.format.name()).context("there is no such format of reports")?;
    let readers = if show_secrets { Readers::Owner } else { Readers::AsUsual };
    output::stream_for(readers, output.output.as_deref(), |out| (format.render)(&reports, &options, out))?;
    // Of a directory, files without findings have no report.
    Ok(if reports.is_empty() { ExitCode::SUCCESS } else { report::exit_status(&reports) })
}

/// The file at `path`, or all files in this directory and those below it, in order.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let cannot_read = || format!("cannot read {}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let kind = entry.file_type().with_context(cannot_read)?;
        if kind.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The built-in rules and those of the flags, with their examples. Warnings about them are printed.
fn load(args: &RulesArgs) -> anyhow::Result<Ruleset> {
    let rules = Ruleset::for_prompts(&args.rules)?.with_built_in_examples()?;
    output::warn(&rules.notes);
    Ok(rules)
}

/// Runs the examples of rules. Exit status 1 where one does not hold.
fn check(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let all = Ruleset::for_prompts(paths)?.with_built_in_examples()?;
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
