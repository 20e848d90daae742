//! Files: those that a prompt mentions or comes with, and those that stand in a value or within a text. A file that is
//! a text gets what a text gets.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::check::{Checked, Found, named, placed, unread};
use super::checker::Checker;
use super::content::Place;
use super::event::Event;
use super::{input, mentions};
use layersift_model::ImageReport;
use layersift_prompts::{Inside, PlainText, each_inside, packed_files};
use layersift_rules::Scope;

/// The name of a file that has none.
const PACKED: &str = "file";

/// What is said of a text with more files in base64 than are opened.
const MORE_PACKED: &str = "more compressed files in base64 than are opened";

/// What was found in a file, and what was not read of it.
struct File<'f> {
    /// The file, for a person.
    place: &'f str,
    checker: &'f Checker,
    found: Vec<Found>,
    unread: Vec<String>,
}

/// Checks the compressed files and archives in base64 within `text` of `event`. `place` tells where each byte of it is
/// from.
pub(super) fn packed(
    event: &Event,
    text: &[u8],
    place: &dyn Fn(usize) -> Option<Place>,
    checker: &Checker,
    checked: &mut Checked,
) {
    let (files, is_all) = packed_files(text);
    if !is_all {
        checked.unchecked.push(format!("the text: {MORE_PACKED}"));
    }
    for file in files {
        let place = place(file.span.start);
        // A value that is data as a whole is a file of its own.
        if place.is_some_and(|place| event.content.files().iter().any(|file| file.name == place.name)) {
            continue;
        }
        let report = checker.scan(PACKED, &file.bytes, event.scope());
        for (found, _) in checker.blocking(&report) {
            checked.add(placed(event, found, place));
        }
        checked.unchecked.extend(unread_packed(&report, "the text"));
    }
}

/// Checks the data in values. No person wrote what is in it, so it counts as the answer of a tool.
pub(super) fn embedded(event: &Event, checker: &Checker, checked: &mut Checked) {
    for embedded in event.content.files() {
        let place = format!("{}, data in it", named(event, embedded.name, &checked.hidden));
        let part = event.content.path(embedded.name).join(".");
        let file = File::check(&place, "prompt", &embedded.bytes, checker);
        checked.unchecked.extend(file.unread);
        for found in file.found {
            // Short data were scanned as text as well.
            checked.add(Found { place: place.clone(), part: Some(part.clone()), ..found });
        }
    }
    for (name, what) in event.content.unread() {
        let name = named(event, *name, &checked.hidden);
        checked.unchecked.push(format!("{name}: {what}"));
    }
}

/// Checks the files that a prompt mentions or comes with. Directories and words that are no files are left out.
pub(super) fn mentioned(event: &Event, most_bytes: u64, checker: &Checker, checked: &mut Checked) {
    let directory = match &event.directory {
        Some(directory) => directory.clone(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut mentioned = mentions::mentions(&String::from_utf8_lossy(event.content.text().bytes()));
    mentioned.extend(event.attachments.iter().map(|path| vec![path.clone()]));
    let (mut left, mut count) = (most_bytes, 0);
    for readings in mentioned {
        let read = read_first(&readings, &directory, home.as_deref(), left);
        count += usize::from(!matches!(read, Ok(None)));
        if count > mentions::MOST {
            checked.unchecked.push(format!("more than {} files are mentioned", mentions::MOST));
            return;
        }
        match read {
            Ok(Some((path, bytes))) => {
                left = left.saturating_sub(bytes.len() as u64);
                let file = File::check(&path, &path, &bytes, checker);
                checked.found.extend(file.found);
                checked.unchecked.extend(file.unread);
            }
            Ok(None) => {}
            Err(error) => checked.unchecked.push(format!("{error:#}")),
        }
    }
}

/// The first of `readings` that is a file, and its bytes.
fn read_first(
    readings: &[String],
    directory: &Path,
    home: Option<&Path>,
    limit: u64,
) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    for reading in readings {
        let path = mentions::resolve(reading, directory, home);
        if let Some(bytes) = input::read_file(&path, limit).with_context(|| format!("the mentioned file {reading}"))? {
            return Ok(Some((reading.clone(), bytes)));
        }
    }
    Ok(None)
}

impl<'f> File<'f> {
    /// Checks the file `path`, which a person knows as `place`, and what is in it.
    fn check(place: &'f str, path: &str, bytes: &[u8], checker: &'f Checker) -> File<'f> {
        let mut file = File { place, checker, found: Vec::new(), unread: Vec::new() };
        let report = checker.scan(path, bytes, Scope::ToolOutput);
        file.found.extend(checker.blocking(&report).map(|(found, _)| found));
        file.add_gaps(&report);
        each_inside(bytes, &mut |inside| match inside {
            Inside::Itself(text) => file.add_disguised(text.as_bytes()),
            Inside::Text(text) => {
                file.add(text.as_bytes(), |_| true);
                file.add_disguised(text.as_bytes());
            }
            Inside::File(bytes) => file.add(bytes, |_| true),
            Inside::Unseen(why) => file.unread.push(format!("{place}: {}", why.describe())),
        });
        file
    }

    /// Checks what is in a text and is not seen in it as it stands.
    fn add_disguised(&mut self, text: &[u8]) {
        self.add_packed(text);
        for plain in PlainText::rounds(text) {
            self.add(plain.bytes(), PlainText::counts);
            self.add_packed(plain.bytes());
        }
    }

    fn add_packed(&mut self, text: &[u8]) {
        let (files, is_all) = packed_files(text);
        if !is_all {
            self.unread.push(format!("{}: {MORE_PACKED}", self.place));
        }
        for file in files {
            let report = self.checker.scan(PACKED, &file.bytes, Scope::ToolOutput);
            self.add_found(&report, |_| true);
            self.unread.extend(unread_packed(&report, self.place));
        }
    }

    /// Checks what is inside of the file.
    fn add(&mut self, bytes: &[u8], counts: impl Fn(&str) -> bool) {
        let report = self.checker.scan("prompt", bytes, Scope::ToolOutput);
        self.add_found(&report, counts);
        self.add_gaps(&report);
    }

    /// Adds what is not known of the file.
    fn add_found(&mut self, report: &ImageReport, counts: impl Fn(&str) -> bool) {
        for (found, _) in self.checker.blocking(report).filter(|(found, _)| counts(&found.rule)) {
            let is_known = |known: &Found| known.rule == found.rule && known.masked == found.masked;
            if !self.found.iter().any(is_known) {
                self.found.push(Found { place: self.place.into(), ..found });
            }
        }
    }

    fn add_gaps(&mut self, report: &ImageReport) {
        self.unread.extend(report.gaps.iter().map(|gap| unread(self.place, &gap.gap)));
    }
}

/// What could not be read of a file within a text. Whether it is a file at all is a guess.
fn unread_packed<'r>(report: &'r ImageReport, place: &'r str) -> impl Iterator<Item = String> + use<'r> {
    report.gaps.iter().filter(|gap| !gap.gap.reason.is_damage()).map(move |gap| unread(place, &gap.gap))
}
