//! The top k of a stream of scores with bounded errors: `TopK` against a binary heap, selection and sorting, which get
//! exact scores.
//!
//!     cargo bench -p relkt-core --bench top_k

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relkt_core::top_k::{Candidate, Exact, Hit, TopK, Window, rank};

const ROWS: usize = 100_000;
/// Typical coding error of rows with 384 columns, in either direction.
const ERROR: f32 = 0.008;

/// Exact scores from the list.
struct List<'a>(&'a [Hit]);

impl Exact for List<'_> {
    fn score(&mut self, row: u32) -> f32 {
        self.0[row as usize].score
    }

    fn prefetch(&mut self, _row: u32) {}
}

fn hits() -> Vec<Hit> {
    let score = |row: usize| ((row * 2_654_435_761) % 1_000_003) as f32 / 1_000_003.0;
    (0..ROWS).map(|row| Hit { score: score(row), row: row as u32 }).collect()
}

fn top_k(criterion: &mut Criterion) {
    let hits = hits();
    let mut group = criterion.benchmark_group("top_k");
    group.throughput(Throughput::Elements(ROWS as u64));
    for k in [1, 10, 100, 1000] {
        group.bench_with_input(BenchmarkId::new("relkt", k), &k, |b, &k| {
            b.iter(|| {
                let mut exact = List(&hits);
                let mut top = TopK::new(k, Window::ALL);
                for hit in black_box(&hits) {
                    // Kernels drop rows whose upper bound is below the threshold.
                    if hit.score + ERROR >= top.threshold() {
                        let (lower, upper) = (hit.score - ERROR, hit.score + ERROR);
                        top.push(Candidate { row: hit.row, lower, upper }, &mut exact);
                    }
                }
                top.finish(&mut exact)
            });
        });
        group.bench_with_input(BenchmarkId::new("heap", k), &k, |b, &k| {
            b.iter(|| {
                let mut heap = BinaryHeap::with_capacity(k + 1);
                for hit in black_box(&hits) {
                    let entry = Reverse((hit.score.to_bits(), Reverse(hit.row)));
                    if heap.len() < k {
                        heap.push(entry);
                    } else if heap.peek().is_some_and(|worst| entry < *worst) {
                        heap.pop();
                        heap.push(entry);
                    }
                }
                heap.into_sorted_vec()
            });
        });
        group.bench_with_input(BenchmarkId::new("select", k), &k, |b, &k| {
            b.iter(|| {
                let mut all = black_box(&hits).clone();
                all.select_nth_unstable_by(k - 1, rank);
                all.truncate(k);
                all.sort_unstable_by(rank);
                all
            });
        });
        group.bench_with_input(BenchmarkId::new("sort", k), &k, |b, &k| {
            b.iter(|| {
                let mut all = black_box(&hits).clone();
                all.sort_unstable_by(rank);
                all.truncate(k);
                all
            });
        });
    }
    group.finish();
}

criterion_group!(benches, top_k);
criterion_main!(benches);
