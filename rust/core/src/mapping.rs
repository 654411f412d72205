//! Files mapped into memory, and advice about memory: outside the kernels, the only unsafe code there is.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

/// A file's bytes, read when they are touched.
#[derive(Debug)]
pub(crate) struct Mapping(memmap2::Mmap);

impl Mapping {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: The map is read only and private to this process. Its bytes are only ever looked at as plain numbers,
        // any of which is valid, and every length was checked against the map, so that a writer who changes the file in
        // place can make results wrong but nothing else (relkt itself only ever replaces index files). A file that is
        // cut short while it is mapped ends the process with SIGBUS, as with every mapped file.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells the system whether to read ahead in a part of the file. Advice: nothing depends on it being taken.
    pub(crate) fn expect_reads(&self, start: usize, len: usize, in_order: bool) {
        #[cfg(unix)]
        {
            let advice = if in_order { memmap2::Advice::Sequential } else { memmap2::Advice::Random };
            let _ = self.0.advise_range(advice, start, len);
        }
        #[cfg(not(unix))]
        let _ = (start, len, in_order);
    }
}

/// Less than this is not worth advice.
#[cfg(target_os = "linux")]
const LARGE: usize = 8 << 20;

/// Tells the system that memory is about to be filled, so that it may provide it in large pages: sooner than thousands of
/// small ones, and faster to read here and there. Advice: nothing depends on it being taken.
pub(crate) fn expect_writes<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    if size_of_val(memory) >= LARGE {
        // Whole pages of any size that Linux has.
        const PAGE: usize = 64 << 10;
        let start = memory.as_mut_ptr().cast::<u8>();
        let skipped = start.align_offset(PAGE);
        let len = (size_of_val(memory) - skipped) / PAGE * PAGE;
        // SAFETY: skipped + len bytes lie within the memory, which is ours to write; what it holds is not changed.
        unsafe {
            libc::madvise(start.add(skipped).cast(), len, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}
