//! Calls that take a constant key, in x86-64 code.
//!
//! A call is not searched for by its opcode: whatever the instruction, it holds the distance to a slot of the global
//! offset table or to a stub of the procedure linkage table in four bytes (System V ABI, AMD64 supplement, section
//! 5.2). Few distances in a file lead to exactly these addresses, so finding them costs one pass over the code, and
//! only the code before them is decoded, by the `iced-x86` crate.

use std::ops::Range;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::effort::{BYTE_RUN, Effort, LOOKUP, SEARCHED};
use super::machine::{Convention, KeyCall, Machine, Value};
use super::module::{Function, Module, Section};

/// Bytes of code before a call that are run: some 250 instructions. A decoder that starts inside of an instruction is
/// in step again after a few of them.
const LOOK_BACK: usize = 1024;
/// References that are followed in one section.
const MAX_REFERENCES: usize = 100_000;

/// Slots and stubs that are remembered.
const MAX_TARGETS: usize = 200_000;

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

const RSP: usize = 4;

/// AMD64 supplement, section 3.2: rdi, rsi, rdx, rcx, r8 and r9 hold arguments; rbx, rbp and r12 to r15 are kept.
const CONVENTION: Convention = Convention {
    arguments: &[7, 6, 2, 1, 8, 9],
    scratch: &[0, 1, 2, 6, 7, 8, 9, 10, 11],
    stack_pointer: RSP,
    frame_pointer: 5,
    return_address: 8,
};

/// The calls in the module that take a constant key.
pub(super) fn key_calls(module: &Module<'_>, effort: &mut Effort) -> Vec<KeyCall> {
    let targets = targets(module, effort);
    let mut machine = Machine::new(module, &targets, &CONVENTION);
    let mut info = InstructionInfoFactory::new();
    for section in module.code() {
        for run in runs(module, section, &targets, effort) {
            execute(module, section, run, &mut machine, &mut info, effort);
        }
    }
    machine.into_calls()
}

/// The addresses that lead to imported functions: the slots, and the stubs that jump through them.
fn targets(module: &Module<'_>, effort: &mut Effort) -> Vec<(u64, Function)> {
    let mut targets = module.functions.clone();
    for section in module.code() {
        references(module, section, &module.functions, effort, |at, function| {
            for length in stub_lengths(&module.file[section.file.start..at]) {
                if targets.len() < MAX_TARGETS {
                    targets.push((section.address_of(at - length), function));
                }
            }
        });
    }
    targets.sort_by_key(|(address, _)| *address);
    targets
}

/// How many bytes before its distance a stub may begin: `jmp [rip + distance]`, with `bnd` and `endbr64` or without.
fn stub_lengths(code: &[u8]) -> impl Iterator<Item = usize> {
    let jump = code.ends_with(&[0xff, 0x25]).then_some(2);
    let bound = code.ends_with(&[0xf2, 0xff, 0x25]).then_some(3);
    let marked =
        bound.or(jump).filter(|length| code[..code.len() - length].ends_with(ENDBR64)).map(|length| length + 4);
    [jump, bound, marked].into_iter().flatten()
}

/// Calls `found` with the file offset of each distance that leads to a target.
fn references(
    module: &Module<'_>,
    section: &Section,
    targets: &[(u64, Function)],
    effort: &mut Effort,
    mut found: impl FnMut(usize, Function),
) {
    let (Some((low, _)), Some((high, _))) = (targets.first(), targets.last()) else { return };
    let Some(code) = module.file.get(section.file.clone()) else { return };
    if !effort.take(code.len() as u64 * SEARCHED) {
        return;
    }
    let mut left = MAX_REFERENCES;
    for (at, bytes) in code.windows(4).enumerate() {
        let Ok(distance) = bytes.try_into().map(i32::from_le_bytes) else { return };
        let address = section.address.wrapping_add(at as u64 + 4).wrapping_add(distance as u64);
        if !(*low..=*high).contains(&address) {
            continue;
        }
        if !effort.take(LOOKUP) {
            return;
        }
        let Ok(target) = targets.binary_search_by_key(&address, |(target, _)| *target) else { continue };
        let Some((_, function)) = targets.get(target) else { continue };
        found(section.file.start + at, *function);
        left -= 1;
        if left == 0 {
            return;
        }
    }
}

/// The stretches of code, as file offsets, that end with a reference. Those that overlap are one.
fn runs(module: &Module<'_>, section: &Section, targets: &[(u64, Function)], effort: &mut Effort) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    references(module, section, targets, effort, |at, _| {
        let start = at.saturating_sub(LOOK_BACK).max(section.file.start);
        match runs.last_mut() {
            Some(last) if start <= last.end => last.end = at + 4,
            _ => runs.push(start..at + 4),
        }
    });
    runs
}

fn execute(
    module: &Module<'_>,
    section: &Section,
    run: Range<usize>,
    machine: &mut Machine<'_, '_>,
    info: &mut InstructionInfoFactory,
    effort: &mut Effort,
) {
    let Some(code) = module.file.get(run.clone()) else { return };
    let mut decoder = Decoder::with_ip(64, code, section.address_of(run.start), DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    machine.reset();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if !effort.take(instruction.len() as u64 * BYTE_RUN + machine.take_work()) {
            return;
        }
        step(machine, &instruction, info);
    }
}

