//! `layersift rules`.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::args::{Format, RulesCommand, RulesFormat};
use super::scan::rendered;
use super::{terminal, write_out};
use crate::cli::rules_catalogue as pages;
use layersift_model::{ImageReport, Severity, Verdict};
use layersift_report::{Policy, RenderOptions};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};

const WARNING: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();

/// Runs one of the commands on rules.
pub fn run(command: &RulesCommand) -> anyhow::Result<ExitCode> {
    match command {
        RulesCommand::List { filter, rules, format } => {
            let rules = Ruleset::with_files(rules)?.with_built_in_examples()?;
            warn(&rules.notes);
            let filter = filter.as_deref().unwrap_or_default();
            let rendered = match format {
                RulesFormat::Text => pages::list(&rules, filter),
                RulesFormat::Json => pages::list_json(&rules, filter)? + "\n",
                RulesFormat::Markdown => pages::catalogue(&rules),
            };
            write_out(&rendered, None).map(|()| ExitCode::SUCCESS)
        }
        RulesCommand::Show { id, rules } => {
            let rules = Ruleset::with_files(rules)?.with_built_in_examples()?;
            warn(&rules.notes);
            let page = pages::page(&rules, id, terminal::width(None))
                .with_context(|| format!("there is no rule `{id}`{}", similar(&rules, id)))?;
            write_out(&page, None).map(|()| ExitCode::SUCCESS)
        }
        RulesCommand::Check { paths } => check(paths),
        RulesCommand::Test { file, rules, show_secrets } => {
            let options = Options { cache: super::cache(), ..Options::default() };
            let scanner = Analyzer::new(Ruleset::with_files(rules)?, options)?;
            warn(scanner.notes());
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            let found = scanner.file(&name, opened).with_context(|| format!("cannot read {}", file.display()))?;
            let mut reports = vec![scanner.report_of_file(&file.display().to_string(), found)];
            let policy = Policy::failing_on(None);
            for report in &mut reports {
                policy.judge(report);
                report.make_reproducible();
            }
            let options =
                RenderOptions { show_secrets: *show_secrets, show: Severity::Info, width: terminal::width(None) };
            write_out(&rendered(Format::Text.render(), &reports, &options)?, None)?;
            let verdict = reports.iter().map(ImageReport::verdict).max().unwrap_or(Verdict::Incomplete);
            Ok(ExitCode::from(verdict.exit_code()))
        }
    }
}

/// Says on standard error what of the rules is left out.
pub fn warn(notes: &[String]) {
    for note in notes {
        anstream::eprintln!("{}warning:{} {note}", WARNING.render(), WARNING.render_reset());
    }
}

/// Loads rules, with or without others, and runs their examples. Status 1 where one does not hold.
fn check(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let all = Ruleset::with_files(paths)?.with_built_in_examples()?;
    let scanner = Analyzer::new(all.clone(), Options::default())?;
    warn(scanner.notes());
    let mine = if paths.is_empty() { all } else { Ruleset::only_files(paths)? };
    let foreign = mine.signatures.iter().filter(|rule| rule.foreign.is_some()).count()
        + mine.files.iter().filter(|rule| rule.foreign.is_some()).count();
    let count = mine.signatures.len() + mine.files.len() - foreign;
    if count == 0 && mine.is_empty() {
        bail!("there are no rules in these files");
    }
    let faults = scanner.check_examples(&mine);
    let mut out: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    out += &format!("{count} rules with examples, {} faults\n", faults.len());
    if foreign > 0 {
        out += &format!("{foreign} rules of other scanners read; they have no examples\n");
    }
    write_out(&out, None)?;
    Ok(ExitCode::from(if faults.is_empty() { Verdict::Pass } else { Verdict::Fail }.exit_code()))
}

/// Ids that share the first part, for a person who mistyped the rest.
fn similar(rules: &Ruleset, id: &str) -> String {
    let family = id.split('.').next().unwrap_or_default();
    let known: Vec<&str> = rules.ids().filter(|known| known.split('.').next() == Some(family)).take(8).collect();
    if known.is_empty() {
        "; `layersift rules list` lists them".into()
    } else {
        format!("; of that family there are {}", known.join(", "))
    }
}
