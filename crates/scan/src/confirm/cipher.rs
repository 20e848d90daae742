//! Hard-coded symmetric keys in compiled code.
//!
//! An AES key has no recognisable shape; only its use reveals it: it is passed to a function that takes a key. ELF
//! files that import such a function are searched for two kinds of evidence:
//!
//! - **Argument**: in x86-64 or AArch64 code, the key argument of the call is a constant of the file: its address is
//!   loaded directly, through the global offset table or a pointer variable, or its bytes are assembled on the
//!   stack.
//! - **Named**: a data symbol with a telling name and a key's size, on any processor.
//!
//! Not found: keys passed between functions of the module (unless the compiler inlined them) or copied to the heap
//! first; key functions that are linked statically; code for other processors; files without section headers.

mod aarch64;
mod effort;
mod functions;
mod machine;
mod module;
mod random;
mod x86_64;

use effort::{Effort, NAME};
use functions::CipherName;
use machine::{KeyCall, KeySource};
use module::{DataSymbol, Module, Processor};
pub(super) use random::can_be_key;
use random::{is_mixed_text, is_text};

/// The greatest number of keys reported for one file. A table of test vectors may have more.
const MAX_KEYS: usize = 1000;
/// The key length if it is unknown: all ciphers in question take at least this many bytes, so that these are part of
/// the key whatever its length is, and the same key gives the same bytes in every build.
const LEAST_KEY: usize = 16;

/// The work of a byte of a name that is searched for the words below.
const NAME_BYTE: u64 = 16;

/// Words in the name of a symbol that holds a key.
const TELLING: [&str; 4] = ["key", "secret", "aes", "cipher"];
/// Words in the name of a symbol that holds something else.
const UNTELLING: [&str; 28] = [
    "public", "pubkey", "pub_key", "keyword", "keyboard", "keymap", "keysym", "keycode", "keytype", "key_type",
    "keyid", "key_id", "keyname", "key_name", "keysize", "keylen", "table", "sbox", "s_box", "rcon", "hash", "oid",
    "label", "magic", "test", "nonce", "vector", "digest",
];

/// The evidence that bytes are a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// They are the key argument of a call in the code.
    Argument,
    /// They are a data symbol with a telling name and a key's size, in a module that imports a key function.
    Named,
}

/// A key in a compiled file. It has no `Debug`, because keys must not be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct CipherKey {
    /// File offset of the constant. For a key that the code assembles on the stack, that of the constant or the
    /// instruction of its first bytes; then `bytes` may not be contiguous in the file.
    pub offset: u64,
    /// The key: 16, 24 or 32 bytes, or 48 or 64 if the function takes two keys (XTS) or a MAC key.
    pub bytes: Vec<u8>,
    /// The function that it is passed to; for [`Evidence::Named`] the first such function that the module imports.
    pub function: String,
    /// The cipher, such as `aes-256-gcm`, if a call names it.
    pub cipher: Option<String>,
    /// The data symbol that begins with the key.
    pub symbol: Option<String>,
    /// The evidence that it is a key.
    pub evidence: Evidence,
}

/// The keys in a file, and what it took to find them.
pub struct Analysis {
    /// The keys, by offset.
    pub keys: Vec<CipherKey>,
    /// The work, in bytes that are read at full speed.
    pub work: u64,
    /// Whether all of the file was analyzed: one that takes more work than its size permits is not.
    pub is_whole: bool,
}

/// The most work on a file of `length` bytes.
pub fn most_work(length: usize) -> u64 {
    effort::most(length)
}

/// The hard-coded keys in an ELF file, by offset, as [`analyze`] finds them.
pub fn cipher_keys(file: &[u8]) -> Vec<CipherKey> {
    analyze(file).keys
}

/// Looks for hard-coded keys in an ELF file. There are none in other files, and none if the file imports no function
/// that takes a key.
///
/// `file` is the whole file. The time is linear in its length.
pub fn analyze(file: &[u8]) -> Analysis {
    let mut effort = Effort::new(file.len());
    let keys = Module::parse(file, &mut effort).map_or_else(Vec::new, |module| keys(&module, &mut effort));
    Analysis { keys, work: effort.spent(), is_whole: !effort.is_exceeded() }
}

