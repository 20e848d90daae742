//! Archives and documents that readers read differently: whatever a runtime would get is found, or there is a gap.
//!
//! Container runtimes are written in Go, so Go's reading of tar and JSON decides; other tools may read something else.

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::support::image::{
    Layer, archive, blob_path, bytes, config, descriptor, digest, docker_save, index, manifest, oci, oci_with,
    write_directory,
};
use crate::support::tar::{Tar, gzip, header, zstd};
use crate::support::{Run, findings, gap_reasons, layersift, layersift_with_input, text};

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

fn secret() -> String {
    format!("TOKEN={TOKEN}\n")
}

fn scan_oci(layers: &[Layer]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci(layers));
    layersift(&["scan", "--format", "json", "--show-secrets", text(folder.path())])
}

fn scan_layer(tar: Vec<u8>) -> Run {
    scan_oci(&[Layer::plain(tar)])
}

fn scan_archive(image: &[u8]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    std::fs::write(&path, image).unwrap();
    let from_file = layersift(&["scan", "--format", "json", "--reproducible", text(&path)]);
    let from_pipe = layersift_with_input(&["scan", "--format", "json", "--reproducible", "-"], image.to_vec());
    assert_eq!(from_file.code, from_pipe.code, "{from_file:?}\n{from_pipe:?}");
    from_file
}

/// The findings of the token.
fn tokens(report: &Value) -> Vec<&Value> {
    findings(report).iter().filter(|finding| finding["rule"] == "github.personal-access-token").collect()
}

/// The path and the state of the only finding of the token, in a report without gaps.
#[track_caller]
fn only(run: Run) -> (String, String) {
    let report = run.expect(1).json();
    assert_eq!(gap_reasons(&report), [""; 0], "{}", report["gaps"]);
    let found = tokens(&report);
    assert_eq!(found.len(), 1, "{report}");
    (found[0]["path"].as_str().unwrap().into(), found[0]["state"].as_str().unwrap().into())
}

/// A PAX header of `kind` with `records`.
fn pax(kind: EntryType, records: &[(&str, &str)]) -> Tar {
    let mut data = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..5).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
        data += &format!("{length} {key}={value}\n");
    }
    Tar::new().entry(header("PaxHeaders/x", kind, data.len() as u64), data.as_bytes())
}

fn local(records: &[(&str, &str)]) -> Tar {
    pax(EntryType::XHeader, records)
}

fn global(records: &[(&str, &str)]) -> Tar {
    pax(EntryType::XGlobalHeader, records)
}

#[test]
fn records_of_a_global_header_do_not_apply_and_are_a_gap() {
    for records in [&[("path", "renamed")][..], &[("size", "0")], &[("linkpath", "x")], &[("GNU.sparse.major", "1")]] {
        let report = scan_layer(global(records).file("app/env", secret()).finish()).expect(1).json();
        assert_eq!((gap_reasons(&report), &tokens(&report)[0]["path"]), (vec!["ambiguous-archive"], &json!("app/env")));
    }
    let harmless = scan_layer(global(&[("comment", "4f2c")]).file("app/env", secret()).finish());
    assert_eq!(only(harmless), ("app/env".into(), "present".into()));
}

#[test]
fn a_global_header_drops_the_local_one_before_it() {
    let tar = local(&[("path", "renamed")]).raw(&global(&[("comment", "c")]).unfinished());
    let report = scan_layer(tar.file("app/env", secret()).finish()).expect(1).json();
    assert_eq!((gap_reasons(&report), &tokens(&report)[0]["path"]), (vec!["ambiguous-archive"], &json!("app/env")));
}

#[test]
fn empty_records_keep_the_fields_of_the_header() {
    let tar = local(&[("path", ""), ("size", ""), ("linkpath", "")]).file("app/env", secret());
    assert_eq!(only(scan_layer(tar.finish())), ("app/env".into(), "present".into()));
}

