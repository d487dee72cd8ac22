//! The recording: a file that holds a trace, compressed or not.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::blackbox::{self, Settings};
use super::report::Report;
use super::trace::{self, Malformed, Trace};
use super::whitebox;

/// What is read of a file at most; recordings are much smaller.
const MAX_BYTES: u64 = 64 << 20;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file holds no trace.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The recordings that `path` names: itself, or all in that folder and those below, in order.
pub(crate) fn find(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            found.extend(find(&entry.path())?);
        } else if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The text of a recording.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path)?;
    let bytes = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => {
            let mut unpacked = Vec::new();
            let decoder = MultiGzDecoder::new(&*bytes);
            decoder.take(MAX_BYTES).read_to_end(&mut unpacked)?;
            unpacked
        }
        false => bytes,
    };
    Ok(trace::text(&bytes)?.to_owned())
}

/// Replays the text of a recording: the operations on a volume and, when the calls on the status tree
/// were recorded too, those on status trees.
pub(crate) fn replay(text: &str, settings: &Settings) -> Result<Report, Malformed> {
    let trace = Trace::parse(text)?;
    let mut report = blackbox::replay(&trace, settings);
    if trace.head.white_box {
        report.failures.extend(whitebox::replay(text).failures);
    }
    Ok(report)
}
