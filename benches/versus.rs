//! The extent map against the ordered map of the standard library behind reader-writer locks. The opponents of
//! one group run one after the other in the same process; compare within a run only.
//!
//! `cargo bench --bench versus`, quickly with `-- --quick`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::PoisonError;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use extent_map::map::ExtentMap;

/// Blocks from the start of one extent to that of the next, the last of which is a gap.
const STRIDE: u64 = 8;
const SIZES: [u64; 2] = [1_000, 100_000];

/// A map of extents, by a reader's or a writer's single step.
trait Extents: Default {
    const NAME: &'static str;
    fn get(&self, block: u64) -> Option<u64>;
    /// Maps blocks `start..end` to `value` and so on; the range is free, or that of one extent.
    fn insert(&self, start: u64, end: u64, value: u64);

    /// A map of that many extents, filled from the start.
    fn filled(extents: u64) -> Self {
        let map = Self::default();
        for start in (0..extents).map(|n| n * STRIDE) {
            map.insert(start, start + STRIDE - 1, start * 2);
        }
        map
    }
}

impl Extents for ExtentMap<u64> {
    const NAME: &'static str = "ExtentMap";

    fn get(&self, block: u64) -> Option<u64> {
        let extent = self.get(block)?;
        Some(extent.value() + (block - extent.start()))
    }

    fn insert(&self, start: u64, end: u64, value: u64) {
        self.insert(start..end, value).expect("not empty");
    }
}

type Tree = BTreeMap<u64, (u64, u64)>;

fn get_in(tree: &Tree, block: u64) -> Option<u64> {
    let (start, (end, value)) = tree.range(..=block).next_back()?;
    (block < *end).then(|| value + (block - start))
}

impl Extents for parking_lot::RwLock<Tree> {
    const NAME: &'static str = "parking_lot RwLock<BTreeMap>";

    fn get(&self, block: u64) -> Option<u64> {
        get_in(&self.read(), block)
    }

    fn insert(&self, start: u64, end: u64, value: u64) {
        self.write().insert(start, (end, value));
    }
}

impl Extents for std::sync::RwLock<Tree> {
    const NAME: &'static str = "std RwLock<BTreeMap>";

    fn get(&self, block: u64) -> Option<u64> {
        get_in(&self.read().unwrap_or_else(PoisonError::into_inner), block)
    }

    fn insert(&self, start: u64, end: u64, value: u64) {
        let mut tree = self.write().unwrap_or_else(PoisonError::into_inner);
        tree.insert(start, (end, value));
    }
}

/// Blocks in an order that no cache guesses (Knuth's MMIX generator).
fn random_blocks(below: u64) -> impl Iterator<Item = u64> {
    let next = |state: &u64| {
        Some(
            state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407),
        )
    };
    std::iter::successors(Some(1_u64), next).map(move |state| (state >> 24) % below)
}

fn bench<M: Extents>(criterion: &mut Criterion, extents: u64) {
    let map = M::filled(extents);
    let blocks = extents * STRIDE;
    let mut run = |group: &str, step: &mut dyn FnMut()| {
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new(M::NAME, extents), |bencher| {
            bencher.iter(&mut *step)
        });
    };
    let mut random = random_blocks(blocks);
    run("lookup/random", &mut || {
        black_box(map.get(random.next().unwrap_or(0)));
    });
    let mut block = 0;
    run("lookup/sequential", &mut || {
        block = (block + 1) % blocks;
        black_box(map.get(block));
    });
    // One extent gets another value; its neighbours stay.
    let mut random = random_blocks(extents);
    run("overwrite", &mut || {
        let start = random.next().unwrap_or(0) * STRIDE;
        map.insert(start, start + STRIDE - 1, black_box(start * 3));
    });
}

fn versus(criterion: &mut Criterion) {
    for extents in SIZES {
        bench::<ExtentMap<u64>>(criterion, extents);
        bench::<parking_lot::RwLock<Tree>>(criterion, extents);
        bench::<std::sync::RwLock<Tree>>(criterion, extents);
    }
}

fn fill(criterion: &mut Criterion) {
    fn bench<M: Extents>(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("insert/sequential");
        group.throughput(Throughput::Elements(SIZES[0]));
        group.bench_function(BenchmarkId::new(M::NAME, SIZES[0]), |bencher| {
            bencher.iter(|| M::filled(SIZES[0]))
        });
    }
    bench::<ExtentMap<u64>>(criterion);
    bench::<parking_lot::RwLock<Tree>>(criterion);
    bench::<std::sync::RwLock<Tree>>(criterion);
}

criterion_group!(benches, fill, versus);
criterion_main!(benches);
