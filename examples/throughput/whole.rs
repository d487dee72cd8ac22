//! The whole crate: threads on the files of a volume, and the same on files of the system.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use extent_map::device::BlockDevice;
use extent_map::file::{Volume, VolumeOptions};
use extent_map::stats::Stats;
use extent_map::testing;

use super::contest::{Contestant, Turn, side_by_side};
use super::interrupt;
use super::target::{OnSystem, OnVolume, Target};
use super::worker::{AtWork, Job, LONGEST, SHARED, Worker, offset};

/// Bytes that a volume for this job needs, with room for its mapping and for blocks that wait to be free.
pub(crate) fn device_bytes(job: &Job) -> u64 {
    let blocks = SHARED as u64 * job.blocks() + job.workers * LONGEST;
    (offset(blocks) * 3 / 2).next_multiple_of(1 << 20) + (64 << 20)
}

/// Workers on the files of one target.
pub(crate) struct Stage<T> {
    target: T,
    workers: Vec<Worker>,
}

impl<T: Target> Stage<T> {
    /// Lays the files out, in part only if it is interrupted.
    fn new(job: &Job, target: T) -> io::Result<Self> {
        for file in 0..SHARED {
            target.truncate(file, offset(job.blocks()))?;
        }
        let mut workers: Vec<_> = (0..job.workers)
            .map(|number| Worker::new(job, number))
            .collect();
        for worker in &mut workers {
            worker.lay_out(&target)?;
        }
        if !interrupt::wanted() {
            target.settle()?;
        }
        Ok(Self { target, workers })
    }

    /// Whether all blocks hold what they should.
    fn verify(&self) -> Result<String, String> {
        let Self { target, workers } = self;
        let blocks = workers.iter().map(|worker| worker.verify(target));
        let blocks: u64 = blocks.sum::<Result<_, _>>()?;
        Ok(format!("{blocks} blocks hold what was written last"))
    }
}

/// A contestant for the time of the contest.
pub(crate) struct Playing<'a, T>(pub(crate) &'a mut Stage<T>);

impl<T: Target> Contestant for Playing<'_, T> {
    fn name(&self) -> &'static str {
        self.0.target.name()
    }

    fn turn(&mut self, threads: usize, time: Duration) -> io::Result<Turn> {
        let Stage { target, workers } = &mut *self.0;
        let target: &dyn Target = target;
        let working = workers[..threads].iter_mut();
        let working = working.map(|worker| AtWork { worker, target }).collect();
        side_by_side(working, time, || ())
    }

    fn settle(&mut self) -> io::Result<()> {
        self.0.target.settle()
    }

    fn verify(&mut self) -> Result<String, String> {
        self.0.verify()
    }
}

/// Files for the job in a folder of the system.
pub(crate) fn on_system(job: &Job, folder: &Path) -> io::Result<Stage<OnSystem>> {
    Stage::new(job, OnSystem::new(folder, SHARED + job.workers as usize)?)
}

/// Files for the job on a new volume.
pub(crate) fn on_volume(job: &Job, device: Arc<dyn BlockDevice>) -> io::Result<Stage<OnVolume>> {
    let volume = Volume::format_persistent(device, &VolumeOptions::new())?;
    Stage::new(job, OnVolume::new(volume, SHARED + job.workers as usize)?)
}

/// One thing that was looked at in the end: what it is, and what was found.
pub(crate) type Finding = (String, Result<String, String>);

impl Stage<OnVolume> {
    /// Checks data, accounting and invariants, closes the volume, checks its image, opens it and looks at the data once
    /// more.
    pub(crate) fn end(self, device: &Arc<dyn BlockDevice>) -> (Vec<Finding>, Option<Stats>) {
        let mut findings = vec![("data".into(), self.verify())];
        let files = SHARED + self.workers.len();
        let (reopened, stats) = end_volume(self.target, files, device, &mut findings);
        if let Some(target) = reopened {
            let workers = self.workers;
            let again = Stage { target, workers };
            let data = again.verify();
            findings.push(("data, closed and opened".into(), data));
            findings.push((
                "accounting, opened".into(),
                accounting(&again.target.volume),
            ));
            let closed = again.target.close();
            findings.push((
                "closed again".into(),
                closed.map(|_| "no promise left".into()),
            ));
        }
        (findings, stats)
    }
}

impl OnVolume {
    fn close(self) -> Result<Stats, String> {
        self.volume.close().map_err(|error| error.to_string())
    }
}

/// Checks a volume at rest, closes it, checks its image and opens it again.
pub(crate) fn end_volume(
    target: OnVolume,
    files: usize,
    device: &Arc<dyn BlockDevice>,
    findings: &mut Vec<Finding>,
) -> (Option<OnVolume>, Option<Stats>) {
    findings.push((
        "accounting and invariants".into(),
        accounting(&target.volume),
    ));
    let closed = target.close();
    let stats = closed.as_ref().ok().copied();
    findings.push(("closed".into(), closed.map(|_| "no promise left".into())));
    let image = match Volume::check(&**device) {
        Ok(wrong) if wrong.is_empty() => Ok("clean".into()),
        Ok(wrong) => Err(wrong[0].to_string()),
        Err(error) => Err(error.to_string()),
    };
    findings.push(("image".into(), image));
    let opened = Volume::open(Arc::clone(device), &VolumeOptions::new());
    let opened = opened.and_then(|volume| OnVolume::new(volume, files));
    match opened {
        Ok(opened) => (Some(opened), stats),
        Err(error) => {
            findings.push(("opened".into(), Err(error.to_string())));
            (None, stats)
        }
    }
}

/// Whether a volume keeps its books and invariants, with everything written back.
pub(crate) fn accounting(volume: &Volume) -> Result<String, String> {
    volume.sync().map_err(|error| error.to_string())?;
    let (space, stats) = (volume.statfs(), volume.stats());
    if space.delayed_blocks > 0 {
        return Err(format!(
            "{} blocks still promised after a sync",
            space.delayed_blocks
        ));
    }
    if stats.reservation_leaks + stats.writeback_errors > 0 {
        return Err(format!(
            "{} leaks of promises, {} errors of writeback",
            stats.reservation_leaks, stats.writeback_errors
        ));
    }
    testing::check_synced(volume).map_err(|violations| {
        let more = violations.len() - 1;
        format!("{}, and {more} more", violations[0])
    })?;
    let used = space.blocks - space.free_blocks;
    Ok(format!(
        "{used} of {} blocks in use, none promised",
        space.blocks
    ))
}
