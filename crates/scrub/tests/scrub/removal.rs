//! Files are removed, with all their names, and nothing that they hid is seen again.

use tar::EntryType;

use crate::support::{Memory, Tar, digest_of, header, names, pieces, refusal, without};

#[test]
fn a_file_is_removed_from_every_layer_and_the_other_layers_stay() {
    let image = Memory::of(vec![
        Tar::new().file("etc/a", "a"),
        Tar::new().file("app/key", "one").file("app/b", "b"),
        Tar::new().file("./app/key", "two").file("c", "c"),
        Tar::new().file("app/.wh.key", ""),
    ]);
    let result = without(&image, &["/app/key"]).unwrap();
    let (old, new) = (image.manifest(), result.image.manifest());
    for index in [0, 3] {
        assert_eq!(old["layers"][index], new["layers"][index]);
    }
    assert_eq!(names(result.image.layer(1)), ["app/b"]);
    assert_eq!(names(result.image.layer(2)), ["c"]);
    assert_eq!(result.scrubbed.changes.layers.len(), 2);
    assert_eq!(result.scrubbed.changes.root.old, image.root);
    assert_eq!(result.scrubbed.changes.old_blobs().len(), 3);
    // The configuration names the new layers, and has all else as before.
    let (old, mut new) = (image.config(), result.image.config());
    assert_ne!(old, new);
    new["rootfs"] = old["rootfs"].clone();
    assert_eq!(old.to_string(), new.to_string());
}

#[test]
fn hard_links_to_a_removed_file_go_with_it_in_this_and_in_higher_layers() {
    let base = || Tar::new().file("key", "k").hard_link("b", "key").file("other", "o").hard_link("c", "b");
    let above = || Tar::new().hard_link("d", "c").hard_link("e", "other");
    for path in ["key", "b", "c", "d"] {
        let result = without(&Memory::of(vec![base(), above()]), &[path]).unwrap();
        assert_eq!(names(result.image.layer(0)), ["other"], "{path}");
        assert_eq!(names(result.image.layer(1)), ["e"], "{path}");
        assert_eq!(result.scrubbed.changes.removed_paths().count(), 4);
    }
}

#[test]
fn a_file_with_a_hundred_thousand_names() {
    let links =
        |tar: Tar, from: usize| (from..from + 50_000).fold(tar, |tar, n| tar.hard_link(&format!("h{n}"), "key"));
    let entries = (0..20_000).fold(Tar::new(), |tar, _| tar.file("key", "k"));
    let image =
        Memory::of(vec![links(entries, 0).file("h7/x", "below"), links(Tar::new(), 0), links(Tar::new(), 50_000)]);
    let result = without(&image, &["key"]).unwrap();
    assert_eq!(names(result.image.layer(0)), ["h7/x"]);
    assert_eq!(names(result.image.layer(1)), [".wh.h7"]);
    assert!(names(result.image.layer(2)).is_empty());
    assert_eq!(result.scrubbed.changes.removed_paths().count(), 20_000 + 150_000);
}

#[test]
fn what_a_removed_file_hid_stays_hidden() {
    let name = "long/".repeat(40) + "key";
    for path in ["app/key", &name] {
        let image = Memory::of(vec![
            Tar::new().file(&format!("{path}/inside"), "a directory before").file("link", "other"),
            Tar::new().file(path, "k").file("x", "x").hard_link("link", path),
            Tar::new().file("y", "y"),
        ]);
        let result = without(&image, &[path]).unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        assert_eq!(names(result.image.layer(1)), [format!("{parent}/.wh.{last}"), "x".into(), ".wh.link".into()]);
        assert_eq!(result.image.layer(0), image.layer(0));
    }
}

