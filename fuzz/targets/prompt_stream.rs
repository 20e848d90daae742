//! Streamed answers with a secret in them: whatever stands around it and however the bytes are cut, nothing of it is
//! passed on before the denial, and a stream without one says the same afterwards as before.
//!
//! The first byte says the API and what is planted, the second how the bytes are cut, and the rest is the text.
#![no_main]

use layersift_fuzz::pass;
use layersift_prompts::{Client, Policy};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The beginning of a made-up token, and the rest of it: no file has both together.
const SECRET: [&str; 2] = ["glpat-Zk7Qm2X", "r9Tb4Wn6Ve001"];

/// The most characters of the secret that may pass: what is before it in the text may be told as much.
const TELLING: usize = 10;

/// The texts of a stream, by the API.
#[derive(Clone, Copy, Debug)]
enum Api {
    Chat,
    ChatCall,
    Messages,
    MessagesCall,
    Responses,
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, text @ ..] = data else { return };
    let api = [Api::Chat, Api::ChatCall, Api::Messages, Api::MessagesCall, Api::Responses][usize::from(choice % 5)];
    let text = String::from_utf8_lossy(text);
    let is_planted = choice & 0x80 != 0;
    let text = if is_planted { planted(&text, usize::from(*cut)) } else { text.into_owned() };
    let stream = stream(api, &text, 1 + usize::from(choice >> 3 & 7));
    // Nothing is masked, which would change the text.
    let policy = Policy { mask: None, ..Policy::default() };
    let client = Client { name: "fuzz", policy: &policy };
    let (out, is_cut) = pass(&stream, usize::from(*cut) + 1, client);
    let (again, _) = pass(&stream, stream.len().max(1), client);
    assert_eq!(spoken(api, &out), spoken(api, &again), "the cuts change what passes");
    let spoken = spoken(api, &out);
    if is_planted {
        assert!(is_cut, "the secret is not found in {text:?}");
        let secret = SECRET.concat();
        let told = (0..secret.len() - TELLING).any(|at| spoken.contains(&secret[at..at + TELLING]));
        assert!(!told, "{spoken:?} has a part of the secret");
    }
    if !is_cut {
        assert_eq!(spoken, text);
    }
    assert!(text.starts_with(&spoken), "{spoken:?} is not the beginning of {text:?}");
});

/// The text with the secret between two of its characters, as a word of its own.
fn planted(text: &str, at: usize) -> String {
    let at = text.char_indices().map(|(index, _)| index).nth(at % (text.chars().count() + 1)).unwrap_or(text.len());
    format!("{} {} {}", &text[..at], SECRET.concat(), &text[at..])
}

fn stream(api: Api, text: &str, size: usize) -> Vec<u8> {
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters.chunks(size).map(|piece| piece.iter().collect()).collect();
    let events = pieces.iter().map(|piece| event(api, piece));
    let mut out: String = events.map(|event| format!("data: {event}\n\n")).collect();
    if matches!(api, Api::Chat | Api::ChatCall) {
        out.push_str("data: [DONE]\n\n");
    }
    out.into_bytes()
}

fn event(api: Api, piece: &str) -> Value {
    match api {
        Api::Chat => json!({"choices": [{"index": 0, "delta": {"content": piece}}]}),
        Api::ChatCall => {
            let call = json!({"index": 0, "function": {"arguments": piece}});
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
        }
        Api::Messages => json!({"type": "content_block_delta", "index": 0, "delta": {"text": piece}}),
        Api::MessagesCall => json!({"type": "content_block_delta", "index": 0, "delta": {"partial_json": piece}}),
        Api::Responses => json!({"type": "response.output_text.delta", "output_index": 0, "delta": piece}),
    }
}

/// What a client reads of a stream, without the error at its end.
fn spoken(api: Api, stream: &[u8]) -> String {
    let text = std::str::from_utf8(stream).expect("the output is UTF-8");
    let place = match api {
        Api::Chat => "/choices/0/delta/content",
        Api::ChatCall => "/choices/0/delta/tool_calls/0/function/arguments",
        Api::Messages => "/delta/text",
        Api::MessagesCall => "/delta/partial_json",
        Api::Responses => "/delta",
    };
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let values = data.map(|data| serde_json::from_str::<Value>(data).expect("events are JSON"));
    values.filter_map(|value| value.pointer(place).and_then(Value::as_str).map(String::from)).collect()
}
