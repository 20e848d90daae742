//! Bodies for models and their streams: no string that another reader sees is left out, copies are read again and are
//! clean, and what passes of a stream does not depend on how its bytes arrive.
#![no_main]

use layersift_fuzz::{gate, pass};
use layersift_model::Severity;
use layersift_prompts::{Client, Decision, Form, Policy, read};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Strings that are longer are not scanned as they stand if they are base64.
const LONG: usize = 60_000;

fuzz_target!(|data: &[u8]| {
    if let (Ok(conversation), Ok(value)) = (read(data, Some(Form::Json)), serde_json::from_slice::<Value>(data)) {
        let texts: Vec<&str> = conversation.parts.iter().filter_map(|part| part.text()).collect();
        strings(&value, &mut |text| {
            assert!(text.len() > LONG || texts.iter().any(|part| part.contains(text)), "{text:?} is in no part");
        });
    }
    for form in Form::ALL {
        if let Ok(conversation) = read(data, Some(form)) {
            let _ = conversation.tokens();
        }
    }
    let policy = Policy { deny: None, mask: Some(Severity::Info), ..Policy::default() };
    let client = Client { name: "fuzz", policy: &policy };
    let verdict = gate().check(data, None, client);
    assert_eq!(verdict.copy.is_some(), verdict.decision == Decision::Mask);
    if let Some(copy) = &verdict.copy {
        // A text may begin with a mask, which looks like the list of a document.
        let form = read(data, None).ok().map(|conversation| conversation.form);
        assert_eq!(gate().check(copy, form, client).decision, Decision::Allow);
    }
    let (whole, _) = pass(data, data.len().max(1), client);
    let (parts, _) = pass(data, 7, client);
    assert_eq!(whole, parts);
});

fn strings(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            found(name);
            strings(value, found);
        }),
        _ => {}
    }
}
