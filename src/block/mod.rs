//! The block layer: requests in blocks, merged and put in order, on their way to a device.
//!
//! A [`Bio`] says what is wanted; giving it to a [`BlockQueue`], alone or in a [`Batch`], turns it into a
//! [`SubmittedBio`] that can only be waited for, or lets a [`Completion`](crate::device::Completion) hear of its end.
//! Promises:
//!
//! 1. Each bio gets its own outcome, once. A failed one fails no other, except those merged with it into one
//!    command; one that was split fails with the error of the piece that failed first.
//! 2. A flush covers every write that had completed when the flush was submitted, and in a batch every bio
//!    pushed before it. Nothing moves across a flush.
//! 3. Bios of one batch that overlap take effect in the order in which they were pushed; others in any order.
//! 4. A write that is asked for with [`fua`](Bio::fua) is durable when it has ended.
//! 5. A device or a completion that panics takes along nothing but what the thread in which it does has brought.
//!
//! The layer must **not** know files, extents, allocation or page caches.
//!
//! A device that blocks is worked by the threads that submit ([`Limits::depth`](crate::device::Limits::depth) of them
//! at once): without a scheduler each carries out what it brought, with one each carries out as many commands as it
//! brought, in the scheduler's order. For a device that works by itself ([`Limits::asynchronous`]) commands wait
//! here until there is a place in its queue.
//!
//! [`Limits::asynchronous`]: crate::device::Limits::asynchronous

mod batch;
mod bio;
mod command;
mod core;
mod cut;
mod direct;
mod dispatcher;
mod flush;
mod latency;
mod outcome;
mod panics;
mod policy;
mod push;
mod pushed;
mod queue;
mod queued;
mod scheduler;
mod sieve;
mod timer;

pub use crate::device::{Buffer, Buffers};
pub use batch::{Batch, Ends};
pub use bio::{Bio, Priority};
pub use dispatcher::Depth;
pub use latency::Latency;
pub use outcome::SubmittedBio;
pub use policy::Policy;
pub use queue::BlockQueue;
pub use scheduler::{Deadline, Scheduler};
