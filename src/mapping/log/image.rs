//! The image: the whole mapping, one file behind the other, as a checkpoint writes it.

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::error::{Error, Result};
use crate::units::FileNumber;

use super::super::extents::Extents;
use super::super::table::FileState;
use super::layout::UNIT;
use super::record::{EXTENT_BYTES, decode_extent, encode_extent};
use super::superblock::ImageSummary;
use super::wire::Reader;

/// Bytes of a file before its inline bytes and its extents.
const FILE_BYTES: u64 = 24;

/// The length that says that a file has no inline bytes.
const NOT_INLINE: u32 = u32::MAX;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// How many bytes of an image a file takes: none that nothing was ever stored for.
pub(super) fn bytes_of(file: &FileState) -> u64 {
    if *file == FileState::default() {
        return 0;
    }
    let inline = file.inline.as_ref().map_or(0, |bytes| bytes.len());
    FILE_BYTES + inline as u64 + EXTENT_BYTES * file.extents.count() as u64
}

/// Writes the image of `files` to `device` from `offset` on, where there is room for it.
pub(super) fn write(
    device: &dyn BlockDevice,
    mut offset: u64,
    files: &[(FileNumber, Arc<FileState>)],
) -> Result<ImageSummary> {
    let mut hasher = crc32fast::Hasher::new();
    let mut summary = ImageSummary::default();
    let mut chunk = Vec::new();
    let mut put = |chunk: &mut Vec<u8>, len: usize| {
        let behind = chunk.split_off(len);
        hasher.update(chunk);
        chunk.resize(len.next_multiple_of(UNIT as usize), 0);
        device.write_at(offset, chunk)?;
        offset += len as u64;
        *chunk = behind;
        Ok::<_, Error>(())
    };
    for (number, file) in files.iter().filter(|(_, file)| bytes_of(file) > 0) {
        summary.files += 1;
        summary.extents += file.extents.count() as u64;
        summary.bytes += bytes_of(file);
        chunk.extend(number.0.to_le_bytes());
        chunk.extend(file.size.to_le_bytes());
        chunk.extend((file.extents.count() as u32).to_le_bytes());
        match &file.inline {
            Some(bytes) => {
                chunk.extend((bytes.len() as u32).to_le_bytes());
                chunk.extend(&**bytes);
            }
            None => chunk.extend(NOT_INLINE.to_le_bytes()),
        }
        for extent in file.extents.iter() {
            encode_extent(extent, &mut chunk);
            if chunk.len() >= CHUNK {
                put(&mut chunk, CHUNK)?;
            }
        }
        while chunk.len() >= CHUNK {
            put(&mut chunk, CHUNK)?;
        }
    }
    if !chunk.is_empty() {
        let len = chunk.len();
        put(&mut chunk, len)?;
    }
    summary.checksum = hasher.finalize();
    Ok(summary)
}

/// Reads the image at `offset`, of which `summary` tells.
///
/// # Errors
/// [`Error::Corrupt`] when its bytes are not those that were written.
pub(super) fn read(
    device: &dyn BlockDevice,
    offset: u64,
    summary: &ImageSummary,
) -> Result<Vec<(FileNumber, FileState)>> {
    let mut bytes = vec![0; summary.bytes as usize];
    let (mut at, mut rest) = (offset, &mut bytes[..]);
    while !rest.is_empty() {
        let len = rest.len().min(CHUNK);
        let (chunk, behind) = rest.split_at_mut(len);
        // Whole units, as they were written.
        let mut unit = vec![0; len.next_multiple_of(UNIT as usize)];
        device.read_at(at, &mut unit)?;
        chunk.copy_from_slice(&unit[..len]);
        at += len as u64;
        rest = behind;
    }
    if crc32fast::hash(&bytes) != summary.checksum {
        return Err(Error::Corrupt("the image fails its checksum"));
    }
    let mut reader = Reader(&bytes);
    let mut files: Vec<(FileNumber, FileState)> = Vec::new();
    while !reader.0.is_empty() {
        let (number, file) =
            read_file(&mut reader).ok_or(Error::Corrupt("a file in the image makes no sense"))?;
        if files.last().is_some_and(|(last, _)| *last >= number) {
            return Err(Error::Corrupt("files in the image are not in order"));
        }
        files.push((number, file));
    }
    let extents = files.iter().map(|(_, file)| file.extents.count() as u64);
    if (summary.files, summary.extents) != (files.len() as u64, extents.sum()) {
        return Err(Error::Corrupt("the image has not what the superblock says"));
    }
    Ok(files)
}

fn read_file(image: &mut Reader<'_>) -> Option<(FileNumber, FileState)> {
    let number = FileNumber(image.u64()?);
    let size = image.u64()?;
    let extents = image.u32()?;
    let inline = match image.u32()? {
        NOT_INLINE => None,
        len => Some(image.bytes(len as usize)?.into()),
    };
    // No more memory than the image can fill.
    let room = image.0.len() as u64 / EXTENT_BYTES;
    let mut list = Vec::with_capacity(u64::from(extents).min(room) as usize);
    for _ in 0..extents {
        list.push(decode_extent(image)?);
    }
    let file = FileState {
        extents: Arc::new(Extents::from_sorted(&list)?),
        size,
        inline,
    };
    Some((number, file))
}
