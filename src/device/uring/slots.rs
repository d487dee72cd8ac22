//! Memory of a ring for small requests.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr;
use std::slice;

use io_uring::IoUring;

use super::super::{Buffer, Request};
use super::part::Part;

/// Bytes that a request may have to go through registered memory.
pub(super) const SLOT: usize = 16 << 10;

/// Memory for small requests, each with a slot of its own.
pub(super) struct Slots {
    /// Raw, as the kernel writes there behind the compiler's back.
    start: *mut u8,
    layout: Layout,
    /// Whether the kernel knows it, as one buffer.
    pub(super) registered: bool,
}

// SAFETY: the memory behind `start` belongs to this value (U5); who touches which slot is decided by who has
// the slot's number, which one request has at a time (U3).
unsafe impl Send for Slots {}
// SAFETY: as above; `&Slots` gives no access without such a number (U3).
unsafe impl Sync for Slots {}

impl Slots {
    /// Memory for so many slots, which `ring` is told of beforehand if it should `register` it.
    pub(super) fn new(slots: usize, ring: &IoUring, register: bool) -> Self {
        let layout = Layout::from_size_align(slots * SLOT, Buffer::ALIGNMENT);
        let layout = layout.expect("there are at most some thousand slots");
        // SAFETY: the size is not zero (L1), as there is a slot at least: a depth of 0 is refused.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        let part = Part {
            start,
            len: layout.size(),
        };
        // SAFETY: `Part` has the layout that is asked for (L2), and is read by this call only. The memory that
        // it speaks of exists as long as the ring (U5): `Ring` has both, and drops the ring first.
        let registered = register
            && unsafe {
                let parts = slice::from_raw_parts((&raw const part).cast(), 1);
                ring.submitter().register_buffers(parts).is_ok()
            };
        Self {
            start,
            layout,
            registered,
        }
    }

    pub(super) fn at(&self, number: usize) -> *mut u8 {
        // SAFETY: every number has a slot (U3).
        unsafe { self.start.add(number * SLOT) }
    }

    /// Copies what `request` writes into the slot of its number.
    pub(super) fn fill(&self, number: usize, request: &Request) {
        let mut to = self.at(number);
        for buffer in &*request.buffers {
            // SAFETY: all buffers together fit into a slot (U4), which nobody else uses while the request has
            // its number (U3).
            unsafe {
                ptr::copy_nonoverlapping(buffer.as_ptr(), to, buffer.len());
                to = to.add(buffer.len());
            }
        }
    }

    /// Copies what was read from the slot of its number into the buffers of `request`.
    pub(super) fn empty(&self, number: usize, request: &mut Request) {
        let mut from = self.at(number).cast_const();
        for buffer in &mut *request.buffers {
            // SAFETY: as in `fill` (U4, U3); the kernel is done with the slot (U1).
            unsafe {
                ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len());
                from = from.add(buffer.len());
            }
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: allocated like this in `new`, and nothing is under way any more (U5).
        unsafe { dealloc(self.start, self.layout) };
    }
}
