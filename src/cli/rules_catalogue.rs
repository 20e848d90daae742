//! The output of `layersift rules`: the list of rules, the page of one rule, and the catalogue in Markdown.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use layersift_model::RuleInfo;
use layersift_report::terminal::wrap;
use layersift_rules::{Confirm, Ruleset, Signature};

/// A rule of any kind, as it is listed.
struct Line {
    info: Arc<RuleInfo>,
    kind: &'static str,
    /// What it looks for.
    looks_for: String,
    references: Vec<String>,
}

/// A line for each rule whose id or title contains `filter`: severity, confidence, id, title.
pub(super) fn list(rules: &Ruleset, filter: &str) -> String {
    let mut out = String::new();
    for Line { info, .. } in filtered(rules, filter) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<8}  {:<6}  {:<44}  {}",
            info.severity.name(),
            info.confidence.name(),
            info.id,
            info.title
        );
    }
    out
}

/// The rules whose id or title contains `filter`, as JSON. Examples are included for signatures that apply to every
/// file, if they are text.
///
/// # Errors
/// Those of the serializer, which has no reason to fail.
pub(super) fn list_json(rules: &Ruleset, filter: &str) -> serde_json::Result<String> {
    let signatures: HashMap<&str, &Signature> = rules.signatures.iter().map(|rule| (&rule.id[..], rule)).collect();
    let documents: Vec<serde_json::Value> = filtered(rules, filter)
        .iter()
        .map(|line| {
            let signature = signatures.get(&line.info.id[..]).filter(|signature| signature.paths.is_empty());
            let examples = signature.iter().flat_map(|rule| rule.examples.iter().map(|one| &one.input));
            let counterexamples = signature.iter().flat_map(|rule| rule.counterexamples.iter().map(|one| &one.input));
            serde_json::json!({
                "id": line.info.id,
                "kind": line.kind,
                "title": line.info.title,
                "severity": line.info.severity,
                "confidence": line.info.confidence,
                "what": line.info.what,
                "risk": line.info.risk,
                "fix": line.info.fix,
                "references": line.references,
                "examples": texts(examples),
                "counterexamples": texts(counterexamples),
            })
        })
        .collect();
    serde_json::to_string_pretty(&documents)
}

/// Those of the `inputs` that are text.
fn texts<'i>(inputs: impl Iterator<Item = &'i String>) -> Vec<&'i String> {
    inputs.filter(|text| !text.is_empty()).collect()
}

/// The page that a responder reads on the rule `id`, its prose wrapped to `width` columns; `None` for an unknown id.
pub(super) fn page(rules: &Ruleset, id: &str, width: usize) -> Option<String> {
    let all = lines(rules);
    let Line { info, kind, looks_for, references } = all.iter().find(|line| line.info.id == id)?;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{}\n{}  {}  {} confidence  {kind}\n",
        info.title,
        info.id,
        info.severity,
        info.confidence.name()
    );
    for (title, text) in [("What it is", &info.what), ("Risk", &info.risk), ("Fix", &info.fix)] {
        let prose = wrap(text, width.clamp(40, 100) - 2).join("\n");
        let _ = writeln!(out, "{title}\n{}\n", indented(&prose));
    }
    let _ = writeln!(out, "Looks for\n{}\n", indented(looks_for));
    if let Some(signature) = rules.signatures.iter().find(|signature| signature.id == id) {
        samples(&mut out, signature);
    }
    if !references.is_empty() {
        let _ = writeln!(out, "References\n{}", indented(&references.join("\n")));
    }
    Some(out)
}

/// The catalogue of all rules in Markdown, by family.
pub(super) fn catalogue(rules: &Ruleset) -> String {
    let mut out = String::from(
        "# Rules\n\nMade by `layersift rules list --format markdown`; a test keeps it in step. `layersift rules \
         show ID` prints what a rule looks for, with examples.\n",
    );
    let all = lines(rules);
    let _ = writeln!(
        out,
        "\n{} rules: {} signatures of secrets and keys, {} of files, {} of ports, {} checks of the \
         configuration, {} chains.",
        all.len(),
        rules.signatures.len(),
        rules.files.len(),
        rules.ports.len(),
        rules.checks.len(),
        rules.chains.len()
    );
    let mut family = "";
    for line in &all {
        let first = line.info.id.split('.').next().unwrap_or_default();
        if first != family {
            family = first;
            let _ = writeln!(out, "\n## {family}\n\n| id | title | severity | confidence |\n|---|---|---|---|");
        }
        let RuleInfo { id, title, severity, confidence, .. } = &*line.info;
        let _ = writeln!(out, "| `{id}` | {} | {severity} | {} |", title.replace('|', "\\|"), confidence.name());
    }
    out
}

