//! What a reader sees while others write, and what a crash leaves.
//!
//! # The map
//!
//! **One edit is one change.** [`ExtentMap::insert`] over a hundred extents, or an [`Editor::update`] of all of them, becomes
//! visible by a single store. No reader sees half of it, and one who has seen a part sees all of it from then on. Two
//! edits of one [`Editor`] are two changes: the editor keeps other writers out, not readers.
//!
//! ```
//! use extent_map::map::ExtentMap;
//!
//! let map = ExtentMap::new();
//! map.insert(0..100, 1_000_u64)?;
//! let view = map.pin();
//! std::thread::scope(|scope| {
//!     scope.spawn(|| for place in 2_000..22_000 {
//!         map.insert(40..60, place).expect("the range is not empty");
//!     });
//!     for _ in 0..20_000 {
//!         let extents: Vec<_> = view.overlapping(0..100).collect();
//!         let blocks: u64 = extents.iter().map(|extent| extent.len()).sum();
//!         assert_eq!(blocks, 100); // never a hole between two places
//!     }
//! });
//! # Ok::<(), extent_map::Error>(())
//! ```
//!
//! **What is linearizable**: a lookup of a block, [`Pinned::next_from`], `first` and `last`, and a walk of up to 64 extents. A longer walk
//! reads on 256 extents at a time, each time from the state of that moment; it never goes back and never overlaps
//! itself. Two calls on one [`Pinned`] may see two states.
//!
//! **Look, then lock, then look again.** What a reader found may be gone when it gets the writer lock. A [`Lookup`] has a
//! stamp, and [`Editor::revalidate`] says in constant time whether the answer still stands:
//!
//! ```
//! use extent_map::map::ExtentMap;
//!
//! let map = ExtentMap::new();
//! let seen = map.lookup(7);
//! assert!(seen.extent().is_none());
//! map.insert(0..10, 500_u64)?; // somebody was faster
//! let mut editor = map.edit();
//! let found = match editor.revalidate(&seen) {
//!     true => seen.extent(),
//!     false => editor.get(7),
//! };
//! assert!(found.is_some()); // to insert blindly here would lose what the other one did
//! # Ok::<(), extent_map::Error>(())
//! ```
//!
//! **Epochs.** What an edit replaces is reused when no reader can be in it any more. A [`Pinned`] or a half-finished walk
//! holds nothing back between calls; a thread that is suspended *inside* a call holds back all that is replaced
//! meanwhile.
//!
//! # Files
//!
//! Each page is read at one instant. A read of several pages may see what runs beside it in one page and not in the next, as on Linux.
//! Writes, direct writes, `fallocate` and truncation of one file exclude each other.
//!
//! - A byte that is read was written there, or is a zero. Never what the disk held before.
//! - `ENOSPC` is told to the writer. What was written has its space; only the mapping's own may run out later, if extents
//!   are very short and many ([`limitations`](super::limitations)).
//! - An error of writeback, or of making anything durable, is told to each open file once, at its next sync; and to each
//!   sync during which it came.
//! - Where a flush of a [`FileDevice`](crate::device::FileDevice), `DirectDevice` or `UringDevice` has failed, every later sync fails,
//!   as the system may have forgotten what it could not write. Reads and writes go on, and blocks that are freed are not used again,
//!   until the volume is opened on a device that is opened anew: as the last sync left it that returned well, or later.
//!
//! # After a crash
//!
//! On a volume made by [`Volume::format_persistent`] each 512-byte sector of a file is as its last sync that returned left it, or as
//! it was at some time after that, and so is the size. A truncation, a collapse and an insert are there whole or not at all. What was
//! written and not synced may be there in part. A volume made by [`Volume::format`] keeps its mapping in memory only.
//!
//! [`ExtentMap::insert`]: crate::map::ExtentMap::insert
//! [`Editor`]: crate::map::Editor
//! [`Editor::update`]: crate::map::Editor::update
//! [`Editor::revalidate`]: crate::map::Editor::revalidate
//! [`Lookup`]: crate::map::Lookup
//! [`Pinned`]: crate::map::Pinned
//! [`Pinned::next_from`]: crate::map::Pinned::next_from
//! [`Volume::format`]: crate::file::Volume::format
//! [`Volume::format_persistent`]: crate::file::Volume::format_persistent
