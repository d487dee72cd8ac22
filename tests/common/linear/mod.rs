//! Histories of files and status trees: what threads did to one, what it answered, and whether there is one order
//! of everything that explains all answers.
//!
//! [`record`] makes histories. What an answer says is a few [`Parts`], each of which is true of, or changes, one
//! instant; `judge` looks for an order of them. [`file`] and [`status`] know what to do and what answers mean.
//!
//! Who uses this says which threads there are: `thread` in the root is that of `std` or of a schedule explorer.

pub(crate) mod broken;
pub(crate) mod file;
mod judge;
mod parts;
mod record;
mod rounds;
#[allow(unused)]
pub(crate) mod status;

pub(crate) use judge::{Verdict, is_explained, judge};
pub(crate) use parts::{Lock, Parts};
pub(crate) use record::{Done, Script, Subject, record};
pub(crate) use rounds::{Rounds, Totals};
