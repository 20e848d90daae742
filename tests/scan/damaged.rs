//! What has the form of a secret and cannot be one is named as information, and hides nothing that is a secret.

use crate::support::{findings, report_of_files};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const TOKEN: &str = "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";
/// The same with another checksum.
const WRONG: &str = "ghp_SeEty4ks4rifyccmbEzYhhGVM5h6Z80aAbBc";

fn found(content: &str) -> Vec<Value> {
    findings(&report_of_files(&[("settings", content)])).to_vec()
}

fn of<'f>(found: &'f [Value], rule: &str) -> Vec<&'f Value> {
    found.iter().filter(|one| one["rule"] == rule).collect()
}

#[test]
fn a_wrong_checksum_is_information() {
    let found = found(&format!("token = {WRONG}\n"));
    let [one] = &of(&found, "github.personal-access-token")[..] else { panic!("{found:#?}") };
    assert_eq!(one["severity"], "info");
    assert!(one["note"].as_str().unwrap().contains("checksum is wrong"));
    assert_eq!(of(&longer_name(), "github.personal-access-token").len(), 0);
}

/// A longer name that only begins like a token.
fn longer_name() -> Vec<Value> {
    found(&format!("x = {WRONG}AndOn\n"))
}

#[test]
fn a_key_that_cannot_be_read_is_information() {
    let noise: String = (0..5).map(|line| STANDARD.encode(noise(line)) + "\n").collect();
    let found = found(&format!("-----BEGIN RSA PRIVATE KEY-----\n{noise}-----END RSA PRIVATE KEY-----\n"));
    let [one] = &of(&found, "private-key.pem")[..] else { panic!("{found:#?}") };
    assert_eq!(one["severity"], "info");
}

/// Forty-eight bytes without order.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..48).map(|_| next()).collect()
}

#[test]
fn it_hides_no_secret_around_it() {
    let found = found(&format!("postgres://app:{WRONG}@db.internal:5432/app\n"));
    assert!(found.iter().any(|one| one["rule"] == "database.postgres-url"), "{found:#?}");
}

#[test]
fn a_thousand_leave_room_for_the_real_one() {
    let content: String = (0..1500).map(|n| format!("token = ghp_{:030}0aAbBc\n", n * 7_919)).collect();
    let found = found(&format!("{content}token = {TOKEN}\n"));
    let real = found.iter().any(|one| one["rule"] == "github.personal-access-token" && one["severity"] == "critical");
    assert!(real, "{} findings", found.len());
}