#[test]
fn a_long_name_wins_over_a_pax_path() {
    let long = header("././@LongLink", EntryType::GNULongName, 9);
    let tar = local(&[("path", "by/pax")]).entry(long, b"by/gnu/x\0").file("short", secret());
    assert_eq!(only(scan_layer(tar.finish())).0, "by/gnu/x");
}

#[test]
fn the_prefix_of_old_writers_counts() {
    for magic in [&b"ustar\x0000"[..], b"ustar\0\0\0", b"ustar\0  ", b"ustar  \0"] {
        let mut with_prefix = header("env", EntryType::Regular, secret().len() as u64);
        with_prefix.as_mut_bytes()[257..265].copy_from_slice(magic);
        with_prefix.as_mut_bytes()[345..348].copy_from_slice(b"app");
        let tar = Tar::new().entry(with_prefix, secret().as_bytes());
        assert_eq!(only(scan_layer(tar.finish())).0, "app/env", "{magic:?}");
    }
}

#[test]
fn sparse_files_have_a_version_that_is_known() {
    let map = format!("1\n0\n{}\n", secret().len());
    let mut data = map.into_bytes();
    data.resize(512, 0);
    data.extend(secret().into_bytes());
    let known = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "app/env")];
    assert_eq!(only(scan_layer(local(&known).file("x", &data).finish())).0, "app/env");
    let unknown = [("GNU.sparse.major", "1"), ("GNU.sparse.name", "app/env")];
    assert_eq!(only(scan_layer(local(&unknown).file("x", &data).finish())).0, "x");
}

#[test]
fn the_pieces_of_a_sparse_file_are_where_they_are() {
    let split = |second: u64| {
        let mut sparse = header("s", EntryType::GNUSparse, TOKEN.len() as u64);
        let pieces = &mut sparse.as_gnu_mut().unwrap().sparse;
        pieces[0].set_offset(0);
        pieces[0].set_length(20);
        pieces[1].set_offset(second);
        pieces[1].set_length(TOKEN.len() as u64 - 20);
        scan_layer(Tar::new().entry(sparse, TOKEN.as_bytes()).finish())
    };
    assert_eq!(only(split(20)).0, "s");
    assert_eq!(tokens(&split(4096).expect(0).json()).len(), 0, "there is a hole in the middle of the token");
}

#[test]
fn a_regular_file_with_a_slash_has_its_data_and_a_gap() {
    let mut smuggled = header("app/", EntryType::Regular, secret().len() as u64);
    smuggled.as_old_mut().linkflag = [b'0'];
    let report = scan_layer(Tar::new().entry(smuggled, secret().as_bytes()).finish()).expect(1).json();
    assert_eq!((gap_reasons(&report), tokens(&report).len()), (vec!["ambiguous-archive"], 1));
}

#[test]
fn padding_is_read() {
    let mut shortened = Tar::new().file("x", format!("{}{}", "A".repeat(10), secret())).unfinished();
    let mut first = Header::from_byte_slice(&shortened[..512]).clone();
    first.set_size(10);
    first.set_cksum();
    shortened[..512].copy_from_slice(first.as_bytes());
    let report = scan_layer(Tar::new().raw(&shortened).finish()).expect(1).json();
    assert_eq!(tokens(&report)[0]["inside"], json!(["padding of an entry"]));
}

#[test]
fn bytes_after_the_end_of_a_layer_are_read_and_said() {
    let nested = Tar::new().file("inner/env", secret()).finish();
    for (after, inside) in [(secret().into_bytes(), 1), (nested, 2)] {
        let tar = Tar::new().file("a", "nothing").finish();
        let report = scan_layer([tar, after.clone()].concat()).expect(1).json();
        assert_eq!(gap_reasons(&report), [""; 0]);
        assert_eq!(report["layers"][0]["bytes_after_end"].as_u64().unwrap() as usize, after.len());
        assert_eq!(tokens(&report)[0]["inside"].as_array().unwrap().len(), inside);
        assert!(report["image"]["notes"][0].as_str().unwrap().contains("after the end of its archive"));
    }
}

