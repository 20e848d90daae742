//! Loading rules: what is refused, and with which error.

use super::*;

const RULE: &str = r#"
[[signature]]
id = "acme.token"
title = "Acme token"
severity = "high"
pattern = 'acme_[0-9]{8}'
keywords = ["acme_"]
what = "A token."
risk = "Opens an account."
fix = "Revoke it."
"#;

fn load(text: &str) -> Result<Ruleset, RulesError> {
    Ruleset::from_files([("a.toml".to_string(), text.to_string())])
}

#[test]
fn unknown_fields_of_every_kind_of_rule_are_refused_with_their_line() {
    let common = "id = 'a.b'\ntitle = 't'\nseverity = 'low'\nwhat = 'w'\nrisk = 'r'\nfix = 'f'\n";
    let kinds = [
        ("signature", "pattern = 'a'\nkeywords = []\n"),
        ("file", "paths = []\n"),
        ("port", "ports = []\n"),
        ("check", ""),
        ("chain", "key = []\nexposure = []\n"),
    ];
    for (kind, own) in kinds {
        let valid = format!("[[{kind}]]\n{common}{own}");
        assert_eq!(load(&valid).unwrap().ids().collect::<Vec<_>>(), ["a.b"]);
        let Err(RulesError::Parse { source, .. }) = load(&format!("{valid}colour = 'red'\n")) else {
            panic!("{kind} takes an unknown field");
        };
        let line = format!("line {}", 8 + own.lines().count());
        let message = source.to_string();
        assert!(
            message.contains("unknown field `colour`, expected one of `id`") && message.contains(&line),
            "{kind}: {message}"
        );
    }
}

#[test]
fn ids_and_names_of_lists_are_unique() {
    let twice = [RULE, RULE].map(|text| ("a.toml".to_string(), text.to_string()));
    assert!(matches!(Ruleset::from_files(twice), Err(RulesError::Duplicate { id, .. }) if id == "acme.token"));
    let lists = ["a.toml", "b.toml"].map(|name| (name.to_string(), "[reject-lists]\nwords = []\n".to_string()));
    let error = Ruleset::from_files(lists).unwrap_err();
    assert_eq!(error.to_string(), "b.toml: `words` is already defined in a.toml; choose another name");
}

#[test]
fn reject_lists_are_those_of_the_file_and_of_this_build() {
    let rule = RULE.replacen("fix =", "confirm = { reject = ['a'], reject-lists = ['mine', 'words'] }\nfix =", 1);
    let rules = load(&format!("[reject-lists]\nmine = ['b', 'c']\n{rule}")).unwrap();
    let reject = &rules.signatures[0].confirm.reject;
    assert_eq!(reject[..3], ["a", "b", "c"]);
    assert!(reject.len() > 3);
    let error = load(&rule).unwrap_err();
    assert!(matches!(&error, RulesError::RejectList { list, .. } if list == "mine"), "{error}");
}

#[test]
fn built_in_rules_have_examples_only_on_demand() {
    let rules = Ruleset::built_in().unwrap();
    assert!(rules.signatures.iter().all(|rule| rule.examples.is_empty() && rule.counterexamples.is_empty()));
    let rules = rules.with_built_in_examples().unwrap();
    let without: Vec<&str> =
        rules.signatures.iter().filter(|rule| rule.examples.is_empty()).map(|rule| &rule.id[..]).collect();
    assert!(without.len() < 5, "{without:?}");
}
