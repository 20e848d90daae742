//! The steps of a bill of materials that no second scanner makes.

use layersift_source::registry::Reference;
use layersift_store::{HarborPhase, Seconds};

use super::sboms::{Bill, Wanted};
use super::second::SecondScanner;
use super::steps::{Current, Step};
use crate::harbor::sbom::Form;

/// Seconds until it is looked again whether a bill has been read, and until there may be room for one.
const SOON: Seconds = 1;
const FULL: Seconds = 5;

/// Seconds after which a process that reads an image has to have said so again. Any process may take its steps.
const FRESH: Seconds = 60;

impl Current<'_> {
    /// Whether a second scanner makes the bill: it did so far, or it says that it makes them.
    pub(super) fn is_for(&self, second: &SecondScanner) -> bool {
        self.progress.second.is_some() || (self.progress.reader.is_none() && second.makes_sboms())
    }

    /// Reads the image, or gives back what was read.
    pub(super) fn bill(mut self, form: Option<Form>) -> Step {
        let Some(form) = form else {
            return Step::Failed("there is no bill of materials in a form that was asked for".into());
        };
        let sboms = &self.steps.adapter.sboms;
        match sboms.take(&self.task.id) {
            Bill::Report(report) => return Step::Report(report, None),
            // Where this process ends, another one reads the image.
            Bill::Failed(_) if self.steps.service.ending.is_cancelled() => {
                let not_before = self.now;
                return self.wait(HarborPhase::Scan, not_before);
            }
            Bill::Failed(why) => return Step::Failed(self.masked_text(why)),
            Bill::Running => return self.reading(),
            Bill::Unknown | Bill::Full => {}
        }
        let (process, now) = (self.steps.adapter.sboms.process.clone(), self.now);
        let is_elsewhere = self
            .progress
            .reader
            .as_ref()
            .is_some_and(|(reader, at)| *reader != process && (0..FRESH).contains(&now.saturating_sub(*at)));
        if is_elsewhere {
            let not_before = now.saturating_add(SOON);
            return self.wait(HarborPhase::Scan, not_before);
        }
        let wanted = match self.wanted(form) {
            Ok(wanted) => wanted,
            Err(why) => return Step::Failed(why),
        };
        match sboms.begin(wanted, self.steps.registries, self.steps.analyzer) {
            Bill::Failed(why) => Step::Failed(why),
            Bill::Full => {
                self.progress.reader = None;
                let not_before = now.saturating_add(FULL);
                self.wait(HarborPhase::New, not_before)
            }
            Bill::Running | Bill::Report(_) | Bill::Unknown => self.reading(),
        }
    }

    /// Notes that this process reads the image.
    fn reading(mut self) -> Step {
        self.progress.reader = Some((self.steps.adapter.sboms.process.clone(), self.now));
        let not_before = self.now.saturating_add(SOON);
        self.wait(HarborPhase::Scan, not_before)
    }

    fn wanted(&self, form: Form) -> Result<Wanted, String> {
        let reference: Reference = self.task.reference.parse().map_err(|_| "the stored reference cannot be read")?;
        let login = self.login().ok_or("the login of the scan was sealed with another key, or is too old")?;
        let (credentials, plain_http) = login.credentials();
        let left = self.task.deadline.saturating_sub(self.now);
        let left = std::time::Duration::from_secs(u64::try_from(left).unwrap_or_default());
        Ok(Wanted {
            task: self.task.id.clone(),
            reference,
            plain_http,
            credentials,
            request: self.request.clone(),
            form,
            cancellation: self.steps.service.ending.child_with_deadline(left),
        })
    }
}
