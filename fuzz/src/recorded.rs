//! Seeds made of the recorded traces.

use std::path::Path;

use extent_map::testing::{FileOp, Op, Script, Shape};

use super::common::random::Random;
use super::dealt::THREADS;
use super::replay::recording;
use super::replay::trace::Trace;

/// An input for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The name of the target.
    pub target: &'static str,
    /// The name of the recording.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Operations of a recording that are dealt to threads, and as many before.
const DEALT: usize = 9;
/// Operations of a recording on a failing device.
const FAULTED: usize = 30;
/// Lines of a recording for its parser.
const LINES: usize = 5;

/// Seeds for all targets that can make use of the recordings in `folder`.
///
/// # Panics
/// When a recording cannot be read, or has an operation that cannot be said in bytes.
pub fn seeds(folder: &Path) -> Vec<Seed> {
    let recordings = recording::find(folder).expect("a folder of recordings");
    let mut seeds = Vec::new();
    for (number, path) in recordings.iter().enumerate() {
        let text = recording::read(path).expect("a readable recording");
        let trace = Trace::parse(&text).expect("a recording");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".jsonl.gz");
        let mut add = |target, bytes| {
            let name = name.to_owned();
            seeds.push(Seed {
                target,
                name,
                bytes,
            });
        };
        if number.is_multiple_of(4) {
            add("trace_parser", shortened(&text, trace.head.white_box));
        }
        if !trace.head.white_box {
            let script = script(&trace, 8);
            add(
                "file_ops",
                script.encode().expect("nothing is out of reach"),
            );
            add("device_faults", faulted(&script, number as u64));
            add("file_concurrent", dealt(&closest(&trace), number as u64));
        }
    }
    seeds
}

/// The first lines of a recording, and the last one of those that end with a line of its own.
fn shortened(text: &str, white_box: bool) -> Vec<u8> {
    let lines: Vec<_> = text.lines().collect();
    let (first, rest) = lines.split_at(LINES);
    let last = rest.last().filter(|_| !white_box);
    let lines = first.iter().chain(last);
    lines
        .flat_map(|line| [line.as_bytes(), b"\n"].concat())
        .collect()
}

/// The operations of a recording in files that are `closer` times shorter.
///
/// Whole pages, or clusters if they are larger, are taken out; so what was aligned stays so, and what met or
/// overlapped still does.
fn script(trace: &Trace, closer: u64) -> Script {
    let head = &trace.head;
    let shape = Shape {
        delayed: head.delayed,
        ..Shape::new(head.block_size, head.cluster_blocks)
    };
    let unit = shape.cluster_bytes().max(4096);
    let bring = |bytes: &mut u64| *bytes = *bytes / unit / closer * unit + *bytes % unit;
    let ops = trace.steps.iter().map(|step| {
        let mut op = step.op.clone();
        if let Op::File(_, op) = &mut op {
            match op {
                FileOp::Write { offset, len, .. }
                | FileOp::StoreMapped { offset, len, .. }
                | FileOp::Read { offset, len }
                | FileOp::LoadMapped { offset, len }
                | FileOp::Allocate { offset, len, .. }
                | FileOp::SyncRange { offset, len } => {
                    let mut end = *offset + *len;
                    bring(&mut end);
                    bring(offset);
                    *len = match end.saturating_sub(*offset) {
                        0 => (*len).min(unit),
                        apart => apart,
                    };
                }
                FileOp::SetLen(offset) | FileOp::SeekData(offset) | FileOp::SeekHole(offset) => {
                    bring(offset);
                }
                FileOp::SyncData | FileOp::SyncAll | FileOp::ShrinkStatus(_) => {}
            }
        }
        op
    });
    let ops = ops.collect();
    Script { shape, ops }
}

/// All of a recording happens in a few pages, so that threads meet.
fn closest(trace: &Trace) -> Script {
    script(trace, 128)
}

fn encoded(script: &Script, op: &Op) -> [u8; Op::ENCODED_LEN] {
    op.encode(&script.shape).expect("nothing is out of reach")
}

fn shape(script: &Script) -> [u8; Shape::ENCODED_LEN] {
    script.shape.encode().expect("recorded shapes can be drawn")
}

/// As [`Faulted`](super::faulted::Faulted): every third operation or so, the device changes.
fn faulted(script: &Script, number: u64) -> Vec<u8> {
    let mut random = Random(number);
    let mut bytes = shape(script).to_vec();
    for op in script.ops.iter().take(FAULTED) {
        let change = match random.below(3) {
            0 => [144 + random.below(112) as u8, random.below(64) as u8],
            _ => [0, 0],
        };
        bytes.extend(change);
        bytes.extend(encoded(script, op));
    }
    bytes
}

/// As [`Dealt`](super::dealt::Dealt): some operations come before, the next ones at the same time.
fn dealt(script: &Script, number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(shape(script));
    for (index, op) in script.ops.iter().take(2 * DEALT).enumerate() {
        let who = match index.checked_sub(DEALT) {
            None => 0,
            Some(turn) => 1 + turn % THREADS,
        };
        bytes.push(who as u8);
        bytes.extend(encoded(script, op));
    }
    bytes
}
