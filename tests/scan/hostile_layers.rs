//! Hostile and broken layers: tar archives and compressed streams that no honest writer makes. What cannot be looked at
//! is a gap with its reason, what comes before it is still found, and the verdict is never "pass".

use crate::support::image::{Layer, archive, digest, docker_save, oci, write_directory};
use crate::support::tar::{Tar, gzip, header, zstd};
use crate::support::{Run, findings, gap_reasons, layersift, layersift_with_input, text};
use serde_json::Value;
use tar::{EntryType, Header};

/// A made-up token with the right checksum, and what finds it.
const TOKEN: &str = "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";
const RULE: &str = "github.personal-access-token";

/// A layer of one file with a token, with more entries to come.
fn with_token() -> Tar {
    Tar::new().file("app/env", format!("TOKEN={TOKEN}\n"))
}

fn scan_layers(layers: &[Layer]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(layers));
    layersift(&["scan", "--format", "json", text(folder.path())])
}

/// The report of an image with the token and one layer that cannot be read to its end, in three packagings.
#[track_caller]
fn with_a_gap(layer: Layer, reason: &str) -> Value {
    let report = scan_layers(std::slice::from_ref(&layer)).expect(1).json();
    assert_eq!(gap_reasons(&report), [reason], "{}", report["gaps"]);
    assert_eq!(report["gaps"][0]["layer"], 0);
    assert!(report["gaps"][0]["detail"].as_str().unwrap().len() > 10);
    let found: Vec<&Value> = findings(&report).iter().filter(|finding| finding["rule"] == RULE).collect();
    assert_eq!(found.len(), 1, "what comes before the gap is found: {report}");
    // With nothing that fails, the gap alone decides.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let image = archive(&docker_save(&[layer]));
    std::fs::write(&path, &image).unwrap();
    layersift(&["scan", "--fail-on", "none", text(&path)]).expect(3);
    layersift_with_input(&["scan", "--fail-on", "none", "-"], image).expect(3);
    report
}

#[test]
fn the_token_alone_is_found_without_gaps() {
    let report = scan_layers(&[Layer::plain(with_token().finish())]).expect(1).json();
    assert_eq!(gap_reasons(&report), [""; 0]);
}

#[test]
fn a_layer_that_breaks_off() {
    let whole = with_token().file("large", vec![b'x'; 5000]).finish();
    let start = with_token().unfinished().len();
    for cut in [start + 1, start + 511, start + 512, start + 513, start + 3000, start + 512 + 4999] {
        with_a_gap(Layer::plain(whole[..cut].to_vec()), "damaged-tar");
    }
    // Data that is all there, with its padding cut off, and a missing end marker are tolerated by every extractor.
    for whole in [with_token().unfinished(), whole[..start + 512 + 5120].to_vec()] {
        let report = scan_layers(&[Layer::plain(whole)]).expect(1).json();
        assert_eq!(gap_reasons(&report), [""; 0]);
    }
}

