//! What can be wrong with, or unusual about, an entry of a tar.

use super::draft::Draft;
use super::entry::{BLOCK, Entry, extended, long, octal, record, sum};
use super::sparse;

/// An entry with a token and one mutation.
pub fn mutated(draft: &mut Draft, name: &str) -> Entry {
    let line = draft.line(&format!("{name}: data"));
    let mut entry = Entry::file(name, line);
    let mutation = *draft.pick(MUTATIONS);
    mutation(draft, &mut entry, name);
    entry
}

/// Changes the header of an entry, or puts others before it.
pub fn mutate_header(draft: &mut Draft, entry: &mut Entry, name: &str) {
    let of_headers: [fn(&mut Draft, &mut Entry, &str); 10] =
        [nothing, kind, size, magic, checksum, trailing_slash, records, records_twice, long_names, sparse::in_records];
    let mutation = *draft.pick(&of_headers);
    mutation(draft, entry, name);
}

const MUTATIONS: &[fn(&mut Draft, &mut Entry, &str)] = &[
    nothing,
    kind,
    size,
    magic,
    prefix,
    checksum,
    trailing_slash,
    name_bytes,
    records,
    records,
    records_twice,
    long_names,
    sparse::old,
    sparse::in_records,
    sparse::in_records,
    link_with_data,
    padding,
    several,
];

fn nothing(_: &mut Draft, _: &mut Entry, _: &str) {}

fn several(draft: &mut Draft, entry: &mut Entry, name: &str) {
    for _ in 0..2 {
        let mutation = *draft.pick(&MUTATIONS[..MUTATIONS.len() - 1]);
        mutation(draft, entry, name);
    }
}

fn kind(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let kinds: Vec<(&str, u8)> = [
        "0", "\0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "D", "E", "I", "K", "L", "M", "N", "S", "V", "X",
        "Z", "a", "g", "x", " ", "\u{7f}",
    ]
    .iter()
    .map(|kind| (*kind, kind.as_bytes()[0]))
    .collect();
    let kind = *draft.mutate("type", &kinds);
    entry.set_kind(kind);
    if b"12".contains(&kind) {
        entry.set(157, 100, b"app/plain");
    }
    nested(draft, entry);
}

/// Puts an entry into the data, for readers that take the data for headers, with a token where no reader looks that
/// does so.
fn nested(draft: &mut Draft, entry: &mut Entry) {
    let forms =
        [("no entry", 0), ("a link", 1), ("a file", 2), ("a record", 3), ("a long link", 4), ("a user's name", 5)];
    let form = *draft.vary(70, "the data is", &forms);
    let mut inner = Entry::file("app/nested", b"nothing\n".to_vec());
    let text = if form > 0 { draft.token(&format!("data that is {}", forms[form].0)) } else { String::new() };
    let bytes = match form {
        0 => return,
        1 => Entry::link(b'2', "app/nested", &text).bytes(),
        2 => Entry::file("app/nested", text.into_bytes()).bytes(),
        3 => [extended(b'x', &record("comment", text.as_bytes())), inner.bytes()].concat(),
        4 => [long(b'K', text.as_bytes()), inner.bytes()].concat(),
        _ => {
            inner.set(265, 32, &text.as_bytes()[..32]);
            inner.set(297, 32, &text.as_bytes()[32..]);
            inner.bytes()
        }
    };
    entry.set_data(bytes);
}

fn size(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let length = entry.data.len();
    let base_256 = |number: usize| [&[0x80, 0, 0, 0][..], &(number as u64).to_be_bytes()].concat();
    let negative = [0xff; 12].to_vec();
    let forms = [
        ("octal", octal(length)),
        ("octal without NUL", format!("{length:012o}").into_bytes()),
        ("octal with blanks before", format!("{length:11o}\0").into_bytes()),
        ("octal with blanks after", format!("{length:<11o} ").into_bytes()),
        ("octal with blank and NUL", format!("{length:010o} \0").into_bytes()),
        ("octal with NUL before", format!("\0{length:010o}\0").into_bytes()),
        ("octal with a second number", format!("{length:o}\0{:o}", length + BLOCK).into_bytes()),
        ("octal with digits after a blank", format!("{length:o} 7777").into_bytes()),
        ("octal with sign", format!("+{length:010o}\0").into_bytes()),
        ("octal with minus", format!("-{length:010o}\0").into_bytes()),
        ("octal with prefix", format!("0o{length:09o}\0").into_bytes()),
        ("octal with garbage", format!("{length:o}x").into_bytes()),
        ("octal with an 8", b"00000000080\0".to_vec()),
        ("octal with tabs", format!("\t{length:o}\t").into_bytes()),
        ("octal with new line", format!("{length:o}\n").into_bytes()),
        ("octal with underscores", format!("0_{length:o}").into_bytes()),
        ("base-256", base_256(length)),
        ("base-256 with 0x81", [&[0x81][..], &base_256(length)[1..]].concat()),
        ("base-256 with 0xc0", [&[0xc0][..], &base_256(length)[1..]].concat()),
        ("base-256 negative", negative),
        ("base-256 of zero", base_256(0)),
        ("base-256 large", [&[0x80, 1, 0, 0][..], &(length as u64).to_be_bytes()].concat()),
        ("empty", Vec::new()),
        ("blanks", vec![b' '; 12]),
        ("zero", octal(0)),
        ("smaller", octal(10)),
        ("block larger", octal(length + BLOCK)),
        ("larger within the block", octal(length + 20)),
        ("too large", octal(1 << 30)),
    ];
    let field = draft.mutate("size", &forms);
    entry.set_size(field);
}

