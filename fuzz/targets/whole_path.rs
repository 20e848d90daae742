//! The whole path in little memory: any archive in, every report out. Nothing that the scan and the formats keep may
//! take more than the budget, whatever the archive holds.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use layersift_format::platform::Choice;
use layersift_fuzz::{choices, repair_tar, tiny_limits};
use layersift_model::{ReportSet, changes_display, to_json};
use layersift_report::{FORMATS, Policy, RenderOptions};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan, MemoryBudget, Options};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};
use libfuzzer_sys::fuzz_target;

/// The memory budget of the scan, and the most that a run may allocate beyond what was there before.
const BUDGET: usize = 32 << 20;

static ANALYZER: LazyLock<Analyzer> = LazyLock::new(|| {
    let memory = MemoryBudget::new(BUDGET as u64);
    let options = Options { threads: 1, limits: tiny_limits(), memory, ..Options::default() };
    Analyzer::new(Ruleset::built_in().expect("built-in rules"), options).expect("a scanner")
});

/// Counts the bytes that are allocated.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it passes everything on to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

fuzz_target!(|data: &[u8]| {
    let ([flags], archive) = choices(data);
    let mut archive = archive.to_vec();
    if flags & 1 == 0 {
        repair_tar(&mut archive, 1);
    }
    LazyLock::force(&ANALYZER);
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    run(&archive, if flags & 2 == 0 { "" } else { "rootfs:" });
    let taken = PEAK.load(Ordering::Relaxed) - before;
    assert!(taken <= BUDGET, "{taken} bytes of memory");
});

fn run(archive: &[u8], transport: &str) {
    let path = format!("/dev/shm/layersift-fuzz-whole-{}", std::process::id());
    std::fs::write(&path, archive).expect("shared memory");
    let target = Target::parse(&format!("{transport}{path}")).expect("a path is a target");
    let opened = open(&target, ANALYZER.limits(), &RegistryOptions::default());
    let scanned = opened.map(|opened| ImageScan::new(&ANALYZER).platform(Choice::All).run(&target.text, opened));
    std::fs::remove_file(&path).expect("shared memory");
    let Ok(Ok(mut reports)) = scanned else { return };
    reports.iter_mut().for_each(|report| Policy::default().judge(report));
    for format in FORMATS {
        let mut out = Vec::new();
        (format.render)(&reports, &RenderOptions::default(), &mut out).expect("memory can be written");
        let text = String::from_utf8(out).expect("reports are text");
        if format.media_type.contains("json") {
            assert!(!text.chars().any(|c| changes_display(c) && c != '\n'), "{}", format.name);
        }
    }
    let text = to_json(&reports, false).expect("a report");
    let set = ReportSet::from_json(text.as_bytes()).expect("a report");
    assert_eq!(set.reports.len(), reports.len());
}
