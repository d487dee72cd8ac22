//! How operations are drawn from bytes, and said in bytes again.

use arbitrary::Unstructured;

use super::op::{FileOp, Op};
use super::script::Shape;
use crate::file::AllocateMode;
use crate::units::PAGE_SIZE;

impl Op {
    /// How many bytes make one operation.
    pub const ENCODED_LEN: usize = 9;

    /// Draws an operation on a volume of that shape from the next [`ENCODED_LEN`](Self::ENCODED_LEN) bytes.
    ///
    /// Any bytes are an operation, and smaller ones are a simpler one, so that minimised bytes are a
    /// minimised sequence. Most offsets and ends lie on a boundary of a block, page or cluster, or one byte off.
    ///
    /// # Errors
    /// When there are fewer bytes.
    pub fn draw(source: &mut Unstructured<'_>, shape: &Shape) -> arbitrary::Result<Self> {
        let mut bytes = [0; Self::ENCODED_LEN];
        bytes.copy_from_slice(source.bytes(Self::ENCODED_LEN)?);
        let [kind, file, seed, o0, o1, o2, l0, l1, l2] = bytes;
        let places = Places::new(shape);
        let (offset, len) = (places.offset([o0, o1, o2]), places.len([l0, l1, l2]));
        let allocate = |mode| FileOp::Allocate { mode, offset, len };
        // Whole clusters, but for a few seeds: what is not aligned is refused, and a few refusals are enough.
        let align = |bytes| match seed {
            0..UNALIGNED => bytes - bytes % places.cluster_bytes(),
            UNALIGNED.. => bytes,
        };
        let move_blocks = |mode| FileOp::Allocate {
            mode,
            offset: align(offset),
            len: align(len),
        };
        let op = match kind % 32 {
            0..6 => FileOp::Write { offset, len, seed },
            6..10 => FileOp::StoreMapped { offset, len, seed },
            10 => FileOp::Read { offset, len },
            11 => FileOp::LoadMapped { offset, len },
            12 | 13 => allocate(AllocateMode::Allocate),
            14 => allocate(AllocateMode::AllocateKeepSize),
            15..18 => allocate(AllocateMode::PunchHole),
            18 => allocate(AllocateMode::ZeroRange),
            19 => allocate(AllocateMode::ZeroRangeKeepSize),
            20 => move_blocks(AllocateMode::CollapseRange),
            21 => move_blocks(AllocateMode::InsertRange),
            22 | 23 => FileOp::SetLen(offset),
            24 => FileOp::SeekData(offset),
            25 => FileOp::SeekHole(offset),
            26 if seed % 2 == 0 => FileOp::SyncData,
            26 => FileOp::SyncAll,
            27 | 28 => FileOp::SyncRange { offset, len },
            29 | 30 => FileOp::ShrinkStatus(u64::from(seed % 4)),
            _ if seed % 2 == 0 => return Ok(Self::Sync),
            _ => return Ok(Self::DropCaches),
        };
        Ok(Self::File(usize::from(file) % Shape::FILES, op))
    }

    /// The bytes that [`draw`](Self::draw) makes this operation of, if there are any.
    pub fn encode(&self, shape: &Shape) -> Option<[u8; Self::ENCODED_LEN]> {
        let places = Places::new(shape);
        let place = |offset: &u64| places.encode(*offset, |place| places.offset(place));
        let range = |offset: &u64, len: &u64| {
            let len = places.encode(*len, |place| places.len(place))?;
            Some((place(offset)?, len))
        };
        let nowhere = Some(([0; 3], [0; 3]));
        let (file, op) = match self {
            Self::File(file, op) => (u8::try_from(*file).ok()?, op),
            Self::Sync => return Some([31, 0, 0, 0, 0, 0, 0, 0, 0]),
            Self::DropCaches => return Some([31, 0, 1, 0, 0, 0, 0, 0, 0]),
        };
        let (kind, seed, places) = match op {
            FileOp::Write { offset, len, seed } => (0, *seed, range(offset, len)),
            FileOp::StoreMapped { offset, len, seed } => (6, *seed, range(offset, len)),
            FileOp::Read { offset, len } => (10, 0, range(offset, len)),
            FileOp::LoadMapped { offset, len } => (11, 0, range(offset, len)),
            FileOp::Allocate { mode, offset, len } => {
                let is_aligned = (offset | len).is_multiple_of(places.cluster_bytes());
                let moves = if is_aligned { 0 } else { UNALIGNED };
                let (kind, seed) = match mode {
                    AllocateMode::Allocate => (12, 0),
                    AllocateMode::AllocateKeepSize => (14, 0),
                    AllocateMode::PunchHole => (15, 0),
                    AllocateMode::ZeroRange => (18, 0),
                    AllocateMode::ZeroRangeKeepSize => (19, 0),
                    AllocateMode::CollapseRange => (20, moves),
                    AllocateMode::InsertRange => (21, moves),
                };
                (kind, seed, range(offset, len))
            }
            FileOp::SetLen(size) => (22, 0, place(size).map(|size| (size, [0; 3]))),
            FileOp::SeekData(offset) => (24, 0, place(offset).map(|offset| (offset, [0; 3]))),
            FileOp::SeekHole(offset) => (25, 0, place(offset).map(|offset| (offset, [0; 3]))),
            FileOp::SyncData => (26, 0, nowhere),
            FileOp::SyncAll => (26, 1, nowhere),
            FileOp::SyncRange { offset, len } => (27, 0, range(offset, len)),
            FileOp::ShrinkStatus(n) => (29, u8::try_from(*n).ok()?, nowhere),
        };
        let ([o0, o1, o2], [l0, l1, l2]) = places?;
        let bytes = [kind, file, seed, o0, o1, o2, l0, l1, l2];
        // A file that is not there, for example, is drawn as another one.
        let drawn = Self::draw(&mut Unstructured::new(&bytes), shape);
        (drawn.as_ref() == Ok(self)).then_some(bytes)
    }
}

