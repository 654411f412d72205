//! The kernels, written once over a small trait of vector operations; the ISA modules only instantiate them.
//!
//! Rows stand side by side on the lanes: a vector holds four codes of each of `N` rows, and four codes of a query are
//! broadcast to all of them. One pass over the columns leaves `V * N` rows by `Q` queries of integer dot products in
//! registers; there they become upper bounds of the scores, are compared with the queries' limits, and only survivors
//! are stored. Rows are read in the order in which they lie in memory, which is as fast as memory gets.

use super::{BLOCK_ROWS, GROUP_BYTES, Panel, QueryBlock, Single, Survivor, Survivors};

/// One instruction set's vectors: bytes, 32-bit integers and float32, `N` lanes of 32 bits each.
///
/// # Safety
/// Every method requires that the processor has the instruction set. `load_rows` reads `4 * N` bytes at the pointer,
/// `load_query` four, `load` reads and `store` writes `N` values.
pub(super) unsafe trait Lanes: Copy {
    /// Lanes in a vector, a divisor of [`BLOCK_ROWS`].
    const N: usize;
    /// What a stored code exceeds the code by when it takes part in `dot`: 128, or 0 where `load_rows` takes it away.
    const ROW_ZERO: i32;
    /// Codes of rows, and of a query.
    type B: Copy;
    /// Sums.
    type I: Copy;
    /// Scores.
    type F: Copy;
    unsafe fn load_rows(at: *const u8) -> Self::B;
    unsafe fn load_query(at: *const i8) -> Self::B;
    /// Adds to each lane of `sums` the products of its four codes, for two groups of columns.
    unsafe fn dot(sums: Self::I, rows: [Self::B; 2], query: [Self::B; 2]) -> Self::I;
    unsafe fn splat_integer(x: i32) -> Self::I;
    unsafe fn add_integer(a: Self::I, b: Self::I) -> Self::I;
    /// Rounded to nearest.
    unsafe fn to_float(sums: Self::I) -> Self::F;
    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(at: *const f32) -> Self::F;
    unsafe fn store(v: Self::F, at: *mut f32);
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once or twice.
    unsafe fn mul_add(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Bit i is set where `a[i] > b[i]`.
    unsafe fn greater(a: Self::F, b: Self::F) -> u32;
}

/// Scores a panel against the queries, whose tiles have 1, 2, `QB` or `QA` queries; `V` vectors of rows at a time, `V1`
/// where fewer are left.
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
    const { assert!(V1 * L::N == BLOCK_ROWS && V.is_multiple_of(V1)) }
    for (at, &(first, len)) in queries.tiles.iter().enumerate() {
        let tile = Tile { queries, first, panel, at };
        // SAFETY: the caller's promises; the tile is one of the block's.
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
    /// The first query of the tile.
    first: usize,
    panel: &'a Panel<'a>,
    /// Position among the tiles.
    at: usize,
}

/// All rows of the panel against one tile of queries.
#[inline(always)]
unsafe fn rows<L: Lanes, const V: usize, const V1: usize, const Q: usize, const P: usize>(
    tile: Tile<'_>,
    survivors: &mut Survivors,
) {
    let rows = tile.panel.rows();
    let whole = rows / (V * L::N) * (V * L::N);
    for row in (0..whole).step_by(V * L::N) {
        // SAFETY: the caller's promises; rows row..row + V * N lie in the panel.
        unsafe { score::<L, V, Q, P>(tile, row, survivors) };
    }
    for row in (whole..rows).step_by(BLOCK_ROWS) {
        // SAFETY: as above, with one block of rows.
        unsafe { score::<L, V1, Q, 0>(tile, row, survivors) };
    }
}

#[inline(always)]
unsafe fn score<L: Lanes, const V: usize, const Q: usize, const P: usize>(
    tile: Tile<'_>,
    row: usize,
    survivors: &mut Survivors,
) {
    let Tile { queries, first, panel, at } = tile;
    let groups = panel.groups;
    // Each tile of queries fetches its part of the next panel, P lines for every V blocks' two groups of columns.
    let ahead = (at * panel.rows() + row) / (V * L::N) * (groups / 2 * P * GROUP_BYTES);
    let ahead = panel.codes.as_ptr().wrapping_add(panel.codes.len() + ahead % panel.codes.len());
    // SAFETY: row + V * N <= panel.rows(), so that every pointer below stays inside the panel's codes and weights, the
    // tile's Q * groups * 4 codes and the queries' numbers, as the caller promises.
    unsafe {
        let mut sums = [[L::splat_integer(0); V]; Q];
        for (q, sums) in sums.iter_mut().enumerate() {
            *sums = [L::splat_integer(*queries.offsets.get_unchecked(first + q)); V];
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
                // While this panel is scored, the next one is fetched, evenly.
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
        for v in 0..V {
            let at = row + v * L::N;
            let scales = L::load(panel.scales.as_ptr().add(at));
            let errors = L::load(panel.errors.as_ptr().add(at));
            for (q, sums) in sums.iter().enumerate() {
                let numbers = queries.numbers.get_unchecked(first + q);
                let score = L::mul(L::to_float(sums[v]), scales);
                let error = L::mul(errors, L::splat(numbers.slope));
                let bound = L::mul_add(score, L::splat(numbers.scale), error);
                let mut above = L::greater(bound, L::splat(numbers.limit));
                if above != 0 {
                    if numbers.ceiling < f32::INFINITY {
                        let lower = L::mul_add(error, L::splat(-2.0), bound);
                        let wanted =
                            L::greater(L::splat(numbers.ceiling), lower) | L::greater(bound, L::splat(numbers.sure));
                        survivors.dropped[first + q] += (above & !wanted).count_ones();
                        above &= wanted;
                    }
                    keep::<L>(bound, above, first + q, panel.first_row as usize + at, survivors);
                }
            }
        }
    }
}

/// Sums of one block that are kept apart, so that each addition need not wait for the one before.
const APART: usize = 4;

/// Scores one block of rows against one query; bit i of the result is set where `bounds[i]` is above the limit.
///
/// # Safety
/// The processor has the instruction set of `L`; `V * L::N` is [`BLOCK_ROWS`]; the panel is one block, of as many groups
/// as the query (`Kernel::score_block` checks).
#[inline(always)]
pub(super) unsafe fn score_block<L: Lanes, const V: usize>(
    query: Single<'_>,
    panel: &Panel<'_>,
    bounds: &mut [f32; BLOCK_ROWS],
) -> u32 {
    const { assert!(V * L::N == BLOCK_ROWS) }
    let pairs = panel.groups / 2;
    // SAFETY: the panel has BLOCK_ROWS rows of 2 * pairs groups, the query eight codes for each pair, as the caller
    // promises.
    unsafe {
        let mut sums = [[L::splat_integer(0); V]; APART];
        sums[0] = [L::splat_integer(query.offset); V];
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
            let error = L::mul(L::load(panel.errors.as_ptr().add(v * L::N)), L::splat(query.numbers.slope));
            let bound = L::mul_add(score, L::splat(query.numbers.scale), error);
            above |= L::greater(bound, L::splat(query.numbers.limit)) << (v * L::N);
            L::store(bound, bounds.as_mut_ptr().add(v * L::N));
        }
        above
    }
}

/// `out[i * (rows of b) + j]` becomes the dot product of row i of `a` with row j of `b`, `A` by `B` of them at a time: `N`
/// sums, each of every `N`-th column, which are added up at the end.
///
/// # Safety
/// The processor has the instruction set of `L`; `a` and `b` are whole rows of `dim` values, and `out` has a place for each
/// pair of them (`Kernel::products` checks).
#[inline(always)]
pub(super) unsafe fn products<L: Lanes, const A: usize, const B: usize>(
    a: &[f32],
    b: &[f32],
    dim: usize,
    out: &mut [f32],
) {
    let (rows, columns) = (a.len() / dim, b.len() / dim);
    let (whole_rows, whole_columns) = (rows / A * A, columns / B * B);
    // SAFETY: the caller's promises; rows i.. and j.. exist.
    unsafe {
        for i in (0..whole_rows).step_by(A) {
            let (a, out) = (&a[i * dim..], &mut out[i * columns..]);
            for j in (0..whole_columns).step_by(B) {
                product_tile::<L, A, B>(a, &b[j * dim..], dim, &mut out[j..], columns);
            }
            for j in whole_columns..columns {
                product_tile::<L, A, 1>(a, &b[j * dim..], dim, &mut out[j..], columns);
            }
        }
        for i in whole_rows..rows {
            for j in 0..columns {
                product_tile::<L, 1, 1>(&a[i * dim..], &b[j * dim..], dim, &mut out[i * columns + j..], columns);
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set of `L`; `a` holds `A` rows, `b` holds `B`.
#[inline(always)]
unsafe fn product_tile<L: Lanes, const A: usize, const B: usize>(
    a: &[f32],
    b: &[f32],
    dim: usize,
    out: &mut [f32],
    columns: usize,
) {
    let whole = dim / L::N * L::N;
    let mut sums = [[[0.0f32; 16]; B]; A];
    // SAFETY: A and B rows of dim values exist, as the caller promises, and a place for N values in each sum.
    unsafe {
        let mut vectors = [[L::splat(0.0); B]; A];
        let (x, y) = (a.as_ptr(), b.as_ptr());
        for column in (0..whole).step_by(L::N) {
            let y: [L::F; B] = std::array::from_fn(|j| L::load(y.add(j * dim + column)));
            for (i, vectors) in vectors.iter_mut().enumerate() {
                let x = L::load(x.add(i * dim + column));
                for (vector, y) in vectors.iter_mut().zip(y) {
                    *vector = L::mul_add(x, y, *vector);
                }
            }
        }
        for (sums, vectors) in sums.iter_mut().zip(vectors) {
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                L::store(vector, sum.as_mut_ptr());
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, sums) in sums.iter().enumerate() {
            let rest: f32 = (whole..dim).map(|column| a[i * dim + column] * b[j * dim + column]).sum();
            out[i * columns + j] = sums[..L::N].iter().sum::<f32>() + rest;
        }
    }
}

/// Appends the lanes of `bound` that `above` names.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[cold]
#[inline(always)]
unsafe fn keep<L: Lanes>(bound: L::F, mut above: u32, query: usize, row: usize, survivors: &mut Survivors) {
    let mut spilled = [0.0f32; 16];
    // SAFETY: as the caller promises; `spilled` holds N values.
    unsafe { L::store(bound, spilled.as_mut_ptr()) };
    while above != 0 {
        let lane = above.trailing_zeros() as usize;
        above &= above - 1;
        survivors.rows.push(Survivor { query: query as u32, row: (row + lane) as u32, bound: spilled[lane % 16] });
    }
}

/// A stored value of a row.
pub(super) trait Value: Copy {
    /// Its value; exact.
    fn widen(self) -> f32;
}

impl Value for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

/// A float16, as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Half(pub u16);

impl Half {
    /// Its value; exact.
    pub(crate) fn widened(self) -> f32 {
        self.widen()
    }
}

impl Value for Half {
    /// Arithmetic that every instruction set has vectors for, and in which no subnormal float32 appears, since a process
    /// may have them flushed to zero. Infinities and NaN have been refused.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.0);
        let (exponent, fraction) = (bits >> 10 & 31, bits & 0x3ff);
        let normal = f32::from_bits((exponent + 112) << 23 | fraction << 13);
        // Between 2^-14 and 2^-13 the steps are those of subnormal float16.
        let subnormal = f32::from_bits(113 << 23 | fraction << 13) - f32::from_bits(113 << 23);
        let magnitude = if exponent == 0 { subnormal } else { normal };
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

/// Asks for the cache line at an address, which need not be valid.
#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of any address is harmless.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for the cache lines of values.
pub(super) fn prefetch<T>(values: &[T]) {
    for at in (0..size_of_val(values)).step_by(64) {
        prefetch_line(values.as_ptr().cast::<u8>().wrapping_add(at));
    }
}

/// Lanes of the double-precision dot product: part of its definition, so that every kernel adds in the same order.
const LANES_F64: usize = 16;

/// The dot product with exact products and double-precision sums in one fixed order: column c goes to sum c mod 16, in
/// order of the columns, and the sums are folded in halves. Plain code, compiled once for each instruction set; the
/// product of two float32 is exact in double precision, so fusing it with the addition changes nothing.
#[inline(always)]
pub(super) fn dot_f64<A: Value, B: Value>(a: &[A], b: &[B]) -> f64 {
    let mut sums = [0.0f64; LANES_F64];
    let (a_chunks, a_rest) = a.as_chunks::<LANES_F64>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES_F64>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(x.widen()) * f64::from(y.widen());
        }
    }
    for ((sum, &x), &y) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f64::from(x.widen()) * f64::from(y.widen());
    }
    let mut width = LANES_F64 / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}