#[test]
fn no_whiteout_is_written_where_nothing_is_below_or_one_is_there() {
    let image = Memory::of(vec![
        Tar::new().file("key", "a").file("keys/x", "x").file("dir/key", "not removed, and hidden by the whiteout"),
        Tar::new().file("dir/.wh.key", "").hard_link("dir/key", "key").file("z", "z"),
    ]);
    let result = without(&image, &["key"]).unwrap();
    assert_eq!(names(result.image.layer(1)), ["dir/.wh.key", "z"]);
    assert_eq!(names(result.image.layer(0)), ["keys/x", "dir/key"]);
}

#[test]
fn several_entries_at_one_path_are_all_removed_or_refused() {
    let image = Memory::of(vec![Tar::new().file("key", "a").file("b", "b").file("key", "c")]);
    assert_eq!(names(without(&image, &["key"]).unwrap().image.layer(0)), ["b"]);
    // The link is another name of the key, and the file that it replaced is not.
    let image = Memory::of(vec![Tar::new().file("key", "a").file("b", "b").hard_link("b", "key")]);
    let message = refusal(without(&image, &["key"]));
    assert!(message.starts_with("b in layer") && message.contains("several entries"), "{message}");
    assert!(without(&image, &["key", "b"]).is_ok());
}

#[test]
fn extended_headers_go_with_their_file_and_global_ones_stay() {
    let long = "directory/".repeat(30) + "key";
    let tar = Tar::new()
        .file("a", "a")
        .pax(EntryType::XGlobalHeader, &[("comment", "for all")])
        .pax(EntryType::XHeader, &[("path", "pax/name")])
        .file("short", "p")
        .file(&long, "k")
        .file("b", "b");
    let image = Memory::of(vec![tar]);
    let (before, end) = pieces(image.layer(0));
    let result = without(&image, &["pax/name", &long]).unwrap();
    let (after, end_after) = pieces(result.image.layer(0));
    assert_eq!(names(result.image.layer(0)), ["a", "b"]);
    assert_eq!((&before[0], &end), (&after[0], &end_after));
    // The entry b follows the two blocks of the global header.
    assert_eq!(after[1].1, [&before[1].1[..1024], &before[3].1[..]].concat());
}

