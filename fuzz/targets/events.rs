//! Bodies that say what was pushed: what is taken from them is pulled by the reference that was checked, and by no
//! other.
#![no_main]

use layersift_server::events::{Event, distribution, harbor};
use layersift_source::registry::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let events = harbor::read(data).into_iter().chain(distribution::read(data)).flatten();
    for event in events {
        let Event::Push(push) = event else { continue };
        let text = push.reference.to_string();
        assert!(text.len() <= 512 && text.is_ascii(), "{text:?}");
        let parsed: Reference = text.parse().expect("a reference");
        assert_eq!(parsed, push.reference);
        assert_eq!((parsed.digest, parsed.tag), (Some(push.digest), None));
    }
});