fn magic(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let forms: [(&str, &[u8; 8]); 9] = [
        ("ustar", b"ustar\x0000"),
        ("GNU", b"ustar  \0"),
        ("none", b"\0\0\0\0\0\0\0\0"),
        ("version blanks", b"ustar\0  "),
        ("version NUL", b"ustar\0\0\0"),
        ("version 01", b"ustar\x0001"),
        ("blank", b"ustar 00"),
        ("upper case", b"USTAR\x0000"),
        ("other", b"ustbr\x0000"),
    ];
    let magic = *draft.mutate("magic", &forms);
    entry.set_magic(magic);
    if draft.chance(50) {
        prefix(draft, entry, "");
    }
    if draft.chance(20) {
        draft.note("star trailer");
        entry.set(508, 4, b"tar\0");
    }
}

fn prefix(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let forms: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("a directory", b"etc"),
        ("a slash at the end", b"etc/"),
        ("only a slash", b"/"),
        ("a whiteout", b"etc/.wh.hidden"),
        ("dots", b"../.."),
        ("times of GNU", b"00000000000\x0000000000000\0"),
        ("not UTF-8", b"etc\xff"),
        ("full", &[b'p'; 155]),
    ];
    let prefix = *draft.mutate("prefix", &forms);
    entry.set(345, 155, prefix);
}

fn checksum(draft: &mut Draft, entry: &mut Entry, _: &str) {
    // A sum of signed bytes differs only where a byte is not ASCII.
    entry.set(265, 32, b"caf\xe9");
    let unsigned = sum(&entry.header);
    let high = entry.header.iter().filter(|byte| **byte > 127).count() as u32;
    let signed = unsigned - 256 * high;
    let forms = [
        ("unsigned", format!("{unsigned:06o}\0 ")),
        ("signed", format!("{signed:06o}\0 ")),
        ("seven digits", format!("{unsigned:07o}\0")),
        ("eight digits", format!("{unsigned:08o}")),
        ("blanks before", format!("{unsigned:6o}\0 ")),
        ("blank and NUL", format!("{unsigned:06o} \0")),
        ("garbage after", format!("{unsigned:06o}\0x")),
        ("wrong", format!("{:06o}\0 ", unsigned + 1)),
        ("zero", "000000\0 ".to_string()),
        ("blanks", " ".repeat(8)),
        ("empty", "\0".repeat(8)),
    ];
    let field = draft.mutate("checksum", &forms);
    entry.header[148..156].copy_from_slice(field.as_bytes());
}

fn trailing_slash(draft: &mut Draft, entry: &mut Entry, name: &str) {
    let kinds = [("file", (b'0', "")), ("0", (b'0', "/")), ("NUL", (0, "/")), ("7", (b'7', "/")), ("S", (b'S', "/"))];
    let (kind, slash) = *draft.mutate("name ends in a slash, type", &kinds);
    entry.set_kind(kind);
    match *draft.vary(30, "slash", &[("in the header", 0), ("in a record", 1), ("in a long name", 2)]) {
        0 => entry.set_name(format!("{name}{slash}").as_bytes()),
        1 => entry.before = extended(b'x', &record("path", format!("{name}{slash}").as_bytes())),
        _ => entry.before = long(b'L', format!("{name}{slash}").as_bytes()),
    }
    nested(draft, entry);
}

