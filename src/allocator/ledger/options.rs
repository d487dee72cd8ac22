//! How a ledger is made.

use std::thread;

use crate::error::{Error, Result};
use crate::sync::uncounted::OnceLock;
use crate::units::MAX_VOLUME_CLUSTERS;

use super::share::Bounds;
use super::space::Reserves;

/// The most shares there can be: more threads at once are rare, and whoever needs all space looks at each.
const MAX_SHARES: usize = 64;
/// A share always holds fewer clusters.
const MAX_LIMIT: u32 = 2048;

/// Options of [`Ledger::with_options`](super::Ledger::with_options).
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct LedgerOptions {
    pub(super) total: u64,
    pub(super) shares: Option<usize>,
    pub(super) reserves: Reserves,
    exact_below: Option<u64>,
}

impl LedgerOptions {
    /// The defaults for `total` clusters: a share for each processor, no reserves.
    pub const fn new(total: u64) -> Self {
        Self {
            total,
            shares: None,
            reserves: Reserves {
                root: 0,
                metadata: 0,
            },
            exact_below: None,
        }
    }

    /// Into how many shares the account is divided: a power of two up to 64, or 0 for none; then each call takes the
    /// one lock. By default as many as there are processors, or a few more.
    pub const fn shares(mut self, shares: usize) -> Self {
        self.shares = Some(shares);
        self
    }

    /// Clusters that only the higher tiers may have.
    pub const fn root_reserve(mut self, clusters: u64) -> Self {
        self.reserves.root = clusters;
        self
    }

    /// Clusters that only the highest tier may have.
    pub const fn metadata_reserve(mut self, clusters: u64) -> Self {
        self.reserves.metadata = clusters;
        self
    }

    /// While fewer clusters than this are left beyond the reserves the account is not divided. By default 32 for each
    /// share.
    pub const fn exact_below(mut self, clusters: u64) -> Self {
        self.exact_below = Some(clusters);
        self
    }

    /// How many shares there are to be; without any, there is one that never opens.
    pub(super) fn share_count(&self) -> Result<usize> {
        match self.shares.unwrap_or_else(for_processors).max(1) {
            shares if shares.is_power_of_two() && shares <= MAX_SHARES => Ok(shares),
            _ => Err(Error::InvalidInput(
                "shares that are no power of two up to 64",
            )),
        }
    }

    /// How many clusters there are, if they can be counted.
    pub(super) fn checked_total(&self) -> Result<u64> {
        match self.total <= MAX_VOLUME_CLUSTERS {
            true => Ok(self.total),
            false => Err(Error::NotSupported(
                "a volume of more than 2^32 - 1 clusters",
            )),
        }
    }

    /// With how many clusters left shares must be closed.
    pub(super) fn exact_limit(&self, shares: usize) -> u64 {
        match self.shares {
            Some(0) => u64::MAX,
            _ => self.exact_below.unwrap_or(32 * shares as u64),
        }
    }

    /// How much one share may hold: all together at most 6 % of a volume that is not tiny.
    pub(super) fn share_bounds(&self, shares: usize) -> Bounds {
        let part = self.total / (32 * shares as u64);
        let limit = part.clamp(4, u64::from(MAX_LIMIT)) as u32;
        Bounds::new(limit.next_power_of_two())
    }
}

/// A share for each processor.
fn for_processors() -> usize {
    static SHARES: OnceLock<usize> = OnceLock::new();
    *SHARES.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        processors.next_power_of_two().min(MAX_SHARES)
    })
}
