//! Tools for tests of this crate and of what is built on it: a dense [`Oracle`] of a volume, one generator
//! of file operations ([`Script`], [`Op::draw`]) for property tests and fuzzing, and a checker of invariants
//! ([`check`]).
//!
//! Everything here is slow and obvious on purpose. The oracle says what a volume must answer; the checker
//! says whether what a volume keeps inside is consistent. Both look at moments at which no operation is
//! half done; races are for the tests that make them.
//!
//! The module must not be used by any other of the crate.

mod draw;
mod invariants;
mod observation;
mod op;
mod oracle;
mod script;
mod story;

pub use invariants::{Violation, check, check_synced};
pub use observation::{Observation, change_counter};
pub use op::{FileOp, Op, Outcome, pattern};
pub use oracle::{DenseFile, Oracle};
pub use script::{Script, Shape};
pub use story::Story;

pub use crate::sync::ignore_lock_order;
