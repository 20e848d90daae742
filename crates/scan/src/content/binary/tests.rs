//! Tests of locating offsets in executables.

use super::*;

/// See `addon.c` in the same directory for their contents.
const UNSTRIPPED: &[u8] = include_bytes!("../../confirm/cipher/fixtures/x86_64-o0.so");
const STRIPPED: &[u8] = include_bytes!("../../confirm/cipher/fixtures/aarch64-o2-stripped.so");
const ELF32: &[u8] = include_bytes!("../../confirm/cipher/fixtures/elf32-little.o");
const ELF64_BIG: &[u8] = include_bytes!("../../confirm/cipher/fixtures/elf64-big.o");

const SHARED_CONSTANT: &[u8] = &[0x81, 0x3c, 0x5e, 0xf7, 0x09, 0xb4, 0x62, 0xda];
/// From the middle of the key: its other parts stand in `public_key` too.
const SESSION_KEY: &[u8] = &[0x9c, 0x65, 0x2b, 0xf0];

fn whole(file: &[u8]) -> Parts<'_> {
    Parts { head: file, tail: file, len: file.len() as u64 }
}

fn find(file: &[u8], needle: &[u8]) -> u64 {
    memchr::memmem::find(file, needle).expect("the fixture holds it") as u64
}

fn locate(parts: Parts<'_>, offset: u64) -> (Option<String>, Option<String>) {
    let location = parse(parts).expect("an executable file").locate(offset);
    (location.section, location.symbol)
}

fn names(section: &str, symbol: &str) -> (Option<String>, Option<String>) {
    (Some(section.to_owned()), Some(symbol.to_owned()))
}

#[test]
fn elf_names_sections_and_symbols() {
    for file in [UNSTRIPPED, STRIPPED, ELF32, ELF64_BIG] {
        let at = find(file, SHARED_CONSTANT);
        assert_eq!(locate(whole(file), at), names(".rodata", "shared_constant"));
        assert_eq!(locate(whole(file), at + 15), names(".rodata", "shared_constant"), "its last byte");
        let location = parse(whole(file)).unwrap().locate(at);
        assert_eq!((location.format, location.node_addon), ("elf", true));
    }
    for file in [UNSTRIPPED, ELF32, ELF64_BIG] {
        assert_eq!(locate(whole(file), find(file, SESSION_KEY)), names(".rodata", "session_key"));
    }
}

#[test]
fn a_symbol_that_ended_before_stands_with_the_distance() {
    let (_, symbol) = locate(whole(UNSTRIPPED), find(UNSTRIPPED, b"Tr0ub4dor"));
    assert_eq!(symbol.as_deref(), Some("public_key+0x20"));
}

#[test]
fn outside_of_sections_there_is_only_the_format() {
    assert_eq!(locate(whole(UNSTRIPPED), 1), (None, None));
    assert_eq!(locate(whole(UNSTRIPPED), u64::MAX), (None, None));
}

#[test]
fn the_ends_of_a_file_are_enough() {
    let at = find(UNSTRIPPED, SESSION_KEY);
    let len = UNSTRIPPED.len() as u64;
    let parts = |head: usize, tail: usize| Parts {
        head: &UNSTRIPPED[..head],
        tail: &UNSTRIPPED[UNSTRIPPED.len() - tail..],
        len,
    };
    assert_eq!(locate(parts(64, 3600), at), names(".rodata", "session_key"), "tables at the end");
    assert_eq!(locate(parts(1024, 2200), at).0.as_deref(), Some(".rodata"), "no symbol table");
    assert_eq!(locate(parts(1024, 0), at), (None, None), "no section table");
    assert!(parse(parts(16, 0)).is_none());
}

#[test]
fn magic() {
    assert!(is_binary(&pe()) && is_binary(&mach_o()) && is_binary(ELF32));
    assert!(!is_binary(b"MZ is also a beginning of text") && !is_binary(b"\x7fEL") && !is_binary(b""));
    assert!(!is_binary(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61]), "a Java class");
}

#[test]
fn pe_and_mach_o() {
    let file = pe();
    let location = parse(whole(&file)).unwrap().locate(0x210);
    let section = Some(".rdata".to_owned());
    assert_eq!(location, BinaryLocation { format: "pe", section, symbol: None, node_addon: true });

    let file = mach_o();
    let location = parse(whole(&file)).unwrap().locate(0x208);
    let (section, symbol) = names("__TEXT,__const", "_secret");
    assert_eq!(location, BinaryLocation { format: "mach-o", section, symbol, node_addon: true });
}

