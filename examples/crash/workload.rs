//! What is run before the power goes: recorded traces, and operations at random.

use std::path::Path;

use arbitrary::Unstructured;
use extent_map::device::Survivors;
use extent_map::file::VolumeOptions;
use extent_map::testing::{FileOp, Op, Shape};

use super::random::Random;
use super::recording;
use super::run::{self, Mishaps, Run};
use super::trace::Trace;

/// Bytes of a device: few, so that space is scarce and used again.
const DEVICE_BYTES: u64 = 2 << 20;

/// Files that are used at the same time.
const THREADS: usize = 3;

/// The shapes of volumes that are tried.
const SHAPES: [Shape; 6] = [
    Shape::new(4096, 1),
    Shape::new(1024, 1),
    Shape::new(1024, 4),
    Shape::new(512, 1).inline(256),
    Shape::new(4096, 4).inline(512),
    Shape::new(2048, 2).not_delayed(),
];

/// Replays the operations of the recording at `path`.
pub(crate) fn recorded(
    path: &Path,
    options: impl Fn(VolumeOptions) -> VolumeOptions,
) -> Result<Run, String> {
    let text = recording::read(path).map_err(|error| error.to_string())?;
    let trace = Trace::parse(&text).map_err(|error| error.to_string())?;
    let shape = VolumeOptions::new()
        .block_size(trace.head.block_size)
        .cluster_blocks(trace.head.cluster_blocks)
        .delayed_allocation(trace.head.delayed);
    let files = trace.head.files as usize;
    let ops = trace.steps.into_iter().map(|step| step.op);
    let mishaps = Mishaps::default();
    run::in_turn(4 * DEVICE_BYTES, options(shape), files, ops, mishaps)
        .map_err(|error| error.to_string())
}

/// `len` operations that `seed` chooses, one after the other on the files of a volume.
pub(crate) fn random(
    seed: u64,
    len: usize,
    options: impl Fn(VolumeOptions) -> VolumeOptions,
    mishaps: Mishaps,
) -> Result<Run, String> {
    let (shape, mut random) = chosen(seed);
    let ops: Vec<Op> = (0..len).map(|_| operation(&mut random, &shape)).collect();
    let options = options(shape.options());
    run::in_turn(DEVICE_BYTES, options, Shape::FILES, ops, mishaps)
        .map_err(|error| error.to_string())
}

/// The same on what power cuts, one after the other, have left of other such runs.
pub(crate) fn after_power_cuts(
    seed: u64,
    len: usize,
    options: impl Fn(VolumeOptions) -> VolumeOptions,
    mishaps: Mishaps,
) -> Result<Run, String> {
    let mut run = random(seed, len, &options, Mishaps::default())?;
    let (shape, _) = chosen(seed);
    let mut random = Random(!seed);
    let cuts = random.below(4) + 1;
    for left in (0..cuts).rev() {
        let moment = random.below(run.recording.moment() as u64 + 1) as usize;
        let image = run.recording.crash(moment, Survivors::Random(random.any()));
        let ops: Vec<Op> = (0..len).map(|_| operation(&mut random, &shape)).collect();
        let mishaps = if left == 0 {
            mishaps
        } else {
            Mishaps::default()
        };
        let options = options(shape.options());
        run = run::in_turn_again(image, options, Shape::FILES, ops, mishaps)
            .map_err(|error| error.to_string())?;
    }
    Ok(run)
}

/// `len` operations for each of a few threads.
pub(crate) fn concurrent(
    seed: u64,
    len: usize,
    options: impl Fn(VolumeOptions) -> VolumeOptions,
    mishaps: Mishaps,
) -> Result<Run, String> {
    let (shape, mut random) = chosen(seed);
    let mut script = || {
        let ops = std::iter::repeat_with(|| operation(&mut random, &shape));
        let ops = ops.map(|op| match op {
            Op::File(_, op) => op,
            _ => FileOp::SyncAll,
        });
        ops.take(len).collect()
    };
    let scripts = (0..THREADS).map(|_| script()).collect();
    let options = options(shape.options());
    run::at_once(DEVICE_BYTES, options, scripts, mishaps).map_err(|error| error.to_string())
}

fn chosen(seed: u64) -> (Shape, Random) {
    let shape = SHAPES[(seed % SHAPES.len() as u64) as usize];
    (shape, Random(seed))
}

fn operation(random: &mut Random, shape: &Shape) -> Op {
    let mut bytes = [0; Op::ENCODED_LEN];
    for byte in &mut bytes {
        *byte = random.any() as u8;
    }
    Op::draw(&mut Unstructured::new(&bytes), shape).expect("enough bytes")
}
