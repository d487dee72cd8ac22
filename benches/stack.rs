//! The whole stack on a device in memory: delayed writes, and the writeback that follows.
//!
//! `cargo bench --bench stack`, quickly with `-- --quick`

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use extent_map::device::MemoryDevice;
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::units::FileNumber;

const BLOCK: u64 = 4096;
/// Blocks written in one go.
const BLOCKS: u64 = 256;

/// A volume with an empty file.
fn fresh() -> (Volume, File) {
    let device = MemoryDevice::new(4 * BLOCKS * BLOCK);
    let volume = Volume::format(Arc::new(device), &VolumeOptions::new()).expect("good options");
    let file = volume.file(FileNumber(1)).expect("an empty file");
    (volume, file)
}

fn write(file: &File) {
    for block in 0..BLOCKS {
        let written = file.write_at(block * BLOCK, &[block as u8; BLOCK as usize]);
        assert_eq!(written, Ok(BLOCK as usize));
    }
}

fn stack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stack");
    group.throughput(Throughput::Bytes(BLOCKS * BLOCK));
    group.bench_function("write delayed", |bencher| {
        bencher.iter_batched_ref(fresh, |(_, file)| write(file), BatchSize::LargeInput);
    });
    let dirty = || {
        let (volume, file) = fresh();
        write(&file);
        (volume, file)
    };
    group.bench_function("sync", |bencher| {
        let sync = |(volume, _): &mut (Volume, File)| volume.sync().expect("a sound device");
        bencher.iter_batched_ref(dirty, sync, BatchSize::LargeInput);
    });
    let (_volume, file) = dirty();
    group.bench_function("overwrite dirty", |bencher| bencher.iter(|| write(&file)));
    group.finish();
}

criterion_group!(benches, stack);
criterion_main!(benches);
