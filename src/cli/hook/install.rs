//! `layersift hook install` and `uninstall`: the settings of the assistants, changed by as little text as possible.

mod command;
mod difference;
mod json;
mod toml;

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use layersift_format::read_small_text;

use super::Fail;
use crate::cli::draft::Draft;
use crate::cli::output;

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Assistant whose settings are changed; may be repeated [default: those with a settings directory]
    #[arg(long, value_enum, value_name = "ASSISTANT")]
    assistant: Vec<Name>,

    /// Change the settings of this user, for all projects; the default
    #[arg(long, conflicts_with = "project")]
    user: bool,

    /// Change the settings of the project in the current directory
    #[arg(long)]
    project: bool,

    /// Change the settings without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,

    /// Show the difference and change nothing
    #[arg(long)]
    dry_run: bool,

    /// What the hook does with what it cannot check
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Fail::Closed)]
    fail: Fail,
}

/// The assistants, as they are named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    Claude,
    Codex,
    Cursor,
    Vibe,
    Copilot,
}

impl Name {
    const ALL: [Name; 5] = [Name::Claude, Name::Codex, Name::Cursor, Name::Vibe, Name::Copilot];

    /// The settings file below the home directory or below a project.
    fn file(self, is_project: bool) -> &'static str {
        match self {
            Name::Claude => ".claude/settings.json",
            Name::Codex => ".codex/hooks.json",
            Name::Cursor => ".cursor/hooks.json",
            Name::Vibe => ".vibe/hooks.toml",
            Name::Copilot if is_project => ".github/hooks/layersift.json",
            Name::Copilot => ".copilot/hooks/layersift.json",
        }
    }

    /// The directory that exists where the assistant is in use.
    fn directory(self, is_project: bool) -> &'static str {
        match self {
            Name::Claude => ".claude",
            Name::Codex => ".codex",
            Name::Cursor => ".cursor",
            Name::Vibe => ".vibe",
            Name::Copilot if is_project => ".github/hooks",
            Name::Copilot => ".copilot",
        }
    }
}

/// What is done with the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Install,
    Uninstall,
}

/// A changed settings file.
struct Edit {
    path: PathBuf,
    /// What is there; `None` for no file.
    before: Option<String>,
    after: String,
}

/// Shows the differences, asks, and writes. What is wrong with the settings of one assistant is said, and those of the
/// others are changed all the same.
pub(super) fn run(args: &InstallArgs, change: Change) -> anyhow::Result<ExitCode> {
    let is_project = args.project && !args.user;
    let root = root(is_project)?;
    let command = command::command(args.fail, is_project)?;
    let mut edits = Vec::new();
    let mut has_failed = false;
    for name in names(args, &root)? {
        match edit(name, root.join(name.file(is_project)), &command, change) {
            Ok(edit) => edits.extend(edit),
            Err(error) => {
                output::error(&error);
                has_failed = true;
            }
        }
    }
    let failure = || ExitCode::from(2);
    let difference: String = edits.iter().map(Edit::difference).collect();
    output::write(difference.as_bytes(), None)?;
    if edits.is_empty() {
        if has_failed {
            return Ok(failure());
        }
        output::error_line("Nothing to change.");
        return Ok(ExitCode::SUCCESS);
    }
    if !args.dry_run && is_confirmed(args)? {
        has_failed |= !write(&edits);
        if change == Change::Install {
            output::error_line("Start a new session. Codex asks whether it may run new hooks: see /hooks there.");
        }
    }
    Ok(if has_failed { failure() } else { ExitCode::SUCCESS })
}

/// The change of the settings file of an assistant at `path`; `None` if there is nothing to change.
fn edit(name: Name, path: PathBuf, command: &str, change: Change) -> anyhow::Result<Option<Edit>> {
    let before = read(&path)?;
    let text = before.clone().unwrap_or_default();
    let after = edited(name, &text, command, change).with_context(|| format!("{} is unchanged", path.display()))?;
    Ok((after != text).then_some(Edit { path, before, after }))
}

/// Writes all of `edits` that can be written. Returns whether these are all.
fn write(edits: &[Edit]) -> bool {
    let mut is_all = true;
    for edit in edits {
        match edit.write() {
            Ok(()) => output::error_line(&format!("Changed {}.", edit.path.display())),
            Err(error) => {
                output::error(&error);
                is_all = false;
            }
        }
    }
    is_all
}

