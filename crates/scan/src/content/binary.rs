//! Locates an offset in an executable file: its section, the nearest symbol, and whether the file is a Node.js addon.
//!
//! Only the first and the last bytes of a streamed file are available. That is enough: headers are at the start,
//! section and symbol tables at the start or the end. A table in between is missing, which makes the result less
//! precise, but never wrong.
//!
//! Formats: ELF (System V ABI, chapters 4 and 5), PE (Microsoft PE Format), Mach-O (one architecture; the universal
//! container is not opened), all read by the `object` crate.

use std::ops::Range;
use std::sync::OnceLock;

use object::elf::{FileHeader32, FileHeader64, STT_FILE, STT_OBJECT, STT_SECTION, STT_TLS};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym, SymbolTable};
use object::read::pe::{ImageNtHeaders, Import, PeFile};
use object::read::{File, FileKind};
use object::{Endianness, LittleEndian, Object, ObjectSection, ObjectSymbol, ReadRef, SectionIndex, SymbolKind};

/// Names are cut to this many bytes; it also bounds the search for a name's end in a table without one.
const MAX_NAME: u64 = 256;
/// The maximum number of symbols of one file; the rest are ignored. A table of a 64-bit ELF file that fits into the
/// last bytes has no more.
const MAX_SYMBOLS: usize = 262_144;
/// The maximum number of sections of one file, as many as an ELF header without an extension can count.
const MAX_SECTIONS: usize = 65_536;
/// The maximum number of exported or imported names of a PE file. An addon has a few exports and some dozen imports.
const MAX_PE_NAMES: usize = 256;
/// The maximum distance from a symbol to an offset, in bytes. In a stripped file, a more distant symbol is unrelated.
const MAX_DISTANCE: u64 = 64 << 10;
/// The number of symbols or sections before the nearest one that are checked for covering an offset.
const MAX_OVERLAP: usize = 8;

/// The first and last bytes of a file; they may overlap, or each be the whole file.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The bytes from offset 0 on.
    pub head: &'a [u8],
    /// The bytes up to the end of the file.
    pub tail: &'a [u8],
    /// The length of the whole file in bytes.
    pub len: u64,
}

/// The location of an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryLocation {
    /// `elf`, `pe` or `mach-o`.
    pub format: &'static str,
    /// The section that holds the offset, such as `.rodata`, or `__TEXT,__const` in Mach-O.
    pub section: Option<String>,
    /// The symbol that covers the offset, else the nearest before it in the section, up to 64 KiB away, not demangled.
    /// A symbol that ends before the offset is given with the distance, such as `table+0x40`.
    pub symbol: Option<String>,
    /// Whether the file is a native module of Node.js.
    pub node_addon: bool,
}

/// Whether a file that begins with `head` is an executable file that [`parse`] may read.
pub fn is_binary(head: &[u8]) -> bool {
    match head {
        [0x7f, b'E', b'L', b'F', ..] => true,
        [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => true,
        [b'M', b'Z', ..] => is_pe(head),
        _ => false,
    }
}

/// Reads the headers of an executable file. `None` if the file is not executable, or too damaged to
/// find its sections.
pub fn parse(parts: Parts<'_>) -> Option<Binary<'_>> {
    if !is_binary(parts.head) {
        return None;
    }
    let image = match FileKind::parse(parts).ok()? {
        FileKind::Elf32 => Image::Elf32(Elf::parse(parts)?),
        FileKind::Elf64 => Image::Elf64(Elf::parse(parts)?),
        FileKind::Pe32 | FileKind::Pe64 | FileKind::MachO32 | FileKind::MachO64 => {
            Image::Other(Box::new(File::parse(parts).ok()?))
        }
        _ => return None,
    };
    let mut sections = image.sections();
    sections.sort_unstable_by_key(|section| (section.file.start, section.index));
    Some(Binary { image, sections, names: OnceLock::new() })
}

/// The parsed headers of an executable file. Symbols are read and sorted by the first call of [`Binary::locate`].
pub struct Binary<'a> {
    image: Image<'a>,
    /// By file offset.
    sections: Vec<Section>,
    names: OnceLock<Names<'a>>,
}

impl Binary<'_> {
    /// Locates the file offset `offset`.
    pub fn locate(&self, offset: u64) -> BinaryLocation {
        let names = self.names.get_or_init(|| self.image.names());
        let section = self.section(offset);
        let symbol = section.and_then(|section| {
            let address = section.address.checked_add(offset - section.file.start)?;
            names.nearest(section.index, address)
        });
        BinaryLocation {
            format: self.image.format(),
            section: section.and_then(|section| self.image.section_name(section.index)),
            symbol,
            node_addon: names.node_addon,
        }
    }

    fn section(&self, offset: u64) -> Option<&Section> {
        let end = self.sections.partition_point(|section| section.file.start <= offset);
        self.sections[..end].iter().rev().take(MAX_OVERLAP).find(|section| section.file.contains(&offset))
    }
}

