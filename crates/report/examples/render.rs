//! Writes a kept JSON report in another format: `cargo run -p layersift-report --example render -- html REPORT.json`.

use std::error::Error;
use std::io::{self, Write};

use layersift_model::ReportSet;
use layersift_report::{RenderOptions, format};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: render FORMAT REPORT.json".into());
    };
    let set = ReportSet::from_json(&std::fs::read(path)?)?;
    let render = format(&name).ok_or("unknown format")?.render;
    let mut out = io::BufWriter::new(io::stdout().lock());
    render(&set.reports, &RenderOptions::default(), &mut out)?;
    Ok(out.flush()?)
}
