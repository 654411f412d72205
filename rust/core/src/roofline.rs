//! Machine peaks (memory bandwidth, int8 throughput) to compare measurements with.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernel::{BLOCK_ROWS, GROUP_BYTES, Kernel, Panel, QueryBlock, QueryCodes, Survivors};
use crate::parallel::{self, Execution};

/// Bytes that each thread reads: more than caches hold.
const STREAM: usize = 256 << 20;
/// Repetitions of each measurement; the fastest counts.
const REPEATS: usize = 7;
const NAME: &str = "machine peaks";

/// Upper limits of speed on this machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachinePeaks {
    /// Bytes per second that all threads together read from memory sequentially.
    pub read_bytes_per_second: f64,
    /// Operations per second of all threads together on a panel in the cache; a multiply-add of codes counts as two.
    pub operations_per_second: f64,
}

/// Measures the machine peaks, which takes about a second.
///
/// # Errors
/// [`crate::Error::Memory`], [`crate::Error::Interrupted`], [`crate::Error::ThreadPool`].
pub fn machine_peaks(execution: &Execution) -> Result<MachinePeaks> {
    let (kernel, threads) = (execution.kernel(), execution.threads());
    let mut streams = Vec::new();
    for _ in 0..threads {
        streams.push(Buffer::<u64>::zeros(STREAM / size_of::<u64>()).map_err(|error| error.of(NAME))?);
    }
    let read = best(execution, || {
        parallel::for_each(execution, streams.iter(), |stream| black_box(sum(stream.as_slice()))).map(|_| ())
    })?;
    drop(streams);
    let work = Work::new(kernel)?;
    let compute = best(execution, || parallel::for_each(execution, 0..threads, |_| work.run(kernel)).map(|_| ()))?;
    Ok(MachinePeaks {
        read_bytes_per_second: (threads * STREAM) as f64 / read.as_secs_f64(),
        operations_per_second: (threads * Work::OPERATIONS) as f64 / compute.as_secs_f64(),
    })
}

fn best(execution: &Execution, mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..REPEATS {
        execution.check()?;
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

fn sum(values: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in values.as_chunks::<32>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*value);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// Queries and codes that fit into common L2 caches.
struct Work {
    codes: Buffer<u8>,
    queries: QueryBlock,
}

impl Work {
    const GROUPS: usize = 192;
    const BLOCKS: usize = 16;
    const QUERIES: usize = 48;
    const ROUNDS: usize = 100;
    const OPERATIONS: usize = 2 * Self::ROUNDS * Self::QUERIES * Self::BLOCKS * BLOCK_ROWS * Self::GROUPS * 4;

    fn new(kernel: Kernel) -> Result<Self> {
        let query = QueryCodes::new(vec![1; Self::GROUPS * 4], 1.0, 1.0);
        let queries = QueryBlock::new(kernel, Self::GROUPS, &[&query; Self::QUERIES]);
        let codes = vec![129u8; Self::BLOCKS * Self::GROUPS * GROUP_BYTES];
        let codes = Buffer::copy_of(&codes).map_err(|error| error.of(NAME))?;
        Ok(Self { codes, queries })
    }

    fn run(&self, kernel: Kernel) {
        let zeros = [0.0; Self::BLOCKS * BLOCK_ROWS];
        let panel = Panel::new(self.codes.as_slice(), &zeros, &zeros, Self::GROUPS, 0);
        let mut survivors = Survivors::default();
        for _ in 0..Self::ROUNDS {
            kernel.scan(&self.queries, black_box(&panel), &mut survivors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_peaks_are_plausible() {
        let execution = Execution::new(Kernel::detect(), Some(2)).expect("threads");
        let peaks = machine_peaks(&execution).expect("measured");
        assert!(peaks.read_bytes_per_second > 1e8, "{peaks:?}");
        assert!(peaks.operations_per_second > 1e8, "{peaks:?}");
    }
}
