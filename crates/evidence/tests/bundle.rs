//! Bundles that are written, changed, and checked.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use layersift_evidence::custody::CustodyLog;
use layersift_evidence::{
    Carver, Case, EvidenceError, FoundIn, LayerIdentity, Manifest, Seal, Signing, Source, ToolIdentity, Wanted,
    differences, verify,
};
use layersift_format::{Blob, Cancellation};
use layersift_model::{Digest, FingerprintKey};
use proptest::test_runner::{Config, TestRunner};

/// A made-up secret.
const SECRET: &str = "password=correct-horse-battery";

/// A layer with a file that is there twice, one with a secret, a hard link and a symbolic link.
fn layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_900_000_000);
        header.set_cksum();
        builder.append_data(&mut header, path, data).unwrap();
    };
    add("etc/twice", b"the first");
    add("srv/app.conf", format!("# settings\n{SECRET}\n").as_bytes());
    add("etc/twice", b"the second, which counts");
    let mut link = tar::Header::new_gnu();
    link.set_size(0);
    link.set_entry_type(tar::EntryType::Link);
    builder.append_link(&mut link, "srv/link", "srv/app.conf").unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn identity(stored: &[u8], plain: &[u8]) -> LayerIdentity {
    LayerIdentity {
        index: 2,
        digest: Some(Digest::of(stored)),
        diff_id: Some(Digest::of(plain)),
        created_by: Some("COPY . .".into()),
        ..LayerIdentity::default()
    }
}

fn found() -> FoundIn {
    FoundIn {
        id: "0123456789abcdef".into(),
        rule: "password".into(),
        severity: "high".into(),
        masked: Some("p****y".into()),
        fingerprint: Some(FingerprintKey::default().fingerprint(SECRET.as_bytes())),
        state: "present".into(),
        ..FoundIn::default()
    }
}

fn blob(bytes: &[u8]) -> Blob<'_> {
    Blob::Stream(Box::new(bytes))
}

fn carver(path: &Path) -> Carver {
    let case = Case { case_id: Some("2031-004".into()), operator: Some("A. Nalyst".into()), ..Case::default() };
    let mut carver = Carver::create(path, case, Timestamp::now()).unwrap();
    let tool = ToolIdentity { name: "layersift".into(), ..ToolIdentity::default() };
    let source = Source { target: "app.tar".into(), ..Source::default() };
    carver.describe(tool, vec!["layersift".into(), "carve".into()], source, FingerprintKey::default());
    carver
}

/// A bundle with a file with a secret, and one more file.
fn bundle(path: &Path) -> (Vec<u8>, Vec<u8>) {
    let plain = layer();
    let stored = gzip(&plain);
    let mut carver = carver(path);
    take(&mut carver, &stored, &plain);
    carver.seal(None, None).unwrap();
    (stored, plain)
}

/// Takes a file, one with a secret, and the configuration.
fn take(carver: &mut Carver, stored: &[u8], plain: &[u8]) {
    let mut with_secret = Wanted::entry(1);
    with_secret.findings.push((found(), Some((11, SECRET.len() as u64))));
    with_secret.findings.push((FoundIn { fingerprint: Some("another".into()), ..found() }, Some((0, 4))));
    carver.layer(identity(stored, plain), blob(stored), &[Wanted::entry(0), with_secret]).unwrap();
    carver.document("configuration", b"{}", vec![found()]).unwrap();
}

