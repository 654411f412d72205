//! Vectors of numbers: in memory and aligned for the kernels, in a mapped file, or borrowed from the caller.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::mapping::{Borrowed, Mapping, advise_writes};

/// Alignment of the first number, in bytes: one cache line, one AVX-512 register.
pub(crate) const ALIGN: usize = 64;

/// Label of memory errors until the caller adds its own with [`Error::of`].
const UNLABELLED: &str = "memory";

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A vector of numbers. In memory it starts at a multiple of 64 bytes; it may also be a part of a mapped file, or
/// memory borrowed from the caller.
#[derive(Debug)]
pub struct Buffer<T> {
    storage: Storage,
    len: usize,
    element: PhantomData<T>,
}

#[derive(Debug)]
enum Storage {
    Owned(Vec<Line>),
    Mapped { file: Arc<Mapping>, offset: usize },
    Borrowed(Borrowed),
}

impl<T: Pod> Buffer<T> {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self { storage: Storage::Owned(Vec::new()), len: 0, element: PhantomData }
    }

    /// Copies `values`.
    ///
    /// # Errors
    /// [`Error::Memory`], which the caller labels with [`Error::of`].
    pub fn copy_of(values: &[T]) -> Result<Self> {
        let mut buffer = Self::new();
        buffer.extend(values)?;
        Ok(buffer)
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn zeros(len: usize) -> Result<Self> {
        let mut buffer = Self::new();
        buffer.resize(len)?;
        Ok(buffer)
    }

    /// `len` values of a mapped file, starting at byte `offset`; `None` if they reach past its end or are not aligned.
    pub(crate) fn mapped(file: &Arc<Mapping>, offset: usize, len: usize) -> Option<Self> {
        let bytes = file.bytes().get(offset..offset.checked_add(len.checked_mul(size_of::<T>())?)?)?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Self { storage: Storage::Mapped { file: Arc::clone(file), offset }, len, element: PhantomData })
    }

    /// Borrows values without copying them.
    ///
    /// # Panics
    /// If the bytes are not aligned, or not a whole number of values.
    #[must_use]
    pub fn borrowed(borrowed: Borrowed) -> Self {
        let len = bytemuck::cast_slice::<u8, T>(borrowed.bytes()).len();
        Self { storage: Storage::Borrowed(borrowed), len, element: PhantomData }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the buffer is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All values.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match &self.storage {
            Storage::Owned(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Storage::Mapped { file, offset } => {
                bytemuck::cast_slice(&file.bytes()[*offset..offset + self.len * size_of::<T>()])
            }
            Storage::Borrowed(borrowed) => bytemuck::cast_slice(borrowed.bytes()),
        }
    }

    /// Announces sequential or random reads; only a mapped file makes use of it.
    pub(crate) fn advise_reads(&self, in_order: bool) {
        if let Storage::Mapped { file, offset } = &self.storage {
            file.advise_reads(*offset, self.nbytes(), in_order);
        }
    }

    /// Appends values; copies mapped or borrowed values into memory first.
    pub(crate) fn extend(&mut self, values: &[T]) -> Result<()> {
        let start = self.len;
        if start == 0 && !values.is_empty() {
            return self.fill_with(values);
        }
        self.resize(start + values.len())?;
        self.as_mut_slice()[start..].copy_from_slice(values);
        Ok(())
    }

    /// Writes the first values without zeroing the memory first, because memory bandwidth limits large copies.
    fn fill_with(&mut self, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let (whole, rest) = bytes.as_chunks::<ALIGN>();
        let mut lines = Vec::new();
        lines
            .try_reserve_exact(bytes.len().div_ceil(ALIGN))
            .map_err(|_| Error::Memory { what: UNLABELLED, bytes: bytes.len() })?;
        advise_writes(lines.spare_capacity_mut());
        lines.extend(whole.iter().map(|line| Line(*line)));
        if !rest.is_empty() {
            let mut last = Line::zeroed();
            last.0[..rest.len()].copy_from_slice(rest);
            lines.push(last);
        }
        self.storage = Storage::Owned(lines);
        self.len = values.len();
        Ok(())
    }

    /// Truncates the buffer, or appends zeros.
    pub(crate) fn resize(&mut self, len: usize) -> Result<()> {
        self.own()?;
        let Storage::Owned(lines) = &mut self.storage else { return Ok(()) };
        let bytes = len.saturating_mul(size_of::<T>());
        let wanted = bytes.div_ceil(ALIGN);
        if wanted > lines.len() {
            // The first reservation is exact, since most buffers never grow; later ones double.
            let missing = wanted - lines.len();
            let reserved = if lines.is_empty() { lines.try_reserve_exact(missing) } else { lines.try_reserve(missing) };
            reserved.map_err(|_| Error::Memory { what: UNLABELLED, bytes })?;
            advise_writes(lines.spare_capacity_mut());
        }
        // New lines are zeros, but the last old line may still hold values that an earlier call truncated.
        let (cleared, old) = (self.len.min(len), lines.len() * ALIGN / size_of::<T>());
        lines.resize(wanted, Line::zeroed());
        self.len = len;
        if cleared < len {
            self.as_mut_slice()[cleared..old.clamp(cleared, len)].fill(T::zeroed());
        }
        Ok(())
    }

    /// Copies mapped or borrowed values into memory, so that they can be changed.
    pub(crate) fn own(&mut self) -> Result<()> {
        if !matches!(self.storage, Storage::Owned(_)) {
            *self = Self::copy_of(self.as_slice())?;
        }
        Ok(())
    }

    /// All values, mutably.
    ///
    /// # Panics
    /// If the values are mapped or borrowed.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        match &mut self.storage {
            Storage::Owned(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Storage::Mapped { .. } | Storage::Borrowed(_) => panic!("mapped and borrowed values are read only"),
        }
    }

    /// Size of all values in bytes.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// A copy in memory.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        Self::copy_of(self.as_slice())
    }
}

impl<T: Pod> Default for Buffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_shrinks_and_stays_aligned() {
        let mut buffer = Buffer::copy_of(&[1.0f32, 2.0, 3.0]).expect("memory");
        buffer.extend(&[4.0; 100]).expect("memory");
        assert_eq!(buffer.len(), 103);
        assert_eq!(buffer.as_slice()[..4], [1.0, 2.0, 3.0, 4.0]);
        buffer.resize(2).expect("memory");
        buffer.resize(20).expect("memory");
        assert_eq!(buffer.as_slice()[..4], [1.0, 2.0, 0.0, 0.0]);
        assert!(buffer.as_slice().as_ptr().addr().is_multiple_of(ALIGN));
        assert_eq!(buffer.nbytes(), 80);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let refused = Buffer::<f64>::zeros(usize::MAX / 16).map(|_| ()).expect_err("too much").of("values");
        assert!(matches!(refused, Error::Memory { what: "values", .. }));
    }
}
