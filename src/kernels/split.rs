//! One slice written by several tasks at once, each in its own places.
#![expect(unsafe_code, reason = "parts of one slice lent to several threads")]

use std::{marker::PhantomData, ops::Range, slice};

/// A mutable slice whose parts are lent out one by one.
#[derive(Clone, Copy)]
pub(super) struct Split<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: `part` promises that no two threads hold the same element.
unsafe impl<T: Send> Send for Split<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Split<'_, T> {}

impl<'a, T> Split<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// # Safety
    /// No element of the range is lent twice at the same time.
    ///
    /// # Panics
    /// When the range is not within the slice.
    #[inline(always)]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part beyond its slice");
        // SAFETY: within the slice, and lent once by the caller's promise.
        unsafe { slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where an element lies.
    ///
    /// # Panics
    /// When there is no such element.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn address(&self, index: usize) -> *mut T {
        assert!(index < self.len, "an element beyond its slice");
        // SAFETY: within the slice.
        unsafe { self.start.add(index) }
    }
}
