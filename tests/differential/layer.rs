//! Layers: entries in an order, what stands between and after them, and what a file system makes of them.

use super::draft::{Draft, Part};
use super::entry::{BLOCK, Entry};
use super::entry_mutations;
use super::framing::{self, Compression};
use crate::support::image::Layer;

/// How many mutations each part of a layer gets.
#[derive(Clone, Copy, Default)]
pub struct Amount {
    pub entries: usize,
    pub structure: usize,
    pub framing: usize,
}

/// The layers of an image, from the lowest.
pub fn layers(draft: &mut Draft, amount: Amount) -> Vec<Layer> {
    draft.begin(Part::Scenario);
    let mut tars = scenario(draft);
    draft.begin(Part::Entries);
    let chosen = draft.below(tars.len());
    for number in 0..amount.entries {
        let entry = entry_mutations::mutated(draft, &format!("app/odd{number}"));
        // 0 is the end: there, an extended header speaks of the entry that it stands before, and of no other.
        let at = tars[chosen].len() - draft.below(tars[chosen].len() + 1);
        tars[chosen].insert(at, entry);
    }
    draft.begin(Part::Archives);
    let bytes: Vec<Vec<u8>> = (0..tars.len())
        .map(|index| structure(draft, &tars[index], if index == chosen { amount.structure } else { 0 }))
        .collect();
    let last = bytes.len() - 1;
    let framing = |index| if index == last { amount.framing } else { 0 };
    let stored = bytes.iter().enumerate().map(|(index, tar)| store(draft, tar, framing(index))).collect();
    if amount.entries + amount.structure + amount.framing > 0 {
        draft.doubt_since(0);
    }
    stored
}

/// A layer without a token.
pub fn decoy() -> Layer {
    Layer::plain([Entry::file("app/decoy", b"nothing\n".to_vec()).bytes(), vec![0; 2 * BLOCK]].concat())
}

fn store(draft: &mut Draft, tar: &[u8], mutations: usize) -> Layer {
    let compression = *draft.pick(&[Compression::None, Compression::Gzip, Compression::Zstd]);
    let mut layer = framing::stored(draft, tar, compression, mutations > 0);
    if mutations > 1 {
        layer.media_type = framing::media_type(draft, &layer.media_type);
    }
    layer
}

/// A plain file, and what else is in the layers of an image: links, folders, and whiteouts of all kinds.
fn scenario(draft: &mut Draft) -> Vec<Vec<Entry>> {
    let file = |draft: &mut Draft, name: &str| Entry::file(name, draft.line(name));
    let link = |name: &str, target: &str| Entry::link(b'2', name, target);
    let folder = Entry::directory;
    let whiteout = |name: &str| Entry::file(name, Vec::new());
    let plain = |draft: &mut Draft| {
        if draft.chance(50) { Entry::file("app/plain", b"nothing\n".to_vec()) } else { file(draft, "app/plain") }
    };
    let options = [
        ("one layer", 0),
        ("one layer", 0),
        ("one layer", 0),
        ("deleted by a later layer", 1),
        ("opaque folder", 2),
        ("written through a link", 3),
        ("whiteout through a link", 4),
        ("hard link to a lower layer", 5),
        ("folder in place of a file", 6),
        ("file in place of a folder", 7),
        ("the same name twice", 8),
        ("link in place of a folder", 9),
        ("whiteout in the same layer", 10),
    ];
    let (name, number) = *draft.pick(&options);
    if number > 0 {
        draft.note(format!("scenario: {name}"));
    }
    match number {
        0 => vec![vec![folder("app"), plain(draft)]],
        1 => vec![vec![file(draft, "app/gone")], vec![whiteout("app/.wh.gone"), plain(draft)]],
        2 => vec![vec![file(draft, "app/gone")], vec![folder("app"), whiteout("app/.wh..wh..opq"), plain(draft)]],
        3 => vec![vec![folder("usr/lib"), link("lib", "usr/lib")], vec![file(draft, "lib/file"), plain(draft)]],
        4 => vec![
            vec![folder("usr/lib"), file(draft, "usr/lib/file"), link("lib", "usr/lib")],
            vec![whiteout("lib/.wh.file"), plain(draft)],
        ],
        5 => vec![
            vec![file(draft, "app/first")],
            vec![Entry::link(b'1', "app/second", "app/first"), whiteout("app/.wh.first"), plain(draft)],
        ],
        6 => vec![vec![file(draft, "app/node")], vec![folder("app/node"), file(draft, "app/node/inside")]],
        7 => vec![vec![file(draft, "app/node/inside")], vec![file(draft, "app/node")]],
        8 => vec![vec![file(draft, "app/twice"), file(draft, "app/twice"), plain(draft)]],
        9 => vec![
            vec![folder("etc"), file(draft, "app/node/inside")],
            vec![link("app/node", "../etc"), file(draft, "app/node/file")],
        ],
        _ => vec![vec![file(draft, "app/own"), whiteout("app/.wh.own"), plain(draft)]],
    }
}

/// The bytes of an archive, with its end.
fn structure(draft: &mut Draft, entries: &[Entry], mutations: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let between = if mutations > 1 { draft.below(entries.len() + 1) } else { 0 };
    for (index, entry) in entries.iter().enumerate() {
        bytes.extend(entry.bytes());
        if between == index + 1 {
            let blocks = [("nothing", vec![]), ("a block of zeros", vec![0; BLOCK]), ("garbage", vec![b'x'; BLOCK]), {
                ("two blocks of zeros", vec![0; 2 * BLOCK])
            }];
            bytes.extend(draft.mutate("between entries", &blocks));
        }
    }
    if mutations == 0 {
        return [bytes, vec![0; 2 * BLOCK]].concat();
    }
    let hidden = Entry::file("app/behind", draft.line("after the end")).bytes();
    let zeros = |blocks: usize| vec![0; blocks * BLOCK];
    let ends = [
        ("two blocks", zeros(2)),
        ("none", Vec::new()),
        ("one block", zeros(1)),
        ("half a block", vec![0; BLOCK / 2]),
        ("a record", zeros(20)),
        ("one block and an entry", [zeros(1), hidden.clone(), zeros(2)].concat()),
        ("two blocks and an entry", [zeros(2), hidden.clone(), zeros(2)].concat()),
        ("a record and an entry", [zeros(20), hidden.clone(), zeros(2)].concat()),
        ("a block that is not zero and an entry", [vec![1; BLOCK], hidden.clone(), zeros(2)].concat()),
        ("not aligned, and an entry", [vec![0; 2 * BLOCK + 10], hidden.clone(), zeros(2)].concat()),
        ("text", [zeros(2), draft.line("text after the end")].concat()),
        ("an entry that breaks off", hidden[..BLOCK + 20].to_vec()),
        ("an entry without its padding", hidden[..BLOCK + 66].to_vec()),
        ("a header alone", hidden[..BLOCK].to_vec()),
    ];
    bytes.extend(draft.mutate("end", &ends));
    bytes
}