/// A named part of the file.
struct Section {
    index: usize,
    file: Range<u64>,
    address: u64,
}

/// One symbol. The size is 0 if the format has none.
struct Symbol<'a> {
    section: usize,
    address: u64,
    data: bool,
    size: u64,
    name: &'a [u8],
}

/// The symbols, sorted for lookup.
#[derive(Default)]
struct Names<'a> {
    /// By section and address; of those with the same address, data last.
    symbols: Vec<Symbol<'a>>,
    node_addon: bool,
}

impl<'a> Names<'a> {
    fn new(mut symbols: Vec<Symbol<'a>>, node_addon: bool) -> Names<'a> {
        symbols.retain(|symbol| is_name(symbol.name));
        // Of those at one place, the last in the file is the nearest.
        symbols.sort_by_key(|symbol| (symbol.section, symbol.address, symbol.data, symbol.size));
        Names { symbols, node_addon }
    }

    fn nearest(&self, section: usize, address: u64) -> Option<String> {
        let end = self.symbols.partition_point(|symbol| (symbol.section, symbol.address) <= (section, address));
        let before = || self.symbols[..end].iter().rev().take_while(|symbol| symbol.section == section);
        let covers = |symbol: &&Symbol| symbol.data && address - symbol.address < symbol.size;
        if let Some(symbol) = before().take(MAX_OVERLAP).find(covers) {
            return Some(text(symbol.name));
        }
        let symbol = before().next()?;
        let distance = address - symbol.address;
        if distance > MAX_DISTANCE.max(symbol.size) {
            return None;
        }
        if symbol.size > 0 && distance >= symbol.size {
            return Some(format!("{}+{distance:#x}", text(symbol.name)));
        }
        Some(text(symbol.name))
    }
}

/// The parsed file, by parser.
enum Image<'a> {
    Elf32(Elf<'a, FileHeader32<Endianness>>),
    Elf64(Elf<'a, FileHeader64<Endianness>>),
    Other(Box<File<'a, Parts<'a>>>),
}

impl<'a> Image<'a> {
    fn format(&self) -> &'static str {
        match self {
            Image::Elf32(_) | Image::Elf64(_) => "elf",
            Image::Other(file) if matches!(**file, File::Pe32(_) | File::Pe64(_)) => "pe",
            Image::Other(_) => "mach-o",
        }
    }

    fn sections(&self) -> Vec<Section> {
        match self {
            Image::Elf32(elf) => elf.sections(),
            Image::Elf64(elf) => elf.sections(),
            Image::Other(file) => {
                file.sections().take(MAX_SECTIONS).filter_map(|section| other_section(&section)).collect()
            }
        }
    }

    /// The name of a section, if it has one.
    fn section_name(&self, index: usize) -> Option<String> {
        let name = match self {
            Image::Elf32(elf) => elf.section_name(index)?,
            Image::Elf64(elf) => elf.section_name(index)?,
            Image::Other(file) => other_section_name(&file.section_by_index(SectionIndex(index)).ok()?),
        };
        (!name.is_empty()).then_some(name)
    }

    fn names(&self) -> Names<'a> {
        match self {
            Image::Elf32(elf) => elf.names(),
            Image::Elf64(elf) => elf.names(),
            Image::Other(file) => other_names(file),
        }
    }
}

/// An ELF file, read leniently: symbol tables that are damaged or not among the available bytes are empty.
struct Elf<'a, H: FileHeader> {
    endian: H::Endian,
    sections: SectionTable<'a, H, Parts<'a>>,
    symbols: SymbolTable<'a, H, Parts<'a>>,
    dynamic: SymbolTable<'a, H, Parts<'a>>,
}

