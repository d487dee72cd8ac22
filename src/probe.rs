//! For tests: bringing old bugs back one by one, and acting inside the admission of a block. Without the feature
//! `testing` all of this is nothing.
//!
//! Each [`Mutation`] undoes one protection of this crate, in the code that has it. The tests that claim to guard the
//! protection must fail then; those that prove it are the schedule models (`tests/schedules`) and the regressions
//! (`tests/regressions`).

#![cfg_attr(not(feature = "testing"), allow(unreachable_pub, dead_code))]

use std::fmt;
#[cfg(feature = "testing")]
use std::sync::Arc;

use crate::units::{FileNumber, FileRange};

/// A protection that is missing on purpose. The doc of each says what the code does without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mutation {
    /// What the first look said is not looked at again under the data lock: the bug this crate is built around.
    SkipSecondLook,
    /// Space is promised in two steps: first it is seen to be there, then it is taken.
    ReserveLooksThenActs,
    /// Whoever needs all space takes what the shares of the ledger hold out of them and leaves them open meanwhile.
    SweepOpenShares,
    /// A share of the ledger is filled after the lock is given back under which its clusters left the pool.
    FillShareUnlocked,
    /// Whether a cluster is allocated is asked of the status tree, which may have forgotten.
    ClusterStateFromTree,
    /// Memory pressure forgets delayed blocks too.
    ForgetDelayed,
    /// The cluster that delayed blocks still need is freed first and promised to them after.
    FreeThenReserve,
    /// A cluster that is freed under delayed blocks stays pending: they get no promise of their own.
    FreedStaysPending,
    /// The number of a change may be seen before the change.
    CountChangesRelaxed,
    /// Punching and zeroing do not take the invalidate lock.
    PunchBesideFaults,
    /// Punching and zeroing leave the pages that they change writable through a mapping meanwhile.
    PunchMappedPages,
    /// Shrinking does not take the invalidate lock.
    ShrinkBesideFaults,
    /// Shrinking sets the size after it has dropped what lies behind it.
    ShrinkSizeLast,
    /// Collapsing and inserting do not take the invalidate lock.
    ShiftBesideFaults,
    /// Forgetting all pages does not take the invalidate lock.
    DropBesideFaults,
    /// Writeback gives the folio locks back while the device works.
    UnlockFoliosOverIo,
    /// Writeback leaves pages writable through a mapping.
    KeepMappingsWritable,
    /// A block that looked unwritten and whose page is clean is not looked up again.
    ShowWithOneLook,
    /// Allocated and promised clusters are counted while one may become the other.
    SumBesideChanges,
    /// A search for a hole takes the size after it has given the inode lock back.
    SeekSizeUnlocked,
    /// A read that came to the end of the file asks for the rest of its page once more.
    ReadBeyondSeenEnd,
    /// A delayed extent is inserted beside readers of the mapping, who may cache what they read before.
    DelayBesideReaders,
    /// Caching what was read replaces what is known.
    CacheReplaces,
    /// What is delayed is the range that was asked for, not the hole that was found.
    DelayUntrimmed,
    /// A delayed extent replaces delayed and allocated ones unseen.
    DelayedInsertReplaces,
    /// A new promise is in the file's account before its delayed extent is in the tree.
    AccountBeforeInsert,
    /// A promise taken out of the account for an allocation is lost when the mapping fails.
    LoseTakenPromise,
    /// A promise that an allocation used up is released once more when the blocks are mapped.
    ReleaseUsedToo,
    /// What writeback cannot map is dropped from the tree, with neither lock nor account.
    ForgetUnmappable,
    /// A removal counts with the bounds that the trimmed entry has afterwards.
    CountTrimmedEntry,
    /// The bytes of a file inside the mapping store are taken for its extents.
    ReadInlineAsExtents,
    /// A file that was inside the mapping store at the first look is resized there, wherever it is now.
    ResizeConvertedInline,
    /// A file inside the mapping store is written and resized while page faults may take it out.
    ChangeInlineBesideFaults,
    /// Moving blocks to the left excludes neither readers nor writers of the mapping.
    CollapseUnlocked,
    /// Listing the extents does not keep calls out that move them.
    ListBesideCollapse,
    /// Writeback caches what lies behind the blocks that it writes.
    WritebackCachesNeighbours,
    /// The mapping is read and cached while it may change.
    QueryBesideChanges,
    /// Where an extent was zeroed instead of split, the tree hears of the part only.
    NoteOnlyThePart,
    /// Where an extent is zeroed instead of split, what lies before the part is left as it is.
    ZeroOnlyBehind,
    /// A change is counted by reading the counter and storing one more, after the lock is gone.
    CountChangesInTwoSteps,
    /// Pages are filled while their blocks go away.
    ReadBesidePunch,
    /// Two writebacks of one file run at once.
    WritebackBesideWriteback,
    /// A growing write publishes the size before the bytes.
    SizeBeforeBytes,
    /// The stored size follows written blocks beyond the end of the file.
    StoreSizeUnclamped,
    /// The size is not stored when the page whose writeback would do it is dropped.
    DropUnstoredSize,
    /// The stored size grows by a look and a store that others may come between.
    ExtendSizeInTwoSteps,
    /// A truncation stores the size before the writeback that saw the old one has ended.
    StoreSizeBeforeDropping,
    /// An unwritten block is filled with what lies at its place on the device.
    FillUnwrittenFromDevice,
    /// Blocks become written whether or not the device took their data.
    ConvertDespiteError,
    /// What was mapped before an error counts as written.
    CountMappedAsWritten,
    /// Whether written blocks must be converted is asked of the volume's mode, not of the blocks.
    ConvertByMode,
    /// Blocks that leave the page cache stay marked dirty.
    LeaveDirtyMarks,
    /// A cancelled allocation also spends its promise.
    SpendOnCancel,
    /// Nothing free on one way around the volume is taken for nothing free.
    SearchOnce,
    /// Space is refused while windows have it.
    KeepWindowsWhenFull,
    /// A new window reaches into the next one of its file.
    OverlapWindows,
    /// A group that changes is listed under what it has now, and stays where it was.
    StayInList,
    /// A file takes from its window without looking whether it has ended.
    TakeFromEndedWindow,
    /// A search passes by the groups that somebody works on, also when it has found nothing else.
    PassByBusyGroups,
    /// What is freed is available before it is free in the groups.
    ReleaseBeforeClearing,
    /// A promise is spent after the group whose clusters it was for has been unlocked.
    SpendAfterTaking,
    /// Clusters are freed before it is checked that they are allocated.
    FreeBeforeChecking,
    /// A block in the middle of a cluster goes to the cluster's start.
    IgnoreClusterOffset,
    /// Blocks are freed before the writeback of their pages has ended.
    FreeBeforeDropping,
    /// An extent that the store has no room for is kept beside the error.
    KeepRefusedExtent,
    /// Inline bytes are written without looking whether the file is still inline.
    RewriteInlineBlindly,
    /// Removed delayed blocks give their promises back only while the volume delays.
    ReleaseOnlyWhileDelaying,
    /// Whoever starts commands stops without having looked whether more came meanwhile.
    StopStartingUnseen,
    /// Nobody waits for a place in the device.
    IgnoreDepth,
    /// A flush is also for those who came when it had begun.
    FlushForLatecomers,
    /// A write does not hold the pages of which it changes a block in part.
    LetGoOfEdges,
    /// A page may leave memory whose data the device does not have.
    EvictDirtyPages,
    /// What is read for several pages at once is read before they are locked.
    ReadBeforeLocking,
    /// What writeback has locked is not looked at again: it goes to the device whether or not it is still dirty.
    WriteWhatWasPlanned,
    /// A writer who waits for writeback hears of no end but that there is room.
    WaitForRoomOnly,
    /// The waits of an open file are cancelled without the lock under which writers look whether to wait.
    CancelBesideLooks,
    /// The system has no thread to give for writeback.
    StartNoThread,
    /// A sync tells only of errors that its open file has not been told of, in whichever call that was.
    TellOnlyUnseen,
    /// The end of a volume does not wait for the writeback that it has in the background.
    LeaveWritebackBehind,
    /// A direct write leaves the pages of its range in memory.
    KeepPagesUnderDirectWrite,
    /// Pages are filled and faulted in while a direct write is under way.
    DirectBesideFaults,
    /// A commit answers before the device has made its transaction durable.
    CommitWithoutFlush,
    /// Who asks for a commit while one is under way takes that for its own.
    JoinCommitUnderWay,
    /// A transaction is written beside the data of the blocks that it makes readable, not after it.
    LogBeforeData,
    /// Sectors of a transaction that did not arrive are passed by, and the rest is replayed.
    AcceptTornTransaction,
    /// A mapping on a device is opened though it contradicts itself.
    OpenContradictions,
    /// What is freed can be used again before it is durable that it was freed.
    ReuseBeforeDurable,
    /// After a commit that failed the next one goes on in the log, whatever of it the device has.
    AppendInDoubt,
    /// A log may move as many extents as there is room for records that say so.
    LogMovesWithoutEnd,
    /// A commit may come between changes that belong together.
    CommitInBetween,
    /// Blocks that were moved inside a file may be written before it is durable that they were.
    MoveWithoutCommit,
    /// Bytes that leave the mapping store for blocks wait for writeback, though the store has promised them.
    LeaveInlineUnwritten,
}

