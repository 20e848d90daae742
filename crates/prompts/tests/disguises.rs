//! Secrets that are written so that the rules do not see them and whoever gets them does: every kind, in texts, in
//! calls of tools, in streams, in URLs and in forms with files.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use layersift_model::Severity;
use layersift_prompts::{Client, Decision, Gate, Policy, StreamCheck, Verdict};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::{Value, json};

/// Made-up tokens: one that needs an edge on both sides, and one with other characters.
const TOKENS: [&str; 2] = [
    concat!("glp", "at-Zk7Qm2Xr9Tb4Wn6Ve001"),
    concat!("dop", "_v1_", "7f3b9c01e8d24a6597bc10fe3d5a82467f1c9be03da8542b6e97c0f13a5d8b42"),
];

fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| {
        let options = Options { limits: Gate::limits(), threads: 1, ..Options::default() };
        Gate::new(Arc::new(Analyzer::new(Ruleset::for_prompts(&[]).unwrap(), options).unwrap()), 1_000)
    })
}

fn check_with(body: &[u8], policy: &Policy) -> Verdict {
    let verdict = gate().check(body, None, Client { name: "test", policy });
    let shown = format!("{verdict:?} {}", verdict.message());
    assert!(!TOKENS.iter().any(|token| shown.contains(token)), "the verdict has the secret: {shown}");
    verdict
}

fn chat(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

fn is_denied(body: &Value) -> bool {
    check_with(body.to_string().as_bytes(), &Policy::default()).decision == Decision::Deny
}

/// A token in all disguises, with the text around it.
fn disguised(token: &str) -> Vec<String> {
    let each = |write: &dyn Fn(char) -> String| token.chars().map(write).collect::<String>();
    let (first, rest) = token.split_at(9);
    let one = |escape: &dyn Fn(u32) -> String| {
        let mut characters = rest.chars();
        let escaped = characters.next().unwrap();
        format!("{first}{}{}", escape(u32::from(escaped)), characters.as_str())
    };
    let mut all: Vec<String> = Vec::new();
    // Escapes that are no edges to the rules stand right before it and right after it.
    for edge in [
        "\\n",
        "\\\\n",
        "\\t",
        "\\u0020",
        "\\u003d",
        "\\x20",
        "\\040",
        "%20",
        "%3D",
        "%0A",
        "%2520",
        "%u0020",
        "=20",
        "=3D",
        "&amp;nbsp;",
        "&#32;",
        "\u{1b}[31m",
        "\\u001b[1m",
    ] {
        all.push(format!("the value{edge}{token}{edge}x"));
    }
    all.extend([
        each(&|c| format!("\\u{:04x}", u32::from(c))),
        each(&|c| format!("%{:02X}", u32::from(c))),
        each(&|c| format!("={:02X}", u32::from(c))),
        each(&|c| format!("&#{};", u32::from(c))),
        each(&|c| format!("&amp;#x{:x};", u32::from(c))),
        each(&|c| format!("{c}\u{200b}")),
        each(&|c| format!("\u{2060}{c}")),
        each(&|c| char::from_u32(u32::from(c) + 0xfee0).unwrap().to_string()),
        each(&|c| char::from_u32(u32::from(c) + 0xe0000).unwrap().to_string()),
        each(&|c| format!("{c}\0")),
        one(&|c| format!("\\u{c:04x}")),
        one(&|c| format!("\\x{c:02x}")),
        one(&|c| format!("%{c:02x}")),
        one(&|c| format!("={c:02X}")),
        one(&|c| format!("&#{c};")),
        one(&|c| format!("\u{ad}{}", char::from_u32(c).unwrap())),
        one(&|c| format!("\u{202e}{}", char::from_u32(c).unwrap())),
        one(&|c| format!("\u{feff}{}", char::from_u32(c).unwrap())),
        format!("{first}=\n{rest}"),
        format!("{first}\\\n{rest}"),
        token.replace('-', "\u{2011}").replace('A', "\u{410}").replace('a', "\u{430}"),
    ]);
    all.extend(joined(token));
    all
}

/// A token in several literals of programs.
fn joined(token: &str) -> Vec<String> {
    let (first, rest) = token.split_at(3);
    let (middle, last) = rest.split_at(10);
    let joiners = [
        "\" + \"",
        "\"+\"",
        "' . '",
        "'.'",
        "\" \"",
        "\" & \"",
        "\" || '",
        "\"..\"",
        "\" ~ \"",
        "` + `",
        "\" <> \"",
        "\" ++ \"",
        "\"\n    \"",
        "\" +\n    \"",
        "\"\n    + \"",
        "\" \\\n  \"",
        "\" & _\r\n  \"",
        "'\"",
        "''",
        "\"'",
        "\" + f\"",
        "\") + (\"",
        "\"}${\"",
        "\" +\n> \"",
    ];
    let mut all: Vec<String> =
        joiners.iter().map(|joiner| format!("k = \"{first}{joiner}{middle}{joiner}{last}\" # x")).collect();
    let characters = |between: &str| token.chars().map(String::from).collect::<Vec<_>>().join(between);
    all.extend([
        format!("concat('{first}', '{middle}', \"{last}\")"),
        format!("[\"{first}\",\n  \"{middle}\",\n  \"{last}\",\n].join(\"\")"),
        format!("\"\".join([\"{first}\", \"{middle}\", \"{last}\"])"),
        format!("implode('', ['{first}', '{middle}', '{last}'])"),
        format!("['{}'].join('')", characters("', '")),
        format!("\"{}\"", characters("\" + \"")),
        format!("{first}\"{middle}\"{last}"),
        format!("{first}'{middle}'{last}"),
        format!("{first}''{middle}\"\"{last}"),
    ]);
    all
}

#[test]
fn a_disguised_token_is_denied_wherever_it_stands() {
    for token in TOKENS {
        for text in disguised(token) {
            assert!(is_denied(&chat(&format!("use {text} now"))), "{text:?}");
            let nested = json!({"cmd": json!({"line": format!("run\n{text}")}).to_string()}).to_string();
            let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": nested}});
            let calls = json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [call]}]});
            assert!(is_denied(&calls), "in a call: {text:?}");
            let output =
                json!({"input": [{"type": "function_call_output", "call_id": "1", "output": format!("x\n{text}")}]});
            assert!(is_denied(&output), "in an output: {text:?}");
        }
    }
}

