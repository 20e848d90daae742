//! Calls that take a constant key, in AArch64 code.
//!
//! Instructions have four bytes each, and those that carry addresses and constants are few, so they are decoded here.
//! Sources: Arm Architecture Reference Manual for A-profile, chapter C4 (encodings); Procedure Call Standard for the
//! Arm 64-bit Architecture, section 6 (registers).

use super::effort::{Effort, LOOKUP, SEARCHED, WORD_RUN};
use super::machine::{Convention, KeyCall, Machine, Value};
use super::module::{Function, Module};

const SP: usize = 31;

/// x0 to x7 hold arguments; x19 to x29 are kept.
const CONVENTION: Convention = Convention {
    arguments: &[0, 1, 2, 3, 4, 5, 6, 7],
    scratch: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 30],
    stack_pointer: SP,
    frame_pointer: 29,
    return_address: 0,
};

/// Slots and stubs that are remembered.
const MAX_TARGETS: usize = 200_000;

/// The calls in the module that take a constant key.
pub(super) fn key_calls(module: &Module<'_>, effort: &mut Effort) -> Vec<KeyCall> {
    let targets = targets(module, effort);
    let mut machine = Machine::new(module, &targets, &CONVENTION);
    for section in module.code() {
        machine.reset();
        for (ip, word) in words(module, section) {
            if !effort.take(WORD_RUN + machine.take_work()) {
                break;
            }
            step(&mut machine, ip, word);
        }
    }
    machine.into_calls()
}

/// The addresses that lead to imported functions: the slots, and the stubs that jump through them.
fn targets(module: &Module<'_>, effort: &mut Effort) -> Vec<(u64, Function)> {
    let slots = &module.functions;
    let mut targets = slots.clone();
    for section in module.code() {
        if !effort.take(section.file.len() as u64 * SEARCHED) {
            break;
        }
        // adrp x16, page; ldr x17, [x16, offset]; and before them perhaps bti c.
        let mut page = None;
        for (ip, word) in words(module, section) {
            let load = (word & 0xffc0_03ff == 0xf940_0211).then(|| offset12(word) * 8);
            if let (Some(page), Some(offset)) = (page, load)
                && effort.take(LOOKUP)
                && targets.len() < MAX_TARGETS
                && let Ok(at) = slots.binary_search_by_key(&u64::wrapping_add(page, offset), |(slot, _)| *slot)
            {
                let start = ip.wrapping_sub(4);
                targets.extend([(start, slots[at].1), (start.wrapping_sub(4), slots[at].1)]);
            }
            page = (word & 0x9f00_001f == 0x9000_0010).then(|| page_address(ip, word));
        }
    }
    targets.sort_by_key(|(address, _)| *address);
    targets
}

fn words(module: &Module<'_>, section: &super::module::Section) -> impl Iterator<Item = (u64, u32)> {
    let code = module.file.get(section.file.clone()).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let address = section.address;
    code.chunks_exact(4).enumerate().map(move |(at, bytes)| (address.wrapping_add(4 * at as u64), word(bytes)))
}

fn step(machine: &mut Machine<'_, '_>, ip: u64, word: u32) {
    let [rd, rn, rm] = [word, word >> 5, word >> 16].map(|field| (field & 31) as usize);
    let constant = |number| Value::Constant(number, ip);
    match word {
        // bl, b, blr, br, ret
        _ if word >> 26 == 0b100101 => machine.call(ip, constant(branch_target(ip, word))),
        _ if word >> 26 == 0b000101 => machine.jump(ip, constant(branch_target(ip, word))),
        _ if word & 0xffff_fc1f == 0xd63f_0000 => machine.call(ip, register(machine, rn)),
        _ if word & 0xffff_fc1f == 0xd61f_0000 => machine.jump(ip, register(machine, rn)),
        _ if word & 0xfe00_0000 == 0xd600_0000 => machine.reset(),
        // cbz, tbz, b.cond; hints such as nop and bti
        _ if word & 0x7c00_0000 == 0x3400_0000 || word & 0xff00_0000 == 0x5400_0000 => {}
        _ if word & 0xffff_f01f == 0xd503_201f => {}
        // adrp, adr
        _ if word & 0x9f00_0000 == 0x9000_0000 => set(machine, rd, constant(page_address(ip, word))),
        _ if word & 0x9f00_0000 == 0x1000_0000 => set(machine, rd, constant(ip.wrapping_add(offset21(word)))),
        // add, sub with a constant: here register 31 is the stack pointer
        _ if word & 0xff80_0000 == 0x9100_0000 => add(machine, rd, rn, offset12_shifted(word)),
        _ if word & 0xff80_0000 == 0xd100_0000 => add(machine, rd, rn, offset12_shifted(word).wrapping_neg()),
        // mov (orr with the zero register), 64 and 32 bits
        _ if word & 0xffe0_ffe0 == 0xaa00_03e0 => set(machine, rd, register(machine, rm)),
        _ if word & 0xffe0_ffe0 == 0x2a00_03e0 => set(machine, rd, register(machine, rm).low()),
        // movz, movn, movk
        _ if word & 0x7f80_0000 == 0x5280_0000 => set(machine, rd, constant(wide(word))),
        _ if word & 0x7f80_0000 == 0x1280_0000 => set(machine, rd, narrow(word, constant(!wide(word)))),
        _ if word & 0x7f80_0000 == 0x7280_0000 => insert(machine, rd, word),
        _ if word & 0x0a00_0000 == 0x0800_0000 => load_or_store(machine, word),
        // Everything else writes its lowest field, a vector register or another.
        _ => {
            set(machine, rd, Value::Unknown);
            machine.set_vector(rd, Value::Unknown);
        }
    }
}

