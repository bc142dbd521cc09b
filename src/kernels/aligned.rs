//! Memory that begins at a cache line, so that a vector of sixteen `f32` never straddles two.
#![expect(unsafe_code, reason = "a vector of cache lines seen as a slice of elements")]

use std::{
    marker::PhantomData,
    mem::size_of,
    ops::{Deref, DerefMut},
    slice,
};

use half::{bf16, f16};

/// Numbers, of which every bit pattern is a value.
///
/// # Safety
/// Any bytes are a value, and a cache line holds a whole number of values.
pub unsafe trait Plain: Copy {}

// SAFETY: plain numbers of 1, 2 and 4 bytes.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f16 {}
// SAFETY: as above.
unsafe impl Plain for bf16 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through the slice of elements")] [u8; 64]);

/// A slice of zeros to begin with, aligned to 64 bytes.
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let count = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut lines = Vec::with_capacity(count);
        advise(&lines);
        lines.resize(count, Line([0; 64]));
        Self { lines, len, element: PhantomData }
    }

    /// Makes room for `len` elements; what is in them is not specified.
    pub fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; 64]));
        }
        self.len = len;
    }
}

/// Asks for large pages, before the first touch: weights are read front to back, and small pages end every 4 KiB.
fn advise(lines: &Vec<Line>) {
    const LARGE: usize = 4 << 20;
    let bytes = lines.capacity() * size_of::<Line>();
    #[cfg(target_os = "linux")]
    if bytes >= LARGE {
        use rustix::mm::{Advice, madvise};
        let start = lines.as_ptr().addr().next_multiple_of(4096);
        let end = (lines.as_ptr().addr() + bytes) / 4096 * 4096;
        // SAFETY: whole pages of memory that is ours; the advice changes no contents. Refused, it changes nothing.
        let _ = unsafe {
            madvise(lines.as_ptr().with_addr(start).cast_mut().cast(), end - start, Advice::LinuxHugepage)
        };
    }
}

impl<T: Plain> Default for Aligned<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the lines are initialised bytes, long and aligned enough for `len` elements of a `Plain` type.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
