//! The reader of recorded traces: no input may make it panic.

use super::replay::blackbox::Settings;
use super::replay::recording;

/// Reads and replays `data` as a recording of either kind.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // A recording that is not one, or of something else than what happens here, is no defect.
    let _ = recording::replay(&text, &Settings::default());
}
