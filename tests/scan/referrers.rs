//! What refers to an image of an OCI layout: entries of its `index.json` with a subject, or with a name that says so.

use serde_json::{Value, json};

use crate::support::image::{
    Files, INDEX, LAYER, Layer, MANIFEST, archive, blob_path, bytes, descriptor, digest, index, oci, write_directory,
};
use crate::support::tar::Tar;
use crate::support::{findings, gap_reasons, layersift, layersift_with_input, text};

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

/// How an entry of the layout says that it refers to the image.
enum Way {
    Subject,
    /// By its name, which ends so.
    Name(&'static str),
    /// In a list of that name.
    List,
}

const WAYS: [Way; 5] = [Way::Subject, Way::Name(".sig"), Way::Name(".att"), Way::Name(".sbom"), Way::List];

fn named(mut entry: Value, name: &str) -> Value {
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    entry
}

fn put(files: &mut Files, media_type: &str, document: &Value) -> Value {
    let document = bytes(document);
    let entry = descriptor(media_type, &document);
    files.insert(blob_path(&document), document);
    entry
}

/// A layout with the image `app`, another image, and an artifact of `blob`, which refers to `app`.
fn layout(way: &Way, media_type: &str, blob: &[u8]) -> Files {
    let layer = Layer::plain(Tar::new().file("etc/motd", "nothing to see\n").finish());
    let mut files = oci(std::slice::from_ref(&layer));
    let listing: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let image = listing["manifests"][0].clone();
    let other = oci(&[Layer::plain(Tar::new().file("etc/issue", "another image\n").finish())]);
    let other_listing: Value = serde_json::from_slice(&other["index.json"]).unwrap();
    files.extend(other.into_iter().filter(|(name, _)| name.starts_with("blobs/")));
    files.insert(blob_path(blob), blob.to_vec());
    files.insert(blob_path(b"{}"), b"{}".to_vec());
    let mut document = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [descriptor(media_type, blob)],
    });
    if matches!(way, Way::Subject | Way::List) {
        document["subject"] = image.clone();
    }
    let artifact = put(&mut files, MANIFEST, &document);
    let tag = image["digest"].as_str().unwrap().replace(':', "-");
    let entry = match way {
        Way::Subject => artifact,
        Way::Name(end) => named(artifact, &format!("{tag}{end}")),
        Way::List => named(put(&mut files, INDEX, &index(&[artifact])), &tag),
    };
    let entries = [named(image, "app"), named(other_listing["manifests"][0].clone(), "other"), entry];
    files.insert("index.json".into(), bytes(&index(&entries)));
    files
}

fn tokens(report: &Value) -> Vec<&Value> {
    findings(report).iter().filter(|finding| finding["rule"] == "github.personal-access-token").collect()
}

#[test]
fn entries_that_refer_to_the_image_are_read_with_it() {
    let secret = format!("TOKEN={TOKEN}\n").into_bytes();
    let tar = Tar::new().file("app/env", &secret).finish();
    for way in &WAYS {
        for (media_type, blob, inside) in [("text/plain", &secret, json!([])), (LAYER, &tar, json!(["app/env"]))] {
            let folder = tempfile::tempdir().unwrap();
            let files = layout(way, media_type, blob);
            write_directory(folder.path(), &files);
            let archived = folder.path().join("archive.tar");
            std::fs::write(&archived, archive(&files)).unwrap();
            for target in [format!("oci:{}:app", text(folder.path())), format!("oci-archive:{}:app", text(&archived))] {
                let report = layersift(&["scan", "--format", "json", &target]).expect(1).json();
                assert_eq!(gap_reasons(&report), [""; 0], "{target}: {}", report["gaps"]);
                let [found] = &tokens(&report)[..] else { panic!("{target}: {report}") };
                assert_eq!((&found["document"]["digest"], &found["inside"]), (&json!(digest(blob)), &inside));
                assert!(found["document"]["referrer"].is_string(), "{found}");
                layersift(&["scan", "--no-referrers", &target]).expect(0);
            }
            let other = format!("oci:{}:other", text(folder.path()));
            let report = layersift(&["scan", "--format", "json", &other]).expect(0).json();
            assert_eq!(tokens(&report).len(), 0, "it refers to another image: {report}");
            // Without a name, it is an image of the layout.
            let whole = layersift(&["scan", "--format", "json", text(folder.path())]).expect(1).json();
            let reports = whole["reports"].as_array().unwrap();
            assert_eq!(reports.iter().map(|report| tokens(report).len()).sum::<usize>(), 1, "{whole}");
        }
    }
}

/// The bytes of a stream that look like a layer were handed out before it is known what they belong to.
#[test]
fn a_stream_has_the_documents_and_a_gap_for_archives() {
    let secret = format!("TOKEN={TOKEN}\n").into_bytes();
    let files = layout(&Way::Subject, "text/plain", &secret);
    let run = |files: &Files| layersift_with_input(&["scan", "--format", "json", "oci:-:app"], archive(files));
    let report = run(&files).expect(1).json();
    assert_eq!((tokens(&report).len(), gap_reasons(&report).len()), (1, 0), "{report}");
    let tar = Tar::new().file("app/env", &secret).finish();
    let report = run(&layout(&Way::Subject, LAYER, &tar)).expect(3).json();
    assert_eq!(gap_reasons(&report), ["unreadable"], "{report}");
}