/// The rules whose id or title contains `filter`, in the order of their ids.
fn filtered(rules: &Ruleset, filter: &str) -> Vec<Line> {
    let wanted = filter.to_lowercase();
    let is_wanted = |info: &RuleInfo| info.id.contains(&wanted) || info.title.to_lowercase().contains(&wanted);
    let mut lines = lines(rules);
    lines.retain(|line| is_wanted(&line.info));
    lines
}

/// All rules in the order of their ids.
fn lines(rules: &Ruleset) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    lines.extend(rules.signatures.iter().map(|rule| Line {
        info: rule.info(),
        kind: "signature",
        looks_for: signature(rule),
        references: rule.references.clone(),
    }));
    lines.extend(rules.files.iter().map(|rule| Line {
        info: rule.info(),
        kind: "file",
        looks_for: rule.paths.join("\n")
            + rule.foreign.as_ref().and_then(|foreign| foreign.path.as_deref()).unwrap_or_default()
            + &rule.contains.as_ref().map(|c| format!("\nwith {c}")).unwrap_or_default(),
        references: rule.references.clone(),
    }));
    lines.extend(rules.ports.iter().map(|rule| Line {
        info: rule.info(),
        kind: "port",
        looks_for: format!("{:?} {}", rule.ports, rule.protocol.as_deref().unwrap_or("tcp or udp")),
        references: rule.references.clone(),
    }));
    lines.extend(rules.checks.iter().map(|rule| Line {
        info: rule.info(),
        kind: "check of the configuration",
        looks_for: match (&rule.pattern, &rule.built_in) {
            (Some(pattern), _) => format!("{pattern}\nin {:?}", rule.fields),
            (None, code) => {
                format!("the built-in check `{}`", code.as_deref().unwrap_or_default())
            }
        },
        references: rule.references.clone(),
    }));
    lines.extend(rules.chains.iter().map(|rule| Line {
        info: rule.info(),
        kind: "chain",
        looks_for: format!("one of {}\ntogether with {}", rule.key.join(", "), rule.exposure.join(" or ")),
        references: rule.references.clone(),
    }));
    lines.sort_by(|a, b| a.info.id.cmp(&b.info.id));
    lines
}

/// The pattern of a signature and its further conditions.
fn signature(rule: &Signature) -> String {
    let Confirm { min_entropy, min_classes, checksum, parser, reject, reject_matches, .. } = &rule.confirm;
    let Confirm { keep_placeholders, key_bytes, random_key, passed_to_cipher, .. } = &rule.confirm;
    let mut parts = vec![rule.pattern.clone()];
    if !rule.paths.is_empty() {
        parts.push(format!("only in {}", rule.paths.join(", ")));
    }
    if let Some(foreign) = &rule.foreign {
        parts.extend(foreign.path.as_ref().map(|path| format!("only where the path matches {path}")));
        let except = foreign.except_paths.len() + foreign.except_secrets.len() + foreign.except_matches.len();
        parts.extend((except > 0).then(|| "not in its allowlists".into()));
    }
    parts.extend(min_entropy.map(|bits| format!("entropy of {bits} bits a byte or more")));
    parts.extend(min_classes.map(|count| format!("{count} or more of lower, upper, digit, other")));
    parts.extend(checksum.as_ref().map(|name| format!("checked by {name}")));
    parts.extend(parser.as_ref().map(|name| format!("read by {name}")));
    if !reject.is_empty() {
        parts.push(format!("not matched by {} further expressions", reject.len()));
    }
    if !reject_matches.is_empty() {
        parts.push(format!("with its name not matched by {} further expressions", reject_matches.len()));
    }
    if *random_key {
        parts.push("spells random bytes of the length of a key, which are in no standard".into());
    }
    if *passed_to_cipher {
        parts.push("passed to a function in the place of its key".into());
    }
    if !keep_placeholders {
        parts.push("not a placeholder".into());
    }
    if *key_bytes {
        parts.push("fingerprinted by the bytes that it spells".into());
    }
    parts.join("\n")
}

fn samples(out: &mut String, rule: &Signature) {
    const LONGEST: usize = 300;
    let cut = |text: &str| -> String { text.chars().take(LONGEST).collect() };
    let shown = |input: &str, hex: &Option<String>| match hex {
        Some(digits) => format!("bytes {}", cut(digits)),
        None => cut(input),
    };
    let _ = writeln!(out, "Found in");
    for example in &rule.examples {
        let _ = writeln!(out, "{}", indented(&shown(&example.input, &example.hex)));
    }
    let _ = writeln!(out, "\nNot found in");
    for none in &rule.counterexamples {
        let _ = writeln!(out, "{}\n      {}", indented(&shown(&none.input, &none.hex)), none.why);
    }
    out.push('\n');
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