/// Loads and stores of one or two registers of 8 or 16 bytes; what others write is forgotten.
fn load_or_store(machine: &mut Machine<'_, '_>, word: u32) {
    let [first, base, second] = [word, word >> 5, word >> 10].map(|field| (field & 31) as usize);
    let is_vector = word >> 26 & 1 == 1;
    let is_pair = word & 0x3a00_0000 == 0x2800_0000;
    let size: usize = match (word >> 30, is_vector, is_pair) {
        (0b11, false, false) | (0b10, false, true) => 8,
        (0b00, true, false) if word >> 23 & 1 == 1 => 16,
        (0b10, true, true) => 16,
        _ => 0,
    };
    // Before: added to the base for the access; after: what the base becomes.
    let (before, after) = match word >> 23 & 3 {
        _ if size == 0 => (None, None),
        0b10 if is_pair => (Some(offset7(word).wrapping_mul(size as u64)), None),
        0b11 if is_pair => {
            (Some(offset7(word).wrapping_mul(size as u64)), Some(offset7(word).wrapping_mul(size as u64)))
        }
        0b01 if is_pair => (Some(0), Some(offset7(word).wrapping_mul(size as u64))),
        _ if is_pair => (None, None),
        _ if word >> 24 & 3 == 1 => (Some(offset12(word) * size as u64), None),
        _ => match word >> 10 & 3 | (word >> 21 & 1) << 2 {
            0b000 => (Some(offset9(word)), None),
            0b001 => (Some(0), Some(offset9(word))),
            0b011 => (Some(offset9(word)), Some(offset9(word))),
            _ => (None, None),
        },
    };
    let is_load = word >> 22 & 1 == 1;
    let address = before.map_or(Value::Unknown, |offset| machine.register(base).plus(offset));
    let registers = if is_pair { &[first, second][..] } else { &[first] };
    for (index, &number) in registers.iter().enumerate() {
        let at = address.plus((index * size) as u64);
        match (is_load, is_vector) {
            (true, true) => machine.set_vector(number, machine.load(at, size)),
            (true, false) => set(machine, number, machine.load(at, size)),
            (false, true) => machine.store(at, size, machine.vector(number)),
            (false, false) => machine.store(at, size, register(machine, number)),
        }
    }
    if let Some(offset) = after {
        machine.set_register(base, machine.register(base).plus(offset));
    }
}

/// The value of a register where 31 is zero.
fn register(machine: &Machine<'_, '_>, number: usize) -> Value {
    if number == SP { Value::Constant(0, 0) } else { machine.register(number) }
}

/// Sets a register; number 31 is not a register.
fn set(machine: &mut Machine<'_, '_>, number: usize, value: Value) {
    if number != SP {
        machine.set_register(number, value);
    }
}

fn add(machine: &mut Machine<'_, '_>, rd: usize, rn: usize, by: u64) {
    machine.set_register(rd, machine.register(rn).plus(by));
}

/// movk: replaces 16 bits.
fn insert(machine: &mut Machine<'_, '_>, rd: usize, word: u32) {
    let value = match machine.register(rd) {
        Value::Constant(number, from) => {
            let mask = 0xffffu64 << (16 * (word >> 21 & 3));
            Value::Constant(number & !mask | wide(word), from)
        }
        _ => Value::Unknown,
    };
    set(machine, rd, value);
}

fn narrow(word: u32, value: Value) -> Value {
    if word >> 31 == 1 { value } else { value.low() }
}

/// The constant of movz, movn and movk.
fn wide(word: u32) -> u64 {
    u64::from(word >> 5 & 0xffff) << (16 * (word >> 21 & 3))
}

fn branch_target(ip: u64, word: u32) -> u64 {
    ip.wrapping_add((i64::from((word << 6) as i32 >> 6) * 4) as u64)
}

fn page_address(ip: u64, word: u32) -> u64 {
    (ip & !0xfff).wrapping_add(offset21(word) << 12)
}

/// The signed offset of adr and adrp.
fn offset21(word: u32) -> u64 {
    let bits = (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3;
    i64::from((bits << 11) as i32 >> 11) as u64
}

fn offset12(word: u32) -> u64 {
    u64::from(word >> 10 & 0xfff)
}

fn offset12_shifted(word: u32) -> u64 {
    offset12(word) << (12 * (word >> 22 & 1))
}

/// The signed offset of single loads and stores with an index.
fn offset9(word: u32) -> u64 {
    i64::from((word << 11) as i32 >> 23) as u64
}

/// The signed offset of pairs, in units of their size.
fn offset7(word: u32) -> u64 {
    i64::from((word << 10) as i32 >> 25) as u64
}