#[test]
fn damaged_files_do_no_harm() {
    let mut state = 11u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for file in [UNSTRIPPED, STRIPPED, ELF32, ELF64_BIG, &pe(), &mach_o()] {
        for _ in 0..1500 {
            let mut damaged = file.to_vec();
            for _ in 0..random(9) {
                let at = random(damaged.len());
                damaged[at] = [0, 0xff, 0x80, random(256) as u8][random(4)];
            }
            let cut = random(damaged.len());
            let (head, tail) = (&damaged[..random(damaged.len())], &damaged[cut..]);
            for parts in [whole(&damaged), whole(&damaged[..cut]), Parts { head, tail, len: damaged.len() as u64 }] {
                if let Some(binary) = parse(parts) {
                    for _ in 0..4 {
                        binary.locate(random(damaged.len()) as u64);
                    }
                    binary.locate(u64::MAX);
                }
            }
        }
    }
}

#[test]
fn a_string_table_without_ends_costs_no_more_than_any_other() {
    // 40,000 symbols, each with a name that runs on to the end of a table of 4 MiB.
    let (symbols, strings) = (40_000usize, 4 << 20);
    let table = 64 + symbols * 24;
    let mut file = vec![b'x'; table + strings + 4 * 64];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0\x01\0\0\0");
    put(&mut file, 24, &[0; 40]);
    put(&mut file, 40, &((table + strings) as u64).to_le_bytes());
    put(&mut file, 52, &[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 2, 0]);
    for index in 0..symbols {
        let mut symbol = [0u8; 24];
        put(&mut symbol, 0, &(index as u32).to_le_bytes());
        put(&mut symbol, 4, &[1, 0, 3, 0]);
        put(&mut symbol, 8, &(index as u64).to_le_bytes());
        put(&mut file, 64 + index * 24, &symbol);
    }
    let mut section = |number: usize, kind: u32, offset: usize, size: usize, link: u32| {
        let mut header = [0u8; 64];
        put(&mut header, 4, &kind.to_le_bytes());
        put(&mut header, 24, &(offset as u64).to_le_bytes());
        put(&mut header, 32, &(size as u64).to_le_bytes());
        put(&mut header, 40, &link.to_le_bytes());
        put(&mut file, table + strings + number * 64, &header);
    };
    section(0, 0, 0, 0, 0);
    section(1, 2, 64, symbols * 24, 2);
    section(2, 3, table, strings, 0);
    section(3, 1, table, strings, 0);
    let (_, symbol) = locate(whole(&file), table as u64 + 5);
    assert_eq!(symbol, Some("x".repeat(256)));
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_words(file: &mut [u8], at: usize, words: &[u32]) {
    for (index, word) in words.iter().enumerate() {
        put(file, at + 4 * index, &word.to_le_bytes());
    }
}

/// A PE32+ library with one section and one export: `napi_register_module_v1`.
fn pe() -> Vec<u8> {
    let mut file = vec![0u8; 0x400];
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x3c, &[0x40]);
    put(&mut file, 0x40, b"PE\0\0\x64\x86\x01\0");
    put(&mut file, 0x54, &[240, 0, 0x22, 0x20, 0x0b, 0x02]);
    put_words(&mut file, 0x58 + 108, &[16, 0x1100, 0x100]);
    put(&mut file, 0x148, b".rdata\0\0");
    put_words(&mut file, 0x150, &[0x200, 0x1000, 0x200, 0x200]);
    put_words(&mut file, 0x300 + 12, &[0x1180, 1, 1, 1, 0x1140, 0x1150, 0x1160]);
    put_words(&mut file, 0x340, &[0x1000]);
    put_words(&mut file, 0x350, &[0x1190]);
    put(&mut file, 0x380, b"addon.node\0");
    put(&mut file, 0x390, b"napi_register_module_v1\0");
    file
}

/// A Mach-O library with one section, one symbol in it, and one undefined: `_napi_module_register`.
fn mach_o() -> Vec<u8> {
    let mut file = vec![0u8; 0x300];
    put_words(&mut file, 0, &[0xfeed_facf, 0x0100_000c, 0, 6, 2, 176, 0]);
    put_words(&mut file, 32, &[0x19, 152]);
    put(&mut file, 40, b"__TEXT");
    put_words(&mut file, 56, &[0x1000, 0, 0x300, 0, 0, 0, 0x300, 0, 5, 5, 1]);
    put(&mut file, 104, b"__const");
    put(&mut file, 120, b"__TEXT");
    put_words(&mut file, 136, &[0x1200, 0, 0x40, 0, 0x200]);
    put_words(&mut file, 184, &[2, 24, 0x240, 2, 0x280, 0x40]);
    put_words(&mut file, 0x240, &[1, 0x010f, 0x1200]);
    put_words(&mut file, 0x250, &[9, 1]);
    put(&mut file, 0x281, b"_secret\0_napi_module_register\0");
    file
}
