//! Names of packages and files in an inventory: what is found in them is the same in every run, and what was not searched
//! is not shown.

use std::sync::Arc;

use layersift_format::Cancellation;
use layersift_model::{Digest, PackageRecord};
use layersift_model::{Ecosystem, GapReason, ImagePath, InstalledPackage, Inventory, InventoryLayer, Limits, State};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, NameWork, Options};

use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::Tar;
use crate::support::{findings, layersift, text};

/// A rule whose matches may span lines, and whose first match keeps it from others in the same bytes.
const ACROSS: &str = r#"
[[signature]]
id = "test.across"
title = "A token of the test"
severity = "high"
confidence = "high"
pattern = 'made_up_[\s\S]{10,40}_end'
keywords = ["made_up_"]
what = "w"
risk = "r"
fix = "f"
references = []
"#;

fn inventory(names: impl IntoIterator<Item = String>) -> Inventory {
    let package = |name: String| InstalledPackage {
        record: Arc::new(PackageRecord::new(Ecosystem::Deb, name, "1")),
        path: Arc::new(ImagePath::normalize(b"status")),
        layer: 0,
        state: State::Present,
        ended_by: None,
    };
    Inventory {
        reference: Some("registry.example.org/team/app:1".into()),
        packages: names.into_iter().map(package).collect(),
        ..Inventory::default()
    }
}

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory.packages.iter().map(|package| &*package.record.name).collect()
}

fn analyzer(ruleset: Ruleset) -> Analyzer {
    Analyzer::new(ruleset, Options { threads: 1, ..Options::default() }).unwrap()
}

fn work(limits: &Limits) -> NameWork {
    NameWork::new(limits, &Cancellation::never())
}

/// Names that take long: every word begins patterns.
fn slow(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{number:05}{}", "key ".repeat(250)))
}

#[test]
fn what_crosses_two_names_is_no_secret_in_any_run() {
    let analyzer = analyzer(Ruleset::built_in().unwrap());
    let halves = [
        "const c = crypto.createCipheriv('aes-256-gcm',".to_string(),
        "Buffer.from('f872753caf5977061292ac325e8db575951c6608f2d045716500b4cea1d0edac', 'hex'), iv);".to_string(),
    ];
    assert_ne!(analyzer.mask_name(&halves.join("\n")), halves.join("\n"));
    for _ in 0..30 {
        let mut one = inventory(halves.clone());
        analyzer.mask_inventory(&mut one, Vec::new(), &mut work(analyzer.limits()));
        assert_eq!((names(&one), one.gaps.len()), (halves.iter().map(|half| &**half).collect(), 0));
    }
}

#[test]
fn what_crosses_names_hides_no_secret_in_one_of_them() {
    let analyzer = analyzer(Ruleset::from_files([("test.toml".to_string(), ACROSS.to_string())]).unwrap());
    let mut one = inventory(["a made_up_x y".to_string(), "b made_up_0123456789_end".to_string()]);
    analyzer.mask_inventory(&mut one, Vec::new(), &mut work(analyzer.limits()));
    assert_eq!(names(&one), ["a made_up_x y", "b made****nd"]);
}

#[test]
fn what_crosses_names_of_files_hides_no_secret_in_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, ACROSS).unwrap();
    let image = folder.path().join("image.tar");
    for names in [["a made_up_x y", "b made_up_0123456789_end"], ["b made_up_0123456789_end", "c made_up_x y_end"]] {
        let tar = names.iter().fold(Tar::new(), |tar, name| tar.file(name, ""));
        std::fs::write(&image, archive(&docker_save(&[Layer::plain(tar.finish())]))).unwrap();
        let scan = ["scan", text(&image), "--rules", text(&rules), "--format", "json", "--show-secrets"];
        let report = layersift(&scan).expect(1).json();
        let found: Vec<_> = findings(&report).iter().map(|one| one["secret"]["value"].clone()).collect();
        assert_eq!(found, ["made_up_0123456789_end"], "{report}");
    }
}

#[test]
fn names_beyond_the_limit_of_work_are_hidden() {
    let analyzer = analyzer(Ruleset::built_in().unwrap());
    let limits = Limits { layer_work: 16 << 20, layer_work_per_byte: 24, ..Limits::default() };
    let masked = |stored_bytes| {
        let mut one = inventory(slow(4_000));
        // An image may have the same layer twice.
        one.layers = vec![InventoryLayer { digest: Some(Digest::of(b"")), stored_bytes, ..Default::default() }; 2];
        let mut work = work(&limits);
        analyzer.mask_inventory(&mut one, Vec::new(), &mut work);
        let hidden = names(&one).iter().filter(|name| **name == "****").count();
        let gaps: Vec<_> = one.gaps.iter().map(|one| (one.gap.reason, one.gap.detail.clone())).collect();
        (hidden, work.spent(), gaps, one.reference.unwrap())
    };
    let (hidden, spent, gaps, reference) = masked(0);
    assert!(0 < hidden && hidden < 4_000, "{hidden}");
    // What is searched at once may exceed it.
    assert!((16 << 20..32 << 20).contains(&spent), "{spent}");
    assert!(gaps.len() == 1 && gaps[0].0 == GapReason::TooManyEntries, "{gaps:?}");
    assert!(gaps[0].1.ends_with(&format!("{hidden} are hidden")), "{gaps:?}");
    assert_eq!(reference, "registry.example.org/team/app:1");
    // Bytes of layers permit more.
    let (fewer, more, ..) = masked(16 << 20);
    assert!(fewer < hidden && (32 << 20..48 << 20).contains(&more), "{fewer} {more}");
    assert_eq!(masked(1 << 30).2, []);
    // All inventories of a target have one limit.
    let (mut shared, mut left) = (work(&limits), Vec::new());
    for _ in 0..2 {
        let mut one = inventory(slow(4_000));
        analyzer.mask_inventory(&mut one, Vec::new(), &mut shared);
        left.push(names(&one).iter().filter(|name| **name == "****").count());
    }
    assert_eq!((left, shared.spent()), (vec![hidden, 4_000], spent));
}

#[test]
fn names_are_not_searched_on_when_the_time_is_over() {
    let analyzer = analyzer(Ruleset::built_in().unwrap());
    let cancellation = Cancellation::new();
    cancellation.cancel();
    let masked = |count| {
        let (mut one, mut work) = (inventory(slow(count)), NameWork::new(analyzer.limits(), &cancellation));
        analyzer.mask_inventory(&mut one, Vec::new(), &mut work);
        let hidden = names(&one).iter().filter(|name| **name == "****").count();
        (hidden, one.gaps.iter().map(|one| one.gap.reason).collect::<Vec<_>>(), work.spent())
    };
    // What was read until then is shown, as far as it can soon be searched.
    assert_eq!((masked(10).0, masked(10).1), (0, vec![]));
    let (hidden, gaps, spent) = masked(20_000);
    assert!(hidden > 1_000 && spent < 64 << 20, "{hidden} {spent}");
    assert_eq!(gaps, [GapReason::Cancelled]);
}
