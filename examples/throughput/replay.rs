//! A trace in place of a mix: its operations on the files of a volume and on files of the system, in turns. In the end
//! both must hold the same bytes.
//!
//! Operations follow each other as fast as they can, those of one file in the order of the trace. Files begin as holes.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use extent_map::device::BlockDevice;
use extent_map::file::{Volume, VolumeOptions};

use super::content::{self, BLOCK};
use super::contest::{Outcome, Turn};
use super::interrupt;
use super::latencies::Latencies;
use super::mix::Kind;
use super::progress::Progress;
use super::report::Report;
use super::target::{OnSystem, OnVolume, Target};
use super::trace::{Action, Operation, Trace};
use super::whole::{accounting, end_volume};

/// Files of the volume; those of a trace that has more share them.
const FILES: usize = 16;
/// Bytes of each; offsets are taken modulo this.
const SPAN: u64 = 64 << 20;
/// Operations in a round.
const ROUND: usize = 4096;

/// Bytes of a device on which a trace can be replayed.
pub(crate) const DEVICE_BYTES: u64 = FILES as u64 * SPAN * 5 / 4;

/// Replays a trace with so many threads, for some time at most.
pub(crate) fn replay(
    trace: &mut Trace<BufReader<File>>,
    (threads, time): (usize, Option<Duration>),
    (device, folder): (&Arc<dyn BlockDevice>, &Path),
    progress: &Progress,
    report: &mut Report,
) -> io::Result<()> {
    let volume = Volume::format_persistent(Arc::clone(device), &VolumeOptions::new())?;
    let ours = OnVolume::new(volume, FILES)?;
    let system = OnSystem::new(folder, FILES)?;
    let targets: [&dyn Target; 2] = [&ours, &system];
    for target in targets {
        (0..FILES).try_for_each(|file| target.truncate(file, SPAN))?;
    }
    let names = targets.map(|target| target.name());
    let mut outcome = Outcome::new("The trace", &[threads], &names);
    progress.say(outcome.title);
    let (start, mut round, mut operations) = (Instant::now(), 0, 0);
    loop {
        let queues = deal(trace, threads)?;
        let count: usize = queues.iter().map(Vec::len).sum();
        let late = time.is_some_and(|time| start.elapsed() >= time);
        if count == 0 || late || interrupt::wanted() {
            break;
        }
        for turn in 0..targets.len() {
            // Who is first changes.
            let turn = (turn + round) % targets.len();
            outcome.add(turn, 0, &carry_out(targets[turn], &queues, operations)?);
        }
        (round, operations) = (round + 1, operations + count);
        progress.show(&format!("{operations} operations replayed"));
    }
    report.outcomes.push(outcome);
    report.notes.push(format!(
        "{operations} operations of a trace: {}",
        trace.format()
    ));
    report.notes.extend(trace.complaints());
    progress.say_checking();
    let files = trace.files().min(FILES);
    let data = same(&ours, &system, files);
    report
        .findings
        .push(("data, against files of the system".into(), data));
    let (opened, stats) = end_volume(ours, FILES, device, &mut report.findings);
    report.stats = stats;
    if let Some(opened) = opened {
        report.findings.push((
            "data, closed and opened".into(),
            same(&opened, &system, files),
        ));
        report
            .findings
            .push(("accounting, opened".into(), accounting(&opened.volume)));
    }
    Ok(())
}

/// The operations of one round: those of one file go to one thread.
fn deal(trace: &mut Trace<BufReader<File>>, threads: usize) -> io::Result<Vec<Vec<Operation>>> {
    let mut queues = vec![Vec::new(); threads];
    for _ in 0..ROUND {
        let Some(operation) = trace.next()? else {
            break;
        };
        let file = operation.file % FILES;
        let offset = operation.offset % SPAN;
        queues[file % threads].push(Operation {
            file,
            offset,
            len: operation.len.min(SPAN - offset),
            ..operation
        });
    }
    Ok(queues)
}

/// Does what the queues say, each in a thread, after so many operations.
fn carry_out(target: &dyn Target, queues: &[Vec<Operation>], before: usize) -> io::Result<Turn> {
    let work = |queue: &Vec<Operation>| {
        let (mut seen, mut buffer) = (Latencies::default(), Vec::new());
        for (number, operation) in queue.iter().enumerate() {
            carry_out_one(
                target,
                (before + number) as u32,
                operation,
                &mut buffer,
                &mut seen,
            )?;
        }
        Ok::<_, io::Error>(seen)
    };
    let start = Instant::now();
    let seen: io::Result<Vec<Latencies>> = thread::scope(|scope| {
        let threads: Vec<_> = queues
            .iter()
            .map(|queue| scope.spawn(|| work(queue)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|seen| seen.expect("no panic")).collect()
    });
    let spent = start.elapsed();
    let mut latencies = Latencies::default();
    seen?.iter().for_each(|seen| latencies.merge(seen));
    let operations: usize = queues.iter().map(Vec::len).sum();
    Ok(Turn {
        rate: operations as f64 / spent.as_secs_f64(),
        latencies,
    })
}

fn carry_out_one(
    target: &dyn Target,
    number: u32,
    operation: &Operation,
    buffer: &mut Vec<u8>,
    seen: &mut Latencies,
) -> io::Result<()> {
    let Operation {
        file,
        action,
        offset,
        len,
    } = *operation;
    if matches!(action, Action::Read | Action::Write) && buffer.len() < len as usize {
        buffer.resize(len as usize, 0);
    }
    match action {
        Action::Read => {
            let part = &mut buffer[..len as usize];
            seen.time(Kind::Read, || target.read(file, offset, part))
                .map(drop)
        }
        Action::Write => {
            let part = &mut buffer[..len as usize];
            for (place, block) in (offset..).step_by(BLOCK).zip(part.chunks_mut(BLOCK)) {
                // What a shorter one holds is the beginning of it.
                let mut whole = [0; BLOCK];
                content::fill(&mut whole, file as u64, place, number + 1);
                block.copy_from_slice(&whole[..block.len()]);
            }
            seen.time(Kind::Write, || target.write(file, offset, part))
        }
        Action::Trim => seen.time(Kind::Punch, || target.punch(file, offset, len)),
        Action::Sync => seen.time(Kind::Sync, || target.sync(file)),
    }
}

/// Whether the first files of two targets hold the same bytes.
pub(crate) fn same(ours: &dyn Target, theirs: &dyn Target, files: usize) -> Result<String, String> {
    const STEP: usize = 1 << 20;
    let mut buffers = [vec![0; STEP], vec![0; STEP]];
    for file in 0..files {
        for offset in (0..SPAN).step_by(STEP) {
            let [one, other] = &mut buffers;
            for (target, buffer) in [(ours, &mut *one), (theirs, &mut *other)] {
                let read = target.read(file, offset, buffer);
                match read {
                    Ok(STEP) => {}
                    Ok(read) => return Err(format!("{read} bytes at {offset} of file {file}")),
                    Err(error) => return Err(format!("file {file}: {error}")),
                }
            }
            if one != other {
                let pairs = one.iter().zip(&*other);
                let at = pairs.take_while(|(one, other)| one == other).count();
                let at = offset + at as u64;
                return Err(format!(
                    "byte {at} of file {file} is not what the system has"
                ));
            }
        }
    }
    Ok(format!("{} MiB are the same", (files as u64 * SPAN) >> 20))
}