impl<'a, H: FileHeader<Endian = Endianness>> Elf<'a, H> {
    fn parse(parts: Parts<'a>) -> Option<Elf<'a, H>> {
        let header = H::parse(parts).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, parts).unwrap_or_default();
        let table = |kind| sections.symbols(endian, parts, kind).unwrap_or_default();
        let (symbols, dynamic) = (table(object::elf::SHT_SYMTAB), table(object::elf::SHT_DYNSYM));
        Some(Elf { endian, sections, symbols, dynamic })
    }

    fn sections(&self) -> Vec<Section> {
        let section = |(index, header): (object::SectionIndex, &'a H::SectionHeader)| {
            let (start, size) = header.file_range(self.endian)?;
            let address = header.sh_addr(self.endian).into();
            Some(Section { index: index.0, file: range(start, size)?, address })
        };
        self.sections.enumerate().take(MAX_SECTIONS).filter_map(section).collect()
    }

    fn section_name(&self, index: usize) -> Option<String> {
        let header = self.sections.section(SectionIndex(index)).ok()?;
        self.sections.section_name(self.endian, header).ok().map(text)
    }

    fn names(&self) -> Names<'a> {
        let table = if self.symbols.is_empty() { &self.dynamic } else { &self.symbols };
        let symbols = table.enumerate().take(MAX_SYMBOLS).filter_map(|(index, symbol)| {
            let kind = symbol.st_type();
            if kind == STT_FILE || kind == STT_SECTION || kind == STT_TLS {
                return None;
            }
            Some(Symbol {
                section: table.symbol_section(self.endian, symbol, index).ok()??.0,
                address: symbol.st_value(self.endian).into(),
                data: kind == STT_OBJECT,
                size: symbol.st_size(self.endian).into(),
                name: table.symbol_name(self.endian, symbol).ok()?,
            })
        });
        Names::new(symbols.collect(), self.is_node_addon())
    }

    fn is_node_addon(&self) -> bool {
        let table = if self.dynamic.is_empty() { &self.symbols } else { &self.dynamic };
        table.iter().take(MAX_SYMBOLS).any(|symbol| {
            let name = table.symbol_name(self.endian, symbol).unwrap_or_default();
            if symbol.is_undefined(self.endian) { is_addon_import(name) } else { is_addon_export(name) }
        })
    }
}

fn other_section<'a>(section: &impl ObjectSection<'a>) -> Option<Section> {
    let (start, size) = section.file_range()?;
    Some(Section { index: section.index().0, file: range(start, size)?, address: section.address() })
}

fn other_section_name<'a>(section: &impl ObjectSection<'a>) -> String {
    let name = text(section.name_bytes().unwrap_or_default());
    match section.segment_name_bytes() {
        Ok(Some(segment)) => format!("{},{name}", text(segment)),
        _ => name,
    }
}

fn other_names<'a>(file: &File<'a, Parts<'a>>) -> Names<'a> {
    let symbols = file.symbols().take(MAX_SYMBOLS).filter_map(|symbol| {
        if !symbol.is_definition() || matches!(symbol.kind(), SymbolKind::Section | SymbolKind::File) {
            return None;
        }
        Some(Symbol {
            section: symbol.section_index()?.0,
            address: symbol.address(),
            data: symbol.kind() == SymbolKind::Data,
            size: symbol.size(),
            name: symbol.name_bytes().ok()?,
        })
    });
    let node_addon = match file {
        File::Pe32(pe) => exports_addon(pe) || imports_addon(pe),
        File::Pe64(pe) => exports_addon(pe) || imports_addon(pe),
        _ => file.symbols().take(MAX_SYMBOLS).any(|symbol| {
            let name = symbol.name_bytes().unwrap_or_default();
            let name = name.strip_prefix(b"_").unwrap_or(name);
            if symbol.is_undefined() { is_addon_import(name) } else { is_addon_export(name) }
        }),
    };
    Names::new(symbols.collect(), node_addon)
}

