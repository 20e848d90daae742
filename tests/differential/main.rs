//! Mutated images, given to layersift and to the programs that run images. Whatever these get out of an image,
//! layersift finds, or says that it did not read everything.
//!
//! `make differential SECONDS=600` runs this for longer. Environment variables:
//!
//! - `LAYERSIFT_DIFFERENTIAL_IMAGES`: how many images.
//! - `LAYERSIFT_DIFFERENTIAL_SECONDS`: go on for that long instead, with `podman` for every image.
//! - `LAYERSIFT_DIFFERENTIAL_SEED`: the seed of the first image; the others have the numbers after it.
//! - `LAYERSIFT_DIFFERENTIAL_CORPUS`: where images that fail are saved.

#![allow(unreachable_pub)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

#[path = "../support/mod.rs"]
mod support;

mod comparison;
mod corpus;
mod document_mutations;
mod documents;
mod draft;
mod entry;
mod entry_mutations;
mod framing;
mod image;
mod json;
mod layer;
mod members;
mod runtime;
mod shrink;
mod sparse;

use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use comparison::{Failure, compare};
use draft::{Choices, Part};
use image::Image;
use runtime::Runtime;
use shrink::{Class, shrink};
use support::tools::say;

/// Images of a run without a limit of time.
const IMAGES: usize = 300;

/// Images that are made before their failures are looked at.
const BATCH: usize = 300;

/// `podman` takes as long for an image as everything else together.
const IMAGES_PER_PODMAN: usize = 3;

/// Classes that are shrunk in a run without a limit of time, because each takes seconds.
const MOST_CLASSES: usize = 12;

const THREADS: usize = 2;

/// What a run is to do.
struct Plan {
    first_seed: u64,
    images: usize,
    time: Option<Duration>,
}

/// What a run has done.
#[derive(Default)]
struct Totals {
    images: usize,
    accepted: usize,
    /// Images that a runtime accepted and that layersift read without a gap: only these can fail.
    comparable: usize,
    slack: usize,
    failures: usize,
    unexplained: usize,
    classes: Vec<Class>,
}

#[test]
fn what_a_runtime_gets_is_found_or_is_a_gap() {
    let Some(runtimes) = installed() else { return };
    let plan = Plan::from_environment();
    let started = Instant::now();
    let mut totals = Totals::default();
    loop {
        let batch = BATCH.min(plan.images - totals.images);
        let first = plan.first_seed.wrapping_add(totals.images as u64);
        let failed = run_batch(&plan, &runtimes, first, batch, &mut totals);
        totals.images += batch;
        classify(&plan, failed, &runtimes, &mut totals);
        let is_over = plan.time.is_some_and(|time| started.elapsed() >= time);
        if totals.images == plan.images || is_over {
            break;
        }
    }
    say(&format!("{}, {} s", totals.summary(plan.first_seed), started.elapsed().as_secs()));
    // Images that nobody accepts, or that layersift always has gaps in, would compare nothing. A few may be such.
    let is_vacuous = totals.images >= IMAGES && totals.comparable * 5 < totals.images;
    assert!(!is_vacuous, "only {} of {} images can be compared", totals.comparable, totals.images);
    assert!(totals.classes.is_empty(), "{}", totals.failure_text());
}

#[test]
fn an_ordinary_image_is_accepted_and_read_in_every_packaging() {
    let Some(runtimes) = installed() else { return };
    for packaging in [0, 1, 2, 7] {
        // Without other choices, the image has one layer, with a token in a file.
        let choices = Choices::from([(Part::Amount, vec![0, 0, packaging])]);
        let image = Image::replay(1, &choices);
        let folder = tempfile::tempdir().unwrap();
        let path = image.write(folder.path());
        for runtime in &runtimes {
            let work = tempfile::tempdir().unwrap();
            let obtained = runtime.obtain(&image, &path, work.path());
            let files: Vec<usize> = obtained.in_files.into_iter().collect();
            assert_eq!(files, [0], "{} of {:?}: {}", runtime.name(), image.packaging, obtained.complaint);
        }
        let comparison = compare(&image, &runtimes);
        assert!(comparison.complete && comparison.failure.is_none(), "{:?}", image.packaging);
    }
}

