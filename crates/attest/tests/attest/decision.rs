//! What is demanded of an attestation, and what is said about an image.

use jiff::{SignedDuration, Timestamp};
use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::predicate::{
    Counts, EVERY_BYTE_READ, Failing, NO_SECRETS_HIGH, NOT_PASSED, PASSED, PolicyResult, SUMMARY, ScanResult, Scanner,
    Summary,
};
use layersift_attest::timestamp::Authorities;
use layersift_attest::{
    Bundle, Demands, Envelope, Evidence, JudgementDemand, Layer, Refusal, Statement, legacy_layers, verify,
};
use layersift_model::{AppliedPolicy, Digest, ImageReport, Judgement, Severity, Verdict};
use proptest::prelude::*;

use crate::support::{fixture, handmade_key, subject, text};

pub(crate) fn now() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

/// A pass, an hour old.
pub(crate) fn result() -> ScanResult {
    ScanResult {
        verdict: Verdict::Pass,
        scanned_at: now() - SignedDuration::from_hours(1),
        attested_at: now() - SignedDuration::from_hours(1),
        scanner: Scanner { version: "0.1.0".into(), ruleset: "rules-1".into(), reader_revision: Some(7) },
        policy: PolicyResult { fail_on: Some(Severity::High), digest: Some(Digest::of(b"policy")), baseline: None },
        findings: Counts { low: 2, ..Counts::default() },
        allowed: Counts::default(),
        gaps: 0,
        layers: 3,
    }
}

pub(crate) fn envelope(result: &ScanResult, key: &PrivateKey) -> Envelope {
    let statement = Statement::new(None, &subject(), result.predicate_type(), result).unwrap();
    Envelope::sign(&statement, key).unwrap()
}

fn bundle(evidence: &mut Evidence, envelope: Envelope, key: &PrivateKey) {
    evidence.add_bundle(Bundle::new(envelope, key.public_key()).to_json().unwrap().as_bytes());
}

fn legacy(evidence: &mut Evidence, envelope: Envelope) {
    let layer = Layer { envelope, timestamp: None }.to_append("https://x").unwrap();
    let (blobs, manifest) = layer.artifact().unwrap();
    evidence.add_legacy(&legacy_layers(&manifest).unwrap()[0], &blobs[0].bytes);
}

fn evidence_of(result: &ScanResult, key: &PrivateKey) -> Evidence {
    let mut evidence = Evidence::default();
    bundle(&mut evidence, envelope(result, key), key);
    evidence
}

fn demands(key: &PrivateKey) -> Demands {
    Demands { keys: vec![key.public_key().clone()], ..Demands::default() }
}

/// The only refusal of an image that is attested so.
fn refusal(result: &ScanResult, change: impl FnOnce(&mut Demands)) -> Refusal {
    let key = handmade_key();
    let mut demands = demands(&key);
    change(&mut demands);
    let mut verification = verify(&evidence_of(result, &key), &subject(), &demands, now());
    assert!(!verification.is_accepted());
    assert_eq!(verification.refusals.len(), 1, "{:?}", verification.refusals);
    verification.refusals.remove(0)
}

#[test]
fn what_fits_is_accepted() {
    let key = handmade_key();
    let mut demands = demands(&key);
    demands.rulesets = vec!["rules-0".into(), "rules-1".into()];
    let policy = Some(Digest::of(b"policy"));
    demands.judgement = Some(JudgementDemand { policy, fail_on: Some(Severity::High), baseline: None });
    demands.most_age = Some(SignedDuration::from_hours(2));
    demands.stored = Some(Verdict::Pass);
    let verification = verify(&evidence_of(&result(), &key), &subject(), &demands, now());
    let accepted = verification.accepted.unwrap();
    assert_eq!((&accepted.subject, &accepted.result), (&subject(), &result()));
    assert_eq!((&accepted.key, &accepted.predicate_type[..]), (&key.public_key().fingerprint(), PASSED));
    assert!(verification.refusals.is_empty());
}

