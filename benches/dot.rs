//! Scoring kernels on a panel that lies in the cache: every kernel of this processor, packed and direct, aligned and odd
//! widths. Throughput is in multiply-adds.
//!
//!     cargo bench -p relkt-core --bench dot

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relkt_core::kernel::{Kernel, Panel};

const ROWS: usize = 48;

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect()
}

fn kernels(criterion: &mut Criterion) {
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("dot/{}", kernel.name()));
        for dim in [384, 768, 1023] {
            let (rows, norms) = (values(ROWS * dim), vec![1.0; ROWS]);
            let panel = Panel::new(&rows, &norms, dim, 0);
            for queries in [1, 4] {
                let (packed, thresholds) = (values(queries * dim), vec![f32::INFINITY; queries]);
                group.throughput(Throughput::Elements((ROWS * queries * dim) as u64));
                group.bench_function(BenchmarkId::new(format!("direct {queries}"), dim), |b| {
                    let mut survivors = Vec::new();
                    b.iter(|| kernel.direct(black_box(&packed), &panel, &thresholds, &mut survivors));
                });
            }
            for &width in kernel.widths() {
                let (packed, thresholds) = (values(width * dim), vec![f32::INFINITY; width]);
                group.throughput(Throughput::Elements((ROWS * width * dim) as u64));
                group.bench_function(BenchmarkId::new(format!("packed {width}"), dim), |b| {
                    let mut survivors = Vec::new();
                    b.iter(|| kernel.packed(black_box(&packed), &panel, &thresholds, &mut survivors));
                });
            }
            group.throughput(Throughput::Elements(dim as u64));
            group.bench_function(BenchmarkId::new("f64", dim), |b| {
                b.iter(|| kernel.dot_f64(black_box(&rows[..dim]), &rows[dim..2 * dim]));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
