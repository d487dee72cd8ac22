//! Clusters of a volume, counted, and who may have the last ones.

/// For whom clusters are promised: whoever stands higher may have what is kept from those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Tier {
    /// Data of anybody: leaves both reserves alone.
    Normal,
    /// The administrator's data: may use the root reserve.
    Root,
    /// What must not fail, the conversion of written blocks for example: may use everything.
    Metadata,
}

/// Clusters that are kept from lower tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserves {
    pub(super) root: u64,
    pub(super) metadata: u64,
}

impl Reserves {
    /// How many clusters `tier` must leave.
    pub(super) const fn kept_from(self, tier: Tier) -> u64 {
        match tier {
            Tier::Normal => self.root.saturating_add(self.metadata),
            Tier::Root => self.metadata,
            Tier::Metadata => 0,
        }
    }
}

/// Clusters of a volume at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub(super) total: u64,
    pub(super) available: u64,
    pub(super) promised: u64,
    /// Promised clusters that were withdrawn and are still to be made up for.
    pub(super) deficit: u64,
    pub(super) reserves: Reserves,
}

impl Space {
    /// Clusters that can hold data.
    pub const fn total(self) -> u64 {
        self.total
    }

    /// Clusters that are free and promised to nobody, with those that are kept for higher tiers.
    pub const fn available(self) -> u64 {
        self.available
    }

    /// How many of the available ones `tier` may have.
    pub const fn available_to(self, tier: Tier) -> u64 {
        self.available.saturating_sub(self.reserves.kept_from(tier))
    }

    /// Clusters that are promised to somebody: free, but not available.
    pub const fn promised(self) -> u64 {
        self.promised
    }

    /// The same, but `clusters` of the used ones are available.
    pub(in crate::allocator) fn with_available(self, clusters: u64) -> Self {
        // Never more than there are: the caller may have counted while others worked.
        let available = self.available + clusters.min(self.used());
        Self { available, ..self }
    }

    /// Clusters not used: available and promised, less promised ones that were withdrawn. Never more than the total.
    pub const fn free(self) -> u64 {
        (self.available + self.promised).saturating_sub(self.deficit)
    }

    /// Clusters that hold data.
    pub const fn used(self) -> u64 {
        self.total - self.free()
    }
}
