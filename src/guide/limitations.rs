//! What it cannot do, and what it costs.
//!
//! # The map
//!
//! - Edits of one map exclude each other. Many writers do not get more done than one.
//! - A thread that is suspended in the middle of a lookup holds back all that edits replace meanwhile, without a bound.
//!   Between lookups it holds nothing back.
//! - There are no snapshots: a walk of more than 64 extents may see several states.
//! - Values have 64 bits, and are copied out.
//! - A static search tree that nobody can change is 1.5 to 2.7 times faster to look up in.
//!
//! # Volumes
//!
//! - The mapping of all files is in memory: 16 bytes an extent and more, also where it is kept on a device. Opening reads
//!   all of it, and makes the bitmaps anew. On the device it may take 1/256 of it, 16 KiB at least and 256 MiB at most. Where very many
//!   very short extents need more, a sync fails as `NoSpace` although the data has its space: it stays in memory, and the next
//!   sync tries again. On 8 MiB of blocks of 512 bytes that was so with 1,790 of them.
//! - What a volume knows of a file stays in memory until the volume is closed, once the file was opened, and
//!   [`Volume::sync`](crate::file::Volume::sync) comes by all of them: 0.1 to 0.4 us for each that is clean. The first opening of a file counts
//!   its extents. A file is removed by `set_len(0)`: [`Volume::files`](crate::file::Volume::files) does not tell of it any more.
//! - [`MemoryStore`](crate::mapping::MemoryStore) and [`LogStore`](crate::mapping::LogStore) keep a file's extents as one sorted
//!   list that readers take whole, in chunks that lists share. A change of a file with `n` extents copies a few times the root of `n` of
//!   them: an insert took 2 us with 64,000 extents, 6 us with half a million. A collapse or insert copies all that it moves.
//! - There are no directories, names, permissions, times, links or extended attributes, and no checksums of data. Files have numbers.
//! - A file has at most 2^32 - 1 blocks, a volume 2^32 - 1 clusters, as ext4. A block has 512 to 4096 bytes, a page 4096.
//! - A search for clusters looks at a word for each group. On 16 TiB, which are 131,072 groups, an allocation on a nearly full volume took
//!   50 to 100 us, and a refusal as long; on 1 TiB 3 us.
//! - Direct writes of one file wait for each other.
//! - Reads, read-ahead and writeback wait for the device; only the block queue works without waiting. Who waits in front of writeback
//!   can be cancelled ([`File::cancel_waits`](crate::file::File::cancel_waits)), who waits for the device itself cannot.
//! - It does not read or write the disk format of ext4.
//!
//! # Leaks
//!
//! A [`Reservation`](crate::allocator::Reservation) given to [`mem::forget`](core::mem::forget) stays promised. The ledger says how much that was when it is
//! closed.
//!
//! # Platforms
//!
//! Developed and measured on Linux, x86-64. The map needs `alloc` and atomics of 64 bits, and uses vectors only on x86-64. The rest needs
//! the standard library; devices on files need Unix, direct ones Linux.
