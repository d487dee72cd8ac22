//! How much is done.

use super::contest::Plan;

pub(crate) struct Effort {
    pub(crate) plan: Plan,
    /// The volume of all workloads but the ageing, in blocks.
    pub(crate) blocks: u64,
    pub(crate) ageing: Ageing,
}

/// How volumes age.
pub(crate) struct Ageing {
    /// The volume, in blocks.
    pub(crate) blocks: u64,
    /// How many times as much is written.
    pub(crate) volumes: u64,
    pub(crate) seeds: u64,
}