fn step(machine: &mut Machine<'_, '_>, code: &Instruction, info: &mut InstructionInfoFactory) {
    match code.flow_control() {
        // The mark of a place that is jumped to: most often the beginning of a function.
        FlowControl::Next if code.mnemonic() == Mnemonic::Endbr64 => machine.reset(),
        FlowControl::Next => execute_one(machine, code, info),
        FlowControl::ConditionalBranch => {}
        FlowControl::Call | FlowControl::IndirectCall => machine.call(code.ip(), target(machine, code)),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
            machine.jump(code.ip(), target(machine, code));
        }
        _ => machine.reset(),
    }
}

/// The address that is called, or that of the slot that holds it.
fn target(machine: &Machine<'_, '_>, code: &Instruction) -> Value {
    match code.op0_kind() {
        OpKind::NearBranch64 => Value::Constant(code.near_branch_target(), code.ip()),
        OpKind::Memory => address(machine, code),
        OpKind::Register => read(machine, code.op0_register()),
        _ => Value::Unknown,
    }
}

fn execute_one(machine: &mut Machine<'_, '_>, code: &Instruction, info: &mut InstructionInfoFactory) {
    use Mnemonic::*;
    match code.mnemonic() {
        Nop | Cmp | Test => {}
        Mov | Movaps | Movups | Movdqa | Movdqu | Vmovaps | Vmovups | Vmovdqa | Vmovdqu | Vmovdqu8 | Vmovdqu64
        | Vmovdqa64 => write(machine, code, operand(machine, code, 1)),
        Lea => write(machine, code, address(machine, code)),
        Xor | Sub if is_zeroing(code) => write(machine, code, Value::Constant(0, code.ip())),
        Add | Sub if code.op0_kind() == OpKind::Register && code.try_immediate(1).is_ok() => {
            let by = code.immediate(1);
            let by = if code.mnemonic() == Sub { by.wrapping_neg() } else { by };
            write(machine, code, read(machine, code.op0_register()).plus(by));
        }
        And if code.op0_register() == Register::RSP => {
            let frame = machine.new_frame();
            machine.set_register(RSP, frame);
        }
        Push => {
            let value = operand(machine, code, 0);
            let top = machine.register(RSP).plus(8u64.wrapping_neg());
            machine.set_register(RSP, top);
            machine.store(top, 8, value);
        }
        Pop => {
            let top = machine.register(RSP);
            machine.set_register(RSP, top.plus(8));
            write(machine, code, machine.load(top, 8));
        }
        _ => forget(machine, code, info),
    }
}

fn is_zeroing(code: &Instruction) -> bool {
    code.op0_kind() == OpKind::Register
        && code.op1_kind() == OpKind::Register
        && code.op0_register() == code.op1_register()
}

/// Forgets what an instruction writes.
fn forget(machine: &mut Machine<'_, '_>, code: &Instruction, info: &mut InstructionInfoFactory) {
    if code.is_invalid() {
        return machine.reset();
    }
    if code.op0_kind() == OpKind::Memory {
        machine.store(address(machine, code), code.memory_size().size(), Value::Unknown);
    }
    let written = |access| {
        matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
    };
    for used in info.info(code).used_registers().iter().filter(|used| written(used.access())) {
        set(machine, used.register().full_register(), Value::Unknown);
    }
}

fn operand(machine: &Machine<'_, '_>, code: &Instruction, operand: u32) -> Value {
    match code.op_kind(operand) {
        OpKind::Register => read(machine, code.op_register(operand)),
        OpKind::Memory => machine.load(address(machine, code), code.memory_size().size()),
        _ => code.try_immediate(operand).map_or(Value::Unknown, |number| Value::Constant(number, code.ip())),
    }
}

/// The address of a memory operand.
fn address(machine: &Machine<'_, '_>, code: &Instruction) -> Value {
    if code.segment_prefix() != Register::None || code.memory_index() != Register::None {
        return Value::Unknown;
    }
    match code.memory_base() {
        Register::RIP | Register::None => Value::Constant(code.memory_displacement64(), code.ip()),
        base if base.is_gpr64() => read(machine, base).plus(code.memory_displacement64()),
        _ => Value::Unknown,
    }
}

fn read(machine: &Machine<'_, '_>, register: Register) -> Value {
    let number = register.full_register().number();
    match register {
        _ if register.is_gpr64() => machine.register(number),
        _ if register.is_gpr32() => machine.register(number).low(),
        _ if register.is_vector_register() => machine.vector(number),
        _ => Value::Unknown,
    }
}

/// Writes the first operand.
fn write(machine: &mut Machine<'_, '_>, code: &Instruction, value: Value) {
    if code.op0_kind() == OpKind::Memory {
        return machine.store(address(machine, code), code.memory_size().size(), value);
    }
    set(machine, code.op0_register(), value);
}

/// Sets a register. Writing its lower half clears the upper; writing less than that leaves a mixture.
fn set(machine: &mut Machine<'_, '_>, register: Register, value: Value) {
    let full = register.full_register();
    match register {
        _ if register.is_gpr64() => machine.set_register(full.number(), value),
        _ if register.is_gpr32() => machine.set_register(full.number(), value.low()),
        _ if register.is_vector_register() => machine.set_vector(full.number(), value),
        _ if full.is_gpr64() => machine.set_register(full.number(), Value::Unknown),
        _ => {}
    }
}
