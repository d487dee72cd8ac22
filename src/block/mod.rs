//! The block layer: requests in blocks, merged and put in order, on their way to a device.
//!
//! A [`Bio`] says what is wanted; giving it to a [`BlockQueue`], alone or in a [`Batch`], turns it into a
//! [`SubmittedBio`] that can only be waited for. Promises:
//!
//! 1. Each bio gets its own outcome. A failed one fails no other, except those merged with it into one request.
//! 2. A flush covers every write that had completed when the flush was submitted, and in a batch every bio
//!    pushed before it. Nothing moves across a flush.
//! 3. Bios of one batch that overlap take effect in the order in which they were pushed; others in any order.
//!
//! The layer must **not** know files, extents, allocation or page caches, nor retry what a device refused.
//!
//! For now requests are carried out by the thread that submits them: [`SubmittedBio::wait`] never has to
//! block. Callers must not count on that.

mod batch;
mod bio;
mod queue;

pub use batch::Batch;
pub use bio::{Bio, SubmittedBio};
pub use queue::BlockQueue;