fn keys(module: &Module<'_>, effort: &mut Effort) -> Vec<CipherKey> {
    let calls = match module.processor {
        Some(Processor::X86_64) => x86_64::key_calls(module, effort),
        Some(Processor::Aarch64) => aarch64::key_calls(module, effort),
        None => Vec::new(),
    };
    let mut keys: Vec<_> = calls.into_iter().filter_map(|call| passed_key(module, call)).collect();
    keys.extend(module.symbols.iter().filter_map(|symbol| named_key(module, symbol, effort)));
    keys.sort_by_key(|key| (key.offset, key.evidence, key.cipher.is_none()));
    keys.dedup_by_key(|key| key.offset);
    keys.truncate(MAX_KEYS);
    keys
}

/// The key of a call.
fn passed_key(module: &Module<'_>, call: KeyCall) -> Option<CipherKey> {
    let (offset, bytes, symbol) = match &call.key {
        KeySource::Data(address) => {
            let (at, bytes) = module.data(*address)?;
            (at, bytes, module.symbol(*address))
        }
        KeySource::Stack(from, bytes) => (module.place(*from)?.1, bytes.as_slice(), None),
    };
    let length = key_length(&call, symbol, bytes);
    let bytes = bytes.get(..length).filter(|bytes| can_be_key(bytes))?;
    Some(CipherKey {
        offset: offset as u64,
        bytes: bytes.to_vec(),
        function: call.function.name.to_owned(),
        cipher: call.cipher.map(|(cipher, _)| cipher.name),
        symbol: symbol.map(name),
        evidence: Evidence::Argument,
    })
}

/// The length of the key of a call, by the first of: an argument, a cipher that is passed, its symbol, a cipher nearby,
/// the end of its text.
fn key_length(call: &KeyCall, symbol: Option<&DataSymbol<'_>>, bytes: &[u8]) -> usize {
    let cipher = |passed| match &call.cipher {
        Some((CipherName { key, .. }, exact)) if *exact == passed => Some(*key),
        _ => None,
    };
    call.length
        .or_else(|| cipher(true))
        .or_else(|| symbol.and_then(symbol_key_length))
        .or_else(|| cipher(false))
        .or_else(|| text_key_length(bytes))
        .unwrap_or(LEAST_KEY)
}

/// The key length of a symbol of that size, or one byte more for the NUL at the end of a text.
fn symbol_key_length(symbol: &DataSymbol<'_>) -> Option<usize> {
    match symbol.size {
        16 | 17 => Some(16),
        24 | 25 => Some(24),
        32 | 33 => Some(32),
        _ => None,
    }
}

fn text_key_length(bytes: &[u8]) -> Option<usize> {
    [16, 24, 32].into_iter().find(|&length| bytes.get(length) == Some(&0) && is_text(&bytes[..length]))
}

/// The key that a data symbol holds, by its name.
fn named_key(module: &Module<'_>, symbol: &DataSymbol<'_>, effort: &mut Effort) -> Option<CipherKey> {
    let length = symbol_key_length(symbol)?;
    if !effort.take(NAME + symbol.name.len() as u64 * NAME_BYTE) || !is_telling(symbol.name) {
        return None;
    }
    let (offset, bytes) = module.data(symbol.address)?;
    let is_key = match bytes.get(..usize::try_from(symbol.size).ok()?)? {
        [text @ .., 0] if text.len() == length => is_text(text) && is_mixed_text(text),
        bytes if bytes.len() == length => !is_text(bytes) || is_mixed_text(bytes),
        _ => false,
    };
    let bytes = bytes.get(..length).filter(|bytes| is_key && can_be_key(bytes))?;
    Some(CipherKey {
        offset: offset as u64,
        bytes: bytes.to_vec(),
        function: module.import.name.to_owned(),
        cipher: None,
        symbol: Some(name(symbol)),
        evidence: Evidence::Named,
    })
}

/// Whether a symbol's name says that it holds a key. Type information of C++ (`_ZTS…`) is about classes.
fn is_telling(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    !name.starts_with("_zt")
        && TELLING.iter().any(|word| name.contains(word))
        && !UNTELLING.iter().any(|word| name.contains(word))
}

fn name(symbol: &DataSymbol<'_>) -> String {
    String::from_utf8_lossy(symbol.name).into_owned()
}

#[cfg(test)]
mod tests;
