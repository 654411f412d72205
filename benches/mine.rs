//! Mining compared with a plain search for as many results: a window far below the best passages, and hard and
//! semi-hard negatives around good and around poor positives. Around poor positives, many passages score close to the
//! window's limits.
//!
//!     cargo bench -p relkt-core --bench mine

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relkt_core::top_k::Window;
use relkt_core::{
    Buffer, Execution, Kernel, Matrix, MiningOptions, Passages, RowLists, Values, Wanted, lowest_positive, mine, search,
};

const ROWS: usize = 50_000;
const QUERIES: usize = 256;
const DIM: usize = 384;

fn values(count: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn matrix(name: &'static str, values: &[f32]) -> Matrix {
    let execution = Execution::new(Kernel::detect(), None).expect("threads");
    let rows = values.len() / DIM;
    let values = Values::F32(Buffer::copy_of(values).expect("memory"));
    Matrix::new(name, values, rows, DIM, &execution).expect("valid rows")
}

fn mining(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mine");
    group.sample_size(10);
    group.throughput(Throughput::Elements((QUERIES * ROWS) as u64));
    let execution = Execution::new(Kernel::detect(), Some(1)).expect("threads");
    let stored = values(ROWS * DIM, 1);
    let passages = Passages::new(matrix("passages", &stored), &execution).expect("memory");
    // Each query lies near its first passage, whose row is its own.
    let noise = values(QUERIES * DIM, 2);
    let asked: Vec<f32> = stored.iter().zip(&noise).map(|(x, noise)| x + 2.0 * noise).collect();
    let queries = matrix("queries", &asked);
    let starts: Vec<i64> = (0..=QUERIES as i64).collect();
    for (name, positives) in
        [("good", (0..QUERIES as i64).collect::<Vec<_>>()), ("poor", (10_000..10_000 + QUERIES as i64).collect())]
    {
        let positives = RowLists::new("positives", &starts, &positives);
        let lowest = lowest_positive(&queries, &passages, positives, &execution).expect("valid");
        let windows = |above: f64, below: f64, relative: bool| -> Vec<Window> {
            let at = |&s: &f32| if relative { f64::from(s) } else { 0.0 };
            lowest.iter().map(|s| Window { above: at(s) + above, below: at(s) + below }).collect()
        };
        let cases = [
            ("margin, 5", vec![(5, windows(f64::NEG_INFINITY, -0.05, true))]),
            ("margin, 100", vec![(100, windows(f64::NEG_INFINITY, -0.05, true))]),
            ("2 hard, 1 semi-hard", vec![(2, windows(0.0, 5.0, true)), (1, windows(-0.1, 0.0, true))]),
        ];
        for (case, lists) in &cases {
            let lists: Vec<Wanted<'_>> = lists.iter().map(|(num, windows)| Wanted { num: *num, windows }).collect();
            let options =
                MiningOptions { lists: &lists, positives, exclude: None, groups: None, max_positive_similarity: None };
            group.bench_function(BenchmarkId::new(*case, format!("{name} positives")), |b| {
                b.iter(|| mine(&queries, &passages, &options, &execution));
            });
        }
    }
    for k in [5, 100] {
        group.bench_function(BenchmarkId::new("search", k), |b| {
            b.iter(|| search(&queries, &passages, k, None, &execution));
        });
    }
    group.finish();
}

criterion_group!(benches, mining);
criterion_main!(benches);