#[test]
fn a_mask_covers_the_disguise() {
    let policy = Policy { deny: None, mask: Some(Severity::Medium), ..Policy::default() };
    for token in TOKENS {
        for text in disguised(token) {
            let verdict = check_with(chat(&format!("use {text} now")).to_string().as_bytes(), &policy);
            assert_eq!(verdict.decision, Decision::Mask, "{text:?}: {verdict:?}");
            let copy: Value = serde_json::from_slice(&verdict.copy.unwrap()).unwrap();
            let masked = copy["messages"][0]["content"].as_str().unwrap();
            assert!(masked.starts_with("use ") && masked.ends_with(" now") && masked.contains("[MASKED "), "{masked}");
            assert!(!is_denied(&copy), "{masked}");
        }
    }
}

#[test]
fn what_only_looks_like_a_disguise_passes() {
    for text in [
        "let path = \"C:\\\\new\\\\table\\\\x20\"; // 100 %20 =3D &amp; so",
        "Привет, мир: это обычный текст, a=41&b=%41&c=&#65;",
        "assert_eq!(\"a\\u{e0067}\\u{e0068}\\u{e0070}\\u{200b}\\u{200b}\\u{200b}\\u{200b}\\u{200b}\".width(), 1)",
        "مرحبا \u{200f} שלום \u{200d} 👩\u{200d}💻 ｆｕｌｌ ｗｉｄｔｈ",
        "printf(\"%d\\n\\t%s\\x41\\101\\u0041\\n\", x); regex = r\"\\d+\\.\\w*\\\\\";",
    ] {
        let verdict = check_with(chat(text).to_string().as_bytes(), &Policy::default());
        assert_eq!(verdict.decision, Decision::Allow, "{text}: {verdict:?}");
    }
}