/// The settings file `text` of an assistant after `change`. The hook is not added twice.
fn edited(name: Name, text: &str, command: &str, change: Change) -> anyhow::Result<String> {
    match (name, change) {
        (Name::Vibe, Change::Install) => toml::with_hooks(text, command),
        (Name::Vibe, Change::Uninstall) => toml::without_hooks(text),
        (_, Change::Install) => json::with_hooks(text, &entries(name, command)),
        (_, Change::Uninstall) => json::without_hooks(text),
    }
}

/// The entries of an assistant: event and entry.
fn entries(name: Name, command: &str) -> json::Entries {
    use serde_json::json;
    // Longer than the time limit of the hook itself, because most assistants let through what takes longer.
    const SECONDS: u32 = 30;
    let nested = |matcher: bool| {
        let hook = json!({ "type": "command", "command": command, "timeout": SECONDS });
        if matcher { json!({ "matcher": "*", "hooks": [hook] }) } else { json!({ "hooks": [hook] }) }
    };
    match name {
        Name::Claude => json::Entries {
            version: false,
            entries: vec![
                ("UserPromptSubmit", nested(false)),
                ("PreToolUse", nested(true)),
                ("PostToolUse", nested(true)),
            ],
        },
        // Codex has expressions as matchers, and none for all tools.
        Name::Codex => json::Entries {
            version: false,
            entries: ["UserPromptSubmit", "PreToolUse", "PostToolUse"].map(|event| (event, nested(false))).to_vec(),
        },
        Name::Cursor => json::Entries {
            version: true,
            entries: ["beforeSubmitPrompt", "preToolUse", "postToolUse", "beforeReadFile"]
                .map(|event| (event, json!({ "command": command, "failClosed": true })))
                .to_vec(),
        },
        Name::Copilot => json::Entries {
            version: true,
            entries: ["userPromptSubmitted", "preToolUse", "postToolUse"]
                .map(|event| (event, json!({ "type": "command", "bash": command, "timeoutSec": SECONDS })))
                .to_vec(),
        },
        Name::Vibe => json::Entries { version: false, entries: Vec::new() },
    }
}

fn root(is_project: bool) -> anyhow::Result<PathBuf> {
    if is_project {
        return std::env::current_dir().context("cannot find the current directory");
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.context("HOME is not set; pass --project for the settings of the project in this directory")
}

fn names(args: &InstallArgs, root: &Path) -> anyhow::Result<Vec<Name>> {
    if !args.assistant.is_empty() {
        return Ok(args.assistant.clone());
    }
    let used = |name: &Name| root.join(name.directory(args.project)).is_dir();
    let names: Vec<Name> = Name::ALL.into_iter().filter(used).collect();
    ensure!(
        !names.is_empty(),
        "no assistant has a settings directory in {}; name one with --assistant",
        root.display()
    );
    Ok(names)
}

/// The text of the file at `path`; `None` if there is none.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let cannot_read = || format!("cannot read {}", path.display());
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(cannot_read),
        Ok(_) => read_small_text(path).map(Some).with_context(cannot_read),
    }
}

/// What the links at `path` point to, which need not exist.
fn target(path: &Path) -> anyhow::Result<PathBuf> {
    // As many as Linux follows.
    const MOST_LINKS: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&target) else { return Ok(target) };
        target = target.parent().unwrap_or(Path::new("")).join(next);
    }
    bail!("{} is a link to itself", path.display())
}

fn is_confirmed(args: &InstallArgs) -> anyhow::Result<bool> {
    if args.yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        bail!("nothing was changed: pass --yes to change the settings without a question");
    }
    output::prompt("Change these settings? [y/N] ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

impl Edit {
    fn difference(&self) -> String {
        let name = self.path.display().to_string();
        difference::unified(&name, self.before.as_deref(), &self.after)
    }

    /// Writes [a draft](Draft) of the settings and puts it in their place. A link stays a link: its target is replaced,
    /// or made if there is none yet.
    fn write(&self) -> anyhow::Result<()> {
        let path = target(&self.path)?;
        let cannot_write = || format!("cannot write {}", path.display());
        ensure!(read(&path)? == self.before, "{} was changed meanwhile; nothing was written", path.display());
        let directory = path.parent().with_context(cannot_write)?;
        fs::create_dir_all(directory).with_context(cannot_write)?;
        self.replace(&path).with_context(cannot_write)
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let mut draft = Draft::new(path, 0o666)?;
        if self.before.is_some() {
            draft.file().set_permissions(fs::metadata(path)?.permissions())?;
        }
        draft.file().write_all(self.after.as_bytes())?;
        draft.finish()
    }
}
