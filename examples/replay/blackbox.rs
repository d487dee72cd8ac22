//! Replay of operations on a volume, comparing all that a caller can see.

use std::io;
use std::path::Path;
use std::sync::Arc;

use blake2::digest::consts::U8;
use blake2::{Blake2s, Digest};
use clap::ValueEnum;
use extent_map::device::BlockDevice;
#[cfg(target_os = "linux")]
use extent_map::device::DirectDevice;
use extent_map::device::{FileDevice, MemoryDevice};
#[cfg(all(target_os = "linux", feature = "uring"))]
use extent_map::device::{UringDevice, UringOptions};
use extent_map::file::{File, Volume};
use extent_map::testing::Outcome;
use extent_map::{Error, Result};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::mount::{Mount, Store};
use super::observation::{Observation, without};
use super::random::Random;
use super::report::{Failure, Report};
use super::trace::{Head, MAX_FILE_BYTES, Seen, Step, Trace};

/// How to replay.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Settings {
    /// Where the volume's blocks live
    #[arg(long, value_enum, default_value_t)]
    pub(crate) device: Device,
    /// Where the volume's mapping lives
    #[arg(long, value_enum, default_value_t)]
    pub(crate) store: Store,
    /// Check all invariants after every step
    #[arg(long)]
    pub(crate) check: bool,
    /// Drop each entry of the status trees with this probability before every step
    #[arg(long, value_name = "P", default_value_t, value_parser = probability)]
    pub(crate) shrink: f64,
    /// Chooses the entries to drop
    #[arg(long, default_value_t)]
    pub(crate) seed: u64,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("not a number from 0 to 1".into()),
    }
}

/// A kind of device.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Device {
    /// In memory
    #[default]
    Memory,
    /// In a sparse temporary file
    File,
    /// The same, past the system's page cache
    #[cfg(target_os = "linux")]
    Direct,
    /// The same, by way of an io_uring
    #[cfg(all(target_os = "linux", feature = "uring"))]
    Uring,
}

impl Device {
    /// Makes a device; the file, if any, lives as long as what is returned beside it.
    pub(super) fn make(
        self,
        size: u64,
    ) -> io::Result<(Arc<dyn BlockDevice>, Option<NamedTempFile>)> {
        if let Self::Memory = self {
            return Ok((Arc::new(MemoryDevice::new(size)), None));
        }
        let image = NamedTempFile::new()?;
        image.as_file().set_len(size)?;
        Ok((self.open(image.path())?, Some(image)))
    }

    /// The device in the file at `path`.
    fn open(self, path: &Path) -> Result<Arc<dyn BlockDevice>> {
        Ok(match self {
            #[cfg(target_os = "linux")]
            Self::Direct => Arc::new(DirectDevice::open(path)?),
            #[cfg(all(target_os = "linux", feature = "uring"))]
            Self::Uring => Arc::new(UringDevice::open(path, UringOptions::default())?),
            _ => Arc::new(FileDevice::open(path)?),
        })
    }
}

/// Replays one trace.
pub(crate) fn replay(trace: &Trace, settings: &Settings) -> Report {
    let mut report = Report::default();
    match Replay::new(&trace.head, settings, &mut report) {
        Ok(mut replay) => {
            for step in &trace.steps {
                replay.step(step);
                if !replay.mount.is_mounted() {
                    return report;
                }
            }
            replay.end(&trace.end);
        }
        Err(error) => report.failures.push(Failure {
            step: 0,
            field: "head".into(),
            expected: "a volume".into(),
            got: error.to_string(),
        }),
    }
    report
}

struct Replay<'a> {
    mount: Mount,
    /// Clusters that ext4 was last seen to use for each file's extent tree. Nothing here counts them.
    tree_clusters: Vec<u64>,
    head: &'a Head,
    settings: &'a Settings,
    random: Random,
    step: u64,
    report: &'a mut Report,
}

impl<'a> Replay<'a> {
    fn new(head: &'a Head, settings: &'a Settings, report: &'a mut Report) -> io::Result<Self> {
        let mount = Mount::new(head, settings.device, settings.store)?;
        let mut replay = Self {
            tree_clusters: vec![0; mount.files().len()],
            mount,
            head,
            settings,
            random: Random(settings.seed),
            step: 0,
            report,
        };
        let free = replay.mount.volume().statfs().free_blocks;
        replay.expect("free0".into(), &json!(head.free_blocks), json!(free));
        Ok(replay)
    }

    fn expect(&mut self, field: String, expected: &Value, got: Value) {
        if *expected != got {
            self.fail(field, expected.to_string(), got.to_string());
        }
    }

    fn fail(&mut self, field: String, expected: String, got: String) {
        self.report.failures.push(Failure {
            step: self.step,
            field,
            expected,
            got,
        });
    }

    fn step(&mut self, step: &Step) {
        self.step = step.number;
        self.report.steps += 1;
        self.shrink();
        let outcome = self.mount.apply(&step.op);
        self.expect("r".into(), &step.returned, returned(&outcome));
        if !self.mount.is_mounted() {
            return;
        }
        if let Some(expected) = &step.read {
            let got = match &outcome {
                Outcome::Bytes(bytes) => json!(hash(bytes)),
                _ => json!(null),
            };
            self.expect("x".into(), expected, got);
        }
        if let Some(expected) = &step.delayed_blocks {
            let got = json!(self.mount.volume().statfs().delayed_blocks);
            self.expect("da".into(), expected, got);
        }
        self.compare(&step.seen);
        self.check();
    }

