//! Dockerfiles: their instructions with the lines that they are on, and their stages.
//!
//! Source: BuildKit, `frontend/dockerfile/parser` and `docs/reference.md`. What a Dockerfile says is not executed:
//! variables are replaced only in `FROM`, where they decide what a stage begins from.

mod heredoc;
mod history;
mod variables;

use heredoc::Lines;
pub(crate) use history::assigns;
pub use history::{HistoryMatch, keyword, match_history};
pub use variables::{Variables, expand};

/// The most instructions that are read.
const MAX_INSTRUCTIONS: usize = 5_000;

/// A Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// All its instructions, in order.
    pub instructions: Vec<Instruction>,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// The number of its lines.
    pub lines: u64,
}

/// An instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Its name in capitals, such as `RUN`.
    pub keyword: String,
    /// Its flags, such as `--from=build`.
    pub flags: Vec<String>,
    /// What follows the flags, with continued lines joined.
    pub arguments: String,
    /// The text of its heredocs, with the lines that end them.
    pub heredoc: Option<String>,
    /// The text of its only heredoc, if that is all of the instruction.
    pub script: Option<String>,
    /// Its first line, from 1.
    pub line: u64,
    /// Its last line.
    pub end_line: u64,
}

/// A stage: a `FROM` and the instructions that follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in small letters.
    pub name: Option<String>,
    /// What it begins from, with variables replaced as far as they are known.
    pub base: String,
    /// The index of its `FROM` in [`Dockerfile::instructions`].
    pub first: usize,
    /// The index after its last instruction.
    pub end: usize,
}

impl Dockerfile {
    /// Reads a Dockerfile. `arguments` are the values of build arguments, which come before those that `ARG` names.
    ///
    /// Lines that are no instruction are read as instructions that nothing matches: a Dockerfile is never an error.
    pub fn parse(text: &str, arguments: &Variables) -> Dockerfile {
        let lines = Lines::new(text);
        let escape = escape(&lines.all);
        let mut instructions = Vec::new();
        let mut next = 0;
        while next < lines.all.len() && instructions.len() < MAX_INSTRUCTIONS {
            let Some((joined, first, after)) = logical_line(&lines.all, next, escape) else { break };
            next = after;
            let mut instruction = Instruction::parse(&joined);
            if matches!(&instruction.keyword[..], "RUN" | "COPY" | "ADD") {
                next = instruction.read_heredocs(&lines, next);
            }
            (instruction.line, instruction.end_line) = (first as u64 + 1, next as u64);
            instructions.push(instruction);
        }
        let stages = stages(&instructions, arguments);
        Dockerfile { instructions, stages, lines: lines.all.len() as u64 }
    }

    /// The index of the stage called `name`: by its name, in any case, or by its number.
    pub fn stage(&self, name: &str) -> Option<usize> {
        let wanted = name.to_ascii_lowercase();
        let by_name = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&wanted));
        by_name.or_else(|| wanted.parse().ok().filter(|index| *index < self.stages.len()))
    }

    /// The stages that `stage` is made of, from the one that begins from another image to itself.
    pub fn lineage(&self, stage: usize) -> Vec<usize> {
        let mut lineage = Vec::new();
        let mut next = Some(stage);
        while let Some((index, found)) = next.and_then(|index| Some((index, self.stages.get(index)?))) {
            lineage.push(index);
            let before = self.stages.get(..index).unwrap_or_default();
            // Only a stage above can be meant, so this ends.
            let name = found.base.to_ascii_lowercase();
            next = before.iter().rposition(|stage| stage.name.as_deref() == Some(&name));
        }
        lineage.reverse();
        lineage
    }

    /// The stage that has the line `line`.
    pub fn stage_at(&self, line: u64) -> Option<usize> {
        let begins = |stage: &Stage| self.instructions.get(stage.first).is_some_and(|from| from.line <= line);
        self.stages.partition_point(begins).checked_sub(1)
    }

    /// The name of a stage, or its number.
    pub fn stage_name(&self, stage: usize) -> String {
        self.stages.get(stage).and_then(|stage| stage.name.clone()).unwrap_or_else(|| stage.to_string())
    }

    /// The instruction that has the line `line`.
    pub fn instruction_at(&self, line: u64) -> Option<&Instruction> {
        let next = self.instructions.partition_point(|one| one.line <= line);
        self.instructions.get(next.checked_sub(1)?).filter(|one| line <= one.end_line)
    }
}

