//! The comparison for a person at a terminal.

use std::io::{self, Write};

use layersift_model::{Finding, ImageReport, LayerSummary, Severity};

use super::packages::PackageChange;
use super::secrets::{ComparedSecret, Fate};
use super::{Change, Comparison, Exposure};
use crate::exchange;
use crate::terminal::{
    BOLD, DIM, Line, PLAIN, clean, cut_path, human, paragraph, plural, severity_style, verdict_style,
};

/// Secrets, exposures, layers and packages that are listed of each; more are counted.
const SHOWN: usize = 50;

/// Places of a secret that are listed; more are counted.
const PLACES: usize = 5;

/// Writes `comparisons`, each in at most `width` columns. Secrets and exposures below `show` are counted.
///
/// # Errors
/// Those of `out`.
pub fn text(comparisons: &[Comparison<'_>], show: Severity, width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (index, comparison) in comparisons.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        Text { comparison, show, width }.write(out)?;
    }
    Ok(())
}

struct Text<'c, 'r> {
    comparison: &'c Comparison<'r>,
    show: Severity,
    width: usize,
}

impl Text<'_, '_> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let comparison = self.comparison;
        let verdict = comparison.verdict();
        let mut line = Line::begin(out, 0, self.width)?;
        line.text(verdict_style(verdict), &verdict.name().to_uppercase())?;
        line.text(PLAIN, &self.outcome())?;
        line.end()?;
        for (label, report) in [("before", comparison.before), ("after ", comparison.after)] {
            self.image(label, report, out)?;
        }
        comparison.notes.iter().try_for_each(|note| paragraph(out, (DIM, "note: "), note, 2, self.width))?;
        self.secrets(out)?;
        self.exposures(out)?;
        self.layers(out)?;
        self.packages(out)
    }

    /// What became of the secrets, in one sentence.
    fn outcome(&self) -> String {
        let count = |fate: Fate| self.comparison.secrets.iter().filter(|secret| secret.fate() == fate).count() as u64;
        let words = [
            (Fate::New, "new"),
            (Fate::StillThere, "still there"),
            (Fate::StillInLayer, "still in a layer"),
            (Fate::NotFound, "not found"),
            (Fate::Gone, "gone"),
            (Fate::GoneAndRotated, "gone and rotated"),
        ];
        let counts: Vec<String> = words
            .into_iter()
            .map(|(fate, words)| (count(fate), words))
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| format!("{count} {words}"))
            .collect();
        let below = self.comparison.below_limit();
        let below = match self.comparison.limit().filter(|_| below > 0) {
            Some(limit) => format!(" ({below} of what is still there below --fail-on {limit})"),
            None => String::new(),
        };
        match (counts.is_empty(), self.comparison.secrets.len() as u64) {
            (true, _) => "no secrets in either image".into(),
            (false, secrets) => format!("{}: {}{below}", plural(secrets, "secret"), counts.join(", ")),
        }
    }

    fn image(&self, label: &str, report: &ImageReport, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Line::begin(out, 0, self.width)?;
        line.text(DIM, label)?;
        line.path(BOLD, &exchange::image_name(report), "")?;
        line.text(PLAIN, &exchange::platform(report))?;
        if let Some(digest) = &report.manifest_digest {
            line.text(DIM, &digest.to_string())?;
        }
        line.end()
    }

    fn secrets(&self, out: &mut dyn Write) -> io::Result<()> {
        let listed = |secret: &&ComparedSecret<'_>| secret.severity >= self.show || secret.fate() < Fate::NotFound;
        let listed: Vec<_> = self.comparison.secrets.iter().filter(listed).collect();
        self.heading("SECRETS", listed.len(), self.comparison.secrets.len(), out)?;
        listed.iter().take(SHOWN).try_for_each(|secret| self.secret(secret, out))?;
        more(listed.len(), out)
    }

    fn secret(&self, secret: &ComparedSecret<'_>, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Line::begin(out, 2, self.width)?;
        line.text(severity_style(secret.severity), &secret.severity.name().to_uppercase())?;
        line.text(BOLD, &clean(&secret.rule.title, 120))?;
        line.text(PLAIN, &clean(secret.masked, 120))?;
        line.text(DIM, secret.fingerprint)?;
        line.end()?;
        let style = if secret.fate() < Fate::NotFound { BOLD } else { PLAIN };
        paragraph(out, (style, "    "), secret.fate().words(), 4, self.width)?;
        for (fingerprint, label) in [(secret.replaced_by, "replaced by"), (secret.replaces, "in place of")] {
            if let Some(fingerprint) = fingerprint {
                writeln!(out, "    {DIM}{label} {fingerprint}{DIM:#}")?;
            }
        }
        let sides =
            [('-', &secret.before, secret.change != Change::Stayed || secret.moved()), ('+', &secret.after, true)];
        for (mark, places, is_shown) in sides {
            if is_shown {
                self.places(mark, places, out)?;
            }
        }
        for trace in secret.traces.iter().take(PLACES) {
            let mut line = Line::begin(out, 4, self.width)?;
            line.text(DIM, "+")?;
            line.path(PLAIN, &cut_path(&trace.place, 400), "")?;
            line.text(DIM, "the value itself")?;
            line.end()?;
        }
        if secret.traces.len() > PLACES {
            let more = plural((secret.traces.len() - PLACES) as u64, "more place");
            writeln!(out, "    {DIM}+ … and {more}{DIM:#}")?;
        }
        Ok(())
    }

    fn places(&self, mark: char, findings: &[&Finding], out: &mut dyn Write) -> io::Result<()> {
        for finding in findings.iter().take(PLACES) {
            let mut line = Line::begin(out, 4, self.width)?;
            line.text(DIM, &mark.to_string())?;
            line.path(PLAIN, &cut_path(&exchange::place_and_line(finding), 400), "")?;
            if let Some(file) = finding.file() {
                line.text(DIM, &exchange::layer(&file.layer))?;
                line.text(DIM, &exchange::fate(file))?;
            }
            line.end()?;
        }
        if findings.len() > PLACES {
            writeln!(out, "    {DIM}{mark} … and {}{DIM:#}", plural((findings.len() - PLACES) as u64, "more place"))?;
        }
        Ok(())
    }

    fn exposures(&self, out: &mut dyn Write) -> io::Result<()> {
        let listed = |exposure: &&Exposure<'_>| exposure.severity >= self.show;
        let listed: Vec<_> = self.comparison.exposures.iter().filter(listed).collect();
        self.heading("EXPOSURES", listed.len(), self.comparison.exposures.len(), out)?;
        for exposure in listed.iter().take(SHOWN) {
            let Some(finding) = exposure.finding() else { continue };
            let mut line = Line::begin(out, 2, self.width)?;
            line.text(DIM, exposure.change.name())?;
            line.text(severity_style(exposure.severity), &exposure.severity.name().to_uppercase())?;
            line.text(BOLD, &exchange::title(finding))?;
            line.path(PLAIN, &cut_path(&exchange::place(finding), 400), "")?;
            line.end()?;
        }
        more(listed.len(), out)
    }

    fn layers(&self, out: &mut dyn Write) -> io::Result<()> {
        let layers = &self.comparison.layers;
        writeln!(
            out,
            "\n{BOLD}LAYERS{BOLD:#}  {} stayed (the first {}), {} came, {} went",
            layers.stayed.len(),
            layers.shared_first,
            layers.came.len(),
            layers.went.len()
        )?;
        for (mark, listed) in [('-', &layers.went), ('+', &layers.came)] {
            listed.iter().take(SHOWN).try_for_each(|layer| self.layer(mark, layer, out))?;
            more(listed.len(), out)?;
        }
        Ok(())
    }

    fn layer(&self, mark: char, layer: &LayerSummary, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Line::begin(out, 2, self.width)?;
        line.text(DIM, &format!("{mark} {:>3}", layer.index))?;
        line.text(DIM, layer.digest.as_ref().map_or("", |digest| digest.short()))?;
        line.text(PLAIN, &human(layer.stored_bytes))?;
        line.text(PLAIN, &clean(layer.created_by.as_deref().unwrap_or("(unknown)"), 200))?;
        line.end()
    }

    fn packages(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(packages) = &self.comparison.packages else { return Ok(()) };
        writeln!(
            out,
            "\n{BOLD}PACKAGES{BOLD:#}  {} as before, {} came, {} went, {} with other versions{}",
            packages.stayed,
            packages.count(Change::Came),
            packages.count(Change::Went),
            packages.count(Change::Stayed),
            if packages.is_complete { "" } else { " (not everything was read)" }
        )?;
        packages.changed.iter().take(SHOWN).try_for_each(|package| self.package(package, out))?;
        more(packages.changed.len(), out)
    }

    fn package(&self, package: &PackageChange<'_>, out: &mut dyn Write) -> io::Result<()> {
        let versions = |versions: &[&str]| clean(&versions.join(", "), 200);
        let mut line = Line::begin(out, 2, self.width)?;
        line.text(DIM, package.ecosystem.name())?;
        line.text(PLAIN, &clean(&package.name, 200))?;
        line.text(
            PLAIN,
            &match package.change {
                Change::Came => format!("+ {}", versions(&package.after)),
                Change::Went => format!("- {}", versions(&package.before)),
                Change::Stayed => format!("{} → {}", versions(&package.before), versions(&package.after)),
            },
        )?;
        if !package.hidden.is_empty() {
            line.text(DIM, &format!("({} still in a layer)", versions(&package.hidden)))?;
        }
        line.end()
    }

    /// The heading of a list, with how many are listed of how many.
    fn heading(&self, title: &str, listed: usize, all: usize, out: &mut dyn Write) -> io::Result<()> {
        if all == 0 {
            return Ok(());
        }
        write!(out, "\n{BOLD}{title}{BOLD:#}  {all}")?;
        if listed < all {
            write!(out, "{DIM}, of which {} below {} are not listed (--show low){DIM:#}", all - listed, self.show)?;
        }
        writeln!(out)
    }
}

fn more(listed: usize, out: &mut dyn Write) -> io::Result<()> {
    if listed > SHOWN {
        writeln!(out, "  {DIM}… and {} more (--format json){DIM:#}", listed - SHOWN)?;
    }
    Ok(())
}
