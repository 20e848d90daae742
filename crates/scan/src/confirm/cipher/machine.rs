//! Follows constants through code to the calls that take a key: the part that all processors share.
//!
//! A small abstract machine: a register or a place on the stack holds a constant, an address on the stack, a cipher, or
//! something unknown. It is run straight ahead, through conditional branches (that path exists) and calls (which keep
//! what the processor's calling convention has them keep), and forgets everything where code is only reached by a jump.
//! Values that it does not model, such as those passed between functions of the module, stay unknown.

use std::collections::VecDeque;

use super::effort::CALL;
use super::functions::{CipherName, KeyFunction, KeySize, cipher_by_name};
use super::module::{Function, Module, Slot};

/// The longest key that is put together from pieces on the stack.
const MAX_KEY: usize = 64;
/// Pieces that are remembered of a stack frame.
const MAX_CELLS: usize = 64;
/// A call for a cipher this many bytes before the call for a key belongs to it, unless the code says otherwise.
const NEARBY: u64 = 2048;
/// The greatest numbers of calls and of distinct ciphers in one file.
const MAX_CALLS: usize = 20_000;
const MAX_CIPHERS: usize = 512;
/// The longest name of a cipher that is looked up by name.
const MAX_CIPHER_NAME: usize = 40;
/// The register that holds what a function returns: rax, x0.
const RESULT: usize = 0;

/// A calling convention, by the numbers of registers.
pub(super) struct Convention {
    /// Registers of the first integer arguments. The others are on the stack.
    pub arguments: &'static [usize],
    /// Registers that a call does not preserve. Vector registers are never assumed to be preserved.
    pub scratch: &'static [usize],
    pub stack_pointer: usize,
    pub frame_pointer: usize,
    /// Bytes that a call puts on the stack before it jumps.
    pub return_address: i64,
}

/// Where the key of a call comes from.
pub(super) enum KeySource {
    /// A constant at this address.
    Data(u64),
    /// The known bytes of a key assembled on the stack, and the address of the first ones.
    Stack(u64, Vec<u8>),
}

/// A call of a function that takes a key, with a key that is constant.
pub(super) struct KeyCall {
    pub function: &'static KeyFunction,
    pub key: KeySource,
    /// The length of the key in bytes, if an argument or the function determines it.
    pub length: Option<usize>,
    /// The cipher, and whether it is the one that is passed, not only one nearby.
    pub cipher: Option<(CipherName, bool)>,
}

/// The value of a register or a stack slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Unknown,
    /// A number or address; the second is the address of the code or data it was read from.
    Constant(u64, u64),
    /// An address on the stack.
    Stack(i64),
    /// A cipher, by its place in the machine's list.
    Cipher(usize),
    /// Bytes of the file, by address.
    Bytes(u64),
    /// An imported function, by the address of its slot.
    Slot(u64),
}

impl Value {
    /// The value plus a number.
    pub(super) fn plus(self, by: u64) -> Value {
        match self {
            Value::Constant(number, from) => Value::Constant(number.wrapping_add(by), from),
            Value::Stack(at) => Value::Stack(at.wrapping_add(by as i64)),
            _ => Value::Unknown,
        }
    }

    /// The value of the lower half of a register.
    pub(super) fn low(self) -> Value {
        match self {
            Value::Constant(number, from) => Value::Constant(number & 0xffff_ffff, from),
            _ => Value::Unknown,
        }
    }
}

/// Something stored on the stack.
#[derive(Clone, Copy, Debug)]
struct Cell {
    at: i64,
    size: usize,
    value: Value,
}

/// The machine.
pub(super) struct Machine<'m, 'a> {
    module: &'m Module<'a>,
    /// Addresses that lead to an imported function, sorted.
    targets: &'m [(u64, Function)],
    convention: &'static Convention,
    registers: [Value; 32],
    vectors: [Value; 32],
    stack: VecDeque<Cell>,
    frame: i64,
    ciphers: Vec<CipherName>,
    nearby: Option<(u64, usize)>,
    calls: Vec<KeyCall>,
    /// The calls of functions that matter since the work on them was last taken.
    entered: u64,
}

