//! Concurrent extent map, extent status tree, delayed allocation and block layer.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod allocator;
pub mod block;
pub mod delalloc;
pub mod device;
mod error;
pub mod file;
pub mod map;
pub mod mapping;
pub mod stats;
pub mod status;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
pub mod units;

pub use error::{Error, IoError, Result};
