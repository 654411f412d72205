//! The scoring kernels, written once over [`Lanes`].
//!
//! The lanes of a vector are rows: a vector holds four codes of each of `N` rows, and four codes of a query are
//! broadcast to all of them. One loop over the columns leaves the integer dot products of `V * N` rows and `Q` queries
//! in registers. There they become upper bounds of scores and are compared with the queries' limits, and only survivors
//! are stored. Rows are read in memory order, at the speed of memory.

use super::lanes::{self, Lanes};
use super::query::SingleQuery;
use super::values::prefetch_line;
use super::{BLOCK_ROWS, GROUP_BYTES, Panel, QueryBlock, Survivor, Survivors};

/// Scores a panel against all tiles of the queries. Tiles have 1, 2, `QB` or `QA` queries. Rows come in steps of `V`
/// vectors, or of `V1` vectors (one block) at the end of the panel.
///
/// # Safety
/// The processor has the instruction set of `L`; `V1 * L::N` is [`BLOCK_ROWS`] and `V` a multiple of `V1`; panel and
/// queries are consistent and of the same even number of groups (`Kernel::scan` checks).
#[inline(always)]
pub(super) unsafe fn scan<L: Lanes, const V: usize, const V1: usize, const QA: usize, const QB: usize>(
    queries: &QueryBlock,
    panel: &Panel<'_>,
    survivors: &mut Survivors,
) {
    const { assert!(lanes::is_block::<L, V1>() && V.is_multiple_of(V1)) }
    for (at, &(first, len)) in queries.tiles.iter().enumerate() {
        let tile = Tile { queries, first, panel, at };
        // SAFETY: guaranteed by the caller; the tile is part of the query block.
        unsafe {
            if len == QA {
                match queries.tiles.len() {
                    1 => rows::<L, V, V1, QA, 8>(tile, survivors),
                    2..=3 => rows::<L, V, V1, QA, 4>(tile, survivors),
                    4..=8 => rows::<L, V, V1, QA, 2>(tile, survivors),
                    _ => rows::<L, V, V1, QA, 0>(tile, survivors),
                }
            } else if len == QB {
                match queries.tiles.len() {
                    1 => rows::<L, V, V1, QB, 8>(tile, survivors),
                    2..=3 => rows::<L, V, V1, QB, 4>(tile, survivors),
                    _ => rows::<L, V, V1, QB, 0>(tile, survivors),
                }
            } else if len == 2 {
                rows::<L, V, V1, 2, 0>(tile, survivors);
            } else {
                rows::<L, V, V1, 1, 0>(tile, survivors);
            }
        }
    }
}

/// One tile of queries against one panel.
#[derive(Clone, Copy)]
struct Tile<'a> {
    queries: &'a QueryBlock,
    /// First query of the tile.
    first: usize,
    panel: &'a Panel<'a>,
    /// Position of the tile in the query block.
    at: usize,
}

/// Scores all rows of the panel against one tile of queries.
///
/// # Safety
/// As for [`scan`].
#[inline(always)]
unsafe fn rows<L: Lanes, const V: usize, const V1: usize, const Q: usize, const P: usize>(
    tile: Tile<'_>,
    survivors: &mut Survivors,
) {
    let rows = tile.panel.rows();
    let whole = rows / (V * L::N) * (V * L::N);
    for row in (0..whole).step_by(V * L::N) {
        // SAFETY: guaranteed by the caller; rows row..row + V * N lie in the panel.
        unsafe { score::<L, V, Q, P>(tile, row, survivors) };
    }
    for row in (whole..rows).step_by(BLOCK_ROWS) {
        // SAFETY: as above, for one block of rows.
        unsafe { score::<L, V1, Q, 0>(tile, row, survivors) };
    }
}

