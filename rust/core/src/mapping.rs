//! Memory that relkt does not allocate (a mapped file, or bytes borrowed from the caller), and advice to the system
//! about memory. Outside the kernels, this is the only unsafe code of the core.

#![allow(unsafe_code)]

use std::any::Any;
use std::fs::File;
use std::io;

/// The bytes of a memory-mapped file.
#[derive(Debug)]
pub(crate) struct Mapping(memmap2::Mmap);

impl Mapping {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: The map is read only and private to this process. Its bytes are only read as plain numbers, for which
        // every bit pattern is valid, and every length is checked against the map. A program that changes the file in
        // place can therefore make results wrong, but cannot break memory safety (relkt itself only ever replaces index
        // files). A file that is truncated while it is mapped ends the process with SIGBUS, as with every mapped file.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells the system whether to read ahead in a part of the file. Only advice: correctness does not depend on it.
    pub(crate) fn advise_reads(&self, start: usize, len: usize, in_order: bool) {
        #[cfg(unix)]
        {
            let advice = if in_order { memmap2::Advice::Sequential } else { memmap2::Advice::Random };
            let _ = self.0.advise_range(advice, start, len);
        }
        #[cfg(not(unix))]
        let _ = (start, len, in_order);
    }
}

/// Smallest allocation that is worth advice, in bytes.
#[cfg(target_os = "linux")]
const LARGE: usize = 8 << 20;

/// Asks the system to use huge pages for memory that will soon be filled. They are faster to allocate than thousands of
/// small pages, and faster to read at random. Only advice: correctness does not depend on it.
pub(crate) fn advise_writes<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    if size_of_val(memory) >= LARGE {
        // The largest base page size of Linux, so that the range consists of whole pages on every system.
        const PAGE: usize = 64 << 10;
        let start = memory.as_mut_ptr().cast::<u8>();
        let skipped = start.addr().wrapping_neg() % PAGE;
        let len = (size_of_val(memory) - skipped) / PAGE * PAGE;
        // SAFETY: skipped + len bytes lie within `memory`, which is borrowed mutably; the advice does not change its
        // contents.
        unsafe {
            libc::madvise(start.add(skipped).cast(), len, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Bytes that an external owner keeps alive for as long as this value exists.
pub struct Borrowed {
    bytes: &'static [u8],
    _owner: Box<dyn Any + Send + Sync>,
}

impl Borrowed {
    /// Bytes that `owner` keeps alive.
    ///
    /// # Safety
    /// The bytes stay readable at the same address until `owner` is dropped. An owner in another language may write to
    /// them in the meantime; that can make results wrong, but the bytes are only read as plain numbers, for which every
    /// bit pattern is valid.
    #[must_use]
    pub unsafe fn new(bytes: &[u8], owner: Box<dyn Any + Send + Sync>) -> Self {
        // SAFETY: guaranteed by the caller; `bytes` is not handed out for longer than `self` lives.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        Self { bytes, _owner: owner }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

impl std::fmt::Debug for Borrowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Borrowed").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}