/// Signs as `sign` does, by a key.
fn signing(sign: Seal<'_>) -> Signing<'_> {
    Signing { key: "0123".into(), sign }
}

fn places() -> (tempfile::TempDir, [PathBuf; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["bundle", "bundle.tar"].map(|name| directory.path().join(name));
    (directory, paths)
}

#[test]
fn a_bundle_says_what_it_has_and_is_what_it_says() {
    let (_directory, paths) = places();
    for path in paths {
        let (stored, plain) = bundle(&path);
        let verification = verify(&path).unwrap();
        assert_eq!(verification.faults, Vec::<String>::new());
        let manifest = &verification.manifest;
        assert_eq!(manifest.layers[0].stored_bytes, stored.len() as u64);
        assert_eq!(manifest.layers[0].diff_id, Some(Digest::of(&plain)));
        let names: Vec<_> =
            manifest.artifacts.iter().map(|artifact| (&artifact.file[..], &artifact.path[..])).collect();
        let expected =
            [("artifacts/0001", "etc/twice"), ("artifacts/0002", "srv/app.conf"), ("artifacts/0003", "configuration")];
        assert_eq!(names, expected);
        let artifact = &manifest.artifacts[1];
        let attributes = artifact.attributes.as_ref().unwrap();
        assert_eq!((attributes.entry, attributes.mode, attributes.size), (1, 0o640, artifact.size));
        let range = artifact.findings[0].range.as_ref().unwrap();
        assert_eq!((range.offset, &range.sha256), (11, &Digest::of(SECRET.as_bytes())));
        assert_eq!(artifact.findings[1].range, None, "the bytes there are not the secret");
        let offset = usize::try_from(artifact.offset_in_layer.unwrap()).unwrap();
        assert!(plain[offset..].starts_with(b"# settings"));
        assert_eq!(differences(manifest, &taken_again(&stored, &plain), true), Vec::<String>::new());
    }
}

/// What the bundle should have, by the image alone.
fn taken_again(stored: &[u8], plain: &[u8]) -> Manifest {
    let mut carver = Carver::again();
    take(&mut carver, stored, plain);
    carver.manifest().clone()
}

/// Every field of the manifest that is of the image, and another value for it.
fn forgeries(manifest: &Manifest) -> Vec<(String, serde_json::Value)> {
    fn collect(place: String, value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(object) => {
                object.iter().for_each(|(name, value)| collect(format!("{place}/{name}"), value, found));
            }
            serde_json::Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, value)| collect(format!("{place}/{index}"), value, found));
            }
            _ => found.push(place),
        }
    }
    let mut places = Vec::new();
    let tree = serde_json::to_value(manifest).unwrap();
    ["source", "layers", "artifacts"].iter().for_each(|part| collect(format!("/{part}"), &tree[part], &mut places));
    places.retain(|place| place != "/source/target");
    places.into_iter().map(|place| (place.clone(), tree.pointer(&place).unwrap().clone())).collect()
}

