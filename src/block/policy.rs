//! What a queue does about requests that fail or do not end.

use std::time::Duration;

use crate::error::{Error, Result};

/// How often a request is tried, and how long it is waited for. By default: once, and until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Policy {
    attempts: u32,
    patience: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 1,
            patience: None,
        }
    }
}

impl Policy {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tries a request that the device fails ([`Error::Io`]) up to `attempts` times in all, a flush too: see
    /// [`BlockQueue::flush`](super::BlockQueue::flush). Nothing else is tried again.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Waits no longer than `patience`, from when it was submitted, for a request that a device ends later: then it counts
    /// as failed with `ETIMEDOUT`, and its memory comes back if the device does not have it. What had begun may still take
    /// effect, at any time; its place in the device is free when the device ends it. Nor does anybody wait longer for room
    /// in front of such a device: what found none has not begun.
    ///
    /// Who waits looks at the time himself. Completions are told by a thread that is there while anything of the queue
    /// has not ended, from the first bio with a completion on; bios that are merged are as old as the oldest of them. If no
    /// thread can be started, the next bio tries to; until then completions are not told of what is late.
    ///
    /// A device that blocks cannot be left alone: patience has no effect there.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub(super) fn how_long(self) -> Option<Duration> {
        self.patience
    }

    /// Whether what ended like this at the `attempt`th attempt is tried again.
    pub(super) fn tries_again(self, attempt: u32, result: &Result<()>) -> bool {
        attempt < self.attempts && matches!(result, Err(Error::Io(_)))
    }
}
