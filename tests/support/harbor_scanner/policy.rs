//! Which pulls a project's policy refuses, in Harbor's words (`policy-412-and-allowlist.json` of the recordings).

use super::state::{State, Status};
use super::table::{rank, severity};

const POLICY: &str = "cannot be pulled due to configured policy in 'Prevent images with vulnerability severity of";

/// Settings of a project.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub is_public: bool,
    /// Whether pulls are refused at all.
    pub prevent_vul: bool,
    /// The least severity that is refused, in any words.
    pub severity: String,
    /// Whether what is pushed is scanned.
    pub auto_scan: bool,
    /// Ids that do not count, exactly.
    pub allow_list: Vec<String>,
}

/// Why an image may not be pulled. `is_scannable` says whether the scanner takes it, as far as is known.
pub fn refusal(state: &State, settings: &Settings, digest: &str, is_scannable: bool) -> Option<String> {
    let least = severity(&settings.severity);
    let policy = format!("{POLICY} \"{least}\" or higher from running.' To continue with pull, please contact your");
    let help = "project administrator for help.";
    // Harbor asks about the image itself; an index is never refused.
    let image = state.images.get(digest).filter(|image| image.children.is_empty() && settings.prevent_vul)?;
    let report = match state.reports.get(&image.digest) {
        None if is_scannable => return Some(format!("current image without vulnerability scanning {policy} {help}")),
        None => return None,
        Some(report) => report,
    };
    if report.status != Status::Success {
        let status = report.status;
        return Some(format!("current image with \"{status:?}\" status of vulnerability scanning {policy} {help}"));
    }
    let rows = state.table.of(&report.rows);
    let counted: Vec<_> = rows.into_iter().filter(|row| !settings.allow_list.contains(&row.key.0)).collect();
    let worst = counted.iter().map(|row| rank(row.severity)).max()?;
    if worst < rank(least) {
        return None;
    }
    let noun = if counted.len() == 1 { "vulnerability" } else { "vulnerabilities" };
    let exempt = "project administrator to exempt matched vulnerabilities through configuring the CVE allowlist.";
    Some(format!("current image with {} {noun} {policy} {exempt}", counted.len()))
}
