//! Matches the instructions of a Dockerfile with the history of an image, from the end.
//!
//! Builders write history in forms of their own: BuildKit `RUN |1 NAME=value /bin/sh -c … # buildkit`, Docker's classic
//! builder and buildah `/bin/sh -c #(nop) ENV …` and `|1 NAME=value /bin/sh -c …`, kaniko the instruction itself and
//! only what made a layer. An entry that does not fit ends the matching: no line is better than a wrong one.

use super::{Dockerfile, Instruction, Stage};
use crate::config::HistoryEntry;

/// The instructions that wrote the history of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryMatch {
    /// For each entry of the history, the index of its instruction, if it is known.
    pub instructions: Vec<Option<usize>>,
    /// The first entry that the Dockerfile wrote; those before it are of the base image. `None` if not all
    /// instructions were found.
    pub own_from: Option<usize>,
    /// The last instruction that does not fit, and so ended the matching.
    pub unmatched: Option<usize>,
    /// Whether several instructions are in one layer: buildah without `--layers` makes such images, and `--squash`.
    pub is_squashed: bool,
}

/// How many bytes are compared at most: instructions that may have no entry are compared with the same one.
const MAX_COMPARED: usize = 128 << 20;

/// The keyword and the text of an entry.
struct Recorded<'h> {
    keyword: &'h str,
    text: &'h str,
}

/// The instructions of the stage `stage`, and of those that it begins from, that wrote `history`.
pub fn match_history(dockerfile: &Dockerfile, stage: usize, history: &[HistoryEntry]) -> HistoryMatch {
    let mut matched = HistoryMatch { instructions: vec![None; history.len()], ..HistoryMatch::default() };
    let is_kaniko = history.last().is_some_and(|entry| entry.author == "kaniko");
    let lineage = dockerfile.lineage(stage);
    let stages = lineage.iter().filter_map(|index| dockerfile.stages.get(*index));
    let own: Vec<usize> = stages.flat_map(|Stage { first, end, .. }| first + 1..*end).collect();
    let mut next = history.len();
    let mut labels = 1;
    let mut left = MAX_COMPARED;
    'instructions: for index in own.into_iter().rev() {
        let Some(instruction) = dockerfile.instructions.get(index) else { continue };
        while let Some((at, entry)) = next.checked_sub(1).and_then(|at| Some((at, history.get(at)?))) {
            let is_affordable = left.checked_sub(cost(instruction, entry)).map(|rest| left = rest).is_some();
            if is_affordable && fits(instruction, entry) {
                matched.instructions[at] = Some(index);
                next = at;
                continue 'instructions;
            }
            if is_optional(instruction, is_kaniko) {
                continue 'instructions;
            }
            // `--label` adds an entry after all others.
            if next == history.len() && labels > 0 && recorded(entry).keyword == "LABEL" {
                labels -= 1;
                next = at;
                continue;
            }
            break;
        }
        if !is_optional(instruction, is_kaniko) {
            matched.unmatched = Some(index);
            break;
        }
    }
    // The entry that ended the matching tells as well.
    let from = if matched.unmatched.is_some() { next.saturating_sub(1) } else { next };
    matched.is_squashed = history.get(from..).unwrap_or_default().iter().any(is_without_layer);
    let begins_empty = lineage.first().and_then(|root| dockerfile.stages.get(*root));
    let begins_empty = begins_empty.is_some_and(|root| root.base.eq_ignore_ascii_case("scratch"));
    matched.own_from = (matched.unmatched.is_none() && !(begins_empty && next > 0)).then_some(next);
    matched
}

/// The keyword of the instruction that wrote an entry; empty if it is not known.
pub fn keyword(entry: &HistoryEntry) -> &str {
    recorded(entry).keyword
}

/// Whether an entry is of an instruction that changes files, but is said to have no layer.
fn is_without_layer(entry: &HistoryEntry) -> bool {
    entry.empty_layer && matches!(recorded(entry).keyword, "RUN" | "COPY" | "ADD")
}

/// Whether an instruction may have no entry.
fn is_optional(instruction: &Instruction, is_kaniko: bool) -> bool {
    let keyword = &instruction.keyword[..];
    keyword == "ONBUILD" || (is_kaniko && !matches!(keyword, "RUN" | "COPY" | "ADD"))
}

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

fn recorded(entry: &HistoryEntry) -> Recorded<'_> {
    let text = entry.created_by.trim();
    let text = text.strip_suffix("# buildkit").unwrap_or(text).trim_end();
    let of_no_command =
        text.split_once("#(nop)").filter(|(shell, _)| shell.starts_with('/') || shell.starts_with("cmd"));
    let named = of_no_command.map_or(text, |(_, rest)| rest.trim_start());
    let word = named.split(char::is_whitespace).next().unwrap_or_default();
    if let Some(keyword) = KEYWORDS.into_iter().find(|keyword| *keyword == word) {
        return Recorded { keyword, text: named.get(word.len()..).unwrap_or_default().trim() };
    }
    let is_command = ["/", "|", "cmd ", "powershell "].iter().any(|start| text.starts_with(start));
    Recorded { keyword: if is_command && of_no_command.is_none() { "RUN" } else { "" }, text }
}