#[test]
fn sparse_files_stay_as_they_are() {
    let mut sparse = header(EntryType::GNUSparse, 512);
    sparse.set_path("sparse").unwrap();
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(4096);
    gnu.sparse[0].offset.copy_from_slice(b"00000002000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    let map = "2\n512\n5\n2048\n5\n";
    let data = [&[map.as_bytes(), &vec![0; 512 - map.len()]].concat()[..], b"aaaaabbbbb"].concat();
    let records = [("major", "1"), ("minor", "0"), ("name", "new/name"), ("realsize", "2053")];
    let records = records.map(|(key, value)| (format!("GNU.sparse.{key}"), value));
    let records: Vec<(&str, &str)> = records.iter().map(|(key, value)| (&key[..], *value)).collect();
    let tar = Tar::new()
        .file("key", "k")
        .raw(sparse, &[7; 512])
        .pax(EntryType::XHeader, &records)
        .file("GNUSparseFile.0/name", data)
        .file("end", "e");
    let image = Memory::of(vec![tar]);
    let result = without(&image, &["key"]).unwrap();
    assert_eq!(pieces(image.layer(0)).0[1..], pieces(result.image.layer(0)).0[..]);
    assert_eq!(names(without(&image, &["new/name"]).unwrap().image.layer(0)), ["key", "sparse", "end"]);
    assert_eq!(names(without(&image, &["sparse"]).unwrap().image.layer(0)), ["key", "new/name", "end"]);
}

#[test]
fn what_is_not_a_file_is_refused_by_name() {
    let tar = Tar::new().directory("dir").symlink("link", "dir/key").file("dir/key", "k");
    let image = Memory::of(vec![tar]);
    for (path, part) in [("dir", "directory"), ("link", "symbolic link to dir/key"), ("none", "no layer has")] {
        let message = refusal(without(&image, &["dir/key", path]));
        assert!(message.starts_with(&format!("{path}: ")) && message.contains(part), "{message}");
    }
}

#[test]
fn a_layer_keeps_its_compression_unless_image_spec_does_not_have_it() {
    let tar = Tar::new().file("key", "k").file("b", "b").finish();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    let mut stored = Vec::new();
    std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(&tar[..], 1), &mut stored).unwrap();
    let forms = [(tar.clone(), ""), (crate::support::gzip(&tar), "+gzip"), (zstd, "+zstd")];
    for (blob, suffix) in forms {
        let mut memory = Memory::default();
        let root = memory.image(&[(tar.clone(), blob.clone(), suffix)], serde_json::json!({}));
        let result = without(&memory.rooted(&root), &["key"]).unwrap();
        let written = result.image.layer(0);
        assert!(suffix.is_empty() || written[..2] == blob[..2]);
        let plain = match suffix {
            "+gzip" => std::io::Read::bytes(flate2::read::GzDecoder::new(&written[..])).map(Result::unwrap).collect(),
            "+zstd" => zstd::decode_all(&written[..]).unwrap(),
            _ => written.clone(),
        };
        assert_eq!(names(&plain), ["b"]);
        assert_eq!(result.image.config()["rootfs"]["diff_ids"][0], layersift_model::Digest::of(&plain).to_string());
        let descriptor = &result.image.manifest()["layers"][0];
        assert_eq!(descriptor["mediaType"], format!("{}{suffix}", crate::support::LAYER));
        assert_eq!(descriptor["size"], written.len());
        assert_eq!(digest_of(descriptor), result.scrubbed.changes.layers[0].new);
    }
    for (suffix, expected) in [("+xz", "+gzip"), ("", "+gzip"), (".xz", "+gzip")] {
        let mut memory = Memory::default();
        let root = memory.image(&[(tar.clone(), stored.clone(), suffix)], serde_json::json!({}));
        let result = without(&memory.rooted(&root), &["key"]).unwrap();
        let written = result.image.layer(0);
        let plain = std::io::Read::bytes(flate2::read::GzDecoder::new(&written[..])).map(Result::unwrap);
        let plain: Vec<u8> = plain.collect();
        assert_eq!(names(&plain), ["b"]);
        let descriptor = &result.image.manifest()["layers"][0];
        assert_eq!(descriptor["mediaType"], format!("{}{expected}", crate::support::LAYER));
        assert_eq!(result.scrubbed.changes.layers[0].compression, "gzip");
    }
}

#[test]
fn hard_links_through_linked_directories_are_other_names() {
    let layers = vec![
        Tar::new().directory("app").file("app/key", "the key").symlink("srv", "app").symlink("deep", "srv/../app"),
        Tar::new().file("srv/copy", "the key").hard_link("bak/one", "srv/key").hard_link("bak/two", "deep/key"),
    ];
    let result = without(&Memory::of(layers), &["app/key"]).unwrap();
    assert_eq!(names(result.image.layer(0)), ["app", "srv", "deep"]);
    assert_eq!(names(result.image.layer(1)), ["srv/copy"]);
    // A path that leads through a link names the same file, also where a layer stores it so.
    let layers = vec![
        Tar::new().directory("app").file("app/key", "the key").symlink("srv", "app"),
        Tar::new().file("srv/key", "a new key"),
    ];
    let result = without(&Memory::of(layers), &["app/key"]).unwrap();
    assert_eq!(names(result.image.layer(0)), ["app", "srv"]);
    assert_eq!(names(result.image.layer(1)), [""; 0]);
    // What takes the place of the link is a directory of its own.
    let layers = vec![
        Tar::new().directory("app").file("app/key", "the key").symlink("srv", "app"),
        Tar::new().directory("srv").file("srv/key", "another").hard_link("bak", "srv/key"),
    ];
    let result = without(&Memory::of(layers), &["app/key"]).unwrap();
    assert_eq!(names(result.image.layer(1)), ["srv", "srv/key", "bak"]);
}
