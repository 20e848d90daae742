//! Mapped files: the only place with `unsafe`.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps the regular file at `path` for reading.
///
/// # Errors
/// When it cannot be opened or mapped.
#[allow(unsafe_code)]
pub fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is only read. Should another process shorten the file meanwhile, the kernel stops this process
    // with SIGBUS, as it would any program that maps files; nothing is written and no verdict is given.
    let map = unsafe { Mmap::map(&file)? };
    #[cfg(unix)]
    let _ = map.advise(memmap2::Advice::Sequential);
    Ok(map)
}