#[test]
fn each_demand_is_checked() {
    let mut failed = result();
    failed.verdict = Verdict::Fail;
    let mut ahead = result();
    ahead.attested_at = now() + SignedDuration::from_secs(301);
    let mut before_scan = result();
    before_scan.attested_at = before_scan.scanned_at - SignedDuration::from_secs(301);
    assert!(matches!(refusal(&result(), |d| d.keys.clear()), Refusal::Key));
    assert!(matches!(refusal(&result(), |d| d.rulesets = vec!["rules-2".into()]), Refusal::Ruleset { .. }));
    assert!(matches!(refusal(&result(), |d| d.most_age = Some(SignedDuration::from_mins(59))), Refusal::TooOld(_)));
    assert!(matches!(refusal(&result(), |d| d.stored = Some(Verdict::Fail)), Refusal::Stored(Verdict::Fail)));
    assert!(matches!(refusal(&result(), |d| d.stored = Some(Verdict::Incomplete)), Refusal::Stored(_)));
    assert!(matches!(refusal(&failed, |_| {}), Refusal::PredicateType { .. }));
    assert!(matches!(refusal(&ahead, |_| {}), Refusal::Future(_)));
    assert!(matches!(refusal(&before_scan, |_| {}), Refusal::Times));
    let chain = text(&fixture("keys.json")["test-only-tsa-chain.pem"]).to_owned();
    let stamped = |d: &mut Demands| d.authorities = Some(Authorities::from_pem(&chain).unwrap());
    assert!(matches!(refusal(&result(), stamped), Refusal::NoTimestamp(None)));
}

#[test]
fn the_whole_judgement_is_compared() {
    let (policy, other) = (Digest::of(b"policy"), Digest::of(b"other"));
    let demand = |policy: &Digest, severity| JudgementDemand {
        policy: Some(policy.clone()),
        fail_on: Some(severity),
        baseline: None,
    };
    let judged = |fail_on: Option<Severity>, baseline: Option<&Digest>| {
        let policy = PolicyResult { fail_on, digest: Some(policy.clone()), baseline: baseline.cloned() };
        ScanResult { policy, ..result() }
    };
    let (high, critical) = (Some(Severity::High), Some(Severity::Critical));
    let by = |demand: JudgementDemand| move |demands: &mut Demands| demands.judgement = Some(demand);
    let refused = |result: ScanResult, demand: JudgementDemand| refusal(&result, by(demand));
    assert!(matches!(refused(judged(high, None), demand(&other, Severity::High)), Refusal::Policy(_)));
    assert!(matches!(refused(judged(critical, None), demand(&policy, Severity::High)), Refusal::FailOn { .. }));
    assert!(matches!(refused(judged(high, Some(&other)), demand(&policy, Severity::High)), Refusal::Baseline(_)));
    assert!(matches!(refused(judged(high, Some(&other)), JudgementDemand::default()), Refusal::Baseline(_)));
    let with_baseline = JudgementDemand { baseline: Some(other.clone()), ..demand(&policy, Severity::High) };
    assert!(matches!(refused(judged(high, None), with_baseline.clone()), Refusal::Baseline(None)));
    let accepts = |result: ScanResult, demand: JudgementDemand| {
        let key = handmade_key();
        let demands = Demands { judgement: Some(demand), ..demands(&key) };
        assert!(verify(&evidence_of(&result, &key), &subject(), &demands, now()).is_accepted());
    };
    accepts(judged(high, None), demand(&policy, Severity::Critical));
    accepts(judged(high, Some(&other)), with_baseline);
    accepts(judged(critical, None), JudgementDemand::default());
    // What a policy excepts fails unless that policy is asked for.
    let mut excepting = judged(high, None);
    excepting.allowed.critical = 1;
    let any_policy = JudgementDemand { fail_on: high, ..JudgementDemand::default() };
    let refusal = refused(excepting.clone(), any_policy.clone());
    assert!(matches!(refusal, Refusal::Excepted { count: 1, least: Severity::High }));
    accepts(excepting, demand(&policy, Severity::High));
    let mut excepting = judged(high, None);
    excepting.allowed.medium = 1;
    accepts(excepting, any_policy);
}

