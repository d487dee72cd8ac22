//! Operations dealt to threads, and the schedule that they run in, drawn from bytes.

use arbitrary::{Arbitrary, Unstructured};
use extent_map::testing::{Op, Shape};

/// Threads that run at once.
pub const THREADS: usize = 3;

/// A shape of volume, and what some threads do to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealt {
    /// Chooses the schedule.
    pub seed: u64,
    /// The volume.
    pub shape: Shape,
    /// What is done before there are threads.
    pub before: Vec<Op>,
    /// What each thread does.
    pub threads: [Vec<Op>; THREADS],
}

impl<'a> Arbitrary<'a> for Dealt {
    /// A seed, a shape, and then for each operation who does it: nobody else yet, or one of the threads.
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let (seed, shape) = (source.arbitrary()?, Shape::arbitrary(source)?);
        let mut before = Vec::new();
        let mut threads = [const { Vec::new() }; THREADS];
        while source.len() > Op::ENCODED_LEN {
            let who = usize::from(u8::arbitrary(source)?) % (THREADS + 1);
            let ops = match who.checked_sub(1) {
                None => &mut before,
                Some(thread) => &mut threads[thread],
            };
            ops.push(Op::draw(source, &shape)?);
        }
        Ok(Self {
            seed,
            shape,
            before,
            threads,
        })
    }
}