    /// The last line: after everything was written back. Then once more with nothing cached, so that the
    /// device shows whether it got every byte.
    fn end(&mut self, seen: &[Seen]) {
        self.step += 1;
        self.shrink();
        for number in 0..self.mount.files().len() {
            if let Err(error) = self.mount.files()[number].sync_all() {
                self.fail(
                    format!("fsync of file {number}"),
                    "0".into(),
                    error.to_string(),
                );
            }
        }
        self.compare(seen);
        self.check();
        if let Err(error) = self.mount.again() {
            return self.fail("remount".into(), "0".into(), error.to_string());
        }
        for Seen { file, fields } in seen {
            match content(&self.mount.files()[*file]) {
                Ok(bytes) => self.expect(
                    format!("h of file {file} on the device"),
                    &fields["h"],
                    json!(hash(&bytes)),
                ),
                Err(error) => self.fail_to_observe(*file, &error),
            }
        }
        if let Err(error) = self.mount.unmount() {
            self.fail("umount".into(), "0".into(), error.to_string());
        }
    }

    fn shrink(&mut self) {
        if self.settings.shrink > 0.0 {
            for file in self.mount.files() {
                let random = &mut self.random;
                let p = self.settings.shrink;
                file.shrink_status(|_| random.fraction() < p);
            }
        }
    }

    fn check(&mut self) {
        if self.settings.check {
            for violation in violations(self.mount.volume()) {
                self.fail("invariant".into(), "kept".into(), violation);
            }
        }
    }

    /// Compares everything that was seen of files.
    fn compare(&mut self, seen: &[Seen]) {
        for Seen { file, fields } in seen {
            match Observation::of(&self.mount.files()[*file], self.head.block_size) {
                Ok(ours) => self.compare_file(*file, fields, &ours),
                Err(error) => self.fail_to_observe(*file, &error),
            }
        }
        // Needs the extent trees of all files that were seen.
        for Seen { file, fields } in seen {
            self.compare_free(*file, &fields["fr"]);
        }
    }

    fn compare_file(&mut self, file: usize, expected: &Value, ours: &Observation) {
        let field = |name: &str| format!("{name} of file {file}");
        let delayed = self.mount.volume().statfs().delayed_blocks;
        self.expect(field("sz"), &expected["sz"], json!(ours.size));
        self.expect(field("h"), &expected["h"], json!(hash(&ours.content)));
        self.expect(field("fm"), &expected["fm"], ours.extents_json());
        self.expect(field("da"), &expected["da"], json!(delayed));
        match Observation::segments_from(&expected["sk"]) {
            // Where blocks are unwritten, ext4's answer depends on what happens to be cached.
            Some(segments) => {
                let comparable = |segments: &[_]| {
                    Observation::segments_json(&without(segments, &ours.unwritten))
                };
                let expected = comparable(&segments);
                self.expect(field("sk"), &expected, comparable(&ours.segments));
            }
            None => self.unreadable(field("sk"), &expected["sk"]),
        }
        let cluster_sectors = self.head.cluster_blocks * self.head.block_size / 512;
        match expected["b"].as_u64() {
            None => self.unreadable(field("b"), &expected["b"]),
            Some(b) if b == ours.sectors => self.tree_clusters[file] = 0,
            Some(b) if b == ours.sectors + cluster_sectors => self.tree_clusters[file] = 1,
            Some(_) => self.expect(field("b"), &expected["b"], json!(ours.sectors)),
        }
    }

    fn compare_free(&mut self, file: usize, expected: &Value) {
        let field = format!("fr of file {file}");
        let trees: u64 = self.tree_clusters.iter().sum();
        let free = self.mount.volume().statfs().free_blocks;
        let got = free.checked_sub(trees * self.head.cluster_blocks);
        self.expect(field, expected, json!(got));
    }

    fn unreadable(&mut self, field: String, expected: &Value) {
        self.fail(field, expected.to_string(), "field unreadable".into());
    }

    fn fail_to_observe(&mut self, file: usize, error: &Error) {
        self.fail(
            format!("file {file}"),
            "an observation".into(),
            error.to_string(),
        );
    }
}

/// What the invariant checker finds wrong with the volume.
fn violations(volume: &Volume) -> Vec<String> {
    let found = extent_map::testing::check(volume).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

/// Everything in a file, unless it is longer than a recorded one.
pub(super) fn content(file: &File) -> Result<Vec<u8>> {
    if file.size() > MAX_FILE_BYTES {
        return Err(Error::FileTooBig);
    }
    let mut bytes = vec![0; file.size() as usize];
    let len = file.read_at(0, &mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// The hash that recordings have of bytes.
pub(super) fn hash(bytes: &[u8]) -> String {
    let digest = Blake2s::<U8>::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the system call returned, as recordings write it: a number, or the name of an errno.
pub(super) fn returned(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done => json!(0),
        Outcome::Count(count) => json!(count),
        Outcome::Bytes(bytes) => json!(bytes.len()),
        Outcome::Offset(offset) => json!(offset),
        Outcome::Failed(5) => json!("EIO"),
        Outcome::Failed(22) => json!("EINVAL"),
        Outcome::Failed(27) => json!("EFBIG"),
        Outcome::Failed(28) => json!("ENOSPC"),
        Outcome::Failed(errno) => json!(format!("errno {errno}")),
    }
}