#[test]
fn bytes_after_the_end_of_an_image_archive_are_a_gap() {
    let image = archive(&docker_save(&[Layer::plain(Tar::new().file("a", "nothing").finish())]));
    let second = archive(&docker_save(&[Layer::plain(Tar::new().file("env", secret()).finish())]));
    for both in [[image.clone(), second.clone()].concat(), [gzip(&image), gzip(&second)].concat()] {
        assert_eq!(gap_reasons(&scan_archive(&both).expect(3).json()), ["trailing-data"]);
    }
    assert_eq!(gap_reasons(&scan_archive(&[image, vec![0; 9000]].concat()).expect(0).json()), [""; 0]);
}

#[test]
fn bytes_outside_of_the_compressed_data_are_read() {
    let tar = Tar::new().file("a", "nothing").finish();
    let mut comment = flate2::GzBuilder::new().comment(secret()).write(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut comment, &tar).unwrap();
    let frame = [&[0x50, 0x2a, 0x4d, 0x18][..], &(secret().len() as u32).to_le_bytes(), secret().as_bytes()].concat();
    for (blob, suffix) in [
        (comment.finish().unwrap(), "+gzip"),
        ([frame.clone(), zstd(&tar)].concat(), "+zstd"),
        ([zstd(&tar), frame].concat(), "+zstd"),
    ] {
        let report = scan_oci(&[Layer::stored(&tar, blob, suffix)]).expect(1).json();
        assert_eq!((tokens(&report).len(), gap_reasons(&report).len()), (1, 0));
    }
    let padded = [gzip(&tar), vec![0; 700]].concat();
    assert_eq!(gap_reasons(&scan_oci(&[Layer::stored(&tar, padded, "+gzip")]).expect(0).json()), [""; 0]);
}

#[test]
fn layers_and_archives_in_xz_and_bzip2_are_read() {
    let tar = Tar::new().file("app/env", secret()).finish();
    let compress = |program: &str, bytes: &[u8]| {
        let mut child = std::process::Command::new(program)
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let mut stdin = child.stdin.take()?;
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bytes));
        let output = child.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        Some(output.stdout)
    };
    for program in ["xz", "bzip2"] {
        let Some(blob) = compress(program, &tar) else {
            println!("NOT RUN: {program} is not installed");
            continue;
        };
        assert_eq!(only(scan_oci(&[Layer::stored(&tar, blob, "+xz")])).0, "app/env");
        let image = archive(&docker_save(&[Layer::plain(tar.clone())]));
        assert_eq!(only(scan_archive(&compress(program, &image).unwrap())).0, "app/env");
    }
}

#[test]
fn fields_in_another_case_are_refused_where_they_differ() {
    let (clean, evil) =
        (Layer::plain(Tar::new().file("a", "x").finish()), Layer::plain(Tar::new().file("b", secret()).finish()));
    let config = bytes(&config(std::slice::from_ref(&clean)));
    let mut document = manifest(&config, std::slice::from_ref(&clean));
    document["LAYERS"] = json!([descriptor(&evil.media_type, &evil.blob)]);
    let folder = tempfile::tempdir().unwrap();
    write_directory(folder.path(), &oci_with(&bytes(&document), &config, &[clean, evil]));
    let run = layersift(&["scan", text(folder.path())]).expect(2);
    assert!(run.stderr.contains("`layers` is given twice"), "{}", run.stderr);
}

#[test]
fn fields_in_another_case_alone_are_read() {
    let layer = Layer::plain(Tar::new().file("env", secret()).finish());
    let mut files = docker_save(std::slice::from_ref(&layer));
    let config = bytes(&config(std::slice::from_ref(&layer)));
    let list = json!([{ "config": blob_path(&config), "repoTags": ["app:1"], "layers": [blob_path(&layer.blob)] }]);
    files.insert("manifest.json".into(), bytes(&list));
    assert_eq!(only(scan_archive(&archive(&files))).0, "env");
}

