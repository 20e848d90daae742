//! What the gate allocates for the densest bodies: a program that receives bodies by their size knows what they take.

#![allow(clippy::expect_used, clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use layersift_model::Severity;
use layersift_prompts::{Client, Decision, Gate, Policy};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};

/// Counts the bytes that are allocated.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(size: usize) {
    let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: it passes everything on to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    // The system moves what is large without a copy.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        add(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most bytes of a body.
const BODY: usize = 8 << 20;

/// What the service counts on: a few times the size of a body, and so much for its values.
const MOST: usize = 3 * BODY + (64 << 20);

fn repeated(before: &str, item: &str, count: usize, after: &str) -> String {
    let count = count.min((BODY - before.len() - after.len()) / (item.len() + 1));
    format!("{before}{}{after}", vec![item; count].join(","))
}

#[test]
fn no_body_takes_more_memory_than_is_counted_on() {
    let options = Options { limits: Gate::limits(), threads: 1, ..Options::default() };
    let gate = Gate::new(Arc::new(Analyzer::new(Ruleset::for_prompts(&[]).unwrap(), options).unwrap()), 0);
    let denying = Policy::default();
    let masking = Policy { deny: None, mask: Some(Severity::Medium), ..Policy::default() };
    let check = |body: &str, policy: &Policy| {
        gate.check(b"warm", None, Client { name: "test", policy });
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let verdict = gate.check(body.as_bytes(), None, Client { name: "test", policy });
        let taken = PEAK.load(Ordering::Relaxed) - before;
        let shown = &body[..body.len().min(80)];
        println!(
            "{:>5.1} MiB for {:>4.1} MiB, {:?}: {shown}",
            taken as f64 / f64::from(1 << 20),
            body.len() as f64 / f64::from(1 << 20),
            verdict.decision
        );
        assert!(taken <= MOST, "{taken} bytes for {} of {shown}", body.len());
        verdict.decision
    };
    let token = concat!("glp", "at-Zk7Qm2Xr9Tb4Wn6Ve001");
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let secret = format!("\"{token}\"");
    let secret_in_name = format!("{{\"{token}\":1}}");
    let message = r#"{"role":"user","content":"a"}"#;
    let long_name = format!("{{\"messages\":[],\"{}\":[", "k".repeat(BODY / 2));
    let dense: [(&str, &str, usize, &str); 14] = [
        (r#"{"messages":[],"x":["#, &nested, 2_400, "]}"),
        (r#"{"messages":[],"x":["#, r#"{"a":1}"#, 124_000, "]}"),
        (r#"{"messages":["#, message, 83_000, "]}"),
        (r#"{"messages":[{"role":"user","content":["#, r#""a""#, 249_000, "]}]}"),
        (r#"{"messages":[{"role":"user","content":["#, r#"{"text":"a"}"#, 124_000, "]}]}"),
        (r#"{"messages":[{"role":"user","content":["#, r#"{"type":"image"}"#, 124_000, "]}]}"),
        (r#"{"messages":[],"x":["#, r#"0,"""#, 124_000, "]}"),
        (r#"{"model":"m","prompt":["#, r#""\u0061""#, 249_000, "]}"),
        (r#"{"model":"m","prompt":["#, "[1]", 249_000, "]}"),
        (r#"{"messages":[],"tools":["#, r#"{"a":1}"#, 124_000, "]}"),
        (r#"{"messages":[],"x":["#, "0", usize::MAX, "]}"),
        (&long_name, r#"{"a":"b"}"#, 124_000, "]}"),
        (r#"{"messages":[{"role":"user","content":["#, &secret, 30_000, "]}]}"),
        (r#"{"messages":[],"tools":["#, &secret_in_name, 30_000, "]}"),
    ];
    for (before, item, count, after) in dense {
        check(&repeated(before, item, count, after), if item.contains(token) { &masking } else { &denying });
        if item != "0" && !item.contains(token) {
            assert_eq!(check(&repeated(before, item, usize::MAX, after), &denying), Decision::Deny, "{item}");
        }
    }
    let keys = (0..249_000).map(|number| format!("\"{number}\":0")).collect::<Vec<_>>().join(",");
    check(&format!("{{\"messages\":[],\"x\":{{{keys}}}}}"), &denying);
}
