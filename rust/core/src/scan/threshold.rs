//! Thresholds that threads share.

use std::sync::atomic::{AtomicU32, Ordering};

/// A threshold that only rises, shared by all threads that search for one query.
#[derive(Debug)]
pub(crate) struct SharedThreshold(AtomicU32);

impl SharedThreshold {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(ordered(f32::NEG_INFINITY)))
    }

    /// Raises the shared threshold to `threshold`, if that is higher, and returns it.
    pub(crate) fn raise(&self, threshold: f32) -> f32 {
        // Relaxed, because no other memory depends on the value.
        let before = self.0.fetch_max(ordered(threshold), Ordering::Relaxed);
        threshold.max(unordered(before))
    }
}

/// Bits with the order of the numbers.
fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn unordered(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_threshold_rises_and_never_falls() {
        let threshold = SharedThreshold::new();
        assert_eq!(threshold.raise(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert_eq!(threshold.raise(-0.5), -0.5);
        assert_eq!(threshold.raise(-0.75), -0.5);
        assert_eq!(threshold.raise(0.25), 0.25);
        assert_eq!(threshold.raise(-1.0), 0.25);
    }
}
