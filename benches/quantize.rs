//! Coding rows: one at a time from the cache, by every kernel, and all rows of a matrix into new memory, by threads.
//! Throughput is in bytes of rows.
//!
//!     cargo bench -p relkt-core --bench quantize

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relkt_core::kernel::{F16, ROW_LEVELS, Row};
use relkt_core::quantize::Codes;
use relkt_core::{Buffer, Execution, Kernel, Matrix, Values};

const ROWS: usize = 50_000;

fn singles(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// float16 from -1 to -1/2 and from 1/2 to 1.
fn halves(count: usize) -> Vec<F16> {
    (0..count).map(|i| F16(0x3800 | ((i * 2_654_435_761) >> 7) as u16 & 0x83ff)).collect()
}

fn rows(criterion: &mut Criterion) {
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("quantize/{}", kernel.name()));
        for dim in [384, 768, 1023] {
            let (single, half) = (singles(dim), halves(dim));
            let mut codes = vec![0i8; dim];
            for (name, row, bytes) in [("f32", Row::F32(&single), 4), ("f16", Row::F16(&half), 2)] {
                let norm = kernel.dot_f64(row, row).sqrt();
                group.throughput(Throughput::Bytes((bytes * dim) as u64));
                group.bench_function(BenchmarkId::new(name, dim), |b| {
                    b.iter(|| kernel.quantize(black_box(row), norm, ROW_LEVELS, black_box(&mut codes)));
                });
            }
        }
        group.finish();
    }
}

fn matrices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codes of a matrix");
    group.sample_size(10);
    let kernel = Kernel::detect();
    for dim in [384, 768] {
        let single = Values::F32(Buffer::copy_of(&singles(ROWS * dim)).expect("memory"));
        let half = Values::F16(Buffer::copy_of(&halves(ROWS * dim)).expect("memory"));
        for (name, values, bytes) in [("f32", single, 4), ("f16", half, 2)] {
            let all = Execution::new(kernel, None).expect("threads");
            let matrix = Matrix::new("rows", values, ROWS, dim, &all).expect("valid rows");
            group.throughput(Throughput::Bytes((ROWS * dim * bytes) as u64));
            for threads in [1, 2] {
                let execution = Execution::new(kernel, Some(threads)).expect("threads");
                group.bench_function(BenchmarkId::new(name, format!("d{dim} t{threads}")), |b| {
                    b.iter_with_large_drop(|| Codes::of(&matrix, &execution).expect("memory"));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, rows, matrices);
criterion_main!(benches);