impl<'m, 'a> Machine<'m, 'a> {
    pub(super) fn new(module: &'m Module<'a>, targets: &'m [(u64, Function)], convention: &'static Convention) -> Self {
        let mut machine = Machine {
            module,
            targets,
            convention,
            registers: [Value::Unknown; 32],
            vectors: [Value::Unknown; 32],
            stack: VecDeque::new(),
            frame: 0,
            ciphers: module.ciphers.clone(),
            nearby: None,
            calls: Vec::new(),
            entered: 0,
        };
        machine.reset();
        machine
    }

    /// The work of the calls since the last time.
    pub(super) fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.entered) * CALL
    }

    /// The calls that were seen.
    pub(super) fn into_calls(self) -> Vec<KeyCall> {
        self.calls
    }

    /// Forgets everything but the nearby cipher. The stack and frame pointers get places of their own, far apart.
    pub(super) fn reset(&mut self) {
        self.registers = [Value::Unknown; 32];
        self.vectors = [Value::Unknown; 32];
        self.stack.clear();
        self.registers[self.convention.stack_pointer] = self.new_frame();
        self.registers[self.convention.frame_pointer] = self.new_frame();
    }

    /// A place on the stack that is far from all others.
    pub(super) fn new_frame(&mut self) -> Value {
        self.frame += 1 << 32;
        Value::Stack(self.frame)
    }

    pub(super) fn register(&self, number: usize) -> Value {
        self.registers.get(number).copied().unwrap_or(Value::Unknown)
    }

    pub(super) fn set_register(&mut self, number: usize, value: Value) {
        if let Some(register) = self.registers.get_mut(number) {
            *register = value;
        }
    }

    pub(super) fn vector(&self, number: usize) -> Value {
        self.vectors.get(number).copied().unwrap_or(Value::Unknown)
    }

    pub(super) fn set_vector(&mut self, number: usize, value: Value) {
        if let Some(register) = self.vectors.get_mut(number) {
            *register = value;
        }
    }

    /// The value at `address`: a pointer or number of eight bytes, or the bytes of a vector register.
    pub(super) fn load(&self, address: Value, size: usize) -> Value {
        match address {
            Value::Constant(address, _) if size == 8 => match self.module.pointer(address) {
                Some(Slot::Address(value)) => Value::Constant(value, address),
                Some(Slot::Function(_)) => Value::Slot(address),
                None => Value::Unknown,
            },
            Value::Constant(address, _) if size >= 16 => Value::Bytes(address),
            Value::Stack(at) => {
                let cell = self.stack.iter().find(|cell| cell.at == at && cell.size == size);
                cell.map_or(Value::Unknown, |cell| cell.value)
            }
            _ => Value::Unknown,
        }
    }

    /// Stores a value on the stack. Stores to unknown addresses are assumed not to affect the stack.
    pub(super) fn store(&mut self, address: Value, size: usize, value: Value) {
        let Value::Stack(at) = address else { return };
        let end = at.saturating_add(size as i64);
        let is_apart = |cell: &Cell| cell.at >= end || at >= cell.at.saturating_add(cell.size as i64);
        if !self.stack.iter().all(is_apart) {
            self.stack.retain(is_apart);
        }
        if value != Value::Unknown {
            if self.stack.len() == MAX_CELLS {
                self.stack.pop_front();
            }
            self.stack.push_back(Cell { at, size, value });
        }
    }

    /// Calls the function at `target`.
    pub(super) fn call(&mut self, ip: u64, target: Value) {
        let result = self.target(target).map_or(Value::Unknown, |function| self.enter(ip, function, 0));
        for &register in self.convention.scratch {
            self.set_register(register, Value::Unknown);
        }
        self.vectors = [Value::Unknown; 32];
        self.set_register(RESULT, result);
    }

    /// Jumps to `target`. A call in the last place of a function is a jump: the return address is on the stack already.
    pub(super) fn jump(&mut self, ip: u64, target: Value) {
        if let Some(function) = self.target(target) {
            self.enter(ip, function, self.convention.return_address);
        }
        self.reset();
    }

    fn target(&self, target: Value) -> Option<Function> {
        let (Value::Constant(address, _) | Value::Slot(address)) = target else { return None };
        let at = self.targets.binary_search_by_key(&address, |(target, _)| *target).ok()?;
        self.targets.get(at).map(|(_, function)| *function)
    }

    /// Calls an imported function and returns its result. `pushed` is the number of bytes on the stack before the
    /// arguments.
    fn enter(&mut self, ip: u64, function: Function, pushed: i64) -> Value {
        self.entered += 1;
        let cipher = match function {
            Function::Key(function) => {
                if self.calls.len() < MAX_CALLS {
                    self.calls.extend(self.key_call(ip, function, pushed));
                }
                None
            }
            Function::Cipher(cipher) => Some(cipher),
            Function::Lookup(argument) => self.look_up(self.argument(argument, pushed)),
        };
        let Some(cipher) = cipher else { return Value::Unknown };
        self.nearby = Some((ip, cipher));
        Value::Cipher(cipher)
    }

    fn look_up(&mut self, name: Value) -> Option<usize> {
        let Value::Constant(address, _) = name else { return None };
        let (_, bytes) = self.module.data(address)?;
        let bytes = &bytes[..bytes.len().min(MAX_CIPHER_NAME)];
        let name = std::str::from_utf8(&bytes[..memchr::memchr(0, bytes)?]).ok()?;
        let cipher = cipher_by_name(name)?;
        let known = self.ciphers.iter().position(|known| *known == cipher);
        if known.is_none() && self.ciphers.len() < MAX_CIPHERS {
            self.ciphers.push(cipher);
            return Some(self.ciphers.len() - 1);
        }
        known
    }

    fn key_call(&self, ip: u64, function: &'static KeyFunction, pushed: i64) -> Option<KeyCall> {
        let key = match self.argument(function.key, pushed) {
            Value::Constant(address, _) => KeySource::Data(address),
            Value::Stack(at) => self.stack_bytes(at)?,
            _ => return None,
        };
        let number = |argument| match self.argument(argument, pushed) {
            Value::Constant(number, _) => usize::try_from(number & 0xffff_ffff).ok(),
            _ => None,
        };
        let (length, cipher) = match function.size {
            KeySize::Fixed(bytes) => (Some(bytes), None),
            KeySize::Bytes(argument) => (number(argument), None),
            KeySize::Bits(argument) => (number(argument).map(|bits| bits / 8), None),
            KeySize::Cipher(argument) => (None, self.cipher(ip, self.argument(argument, pushed))),
        };
        Some(KeyCall { function, key, length, cipher })
    }

    fn cipher(&self, ip: u64, passed: Value) -> Option<(CipherName, bool)> {
        let (cipher, exact) = match (passed, self.nearby) {
            (Value::Cipher(cipher), _) => (cipher, true),
            (_, Some((at, cipher))) if ip.wrapping_sub(at) <= NEARBY => (cipher, false),
            _ => return None,
        };
        Some((self.ciphers.get(cipher)?.clone(), exact))
    }

    fn argument(&self, argument: usize, pushed: i64) -> Value {
        let in_registers = self.convention.arguments;
        if let Some(&register) = in_registers.get(argument) {
            return self.register(register);
        }
        let above = pushed + 8 * (argument - in_registers.len()) as i64;
        self.load(self.register(self.convention.stack_pointer).plus(above as u64), 8)
    }

    /// The known bytes on the stack from `at` on.
    fn stack_bytes(&self, at: i64) -> Option<KeySource> {
        let mut bytes = Vec::new();
        let mut source = None;
        while bytes.len() < MAX_KEY {
            let next = at.wrapping_add(bytes.len() as i64);
            let inside = |cell: &&Cell| (cell.at..cell.at.saturating_add(cell.size as i64)).contains(&next);
            let Some(cell) = self.stack.iter().find(inside) else { break };
            let skip = (next - cell.at) as usize;
            let Some((from, piece)) = self.cell_bytes(cell) else { break };
            let Some(piece) = piece.get(skip..) else { break };
            source.get_or_insert(from.wrapping_add(skip as u64));
            bytes.extend_from_slice(piece);
        }
        bytes.truncate(MAX_KEY);
        Some(KeySource::Stack(source?, bytes))
    }

    fn cell_bytes(&self, cell: &Cell) -> Option<(u64, Vec<u8>)> {
        match cell.value {
            Value::Constant(number, from) => Some((from, number.to_le_bytes().get(..cell.size)?.to_vec())),
            Value::Bytes(address) => Some((address, self.module.data(address)?.1.get(..cell.size)?.to_vec())),
            _ => None,
        }
    }
}
