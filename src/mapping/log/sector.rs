//! One sector of the log: a piece of a transaction that says to which one it belongs.
//!
//! A device may lose any sectors of a write that no flush has covered, but writes each whole. A transaction is torn, and
//! counts as never written, when one of its sectors still holds what was there before: a sector of an earlier
//! generation, or zeros. A sector that is neither is damage, and is not mistaken for a torn write.

use super::layout::SECTOR;
use super::wire::Reader;

/// Bytes of a transaction in a sector.
pub(super) const PAYLOAD: usize = SECTOR - HEADER;

const HEADER: usize = 24;

/// Which sector of which transaction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// That of the image which the log continues.
    pub(super) generation: u64,
    /// Counted from the start of the log.
    pub(super) position: u32,
    /// Counted from the start of the generation.
    pub(super) transaction: u32,
    /// Whether the transaction ends here.
    pub(super) last: bool,
}

/// What a sector of the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector<'a> {
    /// Never written.
    Empty,
    Sealed(Tag, &'a [u8]),
    Damaged,
}

impl Tag {
    /// Appends the sector that holds `payload`, at most [`PAYLOAD`] bytes.
    pub(super) fn seal(&self, payload: &[u8], log: &mut Vec<u8>) {
        let start = log.len();
        log.extend([0; 4]);
        log.extend((payload.len() as u16).to_le_bytes());
        log.extend([u8::from(self.last), 0]);
        log.extend(self.generation.to_le_bytes());
        log.extend(self.position.to_le_bytes());
        log.extend(self.transaction.to_le_bytes());
        log.extend(payload);
        log.resize(start + SECTOR, 0);
        let checksum = crc32fast::hash(&log[start + 4..]);
        log[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    }
}

impl<'a> Sector<'a> {
    /// What `bytes`, one sector, are.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Empty;
        }
        let mut fields = Reader(bytes);
        match fields.u32() == Some(crc32fast::hash(&bytes[4..])) {
            true => Self::fields(&mut fields).unwrap_or(Self::Damaged),
            false => Self::Damaged,
        }
    }

    fn fields(fields: &mut Reader<'a>) -> Option<Self> {
        let len = fields.u16()?;
        let (flags, _) = (fields.u8()?, fields.u8()?);
        let tag = Tag {
            generation: fields.u64()?,
            position: fields.u32()?,
            transaction: fields.u32()?,
            last: flags & 1 != 0,
        };
        Some(Self::Sealed(tag, fields.bytes(len.into())?))
    }
}
