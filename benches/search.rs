//! Whole searches by number of queries, width, k and threads, in (query, row) pairs per second: among all rows, among
//! one percent of them, and by the gemm crate with a selection from each row of its scores (always on one thread).
//!
//!     cargo bench -p relkt-core --bench search

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemm::Parallelism;
use relkt_core::top_k::{Hit, rank};
use relkt_core::{Allow, Buffer, Execution, Kernel, Matrix, Passages, Values, search};

const ROWS: usize = 50_000;

fn values(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn matrix(name: &'static str, values: &[f32], dim: usize) -> Matrix {
    let execution = Execution::new(Kernel::detect(), None).expect("threads");
    let rows = values.len() / dim;
    let values = Values::F32(Buffer::copy_of(values).expect("memory"));
    Matrix::new(name, values, rows, dim, &execution).expect("valid rows")
}

/// All scores at once, then the best k of each query.
fn gemm_and_select(queries: &[f32], passages: &[f32], dim: usize, k: usize, threads: usize) -> Vec<Vec<Hit>> {
    let (q, n) = (queries.len() / dim, passages.len() / dim);
    let mut scores = vec![0.0f32; q * n];
    let parallelism = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    #[allow(unsafe_code)]
    // SAFETY: the strides describe row-major (q, d) and (n, d) inputs and a row-major (q, n) output.
    unsafe {
        gemm::gemm(
            q,
            n,
            dim,
            scores.as_mut_ptr(),
            1,
            n as isize,
            false,
            queries.as_ptr(),
            1,
            dim as isize,
            passages.as_ptr(),
            dim as isize,
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
    let best = |scores: &[f32]| {
        let mut hits: Vec<Hit> =
            scores.iter().enumerate().map(|(row, &score)| Hit { score, row: row as u32 }).collect();
        hits.select_nth_unstable_by(k - 1, rank);
        hits.truncate(k);
        hits.sort_unstable_by(rank);
        hits
    };
    scores.chunks_exact(n).map(best).collect()
}

fn searches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("search");
    group.sample_size(10);
    let kernel = Kernel::detect();
    for dim in [384, 768] {
        let stored = values(ROWS * dim);
        let all = Execution::new(kernel, None).expect("threads");
        let passages = Passages::new(matrix("passages", &stored, dim), &all).expect("memory");
        let percent: Vec<u8> =
            (0..ROWS).map(|row| u8::from(((row * 2_654_435_761) >> 8).is_multiple_of(100))).collect();
        let allow = Allow::mask(&percent);
        for queries in [1, 16, 256] {
            let asked = values(queries * dim);
            let matrix = matrix("queries", &asked, dim);
            for threads in [1, 2] {
                let execution = Execution::new(kernel, Some(threads)).expect("threads");
                for k in [10, 100, 1000] {
                    let id = format!("q{queries} d{dim} k{k} t{threads}");
                    group.throughput(Throughput::Elements((queries * ROWS) as u64));
                    group.bench_function(BenchmarkId::new("relkt", &id), |b| {
                        b.iter(|| search(&matrix, &passages, k, None, &execution));
                    });
                    group.bench_function(BenchmarkId::new("gemm and select", &id), |b| {
                        b.iter(|| gemm_and_select(&asked, &stored, dim, k, threads));
                    });
                }
                group.throughput(Throughput::Elements((queries * allow.len()) as u64));
                let id = format!("q{queries} d{dim} k10 t{threads}");
                group.bench_function(BenchmarkId::new("relkt, 1 % allowed", &id), |b| {
                    b.iter(|| search(&matrix, &passages, 10, Some(&allow), &execution));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, searches);
criterion_main!(benches);
