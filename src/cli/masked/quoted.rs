//! Secrets in what a message quotes. A target that cannot be read has no report whose findings would tell what to mask,
//! so the message itself is searched.

use std::sync::OnceLock;

use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};

/// `text` with what built-in rules of high confidence find in it masked.
pub(super) fn masked(text: &str) -> String {
    static ANALYZER: OnceLock<Option<Analyzer>> = OnceLock::new();
    // Where rules cannot be loaded, there is an error to be told: nobody could read that in a mask.
    let load = || Analyzer::new(Ruleset::built_in().ok()?, Options { threads: 1, ..Options::default() }).ok();
    match ANALYZER.get_or_init(load) {
        Some(analyzer) => analyzer.mask_name(text),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_in_a_message_is_masked() {
        let token = ["glpat-", "Zk7Qm2Xr9Tb4Wn6Ve001"].concat();
        for (text, expected) in [
            (
                format!("no image named `x`; it has registry.example/{token}:1"),
                "no image named `x`; it has registry.example/glpa****01:1",
            ),
            (
                format!("{{\"level\":\"WARN\",\"image\":\"{token}\"}}\n"),
                "{\"level\":\"WARN\",\"image\":\"glpa****01\"}\n",
            ),
            ("cannot read /tmp/image.tar: no such file".into(), "cannot read /tmp/image.tar: no such file"),
        ] {
            assert_eq!(super::masked(&text), expected);
        }
    }
}
