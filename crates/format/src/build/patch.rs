//! Proposed changes of a Dockerfile, as unified diffs without context: lines that are not changed may hold secrets.
//!
//! A change is proposed only where one is plainly meant. Source of `env=` in `--mount=type=secret`: Dockerfile frontend
//! 1.10.

use super::NamedDockerfile;
use crate::dockerfile::{Instruction, Stage};

/// The user that is proposed instead of root: no system has it, and no file belongs to it.
const USER: &str = "65532:65532";

/// What is to be fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fix<'f> {
    /// `ENV` or `ARG` at this line gives a secret to a variable of this name.
    Variable(u64, &'f str),
    /// Containers run as root. The line is that of `USER`, if there is one.
    User(Option<u64>),
    /// `COPY` or `ADD` at this line copied this file into the image.
    Copied(u64, &'f str),
}

/// A change of lines: `remove` lines from the index `at` on, and others in their place.
struct Edit {
    at: usize,
    remove: usize,
    insert: Vec<String>,
}

impl NamedDockerfile {
    /// The change that fixes something, if there is one that does not have to be guessed.
    pub fn patch(&self, fix: Fix<'_>) -> Option<String> {
        match fix {
            Fix::Variable(line, name) => self.without_variable(line, name).map(|edits| self.diff(edits)),
            Fix::User(line) => self.with_user(line).map(|edit| self.diff(vec![edit])),
            Fix::Copied(line, path) => self
                .ignored(line, path)
                .map(|path| format!("--- a/.dockerignore\n+++ b/.dockerignore\n@@ -0,0 +1 @@\n+{path}\n")),
        }
    }

    /// Takes the secret from the variable `name`, and mounts it where a command of the stage uses it.
    fn without_variable(&self, line: u64, name: &str) -> Option<Vec<Edit>> {
        let file = &self.dockerfile;
        let setter = file.instruction_at(line).filter(|one| matches!(&one.keyword[..], "ENV" | "ARG"))?;
        let is_only = setter.arguments.split('=').next().map(str::trim) == Some(name) && !self.sets_more(setter);
        let stage = file.stage_at(line)?;
        let own_name = file.stages.get(stage)?.name.as_deref();
        let is_built_on =
            own_name.is_some_and(|name| file.stages.iter().any(|one| one.base.eq_ignore_ascii_case(name)));
        let at = index(setter.line)?;
        // A line that goes on, if only to one that is empty.
        let goes_on = self.lines.get(at)?.trim_end().ends_with(['\\', '`']);
        if !is_only || setter.line != setter.end_line || goes_on || (setter.keyword == "ENV" && is_built_on) {
            return None;
        }
        let mut edits = vec![Edit { at, remove: 1, insert: Vec::new() }];
        let id = name.to_ascii_lowercase().replace('_', "-");
        for user in self.instructions_of(file.stages.get(stage)?).filter(|one| one.line > line && uses(one, name)) {
            let at = index(user.line)?;
            let text = self.lines.get(at)?;
            let start = text.len() - text.trim_start().len() + "RUN".len();
            let (before, after) = text.split_at_checked(start)?;
            if user.keyword != "RUN" || !before.trim().eq_ignore_ascii_case("RUN") || !after.starts_with([' ', '\t']) {
                return None;
            }
            edits.push(Edit {
                at,
                remove: 1,
                insert: vec![format!("{before} --mount=type=secret,id={id},env={name}{after}")],
            });
        }
        Some(edits)
    }

    /// Whether `ENV` or `ARG` name several variables.
    fn sets_more(&self, setter: &Instruction) -> bool {
        let value = setter.arguments.split_once('=').map_or("", |(_, value)| value);
        value.contains('=') || (setter.keyword == "ARG" && setter.arguments.split_whitespace().count() > 1)
    }

    /// Sets a user before the last `CMD` and `ENTRYPOINT`, or in place of root.
    fn with_user(&self, line: Option<u64>) -> Option<Edit> {
        let file = &self.dockerfile;
        let own: Vec<&Instruction> = self.instructions_of(file.stages.last()?).collect();
        let insert = vec![format!("USER {USER}")];
        if let Some(line) = line {
            let user = own.iter().rfind(|one| one.keyword == "USER").filter(|one| one.line == line)?;
            return Some(Edit { at: index(user.line).filter(|_| user.line == user.end_line)?, remove: 1, insert });
        }
        if own.iter().any(|one| one.keyword == "USER") {
            return None;
        }
        let is_start = |one: &&&Instruction| matches!(&one.keyword[..], "CMD" | "ENTRYPOINT");
        let starts = own.iter().rev().take_while(is_start).count();
        let last = own.get(own.len().checked_sub(starts + 1)?)?;
        Some(Edit { at: usize::try_from(last.end_line).ok()?, remove: 0, insert })
    }

    /// The path in the build context of a file that came with a directory.
    fn ignored(&self, line: u64, path: &str) -> Option<String> {
        let copy = self.dockerfile.instruction_at(line).filter(|one| matches!(&one.keyword[..], "COPY" | "ADD"))?;
        let words: Vec<&str> = copy.arguments.split_whitespace().collect();
        let [source, target] = words[..] else { return None };
        let is_plain = |text: &str| !text.contains(['$', '*', '?', '[', '"', '<', ':']);
        if copy.flag("from").is_some() || !is_plain(source) || !is_plain(target) || path.contains(['\n', '\r']) {
            return None;
        }
        let source = match source.trim_start_matches("./").trim_start_matches('/') {
            "" | "." => "",
            directory => directory.strip_suffix('/')?,
        };
        let target = match target {
            "." | "./" => self.working_directory(line)?,
            absolute => absolute.strip_prefix('/')?.trim_end_matches('/').to_string(),
        };
        let below = path.strip_prefix(&target[..])?;
        let below = if target.is_empty() { below } else { below.strip_prefix('/')? };
        Some(if source.is_empty() { below.into() } else { format!("{source}/{below}") })
    }

    /// The working directory at a line, without its first slash, if one instruction of the stage sets it alone.
    fn working_directory(&self, line: u64) -> Option<String> {
        let stage = self.dockerfile.stages.get(self.dockerfile.stage_at(line)?)?;
        let last = self.instructions_of(stage).filter(|one| one.keyword == "WORKDIR" && one.line < line).last()?;
        let path = last.arguments.trim().strip_prefix('/').filter(|path| !path.contains('$'))?;
        Some(path.trim_end_matches('/').into())
    }

    fn instructions_of(&self, stage: &Stage) -> impl Iterator<Item = &Instruction> {
        self.dockerfile.instructions.get(stage.first..stage.end).unwrap_or_default().iter()
    }

    fn diff(&self, edits: Vec<Edit>) -> String {
        let name = self.name.trim_start_matches('/');
        let mut text = format!("--- a/{name}\n+++ b/{name}\n");
        let mut shift: i64 = 0;
        for Edit { at, remove, insert } in edits {
            // A side without lines is named by the line before it.
            let old = if remove == 0 { at } else { at + 1 };
            let new = at as i64 + shift + i64::from(!insert.is_empty());
            text += &format!("@@ -{old},{remove} +{new},{} @@\n", insert.len());
            for line in self.lines.iter().skip(at).take(remove) {
                text += &format!("-{line}\n");
            }
            for line in &insert {
                text += &format!("+{line}\n");
            }
            shift += insert.len() as i64 - remove as i64;
        }
        text
    }
}

/// The index of a line that counts from 1.
fn index(line: u64) -> Option<usize> {
    usize::try_from(line.checked_sub(1)?).ok()
}

/// Whether an instruction uses the variable `name`.
fn uses(instruction: &Instruction, name: &str) -> bool {
    let texts = [Some(&instruction.arguments), instruction.heredoc.as_ref()];
    texts.into_iter().flatten().chain(&instruction.flags).any(|text| {
        text.split('$').skip(1).any(|rest| {
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            rest.strip_prefix(name)
                .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(text: &str, fix: Fix<'_>) -> Option<String> {
        NamedDockerfile::new("Dockerfile", text).patch(fix)
    }

    #[test]
    fn a_secret_of_a_build_argument_is_mounted_where_it_is_used() {
        let text = "FROM a\nARG NPM_TOKEN\nRUN echo\nRUN npm ci \\\n  --token=${NPM_TOKEN}\nCMD [\"x\"]\n";
        let expected = "--- a/Dockerfile\n+++ b/Dockerfile\n@@ -2,1 +1,0 @@\n-ARG NPM_TOKEN\n@@ -4,1 +3,1 @@\n\
                        -RUN npm ci \\\n+RUN --mount=type=secret,id=npm-token,env=NPM_TOKEN npm ci \\\n";
        assert_eq!(patch(text, Fix::Variable(2, "NPM_TOKEN")).unwrap(), expected);
    }

    #[test]
    fn what_has_to_be_guessed_is_not_proposed() {
        for (text, line, name) in [
            ("FROM a\nENV A=1 B=2\n", 2, "A"),
            ("FROM a\nARG A B\n", 2, "A"),
            ("FROM a\nENV A=1 \\\n  \n", 2, "A"),
            ("FROM a\nARG A\nLABEL x=$A\n", 2, "A"),
            ("FROM a AS b\nENV A=1\nFROM b\n", 2, "A"),
            ("FROM a\nENV A=1\n", 2, "B"),
            ("FROM a\nRUN x\n", 2, "A"),
        ] {
            assert_eq!(patch(text, Fix::Variable(line, name)), None, "{text}");
        }
        for (text, line, path) in [
            ("FROM a\nCOPY --from=b . /app\n", 2, "app/.env"),
            ("FROM a\nCOPY a b /app/\n", 2, "app/.env"),
            ("FROM a\nCOPY . $X\n", 2, "app/.env"),
            ("FROM a\nCOPY . .\n", 2, "app/.env"),
            ("FROM a\nCOPY . /application\n", 2, "app/.env"),
            ("FROM a\nCOPY .env /app/\n", 2, "app/.env"),
        ] {
            assert_eq!(patch(text, Fix::Copied(line, path)), None, "{text}");
        }
        assert_eq!(patch("FROM a\nUSER me\n", Fix::User(None)), None);
    }

    #[test]
    fn a_copied_file_is_ignored() {
        for (text, line, path, expected) in [
            ("FROM a\nCOPY . /app\n", 2, "app/config/.env", "config/.env"),
            ("FROM a\nWORKDIR /srv\nADD ./src/ ./\n", 3, "srv/.npmrc", "src/.npmrc"),
            ("FROM a\nCOPY . /\n", 2, "id_rsa", "id_rsa"),
        ] {
            let expected = format!("--- a/.dockerignore\n+++ b/.dockerignore\n@@ -0,0 +1 @@\n+{expected}\n");
            assert_eq!(patch(text, Fix::Copied(line, path)).as_ref(), Some(&expected), "{text}");
        }
    }

    #[test]
    fn a_user_is_set_before_the_command() {
        let head = "--- a/Dockerfile\n+++ b/Dockerfile\n";
        let added = patch("FROM a\nRUN x\nENTRYPOINT x\nCMD y\n", Fix::User(None)).unwrap();
        assert_eq!(added, format!("{head}@@ -2,0 +3,1 @@\n+USER 65532:65532\n"));
        let replaced = patch("FROM a\nUSER root\nCMD y\n", Fix::User(Some(2))).unwrap();
        assert_eq!(replaced, format!("{head}@@ -2,1 +2,1 @@\n-USER root\n+USER 65532:65532\n"));
        assert_eq!(patch("FROM a\nUSER b\nUSER root\nUSER c\n", Fix::User(Some(3))), None);
    }
}