/// How many bytes it takes to compare an instruction with an entry.
fn cost(instruction: &Instruction, entry: &HistoryEntry) -> usize {
    let names = match &instruction.keyword[..] {
        "ARG" | "ENV" | "LABEL" => instruction.arguments.split_whitespace().count(),
        _ => 1,
    };
    let heredoc = instruction.heredoc.as_ref().map_or(0, String::len);
    entry.created_by.len().saturating_mul(names) + instruction.arguments.len() + heredoc
}

fn fits(instruction: &Instruction, entry: &HistoryEntry) -> bool {
    let Recorded { keyword, text } = recorded(entry);
    if keyword != instruction.keyword {
        return false;
    }
    let arguments = &instruction.arguments[..];
    match keyword {
        "RUN" => is_run(instruction, text),
        "COPY" | "ADD" => is_copy(instruction, text),
        // buildah lists all arguments so far.
        "ARG" => split_quoted(arguments).iter().all(|word| has_name(text, word.split('=').next().unwrap_or_default())),
        "ENV" | "LABEL" => {
            let names = names(arguments);
            !names.is_empty() && names.iter().all(|name| assigns(text, name))
        }
        "WORKDIR" => has_variable(arguments) || text.ends_with(arguments.trim().trim_matches(['"', '\'', '/'])),
        // BuildKit writes a command as `CMD-SHELL`.
        "HEALTHCHECK" => letters(text).contains(&letters(arguments.strip_prefix("CMD").unwrap_or(arguments))),
        _ => has_variable(arguments) || letters(text).contains(&letters(arguments)),
    }
}

/// Whether a command of a history is that of `RUN`. History has it after a shell, arguments and mounts.
fn is_run(instruction: &Instruction, text: &str) -> bool {
    let text = words(text);
    let arguments = &instruction.arguments;
    let list = arguments.trim_start().starts_with('[').then(|| serde_json::from_str::<Vec<String>>(arguments).ok());
    if let Some(list) = list.flatten() {
        let command = words(&list.join(" "));
        return !command.is_empty() && text.ends_with(&command);
    }
    let whole = instruction.heredoc.as_ref().map(|heredoc| format!("{arguments} {heredoc}"));
    let commands = [instruction.script.clone(), whole, Some(arguments.clone())];
    commands.into_iter().flatten().map(|command| words(&command)).filter(|command| !command.is_empty()).any(|command| {
        text.strip_suffix(&command).is_some_and(|before| {
            let last = before.trim_end().rsplit(' ').next().unwrap_or_default();
            let is_shell = matches!(last, "" | "-c" | "/C" | "-Command") || last.starts_with("--");
            is_shell && (before.is_empty() || before.ends_with(' '))
        })
    })
}

/// Whether an entry copies what the instruction says. BuildKit writes the sources as they are in the Dockerfile with
/// variables replaced, other builders a checksum.
fn is_copy(instruction: &Instruction, text: &str) -> bool {
    let arguments = &instruction.arguments;
    let list = serde_json::from_str::<Vec<String>>(arguments).ok();
    let wanted = list.unwrap_or_else(|| arguments.split_whitespace().map(Into::into).collect());
    let Some(target) = wanted.last() else { return false };
    let found: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with("--")).collect();
    if let Some((_, place)) = text.rsplit_once(" in ").filter(|_| found.len() == 3) {
        let place = place.trim().trim_end_matches('/');
        let target = target.trim_start_matches("./").trim_matches('/');
        return has_variable(target) || target == "." || place.ends_with(target);
    }
    found.len() == wanted.len() && wanted.iter().zip(&found).all(|(wanted, found)| is_word(wanted, found))
}

/// Whether `found` is the word `wanted` with its variables replaced.
fn is_word(wanted: &str, found: &str) -> bool {
    let wanted = wanted.trim_matches(['"', '\'']);
    match wanted.split_once('$') {
        None => wanted == found,
        Some((start, _)) => found.starts_with(start),
    }
}

/// The names that `ENV` and `LABEL` give values to.
fn names(arguments: &str) -> Vec<String> {
    let words = split_quoted(arguments);
    let unquoted = |text: &str| text.replace(['"', '\''], "");
    match words.first() {
        // The old form: `ENV NAME value with spaces`.
        Some(first) if !first.contains('=') && words.len() > 1 && !words[1..].iter().any(|word| word.contains('=')) => {
            vec![unquoted(first)]
        }
        _ => words.iter().map(|word| unquoted(word.split('=').next().unwrap_or_default())).collect(),
    }
}

/// Words that are separated by blanks outside of quotes.
fn split_quoted(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        let word = words.last_mut();
        match (c, quote) {
            ('\\', _) => {
                let escaped: Vec<char> = std::iter::once(c).chain(characters.next()).collect();
                if let Some(word) = word {
                    word.extend(escaped);
                }
            }
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            (_, None) if c.is_whitespace() => words.push(String::new()),
            _ => word.into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a text gives a value to `name`.
pub(crate) fn assigns(text: &str, name: &str) -> bool {
    let text = text.replace(['"', '\''], "");
    let assigned = format!("{name}=");
    !name.is_empty() && (text.starts_with(&assigned) || text.contains(&format!(" {assigned}")))
}

fn has_name(text: &str, name: &str) -> bool {
    text.split_whitespace().any(|word| word.split('=').next() == Some(name))
}

fn has_variable(text: &str) -> bool {
    text.contains('$')
}

/// Words separated by single blanks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Letters and digits: what all forms of a list have in common.
fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}
