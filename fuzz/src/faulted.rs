//! Operations on a volume whose device fails, drawn from bytes.

use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::device::OperationKind;
use extent_map::testing::{Op, Shape};

/// A shape of volume, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulted {
    /// The volume.
    pub shape: Shape,
    /// What is done to it, and how its device fails meanwhile.
    pub steps: Vec<(Change, Op)>,
}

/// What changes about the device before an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: bad blocks stay bad.
    Nothing,
    /// Of the device operations of the next operation, the one after `nth` others fails; of those of one kind.
    Once {
        /// Which kind counts; all if none is given.
        kind: Option<OperationKind>,
        /// How many succeed before.
        nth: u64,
    },
    /// These clusters, and no others, are bad from now on.
    Bad {
        /// Which kind of operation fails on them; all if none is given.
        kind: Option<OperationKind>,
        /// The clusters.
        clusters: Range<u64>,
    },
    /// No block is bad any more.
    Repair,
}

impl Change {
    /// How many bytes a change is drawn from.
    pub const ENCODED_LEN: usize = 2;
}

impl<'a> Arbitrary<'a> for Change {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let [change, which]: [u8; Self::ENCODED_LEN] = source.arbitrary()?;
        let kind = match which % 4 {
            0 => None,
            1 => Some(OperationKind::Write),
            2 => Some(OperationKind::Read),
            _ => Some(OperationKind::Flush),
        };
        let number = u64::from(which / 4);
        Ok(match change {
            0..144 => Self::Nothing,
            144..208 => Self::Once {
                kind,
                nth: number % 8,
            },
            208..232 => {
                let first = 1 + number;
                let clusters = first..first + 1 + u64::from(change % 8);
                Self::Bad { kind, clusters }
            }
            232.. => Self::Repair,
        })
    }
}

impl<'a> Arbitrary<'a> for Faulted {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let shape = Shape::arbitrary(source)?;
        let mut steps = Vec::new();
        while source.len() >= Change::ENCODED_LEN + Op::ENCODED_LEN {
            steps.push((source.arbitrary()?, Op::draw(source, &shape)?));
        }
        Ok(Self { shape, steps })
    }
}