#[test]
fn no_cut_of_a_stream_lets_a_disguise_through() {
    let policy = Policy::default();
    let client = Client { name: "test", policy: &policy };
    for token in TOKENS {
        for text in disguised(token) {
            let whole = format!("The key is {text} and so on.");
            let characters: Vec<char> = whole.chars().collect();
            for size in [1, 5, 40] {
                let mut check = StreamCheck::default();
                let mut out = Vec::new();
                for piece in characters.chunks(size) {
                    let piece: String = piece.iter().collect();
                    let event = json!({"choices": [{"index": 0, "delta": {"content": piece}}]});
                    out.extend(check.push(format!("data: {event}\n\n").as_bytes(), gate(), client));
                }
                out.extend(check.finish(gate(), client));
                assert!(check.is_cut(), "{text:?} in pieces of {size}");
                let out = String::from_utf8(out).unwrap();
                assert!(!out.contains(&token[token.len() - 6..]), "{text:?} in pieces of {size}: {out}");
            }
        }
    }
}

#[test]
fn paths_and_queries_are_read_as_servers_read_them() {
    let policy = Policy::default();
    let check = |url: &str| gate().check_url(url, Client { name: "test", policy: &policy });
    for url in ["/v1/models/org%2Fname?limit=20&after=model-1", "/v1/files/file-abc?a=b+c%20d%3De", "/"] {
        assert_eq!(check(url).decision, Decision::Allow, "{url}");
    }
    for token in TOKENS {
        let escaped: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let twice = escaped.replace('%', "%25");
        for before in ["", "x%20", "x%3D", "x%2F", "x+", "x%2520", "x%E2%80%8B", "x%26"] {
            for secret in [token, &escaped, &twice] {
                for url in [
                    format!("/v1/{before}{secret}"),
                    format!("/v1/models?q={before}{secret}&z=1"),
                    format!("/v1/models?{before}{secret}=1"),
                    format!("/v1/models?a;b={before}{secret}"),
                ] {
                    let verdict = check(&url);
                    assert_eq!(verdict.decision, Decision::Deny, "{url}");
                    assert!(verdict.message().contains("in a URL") && !verdict.message().contains(token), "{url}");
                }
            }
        }
    }
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (headers, content) in parts {
        body.extend(format!("--b\r\nContent-Disposition: form-data; {headers}\r\n\r\n").into_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    body
}

#[test]
fn forms_with_files_are_read_part_by_part() {
    let text = |token: &str| format!("line\n{token}");
    let decision = |parts: &[(&str, &[u8])]| check_with(&form(parts), &Policy::default()).decision;
    let noise: Vec<u8> = (0..4000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(
        decision(&[("name=\"model\"", b"whisper-1"), ("name=\"file\"; filename=\"a.mp3\"", &noise)]),
        Decision::Allow
    );
    let policy = Policy { deny: None, mask: Some(Severity::Medium), ..Policy::default() };
    for token in TOKENS {
        let jsonl = json!({"body": chat(&text(token))}).to_string() + "\n";
        let utf16: Vec<u8> = text(token).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let named = format!("name=\"file\"; filename=\"{token}.txt\"");
        let field = format!("name=\"{token}\"");
        let file = "name=\"file\"; filename=\"a\"";
        for parts in [
            [("name=\"prompt\"", text(token).as_bytes())],
            [(file, text(token).as_bytes())],
            [(file, jsonl.as_bytes())],
            [(file, &utf16)],
            [(&named, b"x")],
            [(&field, b"x")],
        ] {
            assert_eq!(decision(&parts), Decision::Deny, "{:?}", parts[0].0);
            // Nothing in it can be masked.
            assert_eq!(check_with(&form(&parts), &policy).decision, Decision::Deny, "{:?}", parts[0].0);
        }
    }
}