impl Instruction {
    fn parse(line: &str) -> Instruction {
        let line = line.trim();
        let (keyword, mut rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut flags = Vec::new();
        rest = rest.trim();
        while rest.starts_with("--") {
            let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            flags.push(flag.to_string());
            rest = after.trim_start();
        }
        Instruction { keyword: keyword.to_ascii_uppercase(), flags, arguments: rest.into(), ..Instruction::default() }
    }

    /// Reads the heredocs of the instruction, which begin at the line `next`, and returns the line after them.
    fn read_heredocs(&mut self, lines: &Lines<'_>, mut next: usize) -> usize {
        let named = heredoc::find(&self.arguments);
        let mut text = Vec::new();
        let mut only = None;
        for heredoc in &named {
            let Some((body, after)) = heredoc.read(lines, next) else { break };
            text.extend_from_slice(lines.all.get(next..after).unwrap_or_default());
            only = Some(body);
            next = after;
        }
        self.heredoc = (!text.is_empty()).then(|| text.join("\n"));
        let is_all = named.len() == 1 && !self.arguments.trim().contains(char::is_whitespace);
        self.script = only.filter(|_| is_all);
        next
    }

    /// The value of the flag `name`, such as that of `from` in `--from=build`.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().find_map(|flag| flag.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The character that continues a line, which a directive at the top may change.
fn escape(lines: &[&str]) -> char {
    for line in lines {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|text| text.split_once('=')) else { break };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            break;
        }
        if name.eq_ignore_ascii_case("escape") {
            return if value == "`" { '`' } else { '\\' };
        }
    }
    '\\'
}

/// The instruction from the line `next` on, without its continuations, its first line, and the line after it. Comments
/// and blank lines inside of it are left out.
fn logical_line(lines: &[&str], next: usize, escape: char) -> Option<(String, usize, usize)> {
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let is_skipped = |line: &&str| line.trim().is_empty() || is_comment(line);
    let first = next + lines.get(next..)?.iter().position(|line| !is_skipped(line))?;
    let mut joined = String::new();
    // The last line that belongs to it: comments after it do not.
    let mut end = first;
    for (index, line) in lines.iter().enumerate().skip(first) {
        if index > first && is_skipped(line) {
            continue;
        }
        end = index + 1;
        match line.trim_end().strip_suffix(escape) {
            Some(start) => joined.push_str(start),
            None => {
                joined.push_str(line);
                break;
            }
        }
    }
    Some((joined, first, end))
}

fn stages(instructions: &[Instruction], arguments: &Variables) -> Vec<Stage> {
    let mut known = Variables::new();
    let mut stages: Vec<Stage> = Vec::new();
    for (index, instruction) in instructions.iter().enumerate() {
        match &instruction.keyword[..] {
            "FROM" => {
                let words: Vec<&str> = instruction.arguments.split_whitespace().collect();
                let base = words.first().copied().unwrap_or_default();
                let name = match words.get(1..) {
                    Some([word, name, ..]) if word.eq_ignore_ascii_case("as") => Some(name.to_ascii_lowercase()),
                    _ => None,
                };
                let base = expand(base.trim_matches(['"', '\'']), &known);
                stages.push(Stage { name, base, first: index, end: index });
            }
            // Only arguments before the first stage are known in FROM.
            "ARG" if stages.is_empty() => variables::declare(&instruction.arguments, arguments, &mut known),
            _ => {}
        }
        if let Some(stage) = stages.last_mut() {
            stage.end = index + 1;
        }
    }
    stages
}

#[cfg(test)]
mod tests;
