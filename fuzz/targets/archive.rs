//! Archives inside files: whatever the bytes are, opening ends, members begin and end in turn and within the limits,
//! and what is read without a gap does not depend on the pieces it comes in.
#![no_main]

use layersift_fuzz::{choices, tiny_limits};
use layersift_model::Gap;
use layersift_scan::MemoryBudget;
use layersift_scan::content::archive::{HEAD_BYTES, Members, Opener};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ([step], archive) = choices(data);
    let large = open(archive, usize::MAX);
    let small = open(archive, 1 + usize::from(step));
    assert!(large.gaps > 0 || small.gaps > 0 || large.members == small.members);
});

/// The members and gaps of an archive.
#[derive(Default)]
struct Held {
    members: Vec<(Vec<String>, Vec<u8>)>,
    is_open: bool,
    gaps: usize,
}

impl Members for Held {
    fn begin(&mut self, inside: &[String], _: Option<u64>) {
        assert!(!std::mem::replace(&mut self.is_open, true));
        self.members.push((inside.to_vec(), Vec::new()));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        assert!(self.is_open);
        self.members.last_mut().expect("a member is open").1.extend_from_slice(bytes);
    }

    fn end(&mut self) {
        assert!(std::mem::take(&mut self.is_open));
    }

    fn gap(&mut self, _: &[String], _: Gap) {
        self.gaps += 1;
    }
}

fn open(archive: &[u8], step: usize) -> Held {
    let limits = tiny_limits();
    let mut held = Held::default();
    let Some(mut opener) =
        Opener::detect(&archive[..archive.len().min(HEAD_BYTES)], &limits, &MemoryBudget::default().lease(0))
    else {
        return held;
    };
    for piece in archive.chunks(step) {
        opener.push(piece, &mut held);
    }
    opener.finish(&mut held);
    assert!(!held.is_open && held.members.len() as u64 <= limits.archive_members);
    let bytes: usize = held.members.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes as u64 <= limits.archive_bytes + archive.len() as u64);
    held
}
