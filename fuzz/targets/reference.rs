//! What names an image or a thing to trace: targets, references and queries. What is taken is written as it was read.
#![no_main]

use layersift_source::Target;
use layersift_source::registry::{Host, Reference};
use layersift_store::Query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let written = reference.to_string();
        assert_eq!(written.parse::<Reference>().as_ref(), Ok(&reference), "{written}");
        assert_eq!(reference.host.name().parse::<Host>().as_ref(), Ok(&reference.host));
    }
    let _ = Target::parse(text);
    let _ = Query::parse(text);
});