#[test]
fn a_compressed_layer_that_breaks_off() {
    // Without structure, so that the compressed stream is long.
    let noise: Vec<u8> = (0u32..60_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tar = with_token().file("noise", noise).finish();
    for (compressed, suffix) in [(gzip(&tar), "+gzip"), (zstd(&tar), "+zstd")] {
        for cut in [compressed.len() - 1, compressed.len() - 9] {
            let report = scan_layers(&[Layer::stored(&tar, compressed[..cut].to_vec(), suffix)]);
            assert!(matches!(report.code, Some(1 | 3)), "{report:?}");
            let report = report.json();
            assert!(gap_reasons(&report).contains(&"damaged-compression"), "cut at {cut}: {}", report["gaps"]);
        }
        for cut in [1, 3, 4, 8, 12, compressed.len() / 2] {
            let run = scan_layers(&[Layer::stored(&tar, compressed[..cut].to_vec(), suffix)]);
            assert!(matches!(run.code, Some(1 | 3)), "cut at {cut}: {run:?}");
            assert_ne!(run.json()["gaps"], serde_json::json!([]));
        }
    }
}

#[test]
fn a_compressed_layer_with_flipped_bits() {
    let tar = with_token().file("more", "a line that repeats\n".repeat(500)).finish();
    for (compressed, suffix) in [(gzip(&tar), "+gzip"), (zstd(&tar), "+zstd")] {
        for at in (0..compressed.len()).step_by(compressed.len() / 25 + 1) {
            let mut flipped = compressed.clone();
            flipped[at] ^= 0x55;
            let run = scan_layers(&[Layer::stored(&tar, flipped, suffix)]);
            assert!(matches!(run.code, Some(1 | 3)), "bit at {at}: {run:?}");
            let report = run.json();
            // A flag of the gzip header may change without any effect on the bytes; the diff_id says that it did.
            let untouched = report["layers"][0]["diff_id"] == digest(&tar);
            assert!(untouched || report["gaps"] != serde_json::json!([]), "bit at {at}: {report}");
        }
    }
}

#[test]
fn garbage_behind_a_compressed_stream() {
    let tar = with_token().finish();
    for (mut compressed, suffix) in [(gzip(&tar), "+gzip"), (zstd(&tar), "+zstd")] {
        compressed.extend(b"and then something else");
        with_a_gap(Layer::stored(&tar, compressed, suffix), "damaged-compression");
    }
}

#[test]
fn a_second_archive_behind_the_end_of_the_first() {
    // A runtime ignores it, and whoever pulls the layer has it.
    let hidden = [Tar::new().file("a", "x").finish(), with_token().finish()].concat();
    for layer in [Layer::plain(hidden.clone()), Layer::stored(&hidden, gzip(&hidden), "+gzip")] {
        let report = scan_layers(&[layer]).expect(1).json();
        assert_eq!(gap_reasons(&report), [""; 0]);
        let found = &findings(&report)[0];
        assert_eq!(found["inside"], serde_json::json!(["bytes after the end of the archive", "app/env"]));
    }
    // Zeros are how writers fill the last record.
    let filled = [with_token().finish(), vec![0; 20 * 512]].concat();
    assert_eq!(gap_reasons(&scan_layers(&[Layer::plain(filled)]).expect(1).json()), [""; 0]);
}

#[test]
fn compressions_that_are_not_read() {
    for (head, reason) in [
        (&b"BZh91AY&SY"[..], "damaged-compression"),
        (b"\xfd7zXZ\0\0\x04", "damaged-compression"),
        (b"\x04\x22\x4d\x18\x64\x40", "not-a-tar"),
    ] {
        let blob = [head, &[0x5a; 600]].concat();
        let report = scan_layers(&[Layer::plain(blob)]).expect(3).json();
        assert!(gap_reasons(&report).contains(&reason), "{}", report["gaps"]);
    }
    // A Zstandard frame that wants a window of 2 GiB: RFC 8878, section 3.1.1.1.2, exponent 21.
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x21, 0, 0][..], b"data"].concat();
    let run = scan_layers(&[Layer::plain(frame)]).expect(3);
    assert!(gap_reasons(&run.json()).contains(&"unsupported-compression"));
    assert!(run.peak_kib < 200 << 10, "{} KiB", run.peak_kib);
}

#[test]
fn a_layer_that_is_no_tar() {
    let module = [b"\0asm\x01\0\0\0", &[0x0b; 2000][..]].concat();
    let mut layer = Layer::plain(module);
    layer.media_type = "application/vnd.wasm.content.layer.v1+wasm".into();
    let report = scan_layers(&[layer]).expect(3).json();
    assert_eq!(gap_reasons(&report), ["not-a-tar"], "{}", report["gaps"]);
    for blob in [&b"text, and short"[..], &[0xff; 5000], &[b'a'; 512]] {
        let report = scan_layers(&[Layer::plain(blob.to_vec())]).expect(3).json();
        assert!(["not-a-tar", "damaged-tar"].contains(&gap_reasons(&report)[0]), "{}", report["gaps"]);
    }
}

/// The layer with the token and, behind it, one entry that is described by `header` and followed by `data`.
fn behind_token(header: Header, data: &[u8]) -> Layer {
    Layer::plain(with_token().entry(header, data).file("behind", "more\n").finish())
}

#[test]
fn names_of_hostile_size() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        for size in [2 << 20, 8 << 30, 1 << 40, u64::MAX / 2, u64::MAX] {
            with_a_gap(behind_token(header("././@LongLink", kind, size), b"a name"), "damaged-tar");
        }
    }
}

