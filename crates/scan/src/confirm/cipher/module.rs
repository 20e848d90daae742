//! What an ELF file says about itself, as far as a search for keys asks: its sections, its data symbols, which key
//! functions it imports and through which slots of its global offset table it reaches them.
//!
//! Sources: System V ABI, chapters 4 and 5; relocation types in its AMD64 supplement, section 4.4, and in ELF for the
//! Arm 64-bit Architecture, section 5.7.

use std::ops::Range;

use object::Endianness;
use object::elf::{
    EM_AARCH64, EM_X86_64, FileHeader32, FileHeader64, R_AARCH64_ABS64, R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT,
    R_AARCH64_RELATIVE, R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE, RelocationType,
    SHF_ALLOC, SHF_EXECINSTR, SHT_DYNSYM, SHT_NOBITS, SHT_RELA, SHT_SYMTAB, STT_OBJECT,
};
use object::read::FileKind;
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym};

use super::effort::{ENTRY, Effort, NAME};
use super::functions::{CipherName, KeyFunction, cipher_getter, cipher_lookup, key_function};

/// Names are compared and kept up to this many bytes.
const MAX_NAME: usize = 256;
/// Data symbols that are kept. Those of a file that is kept whole are fewer.
const MAX_SYMBOLS: usize = 250_000;
/// Pointers to imported functions that matter, and symbols of such functions. A module has some dozen.
const MAX_FUNCTIONS: usize = 16_384;
/// Sections that are looked at, as many as a header without an extension can count.
const MAX_SECTIONS: usize = 65_536;
/// Imported functions that return a cipher. OpenSSL has fewer.
const MAX_CIPHERS: usize = 256;

/// A processor whose code is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    X86_64,
    Aarch64,
}

/// An imported function that matters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    /// It takes a key.
    Key(&'static KeyFunction),
    /// It returns a cipher: the place in [`Module::ciphers`].
    Cipher(usize),
    /// It returns the cipher whose name is in this argument.
    Lookup(usize),
}

/// The value that the dynamic linker gives to a pointer in the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// The address of an imported function.
    Function(Function),
    /// An address in this file.
    Address(u64),
}

/// A part of the file that is loaded.
#[derive(Debug)]
pub(super) struct Section {
    pub address: u64,
    pub file: Range<usize>,
    pub executable: bool,
}

impl Section {
    /// The address of the bytes at the file offset `at`.
    pub(super) fn address_of(&self, at: usize) -> u64 {
        self.address.wrapping_add(at.wrapping_sub(self.file.start) as u64)
    }
}

/// A named piece of data.
#[derive(Debug)]
pub(super) struct DataSymbol<'a> {
    pub address: u64,
    pub size: u64,
    pub name: &'a [u8],
}

/// The facts of one ELF file.
pub(super) struct Module<'a> {
    pub file: &'a [u8],
    /// The processor of its code, if it is supported.
    pub processor: Option<Processor>,
    /// Loaded sections with bytes in the file, by address.
    pub sections: Vec<Section>,
    /// By address.
    pub symbols: Vec<DataSymbol<'a>>,
    /// The slots that hold imported functions, by their addresses.
    pub functions: Vec<(u64, Function)>,
    /// The slots that hold addresses in this file, by their addresses.
    addresses: Vec<(u64, u64)>,
    /// The ciphers that imported functions return.
    pub ciphers: Vec<CipherName>,
    /// The first imported function that takes a key.
    pub import: &'static KeyFunction,
}

impl<'a> Module<'a> {
    /// Reads the tables of an ELF file. `None` for other files, and if the file imports no function that takes a key.
    pub(super) fn parse(file: &'a [u8], effort: &mut Effort) -> Option<Module<'a>> {
        match FileKind::parse(file).ok()? {
            FileKind::Elf32 => read::<FileHeader32<Endianness>>(file, effort),
            FileKind::Elf64 => read::<FileHeader64<Endianness>>(file, effort),
            _ => None,
        }
    }

    /// The sections that hold code.
    pub(super) fn code(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| section.executable)
    }

    /// The section that holds `address`, and the place in the file.
    pub(super) fn place(&self, address: u64) -> Option<(&Section, usize)> {
        let end = self.sections.partition_point(|section| section.address <= address);
        let section = self.sections.get(end.checked_sub(1)?)?;
        let at = section.file.start.checked_add(usize::try_from(address - section.address).ok()?)?;
        section.file.contains(&at).then_some((section, at))
    }

    /// The data at `address` up to the end of its section, and its offset in the file; `None` in code.
    pub(super) fn data(&self, address: u64) -> Option<(usize, &'a [u8])> {
        let (section, at) = self.place(address)?;
        if section.executable {
            return None;
        }
        Some((at, self.file.get(at..section.file.end)?))
    }