#[test]
fn what_nothing_could_fail_does_not_pass() {
    let key = handmade_key();
    let mut result = result();
    result.policy.fail_on = None;
    assert_eq!(result.predicate_type(), NOT_PASSED);
    assert!(result.statements(None, &subject(), Failing::Refuse).is_err());
    // Nor does it where a trusted key says so.
    let statement = Statement::new(None, &subject(), PASSED, &result).unwrap();
    let mut evidence = Evidence::default();
    bundle(&mut evidence, Envelope::sign(&statement, &key).unwrap(), &key);
    let verification = verify(&evidence, &subject(), &demands(&key), now());
    assert!(matches!(verification.refusals[..], [Refusal::NothingFails]));
}

#[test]
fn the_summary_that_is_attached_as_well_is_not_a_reason() {
    let key = handmade_key();
    let mut evidence = Evidence::default();
    for statement in result().statements(None, &subject(), Failing::Refuse).unwrap() {
        bundle(&mut evidence, Envelope::sign(&statement, &key).unwrap(), &key);
    }
    let demands = Demands { rulesets: vec!["rules-2".into()], ..demands(&key) };
    let verification = verify(&evidence, &subject(), &demands, now());
    assert!(matches!(verification.refusals[..], [Refusal::Ruleset { .. }]), "{:?}", verification.refusals);
}

#[test]
fn a_fail_that_claims_to_be_a_pass_is_refused() {
    let key = handmade_key();
    let mut lying = result();
    for (verdict, gaps) in [(Verdict::Fail, 0), (Verdict::Incomplete, 0), (Verdict::Pass, 1)] {
        (lying.verdict, lying.gaps) = (verdict, gaps);
        let statement = Statement::new(None, &subject(), PASSED, &lying).unwrap();
        let mut evidence = Evidence::default();
        bundle(&mut evidence, Envelope::sign(&statement, &key).unwrap(), &key);
        let verification = verify(&evidence, &subject(), &demands(&key), now());
        assert!(matches!(verification.refusals[..], [Refusal::Verdict(found)] if found == verdict));
    }
}

#[test]
fn a_later_failure_wins_in_either_form() {
    let key = handmade_key();
    let mut failed = result();
    failed.verdict = Verdict::Fail;
    for (seconds, wins) in [(-1, false), (0, true), (1, true)] {
        failed.scanned_at = result().scanned_at + SignedDuration::from_secs(seconds);
        for in_bundle in [true, false] {
            let mut evidence = evidence_of(&result(), &key);
            let failure = envelope(&failed, &key);
            if in_bundle {
                bundle(&mut evidence, failure, &key)
            } else {
                legacy(&mut evidence, failure)
            }
            let verification = verify(&evidence, &subject(), &demands(&key), now());
            assert_eq!(!verification.is_accepted(), wins, "{seconds} {in_bundle}");
        }
    }
    // That of a key that nobody trusts does not.
    let mut evidence = evidence_of(&result(), &key);
    let other = PrivateKey::generate_ed25519().unwrap();
    bundle(&mut evidence, envelope(&failed, &other), &other);
    assert!(verify(&evidence, &subject(), &demands(&key), now()).is_accepted());
}

#[test]
fn nothing_attached_is_no_pass() {
    let verification = verify(&Evidence::default(), &subject(), &demands(&handmade_key()), now());
    assert!(matches!(verification.refusals[..], [Refusal::Nothing(_)]));
    assert!(!verification.is_accepted());
}

#[test]
fn an_index_does_not_stand_for_its_platforms() {
    let key = handmade_key();
    let platform = Digest::of(b"the manifest of a platform");
    let verification = verify(&evidence_of(&result(), &key), &platform, &demands(&key), now());
    assert!(matches!(verification.refusals[..], [Refusal::Subject(_)]));
}