#[test]
fn sizes_that_cannot_be() {
    for size in [8 << 30, 1 << 50, u64::MAX / 2, u64::MAX] {
        with_a_gap(behind_token(header("large", EntryType::Regular, size), b"little"), "damaged-tar");
    }
    // Numbers with their sign bit set, and fields that are no numbers.
    for field in
        [*b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", *b"-0000000001\0", *b"9999999999\0\0", *b"not a number"]
    {
        let mut negative = header("negative", EntryType::Regular, 0);
        negative.as_old_mut().size = field;
        with_a_gap(behind_token(negative, b""), "damaged-tar");
    }
    let mut wrong = Tar::new().file("wrong", "x").unfinished();
    wrong[150] ^= 1;
    with_a_gap(Layer::plain(with_token().raw(&wrong).finish()), "damaged-tar");
}

#[test]
fn garbage_in_extended_headers() {
    let records: [&[u8]; 9] = [
        b"path=a\n",
        b"99999999999999999999 path=a\n",
        b"0 path=a\n",
        b"12 size=-99\n",
        b"15 size=99999x\n",
        b"30 size=99999999999999999999999\n",
        b"-5 a=b\n",
        b"\xff\xff\xff\xff",
        b"9 path=a",
    ];
    for record in records {
        let pax = header("PaxHeaders/x", EntryType::XHeader, record.len() as u64);
        with_a_gap(behind_token(pax, record), "damaged-tar");
    }
}

#[test]
fn garbage_in_maps_of_sparse_files() {
    // GNU's old form: four pairs in the header, and no end to the headers that follow.
    for garbage in [*b"99999999999\0", *b"not a number"] {
        let mut sparse = header("sparse", EntryType::GNUSparse, 512);
        sparse.as_gnu_mut().unwrap().sparse[0].offset = *b"00000000000\0";
        sparse.as_gnu_mut().unwrap().sparse[0].numbytes = garbage;
        with_a_gap(behind_token(sparse, &[b'x'; 512]), "damaged-tar");
    }
    let mut endless = header("sparse", EntryType::GNUSparse, 512);
    endless.as_gnu_mut().unwrap().isextended = [1];
    with_a_gap(Layer::plain(with_token().entry(endless, &[1; 512 * 40]).finish()), "damaged-tar");
    // PAX 1.0: the map stands in front of the data.
    for map in [&b"99999999999999999999\n"[..], b"1\n5\n", b"x\n", b"3\n0\n1\n2\n", b"", b"1000000\n0\n"] {
        let records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n";
        let tar = with_token().entry(header("PaxHeaders/s", EntryType::XHeader, records.len() as u64), records);
        let mut data = map.to_vec();
        data.resize(512, 0);
        let tar = tar.entry(header("sparse", EntryType::Regular, 512), &data).finish();
        let report = scan_layers(&[Layer::plain(tar)]).expect(1).json();
        assert_eq!(gap_reasons(&report), ["damaged-tar"], "{:?}: {}", String::from_utf8_lossy(map), report["gaps"]);
    }
}

#[test]
fn paths_that_lead_out_stay_inside() {
    let tar = ["../../outside", "/absolute", "./a/../b", "x/../../../y"]
        .iter()
        .fold(Tar::new(), |tar, path| tar.file(path, format!("TOKEN={TOKEN}\n")));
    let tar = tar.symlink("link", "/etc/passwd").hard_link("hard", "../../../etc/passwd").finish();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    write_directory(&inside, &oci(&[Layer::plain(tar)]));
    let mut program = crate::support::program();
    program.args(["scan", "--format", "json", "."]).current_dir(&inside);
    let report = crate::support::finish(&mut program, None).expect(1).json();
    let mut paths: Vec<&str> = findings(&report).iter().filter_map(|finding| finding["path"].as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["absolute", "b", "outside", "y"]);
    let there: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["inside"], "nothing was written");
}

#[test]
fn one_block_of_zeros_hides_nothing() {
    // Some readers stop at one block of zeros, some go on: what is behind it may end up in a container.
    let tar = Tar::new().file("first", "x").raw(&[0; 512]).file("env", format!("TOKEN={TOKEN}\n")).finish();
    let report = scan_layers(&[Layer::plain(tar)]).json();
    assert!(findings(&report).iter().any(|finding| finding["rule"] == RULE), "{report}");
}

#[test]
fn entries_of_every_kind_are_looked_at() {
    // Contiguous files, unknown types, and the old form of a regular file hold bytes like any other.
    for kind in [EntryType::Continuous, EntryType::new(b'Z'), EntryType::new(0), EntryType::new(b'S')] {
        let content = format!("TOKEN={TOKEN}\n");
        let tar = Tar::new().entry(header("env", kind, content.len() as u64), content.as_bytes()).finish();
        let report = scan_layers(&[Layer::plain(tar)]).json();
        assert!(findings(&report).iter().any(|finding| finding["rule"] == RULE), "{kind:?}: {report}");
    }
    // Links, directories and devices with a size: runtimes take no data for them, so what follows is a header.
    for kind in [EntryType::Link, EntryType::Symlink, EntryType::Directory, EntryType::Char, EntryType::Fifo] {
        let tar = Tar::new().entry(header("node", kind, 4096), b"").file("env", format!("TOKEN={TOKEN}\n")).finish();
        let report = scan_layers(&[Layer::plain(tar)]).expect(1).json();
        assert!(findings(&report).iter().any(|finding| finding["rule"] == RULE), "{kind:?}: {report}");
    }
}