    /// The value of the pointer at `address` when the file is loaded.
    pub(super) fn pointer(&self, address: u64) -> Option<Slot> {
        if let Ok(at) = self.functions.binary_search_by_key(&address, |(slot, _)| *slot) {
            return self.functions.get(at).map(|(_, function)| Slot::Function(*function));
        }
        if let Ok(at) = self.addresses.binary_search_by_key(&address, |(slot, _)| *slot) {
            return self.addresses.get(at).map(|(_, value)| Slot::Address(*value));
        }
        let (_, bytes) = self.data(address)?;
        Some(Slot::Address(u64::from_le_bytes(*bytes.first_chunk()?)))
    }

    /// The data symbol that begins at `address`.
    pub(super) fn symbol(&self, address: u64) -> Option<&DataSymbol<'a>> {
        let at = self.symbols.binary_search_by_key(&address, |symbol| symbol.address).ok()?;
        self.symbols.get(at)
    }
}

/// A symbol table and the bytes of its names.
struct Table<'a, H: FileHeader> {
    endian: H::Endian,
    symbols: &'a [H::Sym],
    names: &'a [u8],
}

impl<'a, H: FileHeader> Table<'a, H> {
    fn read(endian: H::Endian, file: &'a [u8], sections: &SectionTable<'a, H>, kind: object::elf::SectionType) -> Self {
        let find = || {
            let header = sections.iter().find(|header| header.sh_type(endian) == kind)?;
            let symbols = header.data_as_array::<H::Sym, _>(endian, file).ok()?;
            let names = sections.section(header.link(endian)).ok()?.data(endian, file).ok()?;
            Some((symbols, names))
        };
        let (symbols, names) = find().unwrap_or_default();
        Table { endian, symbols, names }
    }

    /// A symbol's name. Its end is searched for in a bounded stretch, since the table may have none.
    fn name(&self, symbol: &H::Sym) -> &'a [u8] {
        let rest = self.names.get(symbol.st_name(self.endian) as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(MAX_NAME)];
        &rest[..memchr::memchr(0, rest).unwrap_or(rest.len())]
    }

    /// Adds the data symbols to `found`.
    fn data_symbols(&self, found: &mut Vec<DataSymbol<'a>>, effort: &mut Effort) {
        if !effort.take(self.symbols.len() as u64 * ENTRY) {
            return;
        }
        let is_data = |symbol: &&H::Sym| symbol.st_type() == STT_OBJECT && !symbol.is_undefined(self.endian);
        for symbol in self.symbols.iter().filter(is_data) {
            if found.len() == MAX_SYMBOLS || !effort.take(NAME) {
                return;
            }
            found.push(DataSymbol {
                address: symbol.st_value(self.endian).into(),
                size: symbol.st_size(self.endian).into(),
                name: self.name(symbol),
            });
        }
    }
}

fn read<'a, H: FileHeader<Endian = Endianness>>(file: &'a [u8], effort: &mut Effort) -> Option<Module<'a>> {
    let header = H::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let headers = header.sections(endian, file).ok()?;
    effort.take(headers.len() as u64 * ENTRY).then_some(())?;
    let dynamic = Table::<H>::read(endian, file, &headers, SHT_DYNSYM);

    let mut ciphers = Vec::new();
    let imports = imports(&dynamic, &mut ciphers, effort);
    let import = imports.iter().find_map(|(_, function)| match function {
        Function::Key(function) => Some(*function),
        _ => None,
    })?;

    let processor = match header.e_machine(endian) {
        EM_X86_64 if header.is_class_64() && header.is_little_endian() => Some(Processor::X86_64),
        EM_AARCH64 if header.is_class_64() && header.is_little_endian() => Some(Processor::Aarch64),
        _ => None,
    };
    let (mut functions, mut addresses) = (Vec::new(), Vec::new());
    if let Some(processor) = processor {
        slots(processor, &dynamic, file, &headers, &imports, effort, |address, slot| match slot {
            Slot::Function(function) if functions.len() < MAX_FUNCTIONS => functions.push((address, function)),
            Slot::Function(_) => {}
            Slot::Address(value) => addresses.push((address, value)),
        });
    }
    functions.sort_by_key(|(address, _)| *address);
    functions.dedup_by_key(|(address, _)| *address);
    addresses.sort_unstable();
    let mut symbols = Vec::new();
    dynamic.data_symbols(&mut symbols, effort);
    Table::<H>::read(endian, file, &headers, SHT_SYMTAB).data_symbols(&mut symbols, effort);
    symbols.sort_unstable_by_key(|symbol| (symbol.address, symbol.name, symbol.size));
    symbols.dedup_by_key(|symbol| symbol.address);
    let sections = sections::<H>(endian, file, &headers);
    Some(Module { file, processor, sections, symbols, functions, addresses, ciphers, import })
}