/// Scores `V` vectors of rows against one tile of `Q` queries.
///
/// ```text
/// sums[q][v] = bias of query q                            Q x V registers, N rows each
/// for each pair of groups g, g + 1:                       8 columns
///     rows[v]  = load N rows x 4 columns, twice           V x 2 loads, reused by Q queries
///     for each query q:
///         query = broadcast 4 codes, twice                reused by V vectors
///         for each v: sums[q][v] += dot4(rows[v], query)  integer dot products, exact
/// for each q, v:
///     bound = scale of q * (sums * scales of rows) + slope of q * errors of rows
///     append the rows with bound > limit of q to the survivors
/// ```
///
/// The sums never leave the registers, and a score that is dropped is never written to memory. Q and V are chosen per
/// instruction set so that the sums fill most of the registers: every loaded row is then used Q times, every broadcast
/// V times, and the multiplier is the bottleneck instead of the loads.
///
/// # Safety
/// As for [`scan`]; rows row..row + V * N lie in the panel.
#[inline(always)]
unsafe fn score<L: Lanes, const V: usize, const Q: usize, const P: usize>(
    tile: Tile<'_>,
    row: usize,
    survivors: &mut Survivors,
) {
    let Tile { queries, first, panel, at } = tile;
    let groups = panel.groups;
    // Each tile prefetches its share of the next panel: P cache lines for every step over two groups.
    let ahead = (at * panel.rows() + row) / (V * L::N) * (groups / 2 * P * GROUP_BYTES);
    let ahead = panel.codes.as_ptr().wrapping_add(panel.codes.len() + ahead % panel.codes.len());
    // SAFETY: row + V * N <= panel.rows(), so every pointer below stays inside the panel's codes, scales and errors,
    // the tile's Q * groups * 4 codes, and the queries' biases and thresholds, as the caller guarantees.
    unsafe {
        let mut sums = [[L::splat_integer(0); V]; Q];
        for (q, sums) in sums.iter_mut().enumerate() {
            *sums = [L::splat_integer(*queries.biases.get_unchecked(first + q)); V];
        }
        let codes: [*const u8; V] = std::array::from_fn(|v| {
            let row = row + v * L::N;
            panel.codes.as_ptr().add(row / BLOCK_ROWS * groups * GROUP_BYTES + row % BLOCK_ROWS * 4)
        });
        let query = queries.codes.as_ptr().add(first * groups * 4);
        for group in (0..groups).step_by(2) {
            let rows: [[L::B; 2]; V] = std::array::from_fn(|v| {
                let at = codes[v].add(group * GROUP_BYTES);
                [L::load_rows(at), L::load_rows(at.add(GROUP_BYTES))]
            });
            if P > 0 {
                // Spread evenly over the loop, so that prefetches never delay the loads of this panel.
                for line in 0..P {
                    prefetch_line(ahead.wrapping_add((group / 2 * P + line) * GROUP_BYTES));
                }
            }
            for (q, sums) in sums.iter_mut().enumerate() {
                let at = query.add((group * Q + 2 * q) * 4);
                let query = [L::load_query(at), L::load_query(at.add(4))];
                for (sum, rows) in sums.iter_mut().zip(rows) {
                    *sum = L::dot(*sum, rows, query);
                }
            }
        }
        epilogue::<L, V, Q>(tile, row, &sums, survivors);
    }
}

/// Turns a tile's sums into bounds and keeps the rows whose bound is above the query's limit.
///
/// # Safety
/// As for [`score`].
#[inline(always)]
unsafe fn epilogue<L: Lanes, const V: usize, const Q: usize>(
    tile: Tile<'_>,
    row: usize,
    sums: &[[L::I; V]; Q],
    survivors: &mut Survivors,
) {
    let Tile { queries, first, panel, .. } = tile;
    // SAFETY: rows row..row + V * N lie in the panel, and queries first..first + Q in the query block.
    unsafe {
        for v in 0..V {
            let at = row + v * L::N;
            let scales = L::load(panel.scales.as_ptr().add(at));
            let errors = L::load(panel.errors.as_ptr().add(at));
            for (q, sums) in sums.iter().enumerate() {
                let thresholds = queries.thresholds.get_unchecked(first + q);
                let score = L::mul(L::to_float(sums[v]), scales);
                let error = L::mul(errors, L::splat(thresholds.slope));
                let bound = L::mul_add(score, L::splat(thresholds.scale), error);
                let mut above = L::greater(bound, L::splat(thresholds.limit));
                if above != 0 {
                    // Only mining has windows. Many rows may score above a window, so they are only counted here, and
                    // dropped.
                    if thresholds.below < f32::INFINITY {
                        let lower = L::mul_add(error, L::splat(-2.0), bound);
                        let wanted = L::greater(L::splat(thresholds.below), lower)
                            | L::greater(bound, L::splat(thresholds.always));
                        survivors.above_window[first + q] += (above & !wanted).count_ones();
                        above &= wanted;
                    }
                    keep::<L>(bound, above, first + q, panel.first_row as usize + at, survivors);
                }
            }
        }
    }
}