fn name_bytes(draft: &mut Draft, entry: &mut Entry, name: &str) {
    let slashes = format!("app//{name}");
    let names: [(&str, &[u8]); 17] = [
        ("plain", name.as_bytes()),
        ("empty", b""),
        ("dot", b"."),
        ("dots", b".."),
        ("slash", b"/"),
        ("absolute", b"/app/absolute"),
        ("upwards", b"../../app/upwards"),
        ("up and down", b"app/x/../up"),
        ("two slashes", slashes.as_bytes()),
        ("NUL inside", b"app/nul\0inside"),
        ("not UTF-8", b"app/caf\xe9"),
        ("backslash", b"app\\file"),
        ("whiteout with data", b"app/.wh.other"),
        ("opaque with data", b"app/.wh..wh..opq"),
        ("plink", b".wh..wh.plnk/1"),
        ("below a whiteout", b"app/.wh.other/file"),
        ("aufs", b"app/.wh..wh.aufs"),
    ];
    let bytes = *draft.mutate("name", &names);
    match *draft.vary(50, "name given", &[("in the header", 0), ("in a record", 1), ("in a long name", 2)]) {
        0 => entry.set_name(bytes),
        1 => entry.before = extended(b'x', &record("path", bytes)),
        _ => entry.before = long(b'L', bytes),
    }
}

fn records(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let mut bytes = Vec::new();
    for _ in 0..*draft.pick(&[1, 1, 2, 3]) {
        bytes.extend(one_record(draft, entry.data.len()));
    }
    let kind = *draft.vary(30, "extended header", &[("local", b'x'), ("global", b'g'), ("Solaris", b'X')]);
    entry.before.extend(extended(kind, &bytes));
    if draft.chance(25) {
        let forms =
            [("is of the file", 0), ("is of a link", b'2'), ("is of a hard link", b'1'), ("is of a folder", b'5')];
        match *draft.mutate("extended header", &forms) {
            0 => {}
            kind => {
                entry.set_kind(kind);
                entry.set(157, 100, b"app/plain");
            }
        }
    }
}

fn records_twice(draft: &mut Draft, entry: &mut Entry, name: &str) {
    records(draft, entry, name);
    match *draft
        .mutate("after an extended header", &[("nothing", 0), ("another", 1), ("L", 2), ("K", 3), ("a file", 4)])
    {
        0 => {}
        1 => records(draft, entry, name),
        2 => entry.before.extend(long(b'L', b"app/long-name")),
        3 => entry.before.extend(long(b'K', b"app/long-link")),
        // The records stand before another entry.
        _ => entry.before.extend(Entry::file("app/between", b"nothing\n".to_vec()).bytes()),
    }
}

fn one_record(draft: &mut Draft, length: usize) -> Vec<u8> {
    let keys: [(&str, &str); 14] = [
        ("comment", "comment"),
        ("path", "path"),
        ("size", "size"),
        ("size", "size"),
        ("size", "size"),
        ("linkpath", "linkpath"),
        ("mtime", "mtime"),
        ("uid", "uid"),
        ("hdrcharset", "hdrcharset"),
        ("xattr", "SCHILY.xattr.user.x"),
        ("sparse name", "GNU.sparse.name"),
        ("realsize of star", "SCHILY.realsize"),
        ("type of star", "SCHILY.filetype"),
        ("delete", "path "),
    ];
    let key = *draft.mutate("record", &keys);
    let value = match key {
        "size" => draft.mutate("record size", &sizes(length)).clone(),
        "path" | "linkpath" | "GNU.sparse.name" | "path " => draft.mutate("record path", &PATHS).to_vec(),
        "mtime" | "uid" => draft.mutate("record number", &NUMBERS).to_vec(),
        _ => draft.mutate("record text", &TEXTS).to_vec(),
    };
    framed(draft, key, &value)
}

fn sizes(length: usize) -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: String| text.into_bytes();
    vec![
        ("right", text(length.to_string())),
        ("empty", Vec::new()),
        ("zero", text("0".into())),
        ("smaller", text("10".into())),
        ("block larger", text((length + BLOCK).to_string())),
        ("two blocks larger", text((length + 2 * BLOCK).to_string())),
        ("larger within the block", text((length + 20).to_string())),
        ("leading zeros", text(format!("000{length}"))),
        ("plus", text(format!("+{length}"))),
        ("minus", text(format!("-{length}"))),
        ("blank before", text(format!(" {length}"))),
        ("blank after", text(format!("{length} "))),
        ("NUL after", text(format!("{length}\0"))),
        ("fraction", text(format!("{length}.5"))),
        ("exponent", text("1e1".into())),
        ("hexadecimal", text(format!("0x{length:x}"))),
        ("underscore", text("0_1".into())),
        ("too large", text("9223372036854775807".into())),
        ("larger than 64 bits", text("18446744073709551616".into())),
    ]
}

const PATHS: [(&str, &[u8]); 12] = [
    ("plain", b"app/renamed"),
    ("empty", b""),
    ("ends in a slash", b"app/renamed/"),
    ("dot", b"."),
    ("NUL inside", b"app/a\0b"),
    ("NUL at the end", b"app/renamed\0"),
    ("whiteout", b"app/.wh.renamed"),
    ("opaque", b"app/.wh..wh..opq"),
    ("absolute", b"/app/renamed"),
    ("upwards", b"../app/renamed"),
    ("not UTF-8", b"app/\xff"),
    ("new line inside", b"app/a\n20 path=app/other\n"),
];

