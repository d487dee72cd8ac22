//! Where memory is, in the form in which the kernel is told of it.

/// Where a buffer is, laid out as the system's `iovec`.
#[repr(C)]
pub(super) struct Part {
    pub(super) start: *mut u8,
    pub(super) len: usize,
}

// SAFETY: it only says where memory is that belongs to the request beside it, with which it moves (U1).
unsafe impl Send for Part {}
