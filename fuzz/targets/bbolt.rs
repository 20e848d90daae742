//! bbolt databases of engines: from any bytes to buckets whose values lie in them.
#![no_main]

use layersift_disks::bbolt::{Bucket, Node, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(root) = read(data) {
        check(&root, data.len());
    }
});

fn check(bucket: &Bucket, size: usize) {
    for (_, node) in bucket.nodes() {
        match node {
            Node::Value(range) => assert!(range.start <= range.end && range.end <= size),
            Node::Bucket(bucket) => check(bucket, size),
        }
    }
}
