//! The heap of the process. What is freed stays with the allocator, in a part of the heap for each few threads, and is
//! not there for the other parts: eight threads that read a large document after each other would take eight times its
//! memory.

use std::io;

use memmap2::MmapMut;

/// A copy of `bytes` in pages of 2 MiB, where the system has such pages: with those of 4 KiB, handing them out takes
/// longer than to copy megabytes. For what is large and does not live long.
///
/// # Errors
/// If memory runs out, or `bytes` is empty.
pub fn copy_in_large_pages(bytes: &[u8]) -> io::Result<MmapMut> {
    let mut copy = MmapMut::map_anon(bytes.len())?;
    #[cfg(target_os = "linux")]
    // Without large pages, others do.
    let _ = copy.advise(memmap2::Advice::HugePage);
    copy.copy_from_slice(bytes);
    Ok(copy)
}

/// Returns what is free in all parts of the heap to the system, where the allocator can do so. It takes some
/// milliseconds.
#[allow(unsafe_code)]
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, locks what it changes, and changes nothing that is in use (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The bytes of what is large.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 4 << 20;

/// Has what is large returned to the system as soon as it is freed, where the allocator can do so. Otherwise the
/// allocator of glibc does that only until it was freed for the first time, and keeps what comes after: twice of what a
/// service uses that gets bodies of some megabytes on many threads. For the beginning of a process.
#[allow(unsafe_code)]
pub fn return_large_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, and changes what is done with later allocations (mallopt(3)).
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
