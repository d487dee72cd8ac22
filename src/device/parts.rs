//! The parts of an operation, where bytes are kept in chunks.

/// What lies in one chunk.
pub(super) struct Part {
    pub(super) chunk: u64,
    /// Where in the chunk.
    pub(super) start: usize,
    pub(super) len: usize,
}

/// Cuts `len` bytes from `offset` on at the borders of chunks of `chunk_len` bytes.
pub(super) fn parts(mut offset: u64, len: u64, chunk_len: usize) -> impl Iterator<Item = Part> {
    let (end, chunk_len) = (offset + len, chunk_len as u64);
    std::iter::from_fn(move || {
        let start = offset % chunk_len;
        let len = (end - offset).min(chunk_len - start);
        let part = Part {
            chunk: offset / chunk_len,
            start: start as usize,
            len: len as usize,
        };
        offset += len;
        (len > 0).then_some(part)
    })
}
