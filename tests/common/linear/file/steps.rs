//! How finely the calls of a history are divided, and so how long the search for their order takes.

/// How finely calls are divided. What few steps explain is explained; before anything is refused all are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    /// Page faults in vain before a store to a page.
    pub(super) faults: usize,
    /// Page faults back a page at once.
    pub(super) whole_pages: bool,
    pub(super) writeback: Writeback,
}

/// What writeback does at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writeback {
    All,
    /// One block after the other, as in the file.
    Blocks,
    /// Blocks in any order.
    AnyBlocks,
}

impl Steps {
    /// Each makes longer searches than those before it.
    pub(super) const FEW: [Self; 3] = [
        Self::new(1, true, Writeback::All),
        Self::new(1, true, Writeback::Blocks),
        Self::new(2, false, Writeback::AnyBlocks),
    ];
    pub(super) const ALL: Self = Self::new(usize::MAX, false, Writeback::AnyBlocks);

    const fn new(faults: usize, whole_pages: bool, writeback: Writeback) -> Self {
        Self {
            faults,
            whole_pages,
            writeback,
        }
    }
}
