//! The part of the account that everybody shares, behind one lock.

use crate::error::{Error, Result};

use super::share::Change;

/// What is in no share. Its promises may be fewer than none: they may have ended here and be counted in a share.
#[derive(Debug)]
pub(super) struct Pool {
    /// Clusters of the volume, used or not.
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) promised: i64,
    /// Withdrawn clusters that were promised: the next ones that become available make up for them.
    pub(super) deficit: u64,
    /// Shares may be open. Then nothing is missing, and what is kept from the lowest tier is all here.
    pub(super) open: bool,
}

impl Pool {
    /// All of `total` clusters, available, and no open share.
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            available: total,
            promised: 0,
            deficit: 0,
            open: false,
        }
    }

    /// Adds what was in a share, or a step that only makes clusters available.
    pub(super) fn add(&mut self, by: Change) {
        self.promised += by.promised;
        self.available = self.available.saturating_add_signed(by.available);
        self.make_up();
    }

    /// Does a step that takes `clusters` available ones, for somebody who must leave `kept`.
    pub(super) fn take(
        &mut self,
        clusters: u64,
        step: impl FnOnce(u64) -> Change,
        kept: u64,
    ) -> Result<()> {
        match self.available.checked_sub(clusters) {
            Some(rest) if clusters == 0 || rest >= kept => {
                self.add(step(clusters));
                Ok(())
            }
            _ => Err(Error::NoSpace),
        }
    }

    /// Takes `clusters` free ones out of the volume: available ones as far as there are any.
    pub(super) fn withdraw(&mut self, clusters: u64) {
        self.total -= clusters;
        self.deficit += clusters;
        self.make_up();
    }

    fn make_up(&mut self) {
        let made_up = self.deficit.min(self.available);
        self.deficit -= made_up;
        self.available -= made_up;
    }
}