const NUMBERS: [(&str, &[u8]); 6] =
    [("plain", b"1"), ("empty", b""), ("text", b"x"), ("negative", b"-1"), ("fraction", b"1.5"), ("nan", b"NaN")];

const TEXTS: [(&str, &[u8]); 5] =
    [("plain", b"x"), ("empty", b""), ("equals sign", b"a=b"), ("new line", b"a\nb"), ("not UTF-8", b"\xff\xfe")];

/// A record with a length that may be written in an unusual way.
fn framed(draft: &mut Draft, key: &str, value: &[u8]) -> Vec<u8> {
    let whole = record(key, value);
    let blank = whole.iter().position(|byte| *byte == b' ').unwrap();
    let (length, rest) = (String::from_utf8(whole[..blank].to_vec()).unwrap(), &whole[blank..]);
    let number: usize = length.parse().unwrap();
    let forms = [("right", 0), ("zeros", 1), ("plus", 2), ("blank", 3), ("short", 4), ("long", 5), ("no new line", 6)];
    // Most records are framed well, or few of the others would be read.
    if !draft.chance(25) {
        return whole;
    }
    match *draft.mutate("record length", &forms) {
        0 => whole,
        1 => [format!("0{}", number + 1).as_bytes(), rest].concat(),
        2 => [format!("+{}", number + 1).as_bytes(), rest].concat(),
        3 => [format!(" {}", number + 1).as_bytes(), rest].concat(),
        4 => [(number - 1).to_string().as_bytes(), rest].concat(),
        5 => [(number + 1).to_string().as_bytes(), rest].concat(),
        _ => [length.as_bytes(), &rest[..rest.len() - 1], b"x"].concat(),
    }
}

fn long_names(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let name = long(b'L', b"app/long-name");
    let mut unterminated = Entry::new("././@LongLink", b'L', "", b"app/unterminated".to_vec());
    unterminated.set_magic(b"ustar  \0");
    let forms = [
        ("none", Vec::new()),
        ("one", name.clone()),
        ("twice", [long(b'L', b"app/first"), name.clone()].concat()),
        ("empty", long(b'L', b"")),
        ("without NUL", unterminated.bytes()),
        ("text after NUL", long(b'L', b"app/name\0more")),
        ("ends in a slash", long(b'L', b"app/long/")),
        ("before a record", [name.clone(), extended(b'x', &record("path", b"app/record"))].concat()),
        ("after a record", [extended(b'x', &record("path", b"app/record")), name.clone()].concat()),
        ("before an empty record", [name.clone(), extended(b'x', &record("path", b""))].concat()),
        ("before a global record", [name.clone(), extended(b'g', &record("path", b"app/record"))].concat()),
        ("link", long(b'K', b"app/target")),
        ("link and name", [long(b'K', b"app/target"), name].concat()),
        ("whiteout", long(b'L', b"app/.wh.other")),
        ("not terminated by a block", {
            let mut bytes = long(b'L', b"app/long-name");
            bytes.truncate(BLOCK);
            bytes
        }),
    ];
    entry.before.extend(draft.mutate("long name", &forms));
}

fn link_with_data(draft: &mut Draft, entry: &mut Entry, _: &str) {
    let kinds =
        [("none", b'0'), ("hard", b'1'), ("symbolic", b'2'), ("folder", b'5'), ("device", b'3'), ("pipe", b'6')];
    let kind = *draft.mutate("data of a link", &kinds);
    entry.set_kind(kind);
    let targets = [("there", &b"app/plain"[..]), ("empty", b""), ("missing", b"app/none")];
    let target = *draft.vary(50, "target", &targets);
    entry.set(157, 100, target);
    nested(draft, entry);
    match *draft.vary(50, "size of a link", &[("as written", 0), ("zero", 1), ("in a record", 2)]) {
        0 => {}
        1 => entry.set_size(&octal(0)),
        _ => {
            let length = entry.data.len().to_string();
            entry.set_size(&octal(0));
            entry.before.extend(extended(b'x', &record("size", length.as_bytes())));
        }
    }
}

fn padding(draft: &mut Draft, entry: &mut Entry, _: &str) {
    match *draft.mutate("padding", &[("zeros", 0), ("missing", 1), ("a block more", 2), ("a token", 3)]) {
        0 => {}
        1 => entry.padding.clear(),
        2 => entry.padding.extend([0; BLOCK]),
        _ => {
            let line = draft.line("padding");
            let length = line.len().min(entry.padding.len());
            entry.padding[..length].copy_from_slice(&line[..length]);
        }
    }
}