/// A point in the code at which a test may act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Moment {
    /// A punch has dropped the pages of its range and not yet freed the blocks. Inode and invalidate lock are held.
    PagesDropped,
    /// A truncation has dropped the blocks and not yet stored the size. Inode and invalidate lock are held.
    Truncated,
    /// A write is about to copy bytes into a page. The inode lock is held.
    Copying,
    /// A store in memory has seen that a stored size must grow. The folio locks of writeback may be held.
    GrowingStoredSize,
    /// The search for free clusters is about to look at a group. No lock of the allocator is held.
    LookingAtGroup,
    /// A change was made and is about to be counted: only under [`Mutation::CountChangesInTwoSteps`]. No lock of the
    /// tree is held.
    Counting,
}

/// What a test changes inside a volume; nothing by default.
#[derive(Clone, Default)]
pub struct Probe {
    /// One bit for each mutation.
    #[cfg(feature = "testing")]
    mutations: u128,
    #[cfg(feature = "testing")]
    between_looks: Option<BetweenLooks>,
    #[cfg(feature = "testing")]
    at: Option<(Moment, Hook)>,
}

#[cfg(feature = "testing")]
type BetweenLooks = Arc<dyn Fn(FileNumber, FileRange) + Send + Sync>;
#[cfg(feature = "testing")]
type Hook = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