/// Operations that move blocks are aligned for seeds below this one.
const UNALIGNED: u8 = 240;

/// A number of bytes in three bytes: a unit, how many of it, and how far off.
type Place = [u8; 3];

/// Units from here on stand for an exact number of 18 bits, two of them in the unit itself.
const EXACT: u8 = 252;

/// Where on a volume of some shape something interesting may begin or end.
struct Places {
    units: [u64; 4],
    reach: u64,
}

impl Places {
    fn new(shape: &Shape) -> Self {
        let block = shape.block_size;
        Self {
            units: [block, PAGE_SIZE, shape.cluster_bytes(), 3 * block],
            reach: shape.reach(),
        }
    }

    fn cluster_bytes(&self) -> u64 {
        self.units[2]
    }

    /// An offset at or near a multiple of a unit.
    fn offset(&self, [unit, multiple, fine]: Place) -> u64 {
        let (multiple, fine) = (u64::from(multiple), u64::from(fine));
        if unit >= EXACT {
            return u64::from(unit - EXACT) << 16 | fine << 8 | multiple;
        }
        let unit = self.units[usize::from(unit % 4)];
        let edge = unit * (multiple % (self.reach / unit + 1));
        match fine % 8 {
            4 => edge.saturating_sub(1),
            5 => edge + 1,
            6 => edge + unit / 2,
            7 => edge + fine,
            _ => edge,
        }
    }

    /// A length. Most are short: then several fit into one cluster, and one can cut what another left.
    fn len(&self, [unit, multiple, fine]: Place) -> u64 {
        let multiple = match unit {
            0..192 => multiple % 4 + 1,
            192..240 => multiple / 8,
            240.. => multiple,
        };
        self.offset([unit, multiple, fine])
    }

    /// The simplest place that `draw` makes `bytes` of.
    fn encode(&self, bytes: u64, draw: impl Fn(Place) -> u64) -> Option<Place> {
        let near_edges = [0, 1, 2, 3, 240, 241, 242, 243]
            .into_iter()
            .flat_map(|unit: u8| {
                let of = self.units[usize::from(unit % 4)];
                let (near, off) = (bytes / of, (bytes % of) as u8);
                [0, 4, 5, 6, off].into_iter().flat_map(move |fine| {
                    [near.saturating_sub(1), near, near + 1]
                        .map(|multiple| [unit, multiple as u8, fine])
                })
            });
        let [low, middle, high, ..] = bytes.to_le_bytes();
        let exact = [EXACT | high, low, middle];
        near_edges
            .chain([exact])
            .find(|place| draw(*place) == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    #[test]
    fn what_is_drawn_is_said_in_bytes_that_draw_it_again() {
        // Every kind of operation, unit and distance meets every other within some thousand draws.
        let mut state = 1_u64;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..Shape::ENCODED_LEN + Op::ENCODED_LEN)
                .map(|_| byte())
                .collect();
            let script: Script = Unstructured::new(&bytes).arbitrary().unwrap();
            let encoded = script.encode().unwrap_or_else(|| panic!("{script:?}"));
            assert_eq!(encoded.len(), bytes.len());
            let again: Script = Unstructured::new(&encoded).arbitrary().unwrap();
            assert_eq!(again, script);
        }
    }

    #[test]
    fn any_offset_and_length_below_256_kib_can_be_said() {
        let shape = Shape::new(1024, 4);
        for offset in (0..256 << 10).step_by(97) {
            let len = (256 << 10) - 1 - offset;
            let op = Op::File(2, FileOp::Read { offset, len });
            let bytes = op.encode(&shape).expect("a place");
            assert_eq!(Op::draw(&mut Unstructured::new(&bytes), &shape), Ok(op));
        }
    }

    #[test]
    fn what_cannot_be_drawn_has_no_bytes() {
        let shape = Shape::new(4096, 1);
        let far = 1 << 30;
        for op in [
            Op::File(Shape::FILES, FileOp::SyncAll),
            Op::File(0, FileOp::SetLen(far)),
            Op::File(
                0,
                FileOp::Read {
                    offset: 0,
                    len: far,
                },
            ),
            Op::File(0, FileOp::ShrinkStatus(4)),
        ] {
            assert_eq!(op.encode(&shape), None, "{op:?}");
        }
        let ops = vec![Op::Sync];
        let shape = shape.inline(1);
        assert_eq!(Script { shape, ops }.encode(), None);
    }

    #[test]
    fn small_bytes_are_a_simple_operation() {
        let op = Op::draw(&mut Unstructured::new(&[0; 9]), &Shape::new(4096, 1));
        let simple = FileOp::Write {
            offset: 0,
            len: 4096,
            seed: 0,
        };
        assert_eq!(op, Ok(Op::File(0, simple)));
    }
}