/// Number of independent sums per row of one block, so that an addition does not wait for the previous one.
const APART: usize = 4;

/// Scores one block of rows against one query; bit i of the result is set where `bounds[i]` is above the limit. A
/// single query has no other queries to share loads with, so this kernel hides latency with [`APART`] independent sums
/// instead of a tile.
///
/// # Safety
/// The processor has the instruction set of `L`; `V * L::N` is [`BLOCK_ROWS`]; the panel is one block with the query's
/// number of groups (`Kernel::score_block` checks).
#[inline(always)]
pub(super) unsafe fn score_block<L: Lanes, const V: usize>(
    query: SingleQuery<'_>,
    panel: &Panel<'_>,
    bounds: &mut [f32; BLOCK_ROWS],
) -> u32 {
    const { assert!(lanes::is_block::<L, V>()) }
    let pairs = panel.groups / 2;
    // SAFETY: the panel has BLOCK_ROWS rows of 2 * pairs groups and the query has eight codes for each pair, as the
    // caller guarantees.
    unsafe {
        let mut sums = [[L::splat_integer(0); V]; APART];
        sums[0] = [L::splat_integer(query.bias); V];
        let codes = panel.codes.as_ptr();
        let add = |sums: &mut [L::I; V], pair: usize| {
            let at = query.codes.as_ptr().add(pair * 8);
            let query = [L::load_query(at), L::load_query(at.add(4))];
            for (v, sum) in sums.iter_mut().enumerate() {
                let at = codes.add(pair * 2 * GROUP_BYTES + v * L::N * 4);
                *sum = L::dot(*sum, [L::load_rows(at), L::load_rows(at.add(GROUP_BYTES))], query);
            }
        };
        let whole = pairs / APART * APART;
        for pair in (0..whole).step_by(APART) {
            for (u, sums) in sums.iter_mut().enumerate() {
                add(sums, pair + u);
            }
        }
        for pair in whole..pairs {
            add(&mut sums[0], pair);
        }
        let mut above = 0;
        for v in 0..V {
            let sum = sums[1..].iter().fold(sums[0][v], |sum, part| L::add_integer(sum, part[v]));
            let score = L::mul(L::to_float(sum), L::load(panel.scales.as_ptr().add(v * L::N)));
            let error = L::mul(L::load(panel.errors.as_ptr().add(v * L::N)), L::splat(query.thresholds.slope));
            let bound = L::mul_add(score, L::splat(query.thresholds.scale), error);
            above |= L::greater(bound, L::splat(query.thresholds.limit)) << (v * L::N);
            L::store(bound, bounds.as_mut_ptr().add(v * L::N));
        }
        above
    }
}

/// Appends the lanes of `bound` whose bit is set in `above`. Cold, because nearly all pairs are dropped.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[cold]
#[inline(always)]
unsafe fn keep<L: Lanes>(bound: L::F, mut above: u32, query: usize, row: usize, survivors: &mut Survivors) {
    let mut spilled = [0.0f32; 16];
    // SAFETY: guaranteed by the caller; `spilled` holds N values.
    unsafe { L::store(bound, spilled.as_mut_ptr()) };
    while above != 0 {
        let lane = above.trailing_zeros() as usize;
        above &= above - 1;
        survivors.rows.push(Survivor { query: query as u32, row: (row + lane) as u32, bound: spilled[lane % 16] });
    }
}
