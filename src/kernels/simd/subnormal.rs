//! Subnormal numbers as zero, by the control register of the CPU (MXCSR).
#![expect(unsafe_code, reason = "the register has no safe access")]

use std::arch::asm;

/// Subnormal operands and results count as zero on this thread until [`restore`] gets what this returns.
///
/// Nothing of the compiler's making may compute in between but vector intrinsics on operands that are loaded after this
/// call; the assembly blocks are barriers for loads and stores.
#[inline(always)]
pub(super) fn flush() -> u32 {
    const OPERANDS: u32 = 1 << 6;
    const RESULTS: u32 = 1 << 15;
    let before = read();
    restore(before | OPERANDS | RESULTS);
    before
}

#[inline(always)]
fn read() -> u32 {
    let mut state = 0_u32;
    // SAFETY: stores the register.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut state, options(nostack, preserves_flags)) };
    state
}

#[inline(always)]
pub(super) fn restore(state: u32) {
    // SAFETY: the register's own value, or that with two defined bits set.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const state, options(nostack, preserves_flags)) };
}
