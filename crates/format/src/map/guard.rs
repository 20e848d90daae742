//! Keeps the process alive when a page of a mapped file cannot be read any more, because another process made the file
//! shorter or its disk failed. The kernel then sends SIGBUS. The handler puts a page of zeros in the place of the page
//! and notes that the file is not whole; whoever reads the map asks for that when it has read
//! ([071](../../../../docs/decisions/071-survive-files-that-shrink.md)).
//!
//! The handler only does what `signal-safety(7)` permits: it loads and stores atomics, and calls the kernel. Faults in
//! other memory are passed on to the handler that was there before.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::{self, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

/// The first of the list of entries. Entries are never freed, so that the handler can walk the list at any moment; a
/// free one is used again.
static FIRST: AtomicPtr<Entry> = AtomicPtr::new(null_mut());

/// What was there before, and the size of a page.
static BEFORE: OnceLock<Before> = OnceLock::new();

struct Before {
    action: libc::sigaction,
    page: usize,
}

/// The addresses of a mapped file.
struct Entry {
    is_used: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    is_damaged: AtomicBool,
    next: Option<&'static Entry>,
}

/// Watches the addresses of one mapped file while it exists. It has to be dropped before the map.
pub(super) struct Guard(&'static Entry);

impl Guard {
    /// Watches `addresses`.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub(super) fn new(addresses: Range<usize>) -> io::Result<Guard> {
        install()?;
        let entry = free_entry();
        entry.is_damaged.store(false, Ordering::Relaxed);
        entry.start.store(addresses.start, Ordering::Relaxed);
        // The handler looks at the end first: from here on the entry has addresses.
        entry.end.store(addresses.end, Ordering::Release);
        Ok(Guard(entry))
    }

    /// Whether a page could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.0.is_damaged.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        self.0.is_used.store(false, Ordering::Release);
    }
}

/// The entries that there are.
fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: the pointer is null, or was made of a `&'static Entry` by `free_entry`.
    let first = unsafe { FIRST.load(Ordering::Acquire).as_ref() };
    std::iter::successors(first, |entry| entry.next)
}

/// An entry that is not used, marked as used.
fn free_entry() -> &'static Entry {
    let take =
        |entry: &&Entry| entry.is_used.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if let Some(entry) = entries().find(take) {
        return entry;
    }
    let mut first = FIRST.load(Ordering::Acquire);
    loop {
        // SAFETY: as in `entries`.
        let next = unsafe { first.as_ref() };
        let entry = Entry {
            is_used: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_damaged: AtomicBool::new(false),
            next,
        };
        let entry = Box::into_raw(Box::new(entry));
        match FIRST.compare_exchange(first, entry, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: the box was leaked just now, and is never freed.
            Ok(_) => return unsafe { &*entry },
            Err(now) => {
                // SAFETY: nobody else has seen the entry.
                drop(unsafe { Box::from_raw(entry) });
                first = now;
            }
        }
    }
}

/// Installs the handler once.
fn install() -> io::Result<()> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let _lock = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if BEFORE.get().is_some() {
        return Ok(());
    }
    // SAFETY: both structures are plain data, for which zeros are valid, and the calls only write to them. What the
    // handler needs is stored before the handler is there.
    unsafe {
        let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).map_err(io::Error::other)?;
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut action) != 0 {
            return Err(io::Error::last_os_error());
        }
        let _ = BEFORE.set(Before { action, page });
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = on_bus_error as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        if libc::sigaction(libc::SIGBUS, &raw const ours, null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a structure that is valid during the handler.
    let address = unsafe { (*info).si_addr() } as usize;
    let is_here =
        |entry: &&Entry| address < entry.end.load(Ordering::Acquire) && address >= entry.start.load(Ordering::Relaxed);
    let Some(before) = BEFORE.get() else { return };
    if let Some(entry) = entries().find(is_here)
        && put_zeros(address, before.page)
    {
        entry.is_damaged.store(true, Ordering::Release);
        return;
    }
    // SAFETY: this is how the kernel would have called the action, which is that of the process.
    unsafe {
        let action = &before.action;
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(action.sa_sigaction);
            handler(signal, info, context);
        } else {
            // The default action, which ends the process when the instruction is run again.
            libc::sigaction(signal, action, null_mut());
        }
    }
}

/// Puts a page of zeros at `address`, which is in the map of an entry.
fn put_zeros(address: usize, page: usize) -> bool {
    let start = address / page * page;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page is part of a map that its owner only reads, and that cannot be unmapped while an instruction of
    // this process is reading it.
    let mapped = unsafe { libc::mmap(start as *mut c_void, page, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}
