//! The system's allocator, which tells what is asked of it.

use std::alloc::{GlobalAlloc, Layout, System};

/// Tells how many bytes more are in use with each call, or, below 0, how many fewer.
#[derive(Debug)]
pub(crate) struct Counting(pub(crate) fn(i64));

// SAFETY: passes every call on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        (self.0)(layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        (self.0)(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        (self.0)(-(layout.size() as i64));
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.dealloc(pointer, layout) }
    }
}
