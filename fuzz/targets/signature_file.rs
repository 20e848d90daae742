//! Signature files: rules or an error, and patterns that the engine can bound.
#![no_main]

use layersift_rules::Ruleset;
use layersift_scan::engine::{MAX_WIDTH, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(rules) = Ruleset::from_files([("fuzz.toml".to_string(), text.to_string())]) else { return };
    for signature in &rules.signatures {
        let Ok(pattern) = Pattern::new(&signature.id, &signature.pattern) else { continue };
        assert!((1..=MAX_WIDTH).contains(&pattern.width()));
        assert_eq!(pattern.source(), signature.pattern);
    }
});
