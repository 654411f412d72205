//! The kernels on data that lie in the cache: codes of a panel against whole tiles of queries, and the dot product in
//! double precision that scores survivors. Throughput is in operations, two for each multiply-add, padding left out.
//!
//!     cargo bench -p relkt-core --bench dot

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relkt_core::Kernel;
use relkt_core::kernel::{BLOCK_ROWS, GROUP_BYTES, Panel, QueryBlock, QueryCodes, Row, Survivors, groups};

/// Bytes of codes in a panel: half of a common L2 cache.
const PANEL: usize = 256 << 10;
const DIMS: [usize; 4] = [128, 384, 768, 1023];
const QUERIES: [usize; 3] = [1, 6, 48];

/// Whole numbers below `levels` in magnitude, spread evenly.
fn codes(count: usize, levels: i8) -> Vec<i8> {
    let levels = levels as usize;
    (0..count).map(|i| (((i * 2_654_435_761) >> 8) % (2 * levels + 1)) as i8 - levels as i8).collect()
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect()
}

fn scan(criterion: &mut Criterion) {
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("scan/{}", kernel.name()));
        for dim in DIMS {
            let groups = groups(dim);
            let rows = PANEL / (groups * GROUP_BYTES) * BLOCK_ROWS;
            let stored: Vec<u8> = codes(rows * groups * 4, 127).into_iter().map(|code| code as u8 ^ 0x80).collect();
            let (scales, errors) = (vec![1.0; rows], vec![0.0; rows]);
            let panel = Panel::new(&stored, &scales, &errors, groups, 0);
            for queries in QUERIES {
                let query = |lane: usize| {
                    let mut codes = codes(dim + lane, kernel.query_levels()).split_off(lane);
                    codes.resize(groups * 4, 0);
                    QueryCodes::new(codes, 1.0, 1.0)
                };
                let asked: Vec<QueryCodes> = (0..queries).map(query).collect();
                // Limits are infinite until they are set, so that nothing survives.
                let block = QueryBlock::new(kernel, groups, &asked.iter().collect::<Vec<_>>());
                group.throughput(Throughput::Elements(2 * (rows * queries * dim) as u64));
                group.bench_function(BenchmarkId::new(format!("{queries} queries"), dim), |b| {
                    let mut survivors = Survivors::default();
                    b.iter(|| kernel.scan(black_box(&block), black_box(&panel), &mut survivors));
                    assert!(survivors.rows.is_empty(), "limits are infinite");
                });
            }
        }
        group.finish();
    }
}

fn dot_f64(criterion: &mut Criterion) {
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("dot_f64/{}", kernel.name()));
        for dim in DIMS {
            let (query, row) = (values(dim), values(2 * dim).split_off(dim));
            group.throughput(Throughput::Elements(2 * dim as u64));
            group.bench_function(BenchmarkId::from_parameter(dim), |b| {
                b.iter(|| kernel.dot_f64(Row::F32(black_box(&query)), Row::F32(black_box(&row))));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, scan, dot_f64);
criterion_main!(benches);
