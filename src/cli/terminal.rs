//! How wide a text for a person may be.

use std::io;
use std::path::Path;

use layersift_report::RenderOptions;

/// The columns for a text that goes to `output`, or to standard output: COLUMNS if it is set, the width of the
/// terminal, or the default where there is none.
pub(super) fn width(output: Option<&Path>) -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let terminal = || match output {
        Some(_) => None,
        None => terminal_size::terminal_size_of(io::stdout()).map(|(terminal_size::Width(width), _)| width.into()),
    };
    columns.or_else(terminal).unwrap_or(RenderOptions::default().width)
}
