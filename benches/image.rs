//! An image of your own compared with its floors, in one run: decompressing its layers, then decompressing, both
//! digests and the walk, then the whole scan, all on as many threads as the scan has. Medians, and ratios of medians.
//!
//!     LAYERSIFT_BENCH_IMAGE=image.tar cargo bench --bench image

#![allow(unreachable_pub)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod floor;

use std::env;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use layersift_format::Opened;
use layersift_format::compression::{Codec, Decoding, MAGIC_BYTES, Undecoded, read_full};
use layersift_format::manifest::LayerSource;
use layersift_format::platform::Choice;
use layersift_format::{Blob, Fetched, ImageSource, manifest};
use layersift_model::Limits;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan, Options};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};

const ROUNDS: usize = 5;

fn main() {
    let Ok(image) = env::var("LAYERSIFT_BENCH_IMAGE") else {
        println!("LAYERSIFT_BENCH_IMAGE names no image: nothing was measured");
        return;
    };
    let target = Target::parse(&image).expect("a target");
    let rules = Ruleset::built_in().expect("built-in rules");
    let scanner = Analyzer::new(rules, Options::default()).expect("a scanner");
    let mut times: [Vec<f64>; 3] = Default::default();
    // The first round is for the page cache.
    for round in 0..=ROUNDS {
        let measured = [
            timed(|| every_layer(&target, inflate)),
            timed(|| every_layer(&target, |blob| drop(floor::read(blob)))),
            timed(|| {
                drop(
                    ImageScan::new(&scanner)
                        .run(&image, open(&target, &Limits::default(), &RegistryOptions::default()).expect("an image"))
                        .expect("a report"),
                )
            }),
        ];
        if round > 0 {
            times.iter_mut().zip(measured).for_each(|(times, seconds)| times.push(seconds));
        }
    }
    let [inflate, floor, scan] = times.map(median);
    println!("inflating alone                 {inflate:6.2} s");
    println!("and both digests, and the walk  {floor:6.2} s   {:5.2} of inflating", floor / inflate);
    println!("and the scan                    {scan:6.2} s   {:5.2} of the floor", scan / floor);
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Hands each layer of the target to `read` once, the largest first, on as many threads as a scan has.
fn every_layer(target: &Target, read: fn(Blob<'_>)) {
    let limits = Limits::default();
    let Opened::Source(source) = open(target, &limits, &RegistryOptions::default()).expect("an image") else {
        panic!("a stream passes by once: name a file or a directory")
    };
    let images = manifest::images(&*source, &Choice::Default, &limits).expect("an image");
    let mut layers: Vec<&LayerSource> = images.iter().flat_map(|image| &image.layers).collect();
    layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    let next = AtomicUsize::new(0);
    let source: &dyn ImageSource = &*source;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some(layer) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let location = layer.location.as_ref().expect("a layer");
                    let Ok(Fetched::Blob(blob)) = source.open(location) else { panic!("{location:?} is missing") };
                    read(blob);
                }
            });
        }
    });
}

fn inflate(blob: Blob<'_>) {
    let mut stream = blob.into_reader();
    let mut head = [0; MAGIC_BYTES];
    let length = read_full(&mut stream, &mut head).expect("a layer");
    let whole = io::Cursor::new(head).take(length as u64).chain(stream);
    let undecoded = Undecoded::default();
    let decoding = Decoding { undecoded: &undecoded, memory: &|_| Some(Box::new(())) };
    let mut plain = Codec::detect(&head[..length]).reader(whole, decoding).expect("a codec that is read");
    let mut buffer = vec![0; 1 << 20];
    while read_full(&mut *plain, &mut buffer).expect("a sound layer") > 0 {}
}
