//! Whole scans of any archive, as a file and as a stream: both end, and where both read all of it they find the same.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use layersift_format::platform::Choice;
use layersift_fuzz::{choices, repair_tar, tiny_limits};
use layersift_model::{Digest, ImageReport, Location, ReportSet, ReportedSecret, to_json};
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan, Options};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};
use libfuzzer_sys::fuzz_target;

/// The capacity of a pipe in bytes.
const PIPE: usize = 64 << 10;

static ANALYZER: LazyLock<Analyzer> = LazyLock::new(|| {
    let options = Options { threads: 1, limits: tiny_limits(), ..Options::default() };
    Analyzer::new(Ruleset::built_in().expect("built-in rules"), options).expect("a scanner")
});

fuzz_target!(|data: &[u8]| {
    let ([flags], archive) = choices(data);
    if archive.len() > PIPE {
        return;
    }
    let mut archive = archive.to_vec();
    if flags & 1 == 0 {
        repair_tar(&mut archive, 1);
    }
    let (as_file, as_stream) = (scan_file(&archive), scan_stream(&archive));
    if let (Some(file), Some(stream)) = (as_file, as_stream) {
        let complete = |reports: &[ImageReport]| reports.iter().all(|report| report.gaps.is_empty());
        if complete(&file) && complete(&stream) && layers(&file) == layers(&stream) {
            assert_eq!(findings(&file), findings(&stream));
        }
    }
});

fn scan(path: String) -> Option<Vec<ImageReport>> {
    let target = Target::parse(&path).expect("a path is a target");
    let opened = open(&target, ANALYZER.limits(), &RegistryOptions::default()).ok()?;
    let mut reports = ImageScan::new(&ANALYZER).platform(Choice::All).run(&path, opened).ok()?;
    reports.iter_mut().for_each(|report| Policy::default().judge(report));
    let text = to_json(&reports, true).expect("a report");
    assert_eq!(ReportSet::from_json(text.as_bytes()).expect("a report").reports.len(), reports.len());
    Some(reports)
}

fn scan_file(archive: &[u8]) -> Option<Vec<ImageReport>> {
    let path = format!("/dev/shm/layersift-fuzz-{}", std::process::id());
    File::create(&path).and_then(|mut file| file.write_all(archive)).expect("shared memory");
    let reports = scan(path.clone());
    std::fs::remove_file(path).expect("shared memory");
    reports
}

fn scan_stream(archive: &[u8]) -> Option<Vec<ImageReport>> {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(archive).expect("room in the pipe");
    drop(writer);
    scan(format!("/proc/self/fd/{}", reader.as_raw_fd()))
}

/// What a stream is, a root file system or an image, is decided at its first entry; in a file it may turn out later.
fn layers(reports: &[ImageReport]) -> Vec<Option<&Digest>> {
    reports.iter().flat_map(|report| &report.layers).map(|layer| layer.digest.as_ref()).collect()
}

fn findings(reports: &[ImageReport]) -> Vec<(&str, &Location, Option<&ReportedSecret>)> {
    let all = reports.iter().flat_map(|report| &report.findings);
    all.map(|finding| (&finding.id[..], &finding.location, finding.secret.as_ref())).collect()
}