/// The imported functions that matter, by the index of their symbol.
fn imports<H: FileHeader>(
    table: &Table<'_, H>,
    ciphers: &mut Vec<CipherName>,
    effort: &mut Effort,
) -> Vec<(usize, Function)> {
    if !effort.take(table.symbols.len() as u64 * ENTRY) {
        return Vec::new();
    }
    let undefined = table.symbols.iter().enumerate().filter(|(_, symbol)| symbol.is_undefined(table.endian));
    let function = |(index, symbol)| {
        let name = table.name(symbol);
        if let Some(function) = key_function(name) {
            return Some((index, Function::Key(function)));
        }
        if let Some(argument) = cipher_lookup(name) {
            return Some((index, Function::Lookup(argument)));
        }
        let may_be_cipher = name.starts_with(b"EVP_") && ciphers.len() < MAX_CIPHERS && effort.take(NAME);
        let cipher = may_be_cipher.then(|| cipher_getter(name)).flatten()?;
        ciphers.push(cipher);
        Some((index, Function::Cipher(ciphers.len() - 1)))
    };
    undefined.filter_map(function).take(MAX_FUNCTIONS).collect()
}

fn sections<H: FileHeader>(endian: H::Endian, file: &[u8], headers: &SectionTable<'_, H>) -> Vec<Section> {
    let section = |header: &H::SectionHeader| {
        let flags = header.sh_flags(endian);
        if flags.0 & SHF_ALLOC.0 == 0 || header.sh_type(endian) == SHT_NOBITS {
            return None;
        }
        let start = usize::try_from(header.sh_offset(endian).into()).ok()?;
        let end = start.checked_add(usize::try_from(header.sh_size(endian).into()).ok()?)?;
        file.get(start..end)?;
        let executable = flags.0 & SHF_EXECINSTR.0 != 0;
        Some(Section { address: header.sh_addr(endian).into(), file: start..end, executable })
    };
    let mut sections: Vec<_> = headers.iter().take(MAX_SECTIONS).filter_map(section).collect();
    sections.sort_by_key(|section| section.address);
    // Sections do not overlap in an honest file. In another, no byte of code is to be read once for each section.
    let mut left = file.len();
    sections.retain(|section| {
        let fits = !section.executable || section.file.len() <= left;
        left -= if section.executable && fits { section.file.len() } else { 0 };
        fits
    });
    sections
}

/// Calls `found` with the pointers that the dynamic linker fills in: with functions that matter, or with addresses in
/// this file.
fn slots<H: FileHeader>(
    processor: Processor,
    table: &Table<'_, H>,
    file: &[u8],
    headers: &SectionTable<'_, H>,
    imports: &[(usize, Function)],
    effort: &mut Effort,
    mut found: impl FnMut(u64, Slot),
) {
    let endian = table.endian;
    // Tables do not overlap in an honest file. In another, no byte is to be an entry of each table.
    let mut left = file.len() as u64;
    let tables = headers.iter().take(MAX_SECTIONS).filter(|header| {
        let size = header.sh_size(endian).into();
        let fits = header.sh_flags(endian).0 & SHF_ALLOC.0 != 0 && header.sh_type(endian) == SHT_RELA && size <= left;
        left -= if fits { size } else { 0 };
        fits
    });
    let entries = tables.filter_map(|header| header.rela(endian, file).ok().flatten()).flat_map(|(entries, _)| entries);
    let slot = |entry: &H::Rela| {
        let addend = entry.r_addend(endian).into() as u64;
        let index = entry.r_sym(endian, false) as usize;
        let target = match slot_kind(processor, entry.r_type(endian, false))? {
            SlotKind::Here => Slot::Address(addend),
            SlotKind::Symbol => match imports.binary_search_by_key(&index, |(index, _)| *index) {
                Ok(at) => Slot::Function(imports.get(at)?.1),
                Err(_) => Slot::Address(defined(table, index)?.wrapping_add(addend)),
            },
        };
        Some((entry.r_offset(endian).into(), target))
    };
    for (address, slot) in entries.take_while(|_| effort.take(ENTRY)).filter_map(slot) {
        found(address, slot);
    }
}

/// The value that a relocation stores: an address in this file, or that of a symbol.
enum SlotKind {
    Here,
    Symbol,
}

fn slot_kind(processor: Processor, relocation: RelocationType) -> Option<SlotKind> {
    match (processor, relocation) {
        (Processor::X86_64, R_X86_64_RELATIVE) | (Processor::Aarch64, R_AARCH64_RELATIVE) => Some(SlotKind::Here),
        (Processor::X86_64, R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT | R_X86_64_64) => Some(SlotKind::Symbol),
        (Processor::Aarch64, R_AARCH64_GLOB_DAT | R_AARCH64_JUMP_SLOT | R_AARCH64_ABS64) => Some(SlotKind::Symbol),
        _ => None,
    }
}

fn defined<H: FileHeader>(table: &Table<'_, H>, index: usize) -> Option<u64> {
    let symbol = table.symbols.get(index)?;
    (!symbol.is_undefined(table.endian)).then(|| symbol.st_value(table.endian).into())
}
