//! The heap of the process. What is freed stays with the allocator, in a part of the heap for each few threads, and is
//! not there for the other parts: eight threads that read a large document after each other would take eight times its
//! memory.

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
