//! Numbers in memory or in a mapped file, aligned for the kernels, or lent by somebody else.

use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::mapping::{Lent, Mapping, expect_writes};

/// Alignment of the first number, in bytes: one cache line, one AVX-512 register.
pub(crate) const ALIGN: usize = 64;

#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// A vector of numbers whose first stands on a multiple of 64 bytes (in memory), a part of a mapped file, or somebody else's
/// numbers.
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
    Lent(Lent),
}

impl<T: Pod> Buffer<T> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { storage: Storage::Owned(Vec::new()), len: 0, element: PhantomData }
    }

    /// A copy of somebody's values.
    ///
    /// # Errors
    /// [`Error::Memory`]; `name` is the argument that the message speaks of.
    pub fn copy_of(name: &'static str, values: &[T]) -> Result<Self> {
        let mut buffer = Self::new();
        buffer.extend(name, values)?;
        Ok(buffer)
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn zeros(name: &'static str, len: usize) -> Result<Self> {
        let mut buffer = Self::new();
        buffer.resize(name, len)?;
        Ok(buffer)
    }

    /// `len` values in a mapped file, from `offset` on; none if they do not lie in the file or are not aligned.
    pub(crate) fn mapped(file: &Arc<Mapping>, offset: usize, len: usize) -> Option<Self> {
        let bytes = file.bytes().get(offset..offset.checked_add(len.checked_mul(size_of::<T>())?)?)?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Self { storage: Storage::Mapped { file: Arc::clone(file), offset }, len, element: PhantomData })
    }

    /// Somebody else's values, which are not copied.
    ///
    /// # Panics
    /// If they are not aligned, or the bytes not a whole number of values.
    #[must_use]
    pub fn lent(lent: Lent) -> Self {
        let len = bytemuck::cast_slice::<u8, T>(lent.bytes()).len();
        Self { storage: Storage::Lent(lent), len, element: PhantomData }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
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
            Storage::Lent(lent) => bytemuck::cast_slice(lent.bytes()),
        }
    }

    /// Whether values will be read one after the other, or here and there: of use only for a mapped file.
    pub(crate) fn expect_reads(&self, in_order: bool) {
        if let Storage::Mapped { file, offset } = &self.storage {
            file.expect_reads(*offset, self.nbytes(), in_order);
        }
    }

    /// Appends values; those of a mapped file or of somebody else are copied into memory first.
    pub(crate) fn extend(&mut self, name: &'static str, values: &[T]) -> Result<()> {
        let start = self.len;
        if start == 0 && !values.is_empty() {
            return self.fill_with(name, values);
        }
        self.resize(name, start + values.len())?;
        self.as_mut_slice()[start..].copy_from_slice(values);
        Ok(())
    }

    /// The first values, written once: large copies are bound by memory.
    fn fill_with(&mut self, name: &'static str, values: &[T]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let (whole, rest) = bytes.as_chunks::<ALIGN>();
        let mut lines = Vec::new();
        lines
            .try_reserve_exact(bytes.len().div_ceil(ALIGN))
            .map_err(|_| Error::Memory { what: name, bytes: bytes.len() })?;
        expect_writes(lines.spare_capacity_mut());
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

    /// Cuts off values, or appends zeros.
    pub(crate) fn resize(&mut self, name: &'static str, len: usize) -> Result<()> {
        self.own(name)?;
        let Storage::Owned(lines) = &mut self.storage else { return Ok(()) };
        let bytes = len.saturating_mul(size_of::<T>());
        let wanted = bytes.div_ceil(ALIGN);
        if wanted > lines.len() {
            // An exact reservation for the first values, doubling from then on.
            let missing = wanted - lines.len();
            let reserved = if lines.is_empty() { lines.try_reserve_exact(missing) } else { lines.try_reserve(missing) };
            reserved.map_err(|_| Error::Memory { what: name, bytes })?;
            expect_writes(lines.spare_capacity_mut());
        }
        // What was cut off earlier may still stand in the last line; new lines are zeros.
        let (cleared, old) = (self.len.min(len), lines.len() * ALIGN / size_of::<T>());
        lines.resize(wanted, Line::zeroed());
        self.len = len;
        if cleared < len {
            self.as_mut_slice()[cleared..old.clamp(cleared, len)].fill(T::zeroed());
        }
        Ok(())
    }

    /// Makes sure that the values are in memory and can be changed.
    pub(crate) fn own(&mut self, name: &'static str) -> Result<()> {
        if !matches!(self.storage, Storage::Owned(_)) {
            *self = Self::copy_of(name, self.as_slice())?;
        }
        Ok(())
    }

    /// All values, to be changed.
    ///
    /// # Panics
    /// If they are those of a mapped file, or somebody else's.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        match &mut self.storage {
            Storage::Owned(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Storage::Mapped { .. } | Storage::Lent(_) => panic!("a mapped file, and what is lent, is read only"),
        }
    }

    /// Bytes of all values.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// A copy, in memory.
    pub(crate) fn duplicate(&self, name: &'static str) -> Result<Self> {
        Self::copy_of(name, self.as_slice())
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
        let mut buffer = Buffer::copy_of("values", &[1.0f32, 2.0, 3.0]).expect("memory");
        buffer.extend("values", &[4.0; 100]).expect("memory");
        assert_eq!(buffer.len(), 103);
        assert_eq!(buffer.as_slice()[..4], [1.0, 2.0, 3.0, 4.0]);
        buffer.resize("values", 2).expect("memory");
        buffer.resize("values", 20).expect("memory");
        assert_eq!(buffer.as_slice()[..4], [1.0, 2.0, 0.0, 0.0]);
        assert!(buffer.as_slice().as_ptr().addr().is_multiple_of(ALIGN));
        assert_eq!(buffer.nbytes(), 80);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        let refused = Buffer::<f64>::zeros("values", usize::MAX / 16).map(|_| ()).expect_err("too much");
        assert!(matches!(refused, Error::Memory { what: "values", .. }));
    }
}