#[cfg(feature = "testing")]
impl Probe {
    /// A probe that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes protections away, beside those that are away already.
    #[must_use]
    pub fn mutations(mut self, mutations: impl IntoIterator<Item = Mutation>) -> Self {
        for mutation in mutations {
            self.mutations |= 1 << mutation as u32;
        }
        self
    }

    /// Calls `hook` between the first look at a range that is being admitted and taking the data lock, with no lock
    /// below the folio lock held.
    #[must_use]
    pub fn between_looks(
        mut self,
        hook: impl Fn(FileNumber, FileRange) + Send + Sync + 'static,
    ) -> Self {
        self.between_looks = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` in the thread that reaches `moment`, each time; see there for the locks that it holds.
    #[must_use]
    pub fn at(mut self, moment: Moment, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.at = Some((moment, Arc::new(hook)));
        self
    }

    /// Whether the protection is missing.
    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.mutations & 1 << mutation as u32 != 0
    }

    pub(crate) fn looked(&self, file: FileNumber, range: FileRange) {
        if let Some(hook) = &self.between_looks {
            hook(file, range);
        }
    }

    pub(crate) fn reached(&self, moment: Moment) {
        if let Some((at, hook)) = &self.at
            && *at == moment
        {
            hook();
        }
    }
}

impl Probe {
    /// What protects, a lock that is taken for example, unless it is missing.
    pub(crate) fn unless<T>(&self, missing: Mutation, protect: impl FnOnce() -> T) -> Option<T> {
        (!self.is(missing)).then(protect)
    }
}

#[cfg(not(feature = "testing"))]
impl Probe {
    pub(crate) const fn is(&self, _: Mutation) -> bool {
        false
    }

    pub(crate) const fn looked(&self, _: FileNumber, _: FileRange) {}

    pub(crate) const fn reached(&self, _: Moment) {}
}
