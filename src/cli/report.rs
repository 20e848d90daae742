//! The last step of `scan` and `render`: reports are judged by a policy and written in every format that is
//! asked for.

use std::process::ExitCode;

use anyhow::{Context, ensure};

use super::args::ReportArgs;
use super::output_file::Readers;
use super::outputs::ReportOutput;
use super::{output, terminal};
use layersift_model::{ImageReport, Verdict};
use layersift_report::{Policy, RenderOptions};

/// Refuses to show secrets in formats that never have them.
pub(crate) fn check(args: &ReportArgs) -> anyhow::Result<()> {
    let mut formats = args.outputs.0.iter().filter_map(ReportOutput::format);
    ensure!(
        !args.show_secrets || formats.any(|format| format.shows_secrets),
        "--show-secrets applies to the formats text and json; the others never have the values of secrets"
    );
    Ok(())
}

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
    for ReportOutput { format, file } in &args.outputs.0 {
        let file = file.as_deref();
        let format = layersift_report::format(format).with_context(|| format!("unknown format {format}"))?;
        let options = RenderOptions { show_secrets: args.show_secrets, show: args.show, width: terminal::width(file) };
        let readers = if args.show_secrets { Readers::Owner } else { Readers::AsUsual };
        output::stream_for(readers, file, |out| (format.render)(&reports, &options, out))?;
    }
    Ok(exit_status(&reports))
}

/// The exit status of the worst verdict.
pub(crate) fn exit_status(reports: &[ImageReport]) -> ExitCode {
    let verdict = reports.iter().map(ImageReport::verdict).max().unwrap_or(Verdict::Incomplete);
    ExitCode::from(verdict.exit_code())
}