/// The runtimes that can be used, or `None` if there are none.
fn installed() -> Option<Vec<&'static dyn Runtime>> {
    let mut usable: Vec<&'static dyn Runtime> = Vec::new();
    for runtime in runtime::all() {
        match runtime.missing() {
            None => usable.push(runtime),
            Some(missing) => say(&format!("NOT RUN: comparison with {}: missing {missing}", runtime.name())),
        }
    }
    (!usable.is_empty()).then_some(usable)
}

impl Plan {
    fn from_environment() -> Plan {
        let time = number("LAYERSIFT_DIFFERENTIAL_SECONDS").map(Duration::from_secs);
        let images = number("LAYERSIFT_DIFFERENTIAL_IMAGES");
        let images = images.unwrap_or(if time.is_some() { usize::MAX } else { IMAGES });
        // A run for a time is to find what other runs did not.
        let unused = || if time.is_some() { fastrand::u64(..1 << 32) } else { 1 };
        Plan { first_seed: number("LAYERSIFT_DIFFERENTIAL_SEED").unwrap_or_else(unused), images, time }
    }
}

impl Totals {
    fn summary(&self, first_seed: u64) -> String {
        format!(
            "differential: {} images from seed {first_seed}, {} accepted by a runtime, {} of them without a gap, \
             {} tokens in slack, {} failures in {} classes, {} not looked into",
            self.images,
            self.accepted,
            self.comparable,
            self.slack,
            self.failures,
            self.classes.len(),
            self.unexplained
        )
    }

    /// Adds a class, unless another one explains it, in place of those that it explains.
    fn add(&mut self, mut class: Class) {
        if let Some(known) = self.classes.iter_mut().find(|known| known.explains(&class.failure)) {
            known.count += class.count;
            return;
        }
        let explained = self.classes.extract_if(.., |known| class.explains(&known.failure));
        class.count += explained.map(|known| known.count).sum::<usize>();
        corpus::save(&class);
        self.classes.push(class);
    }

    fn failure_text(&self) -> String {
        let mut text = format!("layersift is silent about what runtimes get; see {}\n", corpus::folder().display());
        for class in &self.classes {
            text += &format!("\n{} x {}\n    {}\n    seed {}\n", class.count, class.name(), class.failure.reason, {
                class.image.seed
            });
        }
        if self.unexplained > 0 {
            text += &format!("\n{} more images fail for other reasons: make differential\n", self.unexplained);
        }
        text
    }
}

/// Compares the images with the seeds from `first` on, and gives those that fail, in the order of their seeds.
fn run_batch(
    plan: &Plan,
    runtimes: &[&'static dyn Runtime],
    first: u64,
    batch: usize,
    totals: &mut Totals,
) -> Vec<(Image, Failure)> {
    let next = AtomicUsize::new(0);
    let (shared, failed) = (Mutex::new(totals), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= batch {
                        break;
                    }
                    let image = Image::random(first.wrapping_add(number as u64));
                    let comparison = compare(&image, &chosen(plan, runtimes, number));
                    let mut totals = shared.lock().unwrap();
                    totals.accepted += usize::from(comparison.accepted);
                    totals.comparable += usize::from(comparison.accepted && comparison.complete);
                    totals.slack += comparison.slack;
                    if let Some(failure) = comparison.failure {
                        failed.lock().unwrap().push((image, failure));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(image, _)| image.seed);
    failed
}

/// The runtimes for the image with this number.
fn chosen(plan: &Plan, runtimes: &[&'static dyn Runtime], number: usize) -> Vec<&'static dyn Runtime> {
    let takes_podman = plan.time.is_some() || number.is_multiple_of(IMAGES_PER_PODMAN);
    runtimes.iter().filter(|runtime| takes_podman || runtime.name() != "podman").copied().collect()
}

/// Sorts failures into classes, and saves an image of each.
fn classify(plan: &Plan, failed: Vec<(Image, Failure)>, runtimes: &[&'static dyn Runtime], totals: &mut Totals) {
    for (image, failure) in failed {
        totals.failures += 1;
        if let Some(class) = totals.classes.iter_mut().find(|class| class.explains(&failure)) {
            class.count += 1;
        } else if plan.time.is_none() && totals.classes.len() == MOST_CLASSES {
            totals.unexplained += 1;
        } else {
            totals.add(shrink(image, failure, runtimes));
        }
    }
}

fn number<N: FromStr>(variable: &str) -> Option<N> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: expected a number")))
}