fn report(verdict: Verdict) -> ImageReport {
    let policy = AppliedPolicy { fail_on: Some(Severity::High), ..AppliedPolicy::default() };
    let judgement = Judgement { verdict, policy, expired: Vec::new() };
    ImageReport { judgement: Some(judgement), scanned_at: Some(now()), ..ImageReport::default() }
}

#[test]
fn images_that_do_not_pass_are_attested_on_request_only() {
    let passed = ScanResult::of(&report(Verdict::Pass), now()).unwrap();
    let statements = passed.statements(Some("registry.example/app"), &subject(), Failing::Refuse).unwrap();
    let types: Vec<&str> = statements.iter().map(Statement::predicate_type).collect();
    assert_eq!(types, [PASSED, SUMMARY]);
    let summary: Summary = statements[1].predicate_as().unwrap();
    assert_eq!(summary.properties, [NO_SECRETS_HIGH, EVERY_BYTE_READ]);
    for verdict in [Verdict::Fail, Verdict::Incomplete] {
        let failed = ScanResult::of(&report(verdict), now()).unwrap();
        assert!(failed.statements(None, &subject(), Failing::Refuse).is_err());
        let statements = failed.statements(None, &subject(), Failing::Attest).unwrap();
        assert_eq!(statements.iter().map(Statement::predicate_type).collect::<Vec<_>>(), [NOT_PASSED]);
    }
    assert!(ScanResult::of(&ImageReport::default(), now()).is_err());
}

#[test]
fn findings_that_a_policy_allows_are_not_hidden_in_the_summary() {
    let mut allowed = result();
    allowed.allowed.high = 1;
    let statements = allowed.statements(None, &subject(), Failing::Refuse).unwrap();
    assert_eq!(statements[1].predicate_as::<Summary>().unwrap().properties, [EVERY_BYTE_READ]);
}

#[test]
fn an_index_is_as_bad_as_its_worst_platform() {
    let mut failed = result();
    (failed.verdict, failed.findings.high, failed.gaps) = (Verdict::Fail, 1, 1);
    failed.scanned_at = result().scanned_at - SignedDuration::from_hours(1);
    let index = ScanResult::of_index(&[result(), failed.clone()]).unwrap();
    assert_eq!((index.verdict, index.findings.high, index.findings.low, index.gaps), (Verdict::Fail, 1, 4, 1));
    assert_eq!((index.scanned_at, index.layers, index.passes()), (failed.scanned_at, 6, false));
    failed.scanner.ruleset = "rules-2".into();
    assert!(ScanResult::of_index(&[result(), failed]).is_none() && ScanResult::of_index(&[]).is_none());
}

proptest! {
    /// A scan is accepted from its greatest age up to five minutes ahead.
    #[test]
    fn the_age_is_checked_to_the_second(offset in -7200_i64..900, most in 0_i64..7200) {
        let key = PrivateKey::generate_ed25519().unwrap();
        let mut result = result();
        result.scanned_at = now() + SignedDuration::from_secs(offset);
        result.attested_at = result.scanned_at;
        let mut demands = demands(&key);
        demands.most_age = Some(SignedDuration::from_secs(most));
        let accepted = verify(&evidence_of(&result, &key), &subject(), &demands, now()).is_accepted();
        prop_assert_eq!(accepted, offset <= 300 && -offset <= most);
    }

    #[test]
    fn predicates_come_back(critical: u32, gaps in 0_u32..2, seconds in 0_i64..4_000_000_000) {
        let mut result = result();
        result.findings.critical = critical;
        result.gaps = gaps;
        result.scanned_at = Timestamp::from_second(seconds).unwrap();
        let key = handmade_key();
        let statement = envelope(&result, &key).statement().unwrap();
        prop_assert_eq!(statement.predicate_as::<ScanResult>().unwrap(), result);
    }
}
