//! Test-only switches inside the admission protocol.

use std::fmt;
#[cfg(feature = "testing")]
use std::sync::Arc;

use crate::units::{FileNumber, FileRange};

/// What a test can do inside [`FileBlocks::admit`](super::FileBlocks::admit). Without the feature
/// `testing` it is empty and every method of it does nothing.
#[derive(Clone, Default)]
pub struct Probe {
    /// Brings the bug of 2024 back: what the first look said is not looked at again under the lock.
    #[cfg(feature = "testing")]
    pub skip_second_look: bool,
    /// Called between the first look and taking the data lock, with no lock below the folio lock held.
    #[cfg(feature = "testing")]
    pub between_looks: Option<BetweenLooks>,
}

/// A hook that gets the file and the range that is being admitted.
#[cfg(feature = "testing")]
pub type BetweenLooks = Arc<dyn Fn(FileNumber, FileRange) + Send + Sync>;

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

impl Probe {
    #[cfg(feature = "testing")]
    pub(super) fn between_looks(&self, file: FileNumber, range: FileRange) {
        if let Some(hook) = &self.between_looks {
            hook(file, range);
        }
    }

    #[cfg(not(feature = "testing"))]
    pub(super) fn between_looks(&self, _file: FileNumber, _range: FileRange) {}

    #[cfg(feature = "testing")]
    pub(super) fn skips_second_look(&self) -> bool {
        self.skip_second_look
    }

    #[cfg(not(feature = "testing"))]
    pub(super) fn skips_second_look(&self) -> bool {
        false
    }
}