#[test]
fn every_field_of_the_image_is_compared_with_it() {
    let (_directory, [path, _]) = places();
    let (stored, plain) = bundle(&path);
    let manifest = verify(&path).unwrap().manifest;
    let again = taken_again(&stored, &plain);
    let digest = serde_json::json!(Digest::of(b"another"));
    let others = [
        digest,
        7.into(),
        "present".into(),
        "file".into(),
        "layer".into(),
        "2031-01-01T00:00:00Z".into(),
        serde_json::Value::Null,
        serde_json::json!({ "offset": 0, "length": 1, "sha256": Digest::of(b"another") }),
        serde_json::to_value(&manifest.artifacts[0].attributes).unwrap(),
    ];
    let mut checked = 0;
    for (place, before) in forgeries(&manifest) {
        let mut tree = serde_json::to_value(&manifest).unwrap();
        let forged = others.iter().filter(|other| **other != before).find_map(|other| {
            *tree.pointer_mut(&place).unwrap() = other.clone();
            serde_json::from_value::<Manifest>(tree.clone()).ok()
        });
        let Some(forged) = forged else { panic!("no other value for {place}") };
        assert!(!differences(&forged, &again, true).is_empty(), "{place}");
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
    let mut planted = manifest.clone();
    planted.artifacts.push(manifest.artifacts[0].clone());
    assert_eq!(differences(&planted, &again, true), ["artifacts[3]: the image does not have it"]);
    planted.artifacts.truncate(2);
    assert_eq!(differences(&planted, &again, true).len(), 1);
    // What rules say is compared only with what the same rules say.
    let mut other_rules = manifest;
    other_rules.artifacts[1].findings[0].severity = "low".into();
    assert_eq!(differences(&other_rules, &again, false), Vec::<String>::new());
}

#[test]
fn files_are_private_and_checked_by_sha256sum() {
    let (_directory, [path, _]) = places();
    bundle(&path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["manifest.json", "custody.log", "SHA256SUMS", "seal.json", "artifacts/0001"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
    let checked =
        std::process::Command::new("sha256sum").args(["-c", "--quiet", "SHA256SUMS"]).current_dir(&path).status();
    assert!(checked.unwrap().success());
}

#[test]
fn nothing_is_written_over_and_nothing_is_left_of_a_failure() {
    let (_directory, paths) = places();
    for path in paths {
        bundle(&path);
        let again = Carver::create(&path, Case::default(), Timestamp::now());
        assert!(matches!(again, Err(EvidenceError::Exists { .. })));
        assert!(verify(&path).unwrap().faults.is_empty());
    }
    let (_directory, paths) = places();
    for path in paths {
        let carver = carver(&path);
        let error = carver.seal(Some(signing(&|_| Err("no key".into()))), None).unwrap_err();
        assert!(matches!(error, EvidenceError::Seal { what: "sign", .. }), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_path_is_the_last_file_there() {
    let (_directory, paths) = places();
    let plain = layer();
    for path in paths {
        let mut carver = carver(&path);
        carver.layer(LayerIdentity::default(), blob(&plain), &[Wanted::path(b"/etc/twice")]).unwrap();
        carver.seal(None, None).unwrap();
        let verification = verify(&path).unwrap();
        assert!(verification.faults.is_empty());
        let artifact = &verification.manifest.artifacts[0];
        assert_eq!((artifact.size, &artifact.sha256), (24, &Some(Digest::of(b"the second, which counts"))));
    }
}

#[test]
fn what_is_no_file_of_the_layer_is_named() {
    let (directory, _) = places();
    let plain = layer();
    for (number, (path, why)) in
        [("srv/link", "hard link to srv/app.conf"), ("nowhere", "it is not there")].into_iter().enumerate()
    {
        let mut carver = carver(&directory.path().join(number.to_string()));
        let error = carver.layer(LayerIdentity::default(), blob(&plain), &[Wanted::path(path.as_bytes())]).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        drop(carver);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_whole_layer_can_be_taken_though_it_is_damaged() {
    let (_directory, [path, _]) = places();
    let damaged = b"no archive at all".to_vec();
    let mut carver = carver(&path);
    let layer = LayerIdentity { index: 2, digest: Some(Digest::of(&damaged)), ..LayerIdentity::default() };
    carver.layer(layer, blob(&damaged), &[Wanted::blob()]).unwrap();
    carver.seal(None, None).unwrap();
    assert!(verify(&path).unwrap().faults.is_empty());
}

#[test]
fn another_layer_is_refused_and_noticed() {
    let (_directory, [path, other]) = places();
    let (stored, plain) = bundle(&path);
    let mut changed = plain.clone();
    let at = changed.windows(6).position(|window| window == b"battery".split_at(6).0).unwrap();
    changed[at] ^= 1;
    let mut carver = carver(&other);
    let error = carver.layer(identity(&stored, &plain), blob(&gzip(&changed)), &[Wanted::entry(1)]).unwrap_err();
    assert!(matches!(error, EvidenceError::OtherLayer { .. }), "{error}");
    drop(carver);
}

/// Whether a check of the bundle finds a fault, or that there is no bundle any more.
fn is_noticed(path: &Path) -> bool {
    verify(path).map_or(true, |verification| !verification.faults.is_empty())
}

#[test]
fn every_one_of_a_thousand_changes_is_found() {
    let (_directory, [path, archive]) = places();
    bundle(&path);
    bundle(&archive);
    let names = [
        "manifest.json",
        "custody.log",
        "SHA256SUMS",
        "seal.json",
        "artifacts/0001",
        "artifacts/0002",
        "artifacts/0003",
    ];
    let mut files: Vec<(PathBuf, PathBuf)> = names.iter().map(|name| (path.clone(), path.join(name))).collect();
    files.push((archive.clone(), archive));
    let changes = (0..files.len(), 0..4_usize, proptest::num::usize::ANY, proptest::num::u8::ANY);
    let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let tested = runner.run(&changes, |(file, kind, at, byte)| {
        let (bundle, file) = &files[file];
        let before = fs::read(file).unwrap();
        let mut after = before.clone();
        let at = at % before.len();
        match kind {
            0 => after[at] ^= byte.max(1),
            1 => after.insert(at, byte),
            2 => drop(after.remove(at)),
            _ => after.truncate(at),
        }
        fs::write(file, &after).unwrap();
        let noticed = is_noticed(bundle) || after == before;
        fs::write(file, &before).unwrap();
        proptest::prop_assert!(noticed, "{} at {at}, kind {kind}, {byte}", file.display());
        Ok(())
    });
    tested.unwrap();
    assert!(files.iter().all(|(bundle, _)| !is_noticed(bundle)));
}

#[test]
fn files_that_come_or_go_are_found() {
    let (_directory, [path, _]) = places();
    bundle(&path);
    fs::write(path.join("more"), "x").unwrap();
    assert!(is_noticed(&path));
    fs::remove_file(path.join("more")).unwrap();
    assert!(!is_noticed(&path));
    for name in ["manifest.json", "custody.log", "SHA256SUMS", "seal.json", "artifacts/0002"] {
        let away = path.with_extension("away");
        fs::rename(path.join(name), &away).unwrap();
        assert!(is_noticed(&path), "{name}");
        fs::rename(&away, path.join(name)).unwrap();
    }
}

#[test]
fn signatures_and_timestamps_are_of_the_seal() {
    let (_directory, paths) = places();
    for path in paths {
        let carver = carver(&path);
        let sign = |seal: &[u8]| Ok(Digest::of(seal).to_string().into_bytes());
        let sealed = carver.seal(Some(signing(&sign)), Some(&sign)).unwrap();
        let verification = verify(&path).unwrap();
        assert!(verification.faults.is_empty());
        assert_eq!(Digest::of(&verification.seal), sealed.seal);
        let expected = Some(sealed.seal.to_string().into_bytes());
        assert_eq!((&verification.signature, &verification.timestamp), (&expected, &expected));
    }
}

#[test]
fn a_signature_or_a_timestamp_cannot_be_removed() {
    for removed in ["seal.sig", "seal.tsr"] {
        let (_directory, [path, _]) = places();
        let sign = |seal: &[u8]| Ok(Digest::of(seal).to_string().into_bytes());
        carver(&path).seal(Some(signing(&sign)), Some(&sign)).unwrap();
        assert!(!is_noticed(&path));
        fs::remove_file(path.join(removed)).unwrap();
        let faults = verify(&path).unwrap().faults;
        assert!(faults.len() == 1 && faults[0].contains(removed), "{faults:?}");
    }
}

fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap();
    bytes.push(b'\n');
    bytes
}

/// Writes the log, the sums and the seal of a bundle anew, as whoever can write it could.
fn seal_again(path: &Path, manifest: &Manifest, change: &dyn Fn(&mut Vec<serde_json::Value>)) {
    let bytes = pretty(manifest);
    let mut sums = format!("{}  manifest.json\n", Digest::of(&bytes).hex());
    for artifact in &manifest.artifacts {
        sums += &format!("{}  {}\n", artifact.sha256.as_ref().unwrap().hex(), artifact.file);
    }
    let log = fs::read_to_string(path.join("custody.log")).unwrap();
    let mut lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.last_mut().unwrap()["digest"] = Digest::of(&bytes).to_string().into();
    change(&mut lines);
    let mut custody = CustodyLog::default();
    for line in &lines {
        let text = |field: &str| line[field].as_str();
        let digest = text("digest").map(|digest| digest.parse().unwrap());
        custody.add(text("operator"), text("action").unwrap(), text("subject").unwrap(), digest.as_ref());
    }
    let seal = format!(
        "{{\n  \"schema\": 1,\n  \"manifest\": \"{}\",\n  \"sums\": \"{}\",\n  \"custody_entries\": {},\n  \
         \"custody_head\": \"{}\"\n}}\n",
        Digest::of(&bytes),
        Digest::of(sums.as_bytes()),
        custody.entries(),
        custody.head()
    );
    fs::write(path.join("manifest.json"), bytes).unwrap();
    fs::write(path.join("SHA256SUMS"), sums).unwrap();
    fs::write(path.join("custody.log"), custody.bytes()).unwrap();
    fs::write(path.join("seal.json"), seal).unwrap();
}

#[test]
fn a_log_that_says_other_things_than_the_manifest_is_found() {
    let (_directory, [path, _]) = places();
    bundle(&path);
    let (manifest, log) = (verify(&path).unwrap().manifest, fs::read(path.join("custody.log")).unwrap());
    let faults = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        fs::write(path.join("custody.log"), &log).unwrap();
        seal_again(&path, &manifest, change);
        verify(&path).unwrap().faults
    };
    assert_eq!(faults(&|_| {}), Vec::<String>::new());
    let other = Digest::of(b"other").to_string();
    for at in 0..6 {
        for (field, value) in
            [("subject", "artifacts/0009"), ("action", "moved"), ("digest", &other), ("operator", "M. Allory")]
        {
            let found = faults(&|lines| lines[at][field] = value.into());
            assert!(!found.is_empty(), "line {at}, {field}");
        }
        assert!(!faults(&|lines| drop(lines.remove(at))).is_empty(), "line {at} is left out");
        assert!(!faults(&|lines| lines.insert(at, lines[at].clone())).is_empty(), "line {at} is there twice");
    }
    assert!(!faults(&|lines| lines.swap(2, 3)).is_empty());
    assert!(!faults(&|lines| lines.truncate(2)).is_empty());
}

#[test]
fn a_document_with_other_bytes_than_its_digest_is_found() {
    let (_directory, [path, _]) = places();
    bundle(&path);
    let mut manifest = verify(&path).unwrap().manifest;
    let forged = b"{\"config\":{}}";
    fs::write(path.join("artifacts/0003"), forged).unwrap();
    (manifest.artifacts[2].size, manifest.artifacts[2].sha256) = (forged.len() as u64, Some(Digest::of(forged)));
    seal_again(&path, &manifest, &|lines| lines[4]["digest"] = Digest::of(forged).to_string().into());
    let faults = verify(&path).unwrap().faults;
    assert!(faults.len() == 1 && faults[0].contains("artifacts/0003"), "{faults:?}");
}

/// A layer with a sparse file of `size` bytes that begins with `data`.
fn sparse(size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::GNUSparse);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(data.len() as u64);
    gnu.set_real_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

#[test]
fn holes_stay_holes_and_have_an_end() {
    use std::os::unix::fs::MetadataExt;
    let (_directory, paths) = places();
    let layer = sparse(300 << 20, b"the start");
    for path in paths {
        let mut carver = carver(&path);
        carver.layer(LayerIdentity::default(), blob(&layer), &[Wanted::path(b"big")]).unwrap();
        carver.seal(None, None).unwrap();
        let verification = verify(&path).unwrap();
        assert_eq!(verification.faults, Vec::<String>::new());
        assert_eq!(verification.manifest.artifacts[0].size, 300 << 20);
        let file = if path.is_dir() { path.join("artifacts/0001") } else { path };
        let metadata = fs::metadata(&file).unwrap();
        assert!(metadata.len() >= 300 << 20 && metadata.blocks() * 512 < 10 << 20, "{} blocks", metadata.blocks());
    }
    let (directory, [path, _]) = places();
    let mut carver = carver(&path);
    let layer = sparse(1 << 40, b"the start");
    let error = carver.layer(LayerIdentity::default(), blob(&layer), &[Wanted::path(b"big")]).unwrap_err();
    assert!(matches!(error, EvidenceError::Holes { .. }), "{error}");
    drop(carver);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_left_of_a_cancelled_bundle() {
    let (directory, paths) = places();
    let plain = layer();
    for path in paths {
        let cancellation = Cancellation::new();
        let mut carver = carver(&path).cancelled_by(cancellation.clone());
        carver.layer(LayerIdentity::default(), blob(&plain), &[Wanted::path(b"srv/app.conf")]).unwrap();
        cancellation.cancel();
        let again = carver.layer(LayerIdentity::default(), blob(&plain), &[Wanted::path(b"etc/twice")]);
        assert!(again.is_err());
        drop(carver);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
