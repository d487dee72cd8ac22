//! Which knobs there are, and what was measured. The figures are those of `BENCHMARKS.md`, which says how and where.
//!
//! The defaults are meant to be right. What follows matters if a profile says so.
//!
//! # The map
//!
//! - **Keep a [`Pinned`]** for a thread's lookups: [`ExtentMap::get`] finds the thread's registration anew each time (27.5 ns
//!   against 24.7 at 100,000 extents). Lookups in rising order are answered from the last extent found while the map has not
//!   changed: 3.9 ns.
//! - **Batches**: [`Pinned::get_many`] pins once for 128 blocks, 18.3 ns each instead of 24.7, and 54 instead of 74 at a million.
//! - **Many maps**: give them one [`Reclaimer`], by [`ExtentMap::with_reclaimer`]. A thread registers with each reclaimer it meets.
//! - **One edit instead of many**: an [`Editor::update`] of a range is one change, and one search.
//! - Extents within 2^32 blocks of each other are packed, 16 bytes each before the slack of nodes; others take twice that
//!   and no vector search.
//!
//! # Delayed allocation
//!
//! - **Cluster size** ([`VolumeOptions::cluster_blocks`]): larger clusters make bitmaps smaller, and small files larger.
//!   Blocks of one cluster share its promise.
//! - **When to stop delaying** ([`VolumeOptions::low_space_clusters`]): while less than a sixty-fourth of the volume is free beyond what is
//!   promised, or promises are more than two thirds of what is free, writes allocate at once, as in ext4. Nothing is refused falsely in
//!   either case.
//! - **How much may be dirty** ([`VolumeOptions::dirty_pages`]): writers wait for writeback beyond it. More means larger runs.
//! - **Windows** need no knob: a file that grows gets one, and they end before anything is refused. 64 files that grow in turns come to
//!   lie in 4 extents each, where allocators that know no files give them 256.
//!
//! # The ledger
//!
//! [`LedgerOptions::shares`]: as many as there are processors, by default. A promise given back at once is 57 instructions; two threads make 1.9
//! to 2.0 times as many as one, with a single atomic word 1.0 times. Reserves for the administrator and for metadata are options too.
//!
//! # The block queue
//!
//! - **Batches**: bios of one [`Batch`] are merged before anything else looks at them. A run of neighbours is one command of up to
//!   [`max_request_bytes`](crate::block::BlockQueue::max_request_bytes), 1 MiB by default.
//! - **Scheduler**: none, by default. A [`Deadline`] pays where a disk seeks, and where reads must not wait behind writes.
//! - **Queue depth** is the device's to say: [`Limits::depth`]. On a device that blocks, so many threads work in it at once.
//! - **Devices**: random direct reads of 4 KiB by one `UringDevice` (feature `uring`) came to 4.8 times those of one thread on a
//!   [`DirectDevice`], with a sixth of the processor time each, and to as many as those of 32 threads that block, with 0.6 of theirs. **On a busy
//!   machine 32 threads did more**: the ring had 0.78 to 0.92 of their reads. Registered memory was worth little.
//! - **Group commit** is by itself: sixteen threads that each sync a file make 12.7 times as many syncs as one where a flush takes 2 ms.
//!
//! [`Batch`]: crate::block::Batch
//! [`Deadline`]: crate::block::Deadline
//! [`DirectDevice`]: crate::device::DirectDevice
//! [`Editor::update`]: crate::map::Editor::update
//! [`ExtentMap::get`]: crate::map::ExtentMap::get
//! [`ExtentMap::with_reclaimer`]: crate::map::ExtentMap::with_reclaimer
//! [`LedgerOptions::shares`]: crate::allocator::LedgerOptions::shares
//! [`Limits::depth`]: crate::device::Limits::depth
//! [`Pinned`]: crate::map::Pinned
//! [`Pinned::get_many`]: crate::map::Pinned::get_many
//! [`Reclaimer`]: crate::map::Reclaimer
//! [`VolumeOptions::cluster_blocks`]: crate::file::VolumeOptions::cluster_blocks
//! [`VolumeOptions::dirty_pages`]: crate::file::VolumeOptions::dirty_pages
//! [`VolumeOptions::low_space_clusters`]: crate::file::VolumeOptions::low_space_clusters
