//! Concurrent extent map, extent status tree, delayed allocation, allocator and block layer for
//! filesystems, virtual disks and storage engines.
//!
//! Each layer is useful alone and imports only from the layers below it:
//!
//! | layer | module | what it is |
//! |---|---|---|
//! | 1 | [`mod@file`] | [`Volume`](file::Volume) and [`File`](file::File): what a caller does to a file |
//! | 2 | [`delalloc`] | delayed allocation: look, lock, look again, reserve; writeback |
//! | 3a | [`status`] | the extent status tree: written, unwritten, delayed, hole |
//! | 3b | [`allocator`] | groups, and one exact ledger of free and promised space |
//! | 3c | [`mapping`] | the authoritative mapping behind the status tree |
//! | 4a | [`map`] | [`ExtentMap`](map::ExtentMap): ranges to values, read without a lock |
//! | 4b | [`block`] | bios, merging, flush |
//! | 5 | [`device`] | memory, file and fault-injecting devices |
//!
//! [`units`], [`stats`] and [`Error`] belong to all of them. The [`guide`] has more words: what readers see, the crate inside
//! your own filesystem, what to tune, what it cannot do.
//!
//! ```
//! use std::sync::Arc;
//!
//! use extent_map::device::MemoryDevice;
//! use extent_map::file::{Volume, VolumeOptions};
//! use extent_map::units::FileNumber;
//!
//! # fn main() -> extent_map::Result<()> {
//! let volume = Volume::format(Arc::new(MemoryDevice::new(1 << 20)), &VolumeOptions::new())?;
//! let file = volume.file(FileNumber(1))?;
//! file.write_at(0, b"promised, not yet placed")?;
//! assert_eq!(volume.statfs().delayed_blocks, 1);
//! file.sync_all()?;
//! assert_eq!(volume.statfs().delayed_blocks, 0);
//! volume.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `std` | everything but [`map`] and [`Error`] | yes |
//! | `tracing` | spans where calls enter files, delayed allocation, the block queue and the log, and an event for a leaked reservation | yes |
//! | `serde` | `Serialize` and `Deserialize` for plain data: units, ranges, extents, counters, limits, policies | |
//! | `uring` | a device on `io_uring`, on Linux | |
//! | `spin` | the writer lock of a map without `std` | |
//! | `testing` | `testing`: oracle, invariant checker; and `probe`, protections that can be taken away | |
//! | `shuttle` | for the crate's own schedule models | |
//!
//! # Without the standard library
//!
//! [`map`] and [`Error`] need only `alloc` and atomics of 64 bits:
//!
//! ```toml
//! extent-map = { version = "0.1", default-features = false, features = ["spin"] }
//! ```
//!
//! Writers of a map then spin while they wait for each other, and as there are no thread locals, each thread registers
//! by itself with [`Reclaimer::register`](map::Reclaimer::register) and passes the handle to
//! [`ExtentMap::pin_with`](map::ExtentMap::pin_with) and [`edit_with`](map::ExtentMap::edit_with). All other modules
//! need the feature `std`, and so do the crate's own tests and examples.
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

#[cfg(not(any(feature = "std", feature = "spin")))]
compile_error!("extent-map needs the feature `std`, or `spin` where there is no standard library");

#[cfg(feature = "std")]
pub mod allocator;
#[cfg(feature = "std")]
pub mod block;
#[cfg(feature = "std")]
pub mod delalloc;
#[cfg(feature = "std")]
pub mod device;
mod error;
#[cfg(feature = "std")]
pub mod file;
#[cfg(feature = "std")]
pub mod guide;
pub mod map;
#[cfg(feature = "std")]
pub mod mapping;
#[cfg(feature = "testing")]
pub mod probe;
#[cfg(all(feature = "std", not(feature = "testing")))]
mod probe;
#[cfg(feature = "std")]
mod spans;
#[cfg(feature = "std")]
pub mod stats;
#[cfg(feature = "std")]
pub mod status;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "std")]
pub mod units;

pub use error::{Error, IoError, Result};

/// The examples of the README, compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
