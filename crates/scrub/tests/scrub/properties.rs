//! For random layers, whatever is not removed or blanked stays byte for byte.

use proptest::prelude::*;

use crate::support::{Memory, SECRET, Tar, found, pieces, without, without_secret};

/// A layer of random entries: for each, the length of its directory's name, and its contents.
fn layers() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    prop::collection::vec((0..300_usize, prop::collection::vec(any::<u8>(), 0..2000)), 1..12)
}

fn name(number: usize, length: usize) -> String {
    format!("{}/{number}", "d".repeat(length.min(90) + 1)) + &"/e".repeat(length / 2)
}

fn tar(entries: &[(usize, Vec<u8>)]) -> Tar {
    let add = |tar: Tar, (number, (length, data)): (usize, &(usize, Vec<u8>))| tar.file(&name(number, *length), data);
    entries.iter().enumerate().fold(Tar::new(), add)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn removing_an_entry_leaves_all_others(entries in layers(), choice in any::<prop::sample::Index>()) {
        let wanted = choice.index(entries.len());
        let image = Memory::of(vec![tar(&entries).file("last", "l")]);
        let result = without(&image, &[&name(wanted, entries[wanted].0)]).unwrap();
        let (mut before, end) = pieces(image.layer(0));
        before.remove(wanted);
        prop_assert_eq!((before, end), pieces(result.image.layer(0)));
    }

    #[test]
    fn blanking_a_value_leaves_all_other_bytes(
        entries in layers(),
        choice in any::<prop::sample::Index>(),
        before in "[a-z \n]{0,600}",
        after in "[a-z \n]{0,600}",
    ) {
        let wanted = choice.index(entries.len());
        let text = |value: &str| format!("{before}{value}{after}");
        let with = |value: &str| {
            let mut entries = entries.clone();
            entries[wanted].1 = text(value).into_bytes();
            tar(&entries)
        };
        let image = Memory::of(vec![with(SECRET)]);
        let path = name(wanted, entries[wanted].0);
        let number = u32::try_from(wanted).unwrap();
        let finding = found(&image, 0, &path, number, before.len() as u64);
        let result = without_secret(&image, vec![finding], &[]).unwrap();
        prop_assert_eq!(result.image.layer(0), &with(&"x".repeat(SECRET.len())).finish());
    }
}
