//! The allocator's free memory.

/// Gives memory that was freed back to the system: the allocator keeps blocks of up to 32 MiB for later, which is most of a
/// model.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a function of the C library")]
    // SAFETY: it may be called at any time, from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
