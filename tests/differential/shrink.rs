//! Makes an image that fails as ordinary as it can be while it still fails, and sorts failures into classes.

use super::comparison::{Failure, compare};
use super::draft::{Choices, Part};
use super::image::{Form, Image, Packaging};
use super::runtime::Runtime;

/// Failures with one cause, as far as the mutations of a shrunk image tell.
pub struct Class {
    pub failure: Failure,
    pub image: Image,
    /// The images that it explains.
    pub count: usize,
}

impl Class {
    /// Whether a failure has all that this one has, and so shows nothing new.
    pub fn explains(&self, other: &Failure) -> bool {
        let same = |usual: bool, equal: bool| usual || equal;
        same(self.failure.packaging == Packaging::OciDirectory, self.failure.packaging == other.packaging)
            && same(self.failure.form == Form::Transport, self.failure.form == other.form)
            && self.failure.mutations.iter().all(|mutation| other.mutations.contains(mutation))
    }

    /// What is unusual about the image, in one line.
    pub fn name(&self) -> String {
        let mut parts = vec![self.failure.packaging.transport().to_string()];
        match self.failure.form {
            Form::Transport => {}
            Form::Path => parts.push("given as a path".to_string()),
            Form::StandardInput => parts.push("given on standard input".to_string()),
        }
        parts.extend(self.failure.mutations.iter().cloned());
        parts.join(" | ")
    }
}

/// Sets choices of a failing image to 0, in large pieces and then one by one, as long as it fails.
pub fn shrink(image: Image, failure: Failure, runtimes: &[&'static dyn Runtime]) -> Class {
    // A runtime that did not get anything is not asked again.
    let at_fault = |runtime: &&&'static dyn Runtime| failure.runtimes.contains(&runtime.name());
    let runtimes: Vec<&'static dyn Runtime> = runtimes.iter().filter(at_fault).take(1).copied().collect();
    let mut class = Class { failure, image, count: 1 };
    let parts: Vec<Part> = class.image.choices.keys().copied().collect();
    // What one part has may decide whether another can be ordinary: umoci unpacks no Zstandard, for example.
    for part in parts.iter().chain(&parts) {
        shrink_part(&mut class, *part, &runtimes);
    }
    class
}

fn shrink_part(class: &mut Class, part: Part, runtimes: &[&'static dyn Runtime]) {
    let length = |class: &Class| class.image.choices.get(&part).map_or(0, Vec::len);
    let mut piece = length(class).next_power_of_two();
    while piece > 0 {
        let mut start = 0;
        while start < length(class) {
            let end = (start + piece).min(length(class));
            let mut choices = class.image.choices.clone();
            let zeroed = &mut choices.get_mut(&part).unwrap()[start..end];
            if zeroed.iter().any(|choice| *choice != 0) {
                zeroed.fill(0);
                try_replacing(class, &choices, runtimes);
            }
            start += piece;
        }
        piece /= 2;
    }
}

fn try_replacing(class: &mut Class, choices: &Choices, runtimes: &[&'static dyn Runtime]) {
    let image = Image::replay(class.image.seed, choices);
    if let Some(failure) = compare(&image, runtimes).failure {
        class.failure = failure;
        class.image = image;
    }
}
