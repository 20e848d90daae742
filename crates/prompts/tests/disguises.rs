//! Secrets that are written so that the rules do not see them and whoever gets them does: every kind, in texts, in
//! calls of tools, in streams, in URLs and in forms with files.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
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
    all.extend(numbers(token));
    all.extend(dumps(token));
    all.extend(digits(token));
    all.extend(letters(token));
    all
}

/// A token as the numbers of its bytes.
fn numbers(token: &str) -> Vec<String> {
    let list = |write: &dyn Fn(u8) -> String, between: &str| token.bytes().map(write).collect::<Vec<_>>().join(between);
    let (decimal, hex) = (|byte: u8| byte.to_string(), |byte: u8| format!("{byte:02x}"));
    let mut all: Vec<String> = [", ", ",", " ", "\n", ";", "-", ".", " | ", ",\n    ", "_"]
        .iter()
        .flat_map(|between| [list(&decimal, between), list(&hex, between)])
        .collect();
    all.extend([
        format!("[{}]", list(&decimal, ", ")),
        format!("{{{}}}", list(&|byte| format!("{byte}u8"), ", ")),
        list(&|byte| format!("chr({byte})"), "."),
        list(&|byte| format!("chr({byte})"), " + "),
        list(&|byte| format!("Chr({byte})"), " & "),
        list(&|byte| format!("Chr(&H{byte:X})"), " & _\n  "),
        list(&|byte| format!("CHAR({byte})"), " || "),
        list(&|byte| format!("chr(0x{byte:x})"), "+"),
        list(&|byte| format!("[char]{byte}"), "+"),
        format!("String.fromCharCode({})", list(&decimal, ",")),
        list(&|byte| format!("String.fromCharCode({byte})"), " + "),
        list(&hex, ":"),
        list(&|byte| format!("{byte:02X}"), " "),
        list(&|byte| format!("0x{byte:02x}"), ", "),
        list(&|byte| format!("0x{byte:02X}"), " "),
        list(&|byte| format!("0x{byte:02x}"), ",\n"),
        list(&|byte| format!("{byte:02x}h"), ", "),
        list(&|byte| format!("0{byte:o}"), ", "),
        list(&|byte| format!("0o{byte:o}"), ", "),
        list(&|byte| format!("{byte:03o}"), " "),
        list(&|byte| format!("{byte:08b}"), " "),
        list(&|byte| format!("0b{byte:08b}"), ", "),
        list(&|byte| format!("{byte:08b}"), ""),
        list(&|byte| format!("U+{:04X}", u16::from(byte)), " "),
        list(&hex, ""),
    ]);
    all
}

/// A token in dumps of a file, as programs print them.
fn dumps(token: &str) -> Vec<String> {
    let file = format!("\0\u{1}line\n{token}\nend\0");
    let lines = |width: usize, write: &dyn Fn(usize, &[u8]) -> String| {
        let lines = file.as_bytes().chunks(width).enumerate();
        lines.map(|(index, bytes)| write(width * index, bytes)).collect::<Vec<_>>().join("\n")
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    let shown = |bytes: &[u8]| -> String {
        bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect()
    };
    let grouped =
        |bytes: &[u8], size: usize| bytes.chunks(size).map(|some| hex(some).concat()).collect::<Vec<_>>().join(" ");
    let swapped = |bytes: &[u8]| {
        let pairs = bytes.chunks(2).map(|pair| format!("{:02x}{:02x}", pair.get(1).unwrap_or(&0), pair[0]));
        pairs.collect::<Vec<_>>().join(" ")
    };
    let binary = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:08b}")).collect::<Vec<_>>().join(" ");
    vec![
        // xxd, and with other sizes.
        format!("\n{}\n", lines(16, &|at, bytes| format!("{at:08x}: {:<40} {}", grouped(bytes, 2), shown(bytes)))),
        format!("\n{}\n", lines(16, &|at, bytes| format!("{at:08x}: {:<36} {}", grouped(bytes, 4), shown(bytes)))),
        format!("\n{}\n", lines(16, &|at, bytes| format!("{at:08x}: {:<48} {}", grouped(bytes, 1), shown(bytes)))),
        format!("\n{}\n", lines(6, &|at, bytes| format!("{at:08x}: {:<54} {}", binary(bytes), shown(bytes)))),
        format!("\n{}\n", lines(30, &|_, bytes| hex(bytes).concat())),
        // hexdump -C, hexdump, od.
        format!(
            "\n{}\n",
            lines(16, &|at, bytes| {
                let (left, right) = bytes.split_at(bytes.len().min(8));
                let both = format!("{}  {}", hex(left).join(" "), hex(right).join(" "));
                format!("{at:08x}  {both:<49} |{}|", shown(bytes))
            })
        ),
        format!("\n{}\n", lines(16, &|at, bytes| format!("{at:07x} {}", swapped(bytes)))),
        format!("\n{}\n", lines(16, &|at, bytes| format!("{at:07o} {}", hex(bytes).join(" ")))),
        format!("\n{}\n", lines(16, &|_, bytes| format!(" {}", hex(bytes).join(" ")))),
        // tcpdump.
        format!("\n{}\n", lines(16, &|at, bytes| format!("\t0x{at:04x}:  {:<40} {}", grouped(bytes, 2), shown(bytes)))),
    ]
}

