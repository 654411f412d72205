//! Memory that relkt did not allocate (a mapped file, or what somebody lends), and advice about memory. Outside the kernels,
//! the only unsafe code of the core.

#![allow(unsafe_code)]

use std::any::Any;
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
        let skipped = start.addr().wrapping_neg() % PAGE;
        let len = (size_of_val(memory) - skipped) / PAGE * PAGE;
        // SAFETY: skipped + len bytes lie within the memory, which is ours to write; what it holds is not changed.
        unsafe {
            libc::madvise(start.add(skipped).cast(), len, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Bytes that belong to somebody else, who keeps them for as long as this lives.
pub struct Lent {
    bytes: &'static [u8],
    _owner: Box<dyn Any + Send + Sync>,
}

impl Lent {
    /// Bytes that `owner` keeps.
    ///
    /// # Safety
    /// The bytes stay where they are, readable, until `owner` is dropped. Should somebody write to them meanwhile, as an
    /// owner in another language may, results can be wrong: they are only ever looked at as plain numbers, any of which is
    /// valid.
    #[must_use]
    pub unsafe fn new(bytes: &[u8], owner: Box<dyn Any + Send + Sync>) -> Self {
        // SAFETY: as the caller promises; `bytes` is not handed out for longer than `self` lives.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        Self { bytes, _owner: owner }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}
