//! Dockerfiles as builders read them, and their lines in histories.

use super::*;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse(text, &Variables::new())
}

/// Keyword, lines and arguments of every instruction.
fn listed(file: &Dockerfile) -> Vec<(String, u64, u64, String)> {
    let one = |one: &Instruction| (one.keyword.clone(), one.line, one.end_line, one.arguments.clone());
    file.instructions.iter().map(one).collect()
}

fn entry(keyword: &str, line: u64, end_line: u64, arguments: &str) -> (String, u64, u64, String) {
    (keyword.into(), line, end_line, arguments.into())
}

#[test]
fn instructions_have_the_lines_that_they_are_on() {
    let file =
        parse("# syntax=docker/dockerfile:1\nfrom a\n\nRUN one \\\n# a comment\n\n  two\n# another\nCMD [\"x\"]\n");
    let expected = [entry("FROM", 2, 2, "a"), entry("RUN", 4, 7, "one   two"), entry("CMD", 9, 9, "[\"x\"]")];
    assert_eq!(listed(&file), expected);
    assert_eq!(file.lines, 9);
}

#[test]
fn a_directive_changes_the_escape_character() {
    let file = parse("# escape=`\nFROM a\nCOPY x c:\\\nRUN one `\n two\n");
    assert_eq!(
        listed(&file),
        [entry("FROM", 2, 2, "a"), entry("COPY", 3, 3, "x c:\\"), entry("RUN", 4, 5, "one  two")]
    );
    let late = parse("FROM a\n# escape=`\nRUN one \\\n two\n");
    assert_eq!(late.instructions[1].end_line, 4, "a directive after an instruction is a comment");
}

#[test]
fn heredocs_belong_to_their_instruction() {
    let file =
        parse("FROM a\nRUN <<EOF\nRUN not\n# one\nEOF\nCOPY <<-'one' <<two /srv/\n\tfirst\n\tone\nx\ntwo\nUSER me\n");
    let lines: Vec<_> = file.instructions.iter().map(|one| (one.line, one.end_line)).collect();
    assert_eq!(lines, [(1, 1), (2, 5), (6, 10), (11, 11)]);
    assert_eq!(file.instructions[1].script.as_deref(), Some("RUN not\n# one"));
    assert_eq!(file.instructions[2].heredoc.as_deref(), Some("\tfirst\n\tone\nx\ntwo"));
    assert_eq!(file.instructions[2].script, None);
    let open = parse("FROM a\nRUN cat <<EOF\nUSER me\n");
    assert_eq!(open.instructions.len(), 3, "a heredoc that nothing ends is none");
}

#[test]
fn stages_know_what_they_begin_from() {
    let text =
        "ARG TAG=1\nARG BASE=\"r.example/base:${TAG}\"\nFROM $BASE AS Build\nRUN x\nFROM scratch\nFROM build as last\n";
    let file = parse(text);
    let bases: Vec<&str> = file.stages.iter().map(|stage| &stage.base[..]).collect();
    assert_eq!(bases, ["r.example/base:1", "scratch", "build"]);
    assert_eq!(file.lineage(2), [0, 2]);
    assert_eq!((file.stage("BUILD"), file.stage("1"), file.stage("none")), (Some(0), Some(1), None));
    assert_eq!((file.stage_name(0), file.stage_name(1)), ("build".into(), "1".into()));
    assert_eq!(file.stage_at(4), Some(0));
    let other = Dockerfile::parse(text, &Variables::from([("TAG".into(), "9".into())]));
    assert_eq!(other.stages[0].base, "r.example/base:9");
}

#[test]
fn a_stage_that_begins_from_itself_ends() {
    let file = parse("FROM a AS a\nFROM a AS a\nFROM a AS b\n");
    assert_eq!(file.lineage(2), [0, 1, 2]);
}

#[test]
fn variables_are_replaced_as_in_a_shell() {
    let known = Variables::from([("A".into(), "x".into()), ("EMPTY".into(), String::new())]);
    let cases = [
        ("$A/${A}", "x/x"),
        ("${A:-d}${B:-d}${B-d}${EMPTY:-d}${EMPTY-d}", "xddd"),
        ("${A:+y}${B:+y}", "y"),
        ("$B ${B} ${A", "$B ${B} ${A"),
        ("€$€ 1$", "€$€ 1$"),
    ];
    for (text, expected) in cases {
        assert_eq!(expand(text, &known), expected, "{text}");
    }
}

#[test]
fn anything_is_a_dockerfile() {
    for text in ["", "\\", "#", "# escape", "RUN", "FROM", "\0", "<<EOF", "RUN <<EOF", "FROM a AS", "ONBUILD"] {
        let _ = parse(text);
        let _ = parse(&format!("FROM a\n{text}\n\\\n{text}"));
    }
}
