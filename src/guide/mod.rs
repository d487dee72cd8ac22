//! How to use the crate well: four short pages of words.
//!
//! - [`consistency`]: what a reader sees while others write, and what a crash leaves.
//! - [`embedding`]: the crate inside your own filesystem or virtual disk, step by step.
//! - [`tuning`]: which knobs there are, and what was measured.
//! - [`limitations`]: what it cannot do, and what it costs.

pub mod consistency;
pub mod embedding;
pub mod limitations;
pub mod tuning;
