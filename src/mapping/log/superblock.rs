//! The superblock: what the volume is, and which image of its mapping is the last.

use crate::error::{Error, Result};
use crate::units::{BlockSize, ClusterRatio, Geometry};

use super::layout::{SECTOR, UNIT};
use super::wire::Reader;

const MAGIC: &[u8; 8] = b"extntmap";
const VERSION: u32 = 1;

/// Where the checksum of the rest lies.
const CHECKSUM: usize = SECTOR - 4;

/// A generation that no number of checkpoints leads to. So those of a volume that is opened never end.
pub(super) const BEYOND_REACH: u64 = 1 << 63;

/// What both copies say, unless a checkpoint is just being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) geometry: Geometry,
    /// What the volume uses of its device.
    pub(super) device_bytes: u64,
    /// Counts checkpoints; says where the image lies and which sectors of the log follow it.
    pub(super) generation: u64,
    pub(super) image: ImageSummary,
}

/// What must be found in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ImageSummary {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) extents: u64,
    pub(super) checksum: u32,
}

/// What is found where a superblock should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    Good(Superblock),
    /// Of a format that this code does not know.
    Foreign,
    Damaged,
}

impl Superblock {
    /// The unit of bytes that a copy takes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(UNIT as usize);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.geometry.block_size.bytes() as u32).to_le_bytes());
        bytes.extend((self.geometry.cluster.blocks() as u32).to_le_bytes());
        bytes.extend(self.image.checksum.to_le_bytes());
        bytes.extend(self.device_bytes.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.image.bytes.to_le_bytes());
        bytes.extend(self.image.files.to_le_bytes());
        bytes.extend(self.image.extents.to_le_bytes());
        bytes.resize(CHECKSUM, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(UNIT as usize, 0);
        bytes
    }

    fn decode(fields: &mut Reader<'_>) -> Option<Self> {
        let geometry = Geometry {
            block_size: BlockSize::new(fields.u32()?.into()).ok()?,
            cluster: ClusterRatio::new(fields.u32()?.into()).ok()?,
        };
        let checksum = fields.u32()?;
        Some(Self {
            geometry,
            device_bytes: fields.u64()?,
            generation: fields.u64()?,
            image: ImageSummary {
                bytes: fields.u64()?,
                files: fields.u64()?,
                extents: fields.u64()?,
                checksum,
            },
        })
    }
}

impl Copy {
    /// What the first sector of a copy holds.
    pub(super) fn read(sector: &[u8]) -> Self {
        let checksum = Reader(&sector[CHECKSUM..]).u32();
        let mut fields = Reader(&sector[..CHECKSUM]);
        if fields.bytes(MAGIC.len()) != Some(MAGIC)
            || checksum != Some(crc32fast::hash(&sector[..CHECKSUM]))
        {
            return Self::Damaged;
        }
        if fields.u32() != Some(VERSION) {
            return Self::Foreign;
        }
        Superblock::decode(&mut fields).map_or(Self::Damaged, Self::Good)
    }
}

/// The later of two copies. One that is damaged does not matter: each is written while the other holds, and
/// what the older one names is left alone until both are new.
pub(super) fn latest(copies: &[Copy; 2]) -> Result<&Superblock> {
    match copies {
        [Copy::Good(one), Copy::Good(two)] => Ok(match one.generation >= two.generation {
            true => one,
            false => two,
        }),
        [Copy::Good(one), _] | [_, Copy::Good(one)] => Ok(one),
        [Copy::Foreign, _] | [_, Copy::Foreign] => {
            Err(Error::NotSupported("a volume of another format version"))
        }
        [Copy::Damaged, Copy::Damaged] => Err(Error::Corrupt("no copy of the superblock is good")),
    }
}
