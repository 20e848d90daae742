//! The last step of `scan` and `render`: reports are judged by a policy and written in a format.

use std::process::ExitCode;

use super::args::ReportArgs;
use super::{output, terminal};
use layersift_model::{ImageReport, Verdict};
use layersift_report::{Policy, RenderOptions};

/// Judges `reports` by `policy` and writes them. The exit status is the worst verdict.
pub(crate) fn judge_and_write(
    mut reports: Vec<ImageReport>,
    policy: &Policy,
    args: &ReportArgs,
) -> anyhow::Result<ExitCode> {
    for report in &mut reports {
        policy.judge(report);
        if args.reproducible {
            report.make_reproducible();
        }
    }
    let file = args.output.output.as_deref();
    let options = RenderOptions { show_secrets: args.show_secrets, show: args.show, width: terminal::width(file) };
    let mut bytes = Vec::new();
    (args.output.format.render)(&reports, &options, &mut bytes)?;
    output::write(&bytes, file)?;
    Ok(exit_status(&reports))
}

/// The exit status of the worst verdict.
pub(crate) fn exit_status(reports: &[ImageReport]) -> ExitCode {
    let verdict = reports.iter().map(ImageReport::verdict).max().unwrap_or(Verdict::Incomplete);
    ExitCode::from(verdict.exit_code())
}
