//! Memory that begins at a cache line, so that a vector of sixteen `f32` never straddles two.
#![expect(unsafe_code, reason = "cache lines or pages seen as a slice of elements")]

use std::{
    marker::PhantomData,
    mem::size_of,
    ops::{Deref, DerefMut},
    slice,
};

use half::{bf16, f16};
use memmap2::MmapMut;

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

/// What is at least as large gets pages of its own: they come zeroed when they are first touched, and go back to the
/// system at once. An allocator would keep most of a model that is unloaded.
const LARGE: usize = 256 << 10;

enum Lines {
    Heap(Vec<Line>),
    Pages(MmapMut),
}

impl Lines {
    fn zeroed(count: usize) -> Self {
        let bytes = count * size_of::<Line>();
        if bytes >= LARGE
            && let Ok(pages) = MmapMut::map_anon(bytes)
        {
            advise(&pages);
            return Self::Pages(pages);
        }
        Self::Heap(vec![Line([0; 64]); count])
    }

    fn count(&self) -> usize {
        match self {
            Self::Heap(lines) => lines.len(),
            Self::Pages(pages) => pages.len() / size_of::<Line>(),
        }
    }

    fn as_ptr(&self) -> *const u8 {
        match self {
            Self::Heap(lines) => lines.as_ptr().cast(),
            Self::Pages(pages) => pages.as_ptr(),
        }
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        match self {
            Self::Heap(lines) => lines.as_mut_ptr().cast(),
            Self::Pages(pages) => pages.as_mut_ptr(),
        }
    }
}

/// A slice of zeros to begin with, aligned to 64 bytes.
pub struct Aligned<T> {
    lines: Lines,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { lines: Lines::zeroed(lines(len, size_of::<T>())), len, element: PhantomData }
    }

    /// Makes room for `len` elements; what is in them is not specified.
    pub fn resize(&mut self, len: usize) {
        let count = lines(len, size_of::<T>());
        if count > self.lines.count() {
            self.lines = Lines::zeroed(count);
        }
        self.len = len;
    }
}

fn lines(len: usize, size: usize) -> usize {
    (len * size).div_ceil(size_of::<Line>())
}

/// Asks for large pages, before the first touch: weights are read front to back, and small pages end every 4 KiB.
fn advise(pages: &MmapMut) {
    const LARGE: usize = 2 << 20;
    #[cfg(target_os = "linux")]
    if pages.len() >= LARGE {
        // Refused, it changes nothing.
        let _ = pages.advise(memmap2::Advice::HugePage);
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
        // SAFETY: lines and pages are initialised bytes, long and aligned enough for `len` elements of a `Plain` type.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
