//! Policy: what makes a verdict. Without a policy file it is one severity.

use serde::Serialize;

use crate::image_report::ImageReport;
use crate::rule::Severity;

/// What an image must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Findings of this severity and above fail; `None` only reports.
    pub fail_on: Option<Severity>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { fail_on: Some(Severity::High) }
    }
}

/// What becomes of an image. The order is that of badness, so that the worst of several is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was looked at, and nothing fails.
    Pass,
    /// Nothing fails in what was looked at, and not everything was.
    Incomplete,
    /// A finding fails.
    Fail,
}

impl Verdict {
    /// The verdict as it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Incomplete => "incomplete",
            Verdict::Fail => "fail",
        }
    }

    /// The exit status of the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Fail => 1,
            Verdict::Incomplete => 3,
        }
    }
}

impl Policy {
    /// The verdict on an image. What a later layer deleted still counts: its layer can be pulled.
    pub fn verdict(&self, report: &ImageReport) -> Verdict {
        let fails = self.fail_on.is_some_and(|limit| report.findings.iter().any(|f| f.rule.severity >= limit));
        if fails {
            Verdict::Fail
        } else if report.gaps.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gap::{Gap, GapReason};
    use crate::image_report::ImageGap;

    #[test]
    fn gaps_never_pass_and_findings_are_worse_than_gaps() {
        let gap = ImageGap { gap: Gap::new(GapReason::MissingBlob, "x"), layer: None };
        let mut report = ImageReport::default();
        assert_eq!(Policy::default().verdict(&report), Verdict::Pass);
        report.gaps.push(gap);
        assert_eq!(Policy::default().verdict(&report), Verdict::Incomplete);
        assert_eq!(Policy { fail_on: None }.verdict(&report), Verdict::Incomplete);
        assert!(Verdict::Fail > Verdict::Incomplete && Verdict::Incomplete > Verdict::Pass);
        assert_eq!([Verdict::Pass, Verdict::Fail, Verdict::Incomplete].map(Verdict::exit_code), [0, 1, 3]);
    }
}
