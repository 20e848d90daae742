//! Keywords are what the engine and the anchors of disguises rest on: every match of a pattern contains one of its
//! signature's (but of those that are searched for at certain paths only). Shown on matches that are made from the
//! patterns.

use layersift_rules::{Ruleset, Signature};
use regex_syntax::hir::{Class, Hir, HirKind};

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

/// Something that `hir` matches, as far as it is not a matter of what stands around it.
fn matching(hir: &Hir, dice: &mut Dice, out: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(Class::Bytes(class)) => {
            let ranges = class.ranges();
            let range = ranges[dice.below(ranges.len() as u64) as usize];
            let width = u64::from(range.end() - range.start()) + 1;
            out.push(range.start() + dice.below(width) as u8);
        }
        HirKind::Class(Class::Unicode(class)) => {
            let range = class.ranges()[0];
            out.extend(range.start().to_string().bytes());
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(repetition.min + 3).min(repetition.min + 20);
            let count = repetition.min + dice.below(u64::from(most - repetition.min) + 1) as u32;
            (0..count).for_each(|_| matching(&repetition.sub, dice, out));
        }
        HirKind::Capture(capture) => matching(&capture.sub, dice, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| matching(part, dice, out)),
        HirKind::Alternation(parts) => matching(&parts[dice.below(parts.len() as u64) as usize], dice, out),
    }
}

#[test]
fn every_match_contains_a_keyword() {
    check(&Ruleset::built_in().unwrap().signatures);
}

/// Checks the signatures that the engine searches for by keywords.
pub fn check(signatures: &[Signature]) {
    let mut wrong = Vec::new();
    let is_searched = |rule: &&Signature| rule.paths.is_empty() && (rule.scope.is_empty() || !rule.keywords.is_empty());
    for rule in signatures.iter().filter(is_searched) {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&rule.pattern).unwrap();
        let any_case = rule.pattern.contains("(?i");
        let mut dice = Dice(7);
        for _ in 0..200 {
            let mut text = Vec::new();
            matching(&hir, &mut dice, &mut text);
            let has = |keyword: &String| {
                let keyword = keyword.as_bytes();
                let same =
                    |window: &[u8]| if any_case { window.eq_ignore_ascii_case(keyword) } else { window == keyword };
                text.windows(keyword.len()).any(same)
            };
            if !rule.keywords.iter().any(has) {
                wrong.push(format!("{}: {:?} in {:?}", rule.id, rule.keywords, String::from_utf8_lossy(&text)));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_match_contains_a_match_of_the_proposal() {
    let rules = Ruleset::built_in().unwrap();
    let proposed: Vec<_> = rules.signatures.iter().filter(|rule| rule.proposal.is_some()).collect();
    assert!(!proposed.is_empty());
    for rule in proposed {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(&rule.pattern).unwrap();
        let proposal = rule.proposal.as_deref().unwrap();
        let proposal = regex::bytes::RegexBuilder::new(proposal).unicode(false).build().unwrap();
        let mut dice = Dice(7);
        for _ in 0..500 {
            let mut text = Vec::new();
            matching(&hir, &mut dice, &mut text);
            assert!(proposal.is_match(&text), "{}: {:?}", rule.id, String::from_utf8_lossy(&text));
        }
    }
}
