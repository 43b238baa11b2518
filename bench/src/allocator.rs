//! An allocator that counts: how often memory is asked for, and how much of it is in use.

#![allow(
    unsafe_code,
    reason = "an allocator cannot be written without; each call is passed on unchanged"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// The system's allocator, with counters.
pub(crate) struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
static PAUSED: AtomicBool = AtomicBool::new(false);

/// Allocations so far; growing in place counts as one.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Bytes in use now, as they were asked for.
pub(crate) fn bytes_in_use() -> i64 {
    BYTES.load(Relaxed)
}

/// Does something whose allocations are the bench's own and do not count. Their bytes do.
pub(crate) fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    PAUSED.store(true, Relaxed);
    let result = work();
    PAUSED.store(false, Relaxed);
    result
}

fn count(bytes: i64) {
    ALLOCATIONS.fetch_add(u64::from(!PAUSED.load(Relaxed)), Relaxed);
    BYTES.fetch_add(bytes, Relaxed);
}

// SAFETY: every method passes its arguments unchanged to the system's allocator, which keeps the
// contract of `GlobalAlloc`; the counters beside it touch no memory of the allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract, and it is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