/// Whether a PE file exports an addon's entry.
fn exports_addon<'a, H: ImageNtHeaders>(file: &PeFile<'a, H, Parts<'a>>) -> bool {
    let Ok(Some(table)) = file.export_table() else { return false };
    let names = table.name_pointers().iter().take(MAX_PE_NAMES);
    names.filter_map(|pointer| table.name_from_pointer(pointer.get(LittleEndian)).ok()).any(is_addon_export)
}

/// Whether a PE file imports Node-API. Addons import it with delayed loading, from any host program.
fn imports_addon<'a, H: ImageNtHeaders>(file: &PeFile<'a, H, Parts<'a>>) -> bool {
    let sections = file.section_table();
    let Ok(Some(table)) = file.data_directories().delay_load_import_table(file.data(), &sections) else { return false };
    let Ok(libraries) = table.descriptors() else { return false };
    let thunks = libraries
        .flatten()
        .take(MAX_PE_NAMES)
        .filter_map(|library| table.thunks(library.import_name_table_rva.get(LittleEndian)).ok());
    let names = thunks.flat_map(|mut thunks| std::iter::from_fn(move || thunks.next::<H>().ok().flatten()));
    names
        .take(MAX_PE_NAMES)
        .any(|thunk| matches!(table.import::<H>(thunk), Ok(Import::Name(_, name)) if is_addon_import(name)))
}

/// Node-API, "Module registration", and the older `node.h` registration that carries the ABI number.
fn is_addon_export(name: &[u8]) -> bool {
    name == b"napi_register_module_v1" || name.starts_with(b"node_register_module_v")
}

fn is_addon_import(name: &[u8]) -> bool {
    matches!(name, b"napi_module_register" | b"napi_define_properties" | b"napi_create_function")
}

/// Whether a symbol is a real name, and not a mapping symbol of ARM assemblers between code and data.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, [] | [b'$', b'a' | b'd' | b't' | b'x'] | [b'$', b'a' | b'd' | b't' | b'x', b'.', ..])
}

/// Whether the header of an MZ file points to a PE signature (PE Format, "MS-DOS stub").
fn is_pe(head: &[u8]) -> bool {
    let Some(&[a, b, c, d]) = head.get(0x3c..0x40) else { return false };
    let Ok(at) = usize::try_from(u32::from_le_bytes([a, b, c, d])) else { return false };
    head.get(at..).is_some_and(|rest| rest.starts_with(b"PE\0\0"))
}

fn range(start: u64, size: u64) -> Option<Range<u64>> {
    (size > 0).then_some(start..start.checked_add(size)?)
}

fn text(name: &[u8]) -> String {
    let cut = name.len().min(MAX_NAME as usize);
    String::from_utf8_lossy(&name[..cut]).into_owned()
}

impl<'a> Parts<'a> {
    /// The available bytes from `offset` on.
    fn from(self, offset: u64) -> Option<&'a [u8]> {
        let after = |part: &'a [u8], start: u64| part.get(usize::try_from(offset.checked_sub(start)?).ok()?..);
        let head = after(self.head, 0).unwrap_or_default();
        let tail = after(self.tail, self.len.checked_sub(self.tail.len() as u64)?).unwrap_or_default();
        let longest = if tail.len() > head.len() { tail } else { head };
        (!longest.is_empty()).then_some(longest)
    }
}

impl<'a> ReadRef<'a> for Parts<'a> {
    fn len(self) -> Result<u64, ()> {
        Ok(self.len)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size == 0 {
            return Ok(&[]);
        }
        let size = usize::try_from(size).map_err(|_| ())?;
        self.from(offset).ok_or(())?.get(..size).ok_or(())
    }

    /// A name in a table. A name without a delimiter in its first `MAX_NAME` bytes is truncated there, so that a
    /// hostile table without delimiters takes no more time than any other.
    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let most = range.end.checked_sub(range.start).ok_or(())?.min(MAX_NAME);
        let bytes = self.from(range.start).ok_or(())?;
        let bytes = &bytes[..bytes.len().min(most as usize)];
        match memchr::memchr(delimiter, bytes) {
            Some(end) => Ok(&bytes[..end]),
            None if bytes.len() as u64 == MAX_NAME => Ok(bytes),
            None => Err(()),
        }
    }
}

#[cfg(test)]
mod tests;
