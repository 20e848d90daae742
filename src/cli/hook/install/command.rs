//! The command that assistants run, and how it is known again.

use anyhow::{Context, ensure};

use crate::cli::hook::Fail;

/// The name of this program, unless somebody gave it another one.
const PROGRAM: &str = "layersift";

/// The command that assistants run. A program that is missing or was killed must block as well: the shell has other
/// exit statuses for that, which let everything through.
pub(super) fn command(fail: Fail, is_project: bool) -> anyhow::Result<String> {
    // Settings of a project are for all who work on it.
    let program = if is_project {
        PROGRAM.to_string()
    } else {
        let path = std::env::current_exe().context("cannot find this program")?;
        quoted(path.to_str().context("the path of this program is not UTF-8")?)?
    };
    Ok(match fail {
        Fail::Closed => format!("{program} hook || exit 2"),
        Fail::Open => format!("{program} hook --fail open"),
    })
}

/// Whether `command` runs `layersift hook`, from whatever directory: a program of that name, one with a suffix such as
/// `layersift-1.2`, or one of the name that this program has.
pub(super) fn is_ours(command: &str) -> bool {
    let own = std::env::current_exe().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_string()));
    runs(command, own.as_deref())
}

fn runs(command: &str, own: Option<&str>) -> bool {
    let Some((program, arguments)) = first_word(command) else { return false };
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
    let has_suffix = |rest: &str| rest.is_empty() || rest.starts_with(['-', '_', '.']);
    let is_named = name.strip_prefix(PROGRAM).is_some_and(has_suffix) || own == Some(name);
    is_named && arguments.split_whitespace().next() == Some("hook")
}

/// The first word of a shell's command, which may be quoted, and the rest.
fn first_word(command: &str) -> Option<(&str, &str)> {
    let command = command.trim_start();
    for quote in ['\'', '"'] {
        if let Some(quoted) = command.strip_prefix(quote) {
            return quoted.split_once(quote);
        }
    }
    command.split_once(char::is_whitespace)
}

/// `word` for a POSIX shell.
fn quoted(word: &str) -> anyhow::Result<String> {
    ensure!(!word.contains(['\'', '\n']), "the path of this program has a quote or a line break: {word}");
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    Ok(if is_plain { word.into() } else { format!("'{word}'") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_known_by_their_program() {
        for command in [
            "layersift hook || exit 2",
            "/opt/bin/layersift hook --fail open",
            "/opt/bin/layersift-r3 hook || exit 2",
            "'/opt/my tools/layersift_1.2' hook --policy p.toml",
            "\"/opt/my tools/layersift\" hook",
            "/opt/sift hook || exit 2",
        ] {
            assert!(runs(command, Some("sift")), "{command}");
        }
        for command in [
            "layersift",
            "layersift scan hook",
            "layersifter hook",
            "/opt/sift hook",
            "./mine layersift hook",
            "",
            "'x",
        ] {
            assert!(!runs(command, Some("layersift")), "{command}");
        }
        assert_eq!(quoted("/a b").unwrap(), "'/a b'");
        assert!(quoted("/a'b").is_err());
    }
}