#[test]
fn of_two_listings_the_first_is_read_and_the_second_is_a_gap() {
    let (clean, evil) =
        (Layer::plain(Tar::new().file("a", "x").finish()), Layer::plain(Tar::new().file("b", secret()).finish()));
    let (mut first, second) = (docker_save(&[evil]), docker_save(&[clean]));
    let listing = first.remove("manifest.json").unwrap();
    let both = |one: &[u8], other: &[u8]| {
        let files = first.iter().chain(&second).filter(|(name, _)| *name != "manifest.json");
        let tar = Tar::new().file("manifest.json", one);
        files.fold(tar, |tar, (name, bytes)| tar.file(name, bytes)).file("manifest.json", other).finish()
    };
    let other = &second["manifest.json"];
    assert_eq!(tokens(&scan_archive(&both(&listing, other)).expect(1).json()).len(), 1);
    assert_eq!(gap_reasons(&scan_archive(&both(other, &listing)).expect(3).json()), ["ambiguous-archive"]);
}

#[test]
fn an_archive_with_sparse_members_is_read() {
    let layer = Layer::plain(Tar::new().file("env", secret()).finish());
    let files = docker_save(std::slice::from_ref(&layer));
    let tar = files.iter().fold(Tar::new(), |tar, (name, bytes)| {
        if *bytes != layer.blob {
            return tar.file(name, bytes);
        }
        // The end marker of the layer is a hole.
        let stored = bytes.len() - 1024;
        let mut sparse = Header::new_gnu();
        sparse.set_path(name).unwrap();
        sparse.set_entry_type(EntryType::GNUSparse);
        sparse.set_size(stored as u64);
        let gnu = sparse.as_gnu_mut().unwrap();
        gnu.set_real_size(bytes.len() as u64);
        gnu.sparse[0].set_offset(0);
        gnu.sparse[0].set_length(stored as u64);
        gnu.sparse[1].set_offset(bytes.len() as u64);
        gnu.sparse[1].set_length(0);
        tar.entry(sparse, &bytes[..stored])
    });
    assert_eq!(only(scan_archive(&tar.finish())).0, "env");
}

#[test]
fn manifests_without_layers() {
    let config = bytes(&config(&[]));
    for layers in [json!([]), Value::Null] {
        let mut document = manifest(&config, &[]);
        document["layers"] = layers;
        let folder = tempfile::tempdir().unwrap();
        write_directory(folder.path(), &oci_with(&bytes(&document), &config, &[]));
        layersift(&["scan", text(folder.path())]).expect(0);
    }
}

#[test]
fn an_archive_of_two_kinds_whose_index_lists_nothing() {
    let layer = Layer::plain(Tar::new().file("env", secret()).finish());
    let docker = docker_save(std::slice::from_ref(&layer));
    let config = bytes(&config(std::slice::from_ref(&layer)));
    let mut without = manifest(&config, &[]);
    without.as_object_mut().unwrap().remove("layers");
    let without = bytes(&without);
    for (name, listing) in [("null", json!({ "manifests": null })), ("no layers", index(&[descriptor("m", &without)]))]
    {
        let mut files = docker.clone();
        files.insert("index.json".into(), bytes(&listing));
        files.insert(blob_path(&without), without.clone());
        assert_eq!(only(scan_archive(&archive(&files))).0, "env", "{name}");
    }
    assert_ne!(digest(&without), digest(&config));
}

#[test]
fn names_and_targets_of_links_are_read() {
    let name = format!("srv/{TOKEN}");
    for tar in [
        Tar::new().directory(&name),
        Tar::new().file(&format!("{name}/a"), "nothing").file(&format!("{name}/b"), "nothing"),
        Tar::new().symlink("link", &name),
    ] {
        let report = scan_layer(tar.finish()).expect(1).json();
        let found = tokens(&report);
        assert_eq!(found.len(), 1, "{report}");
        assert!(found[0]["note"].as_str().unwrap().contains("name of the entry"));
    }
}
