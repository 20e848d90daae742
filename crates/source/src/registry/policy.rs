//! Why a registry's policy keeps it from serving an image (status 412), as far as its text says.
//!
//! Source: Harbor's `src/server/middleware/vulnerable/vulnerable.go`, and its answers as they were recorded.

use super::response::ErrorResponse;

/// Why an image is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockReason {
    /// The registry's scanner has not scanned it.
    NotScanned,
    /// The last scan of the registry's scanner failed, or was stopped.
    ScanFailed,
    /// A scan of the registry's scanner is running, or waits for its turn.
    ScanRunning,
    /// The registry's scanner found more than the policy allows.
    Vulnerable,
    /// Anything else, such as a policy on signatures.
    Other,
}

impl BlockReason {
    /// The reason in a response with status 412.
    pub fn of(response: &ErrorResponse) -> BlockReason {
        let text = response.message.as_deref().unwrap_or_default();
        let status = text.split_once("status of vulnerability scanning");
        let status = status.and_then(|(before, _)| before.trim_end().strip_suffix('"')?.rsplit('"').next());
        match status {
            Some("Running" | "Pending" | "Scheduled") => BlockReason::ScanRunning,
            Some(_) => BlockReason::ScanFailed,
            None if text.contains("without vulnerability scanning") => BlockReason::NotScanned,
            None if text.contains("vulnerabilit") => BlockReason::Vulnerable,
            None => BlockReason::Other,
        }
    }

    /// What to do about it, as the end of a message. Harbor exempts only the robots that it makes for its own scanner.
    pub(super) fn advice(self) -> &'static str {
        match self {
            BlockReason::NotScanned | BlockReason::ScanFailed => {
                "no account that an operator can make is exempt: have the registry scan the image (a sweep of a Harbor \
                 does that with --request-scans), or lower the policy of the project"
            }
            BlockReason::ScanRunning => {
                "no account that an operator can make is exempt: try again when the registry has scanned the image"
            }
            BlockReason::Vulnerable => {
                "no account that an operator can make is exempt: lower the policy of the project, or put the \
                 vulnerabilities on its allow-list"
            }
            BlockReason::Other => "no account that an operator can make is exempt: lower the policy of the project",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_harbor() {
        let policy = "cannot be pulled due to configured policy in 'Prevent images with vulnerability severity of \
                      \"Low\" or higher from running.' To continue with pull, please contact your administrator";
        for (text, expected) in [
            ("current image without vulnerability scanning", BlockReason::NotScanned),
            ("current image with \"Error\" status of vulnerability scanning", BlockReason::ScanFailed),
            ("current image with \"Stopped\" status of vulnerability scanning", BlockReason::ScanFailed),
            ("current image with \"Running\" status of vulnerability scanning", BlockReason::ScanRunning),
            ("current image with \"Pending\" status of vulnerability scanning", BlockReason::ScanRunning),
            ("current image with 3 vulnerabilities", BlockReason::Vulnerable),
            ("current image with 1 vulnerability", BlockReason::Vulnerable),
        ] {
            let message = Some(format!("PROJECTPOLICYVIOLATION: {text} {policy}"));
            assert_eq!(BlockReason::of(&ErrorResponse { message, ..ErrorResponse::default() }), expected, "{text}");
        }
        let message = Some("PROJECTPOLICYVIOLATION: The image is not signed in Notary.".into());
        assert_eq!(BlockReason::of(&ErrorResponse { message, ..ErrorResponse::default() }), BlockReason::Other);
        assert_eq!(BlockReason::of(&ErrorResponse::default()), BlockReason::Other);
    }
}