/// The digits of bytes in groups of bits.
fn in_base(bytes: &[u8], alphabet: &str, bits: usize) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let digit = |at: usize| (at..at + bits).fold(0, |value, at| value << 1 | bit(at));
    let alphabet: Vec<char> = alphabet.chars().collect();
    (0..bytes.len() * 8).step_by(bits).map(|at| alphabet[digit(at)]).collect()
}

fn base64(text: &str) -> String {
    let digits = in_base(text.as_bytes(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6);
    digits.clone() + &"=".repeat(digits.len().wrapping_neg() % 4)
}

/// A token in digits that the engine does not decode.
fn digits(token: &str) -> Vec<String> {
    let text = format!("KEY={token} so");
    let upper = in_base(text.as_bytes(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 5);
    let padding = "=".repeat(upper.len().wrapping_neg() % 8);
    let lines = |digits: &str, width: usize, between: &str| {
        let lines: Vec<&str> = digits.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join(between)
    };
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    let once = base64(&text);
    let mut all = vec![
        upper.clone(),
        upper.clone() + &padding,
        upper.to_lowercase(),
        lines(&upper, 40, "\n"),
        base64(&once),
        base64(&base64(&once)),
        base64(&base64(&base64(&once))),
        base64(&upper),
        base64(&hex),
        lines(&hex, 2, "-"),
        in_base(hex.as_bytes(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 5),
    ];
    for between in [" ", "\n> ", "\\\n", "\"\n  \"", "\" +\n  \"", "', '", "\n | ", "\r\n# "] {
        all.push(format!("\"{}\"", lines(&once, 8, between)));
        all.push(format!("\"{}\"", lines(&base64(&once), 20, between)));
    }
    all
}

/// A token whose letters stand apart, the other way round, or exchanged.
fn letters(token: &str) -> Vec<String> {
    let apart = |between: &str| token.chars().map(String::from).collect::<Vec<_>>().join(between);
    let rot13 = |c: char| match c {
        'a'..='m' | 'A'..='M' => char::from(c as u8 + 13),
        'n'..='z' | 'N'..='Z' => char::from(c as u8 - 13),
        _ => c,
    };
    let mut all: Vec<String> = [" ", ".", "-", "_", ", ", "  ", " - ", "|", "\n", "', '", "\", \""].map(apart).into();
    all.extend([token.chars().rev().collect(), token.chars().map(rot13).collect()]);
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
    let mut missed = Vec::new();
    for token in TOKENS {
        for text in disguised(token) {
            let nested = json!({"cmd": json!({"line": format!("run\n{text}")}).to_string()}).to_string();
            let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": nested}});
            let output =
                json!({"input": [{"type": "function_call_output", "call_id": "1", "output": format!("see\n{text}")}]});
            let bodies = [
                ("in a text", chat(&format!("use {text} now"))),
                ("in a call", json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [call]}]})),
                ("in an output", output),
            ];
            missed.extend(
                bodies.iter().filter(|(_, body)| !is_denied(body)).map(|(place, _)| format!("{place}: {text:?}")),
            );
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Tools of agents number the lines that they read, and people paste differences and quotations.
#[test]
fn a_key_over_lines_with_prefixes_is_denied() {
    let key = include_str!("../../scan/src/confirm/keys/fixtures/ed25519.pkcs8.pem");
    let with = |prefix: &dyn Fn(usize) -> String| -> String {
        key.lines().enumerate().map(|(at, line)| format!("{}{line}\n", prefix(at + 9))).collect()
    };
    for text in [
        with(&|number| format!("{number:>6}\u{2192}")),
        with(&|number| format!("{number:>6}\t")),
        with(&|number| format!("{number:>4} | ")),
        with(&|number| format!("L{number}: ")),
        with(&|number| format!("deploy/tls.key:{number}:")),
        with(&|_| "+".into()),
        with(&|_| "> ".into()),
        with(&|_| "    // ".into()),
    ] {
        for place in [json!({"role": "tool", "content": text}), json!({"role": "user", "content": text})] {
            let body = json!({"messages": [place]});
            let verdict = check_with(body.to_string().as_bytes(), &Policy::default());
            assert_eq!(verdict.decision, Decision::Deny, "{text}: {verdict:?}");
            assert!(verdict.reasons[0].rule.starts_with("private-key."), "{text}: {verdict:?}");
        }
    }
}

#[test]
fn a_mask_covers_the_disguise() {
    let policy = Policy { deny: None, mask: Some(Severity::Medium), ..Policy::default() };
    let mut wrong = Vec::new();
    for token in TOKENS {
        for text in disguised(token) {
            let verdict = check_with(chat(&format!("use {text} now")).to_string().as_bytes(), &policy);
            let Some(copy) = verdict.copy else {
                wrong.push(format!("{:?}: {text:?}", verdict.decision));
                continue;
            };
            let copy: Value = serde_json::from_slice(&copy).unwrap();
            let masked = copy["messages"][0]["content"].as_str().unwrap();
            let is_whole = masked.starts_with("use ") && masked.ends_with("now") && masked.contains("[MASKED ");
            if !is_whole || is_denied(&copy) || masked.len() > 240 {
                wrong.push(format!("{masked:?}: {text:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ascii85_is_read_between_its_marks() {
    let ascii85 = |bytes: &[u8]| -> String {
        let group = |bytes: &[u8]| {
            let mut four = [0; 4];
            four[..bytes.len()].copy_from_slice(bytes);
            let value = u32::from_be_bytes(four);
            let digit = |power: u32| char::from(b'!' + (value / 85u32.pow(power) % 85) as u8);
            (0..5).rev().map(digit).take(bytes.len() + 1).collect::<String>()
        };
        bytes.chunks(4).map(group).collect()
    };
    for token in TOKENS {
        assert!(is_denied(&chat(&format!("see <~{}~>", ascii85(token.as_bytes())))));
    }
}

#[test]
fn a_compressed_file_in_a_sentence_is_opened() {
    let policy = Policy { deny: None, mask: Some(Severity::Medium), ..Policy::default() };
    for token in TOKENS {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(format!("key = {token}\n").as_bytes()).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(format!("key = {token}\n").as_bytes()).unwrap();
        for packed in [gzip.finish().unwrap(), zlib.finish().unwrap()] {
            let encoded = STANDARD.encode(packed);
            // Lines are as long as the first, and the last is shorter.
            let (left, right) = encoded.split_at(encoded.len() / 8 * 4 + 4);
            for encoded in [encoded.clone(), format!("{left}\n> {right}"), format!("{left}\" +\n  \"{right}")] {
                assert!(is_denied(&chat(&format!("use \"{encoded}\" now"))), "{encoded}");
                let verdict = check_with(chat(&format!("use \"{encoded}\" now")).to_string().as_bytes(), &policy);
                let copy = String::from_utf8(verdict.copy.unwrap()).unwrap();
                assert!(copy.contains("[MASKED ") && !copy.contains(right.trim_end_matches('=')), "{copy}");
            }
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

/// Numbers, digits and strings as they are everywhere.
fn ordinary() -> Vec<String> {
    let noise = |at: u32| (at.wrapping_mul(2_654_435_761) >> 16) as u8;
    let list = |write: &dyn Fn(u32) -> String, between: &str| (0..400).map(write).collect::<Vec<_>>().join(between);
    let hex = |count: u32| (0..count).map(|at| format!("{:02x}", noise(at))).collect::<String>();
    let file = include_bytes!("../src/form.rs");
    let dump: Vec<String> = file
        .chunks(16)
        .enumerate()
        .map(|(at, bytes)| {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{:08x}  {:<48}  |{}|", 16 * at, hex.join(" "), String::from_utf8_lossy(bytes).replace('\n', "."))
        })
        .collect();
    let source = String::from_utf8_lossy(file);
    let base32 = in_base(file, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 5);
    vec![
        format!("key = [{}]", list(&|at| noise(at).to_string(), ", ")),
        format!("key = [{}]", list(&|at| (32 + noise(at) % 95).to_string(), ", ")),
        format!("const PASSWORD: &[u8] = &[{}];", list(&|at| format!("0x{:02x}", 32 + noise(at) % 95), ", ")),
        format!("secret: {}", list(&|at| format!("{:02x}", 33 + noise(at) % 94), ":")),
        format!("token = {}", list(&|at| format!("{:08b}", 33 + noise(at) % 94), " ")),
        list(&|at| format!("10.{}.{}.{}", noise(at), noise(at + 1), noise(at + 2)), "\n"),
        list(&|at| format!("2026-{:02}-{:02} {:02}:{:02}", 1 + at % 12, 1 + at % 28, at % 24, at % 60), "\n"),
        list(&|at| format!("52:54:00:{:02x}:{:02x}:{:02x}", noise(at), noise(at + 1), noise(at + 2)), "\n"),
        list(&|at| format!("{}  file-{at}.tar.gz", hex(32 + at % 2)), "\n"),
        format!("6ba7b810-9dad-11d1-80b4-00c04fd430c8, 6ba7b811-9dad-11d1-80b4-00c04fd430c8, {}", hex(16)),
        "MD = 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, Msg = 68656c6c6f20776f726c6421".into(),
        "scores: 78 89 91 65 72 88 94 67 73 81 90 77 69 84 93 71, mean 80.1, 95 % of 120 in 45 to 99".into(),
        "let names = [\"alpha\", \"beta\", \"gamma-3\"]; names.join(\"-\"); \"a\" + \"b\" + 'c' . 'd' || \"e\"".into(),
        "type Method = \"GET\" | \"POST\" | \"PUT\"; echo \"a b\" 'c d' \"$e\"; it's l'eau d'aujourd'hui".into(),
        "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z and a, b, c, d, e, f, g, h, i, j, k, l".into(),
        "some_long_identifier_2_with_parts1234567890abc test-case-0123456789abcdef-x86_64-unknown".into(),
        "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP otpauth and thequickbrownfoxjumpsoverthelazydog".into(),
        dump.join("\n"),
        base64(&source),
        base64(&base64(&source)),
        base32,
        source.chars().rev().collect(),
        source.split_whitespace().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" + "),
        source.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(","),
    ]
}

#[test]
fn ordinary_numbers_and_digits_pass() {
    for text in ordinary() {
        let verdict = check_with(chat(&text).to_string().as_bytes(), &Policy::default());
        assert_eq!(verdict.decision, Decision::Allow, "{}: {verdict:?}", text.chars().take(200).collect::<String>());
    }
}

#[test]
fn only_lines_that_go_on_are_joined() {
    let key = "f872753caf5977061292ac325e8db575951c6608f2d045716500b4cea1d0edac";
    let command = |between: &str| is_denied(&chat(&format!("run openssl enc -aes-256-cbc {between} -K {key} so")));
    for between in ["", "\\\n", "=\n", "\\x20"] {
        assert!(command(between), "{between:?}");
    }
    // The line under a heading, and one that is left out because it has nothing to undo.
    for between in ["\n=====\n", "a==\n", "\\x20\nnothing\n\\x20"] {
        assert!(!command(between), "{between:?}");
    }
}

#[test]
fn no_cut_of_a_stream_lets_a_disguise_through() {
    let policy = Policy::default();
    let client = Client { name: "test", policy: &policy };
    let mut missed = Vec::new();
    for token in TOKENS {
        for text in disguised(token) {
            let whole = format!("The key is {text} and so on.");
            let characters: Vec<char> = whole.chars().collect();
            for size in [1, 5, 40] {
                let mut check = StreamCheck::default();
                let mut out = String::new();
                for piece in characters.chunks(size) {
                    let piece: String = piece.iter().collect();
                    let event = json!({"choices": [{"index": 0, "delta": {"content": piece}}]});
                    let passed = check.push(format!("data: {event}\n\n").as_bytes(), gate(), client);
                    out.push_str(&spoken(&passed));
                }
                out.push_str(&spoken(&check.finish(gate(), client)));
                // What is before the token in a file, and two of its letters, tell nothing.
                let told = out.len().saturating_sub("The key is ".len());
                if !check.is_cut() || told > text.len() / 3 {
                    missed.push(format!("{text:?} in pieces of {size}: {out:?}"));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// The text in the events of a stream.
fn spoken(events: &[u8]) -> String {
    let events = std::str::from_utf8(events).unwrap();
    let data = events.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.filter_map(|data| {
        let event: Value = serde_json::from_str(data).unwrap();
        event["choices"][0]["delta"]["content"].as_str().map(String::from)
    })
    .collect()
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
