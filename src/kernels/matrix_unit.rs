//! The matrix unit of some x86 CPUs (AMX): tiles of 16 rows of 64 bytes.
#![expect(unsafe_code, reason = "instructions that the compiler has no stable name for, written in assembly")]

use std::{
    arch::{asm, x86_64::__cpuid_count},
    sync::OnceLock,
};

use half::bf16;

/// Rows of a tile, and `f32` or pairs of bfloat16 in one of its rows.
pub(super) const SIDE: usize = 16;
/// Bytes in a row of a tile, at most.
const LINE: usize = 64;

/// Proof that the CPU multiplies tiles of bfloat16 and of bytes, and that the system lets this process do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit(());

impl Unit {
    /// Asks the CPU and the system, once.
    #[must_use]
    pub(super) fn detect() -> Option<Self> {
        static ANSWER: OnceLock<bool> = OnceLock::new();
        ANSWER.get_or_init(|| has_instructions() && is_permitted()).then_some(Self(()))
    }
}

fn has_instructions() -> bool {
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    const INT8: u32 = 1 << 25;
    const ALL: u32 = TILE | BF16 | INT8;
    __cpuid_count(7, 0).edx & ALL == ALL
}

/// Linux gives the tiles' 8 KiB of state to those who ask (Documentation/arch/x86/xstate.rst).
fn is_permitted() -> bool {
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: i64 = 158;
        const REQUEST_PERMISSION: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let result: i64;
        // SAFETY: a system call that changes nothing but this permission.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// How many rows and bytes each of the eight tiles has (Intel SDM, LDTILECFG).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tiles that are set up on this thread; they are given back at the end.
pub(super) struct Tiles {
    _unit: Unit,
}

impl Tiles {
    /// Sums 0 and 1 and operand 4 have 16 rows; sums 2 and 3 and operand 5 have `lower`. 6 and 7 hold weights.
    #[must_use]
    pub(super) fn tall(unit: Unit, lower: usize) -> Self {
        Self::set(unit, [SIDE, SIDE, lower, lower, SIDE, lower, SIDE, SIDE].map(|rows| (rows, LINE)))
    }

    /// Sums 0 to 3 and operand 4 have `rows` rows. 5, 6 and 7 hold weights.
    #[must_use]
    pub(super) fn flat(unit: Unit, rows: usize) -> Self {
        Self::set(unit, [rows, rows, rows, rows, rows, SIDE, SIDE, SIDE].map(|rows| (rows, LINE)))
    }

    /// Sums 0 to 3 and operands 4 and 5 have `rows` rows, the operands `depth` bytes in each. 6 and 7 hold weights for them.
    #[must_use]
    pub(super) fn bytes(unit: Unit, rows: usize, depth: usize) -> Self {
        let (sums, x, weights) = ((rows, LINE), (rows, depth), (depth / 4, LINE));
        Self::set(unit, [sums, sums, sums, sums, x, x, weights, weights])
    }

    /// Rows and bytes in a row of each tile.
    fn set(unit: Unit, tiles: [(usize, usize); 8]) -> Self {
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        for (tile, (rows, bytes)) in tiles.into_iter().enumerate() {
            assert!((1..=SIDE).contains(&rows) && (4..=LINE).contains(&bytes), "a tile's shape");
            shapes.bytes[tile] = bytes as u16;
            shapes.rows[tile] = rows as u8;
        }
        // SAFETY: `unit` proves that the instruction is there and allowed; the shapes are those of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        Self { _unit: unit }
    }

    /// Makes the four tiles of sums zero.
    ///
    /// # Safety
    /// Tiles 0 to 3 are set up.
    #[inline]
    pub(super) unsafe fn clear(&self) {
        // SAFETY: the caller's.
        unsafe { asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack)) };
    }

    /// Fetches two by two tiles of sums: those of the upper rows, 32 columns in each, and of the lower.
    ///
    /// # Safety
    /// Each of `sums` points to as many rows as its tiles have, `stride` bytes apart.
    #[inline]
    pub(super) unsafe fn load(&self, sums: [*mut f32; 2], stride: usize) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm0, [{upper} + {stride}]",
                "tileloadd tmm1, [{upper} + {stride} + 64]",
                "tileloadd tmm2, [{lower} + {stride}]",
                "tileloadd tmm3, [{lower} + {stride} + 64]",
                upper = in(reg) sums[0],
                lower = in(reg) sums[1],
                stride = in(reg) stride,
                options(nostack, readonly),
            );
        }
    }

    /// Puts two by two tiles of sums where [`Tiles::load`] would find them.
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub(super) unsafe fn store(&self, sums: [*mut f32; 2], stride: usize) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilestored [{upper} + {stride}], tmm0",
                "tilestored [{upper} + {stride} + 64], tmm1",
                "tilestored [{lower} + {stride}], tmm2",
                "tilestored [{lower} + {stride} + 64], tmm3",
                upper = in(reg) sums[0],
                lower = in(reg) sums[1],
                stride = in(reg) stride,
                options(nostack),
            );
        }
    }

    /// Adds to two by two tiles of sums the products of `steps` tiles of activations, in two blocks of rows, and of weights,
    /// in two panels.
    ///
    /// # Safety
    /// Set up by [`Tiles::tall`], with as many lower rows. `x` points to `steps` tiles of lines of 32 elements, below each
    /// other; `weights` to `steps` tiles.
    #[inline]
    pub(super) unsafe fn two_by_two(
        &self,
        steps: usize,
        x: [*const bf16; 2],
        lower: usize,
        weights: [*const bf16; 2],
    ) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "2:",
                "tileloadd tmm6, [{b0} + {line}]",
                "tileloadd tmm4, [{a0} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {line}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b1} + {line}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, {lower}",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {steps}",
                "jnz 2b",
                steps = inout(reg) steps => _,
                a0 = inout(reg) x[0] => _,
                a1 = inout(reg) x[1] => _,
                b0 = inout(reg) weights[0] => _,
                b1 = inout(reg) weights[1] => _,
                lower = in(reg) lower * LINE,
                line = in(reg) LINE,
                options(nostack, readonly),
            );
        }
    }

    /// The products of `steps` tiles of activations, in one block of rows, and of weights, in four panels that are `panel`
    /// bytes apart.
    ///
    /// # Safety
    /// Set up by [`Tiles::flat`], with as many rows. `x` and `weights` as for [`Tiles::two_by_two`]; `sums` points to as many
    /// rows of 64 columns, `stride` bytes apart.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "as many addresses")]
    pub(super) unsafe fn one_by_four(
        &self,
        steps: usize,
        x: *const bf16,
        rows: usize,
        weights: *const bf16,
        panel: usize,
        sums: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.clear();
            asm!(
                "2:",
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm5, [{b0} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tileloadd tmm6, [{b1} + {line}]",
                "tdpbf16ps tmm1, tmm4, tmm6",
                "tileloadd tmm7, [{b2} + {line}]",
                "tdpbf16ps tmm2, tmm4, tmm7",
                "tileloadd tmm5, [{b3} + {line}]",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "add {a}, {rows}",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "add {b2}, 1024",
                "add {b3}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{c} + {stride}], tmm0",
                "tilestored [{c} + {stride} + 64], tmm1",
                "tilestored [{c} + {stride} + 128], tmm2",
                "tilestored [{c} + {stride} + 192], tmm3",
                steps = inout(reg) steps => _,
                a = inout(reg) x => _,
                b0 = inout(reg) weights => _,
                b1 = inout(reg) weights.byte_add(panel) => _,
                b2 = inout(reg) weights.byte_add(2 * panel) => _,
                b3 = inout(reg) weights.byte_add(3 * panel) => _,
                c = in(reg) sums,
                rows = in(reg) rows * LINE,
                stride = in(reg) stride,
                line = in(reg) LINE,
                options(nostack),
            );
        }
    }

    /// The products of bytes with signs: those of two tiles of activations, each with those of two tiles of weights, as four
    /// tiles of whole numbers below each other (first with both, second with both).
    ///
    /// # Safety
    /// Set up by [`Tiles::bytes`]. Each of `x` points to as many bytes in each of as many rows, `stride` bytes apart; each of
    /// `weights` to lines of 64 bytes, four inputs of sixteen columns each; `sums` to four tiles of 16 by 16 `i32`.
    #[inline(always)]
    pub(super) unsafe fn two_times_two(
        &self,
        x: [*const i8; 2],
        stride: usize,
        weights: [[*const u8; 2]; 2],
        sums: *mut i32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm6, [{b00} + {line}]",
                "tileloadd tmm4, [{a0} + {stride}]",
                "tilezero tmm0",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b01} + {line}]",
                "tilezero tmm1",
                "tdpbssd tmm1, tmm4, tmm7",
                "tileloadd tmm6, [{b10} + {line}]",
                "tileloadd tmm5, [{a1} + {stride}]",
                "tilezero tmm2",
                "tdpbssd tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b11} + {line}]",
                "tilezero tmm3",
                "tdpbssd tmm3, tmm5, tmm7",
                "tilestored [{c} + {line}], tmm0",
                "tilestored [{c} + {line} + 1024], tmm1",
                "tilestored [{c} + {line} + 2048], tmm2",
                "tilestored [{c} + {line} + 3072], tmm3",
                a0 = in(reg) x[0],
                a1 = in(reg) x[1],
                b00 = in(reg) weights[0][0],
                b01 = in(reg) weights[0][1],
                b10 = in(reg) weights[1][0],
                b11 = in(reg) weights[1][1],
                c = in(reg) sums,
                stride = in(reg) stride,
                line = in(reg) LINE,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles to give back. A thread without live tiles is cheaper to switch.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
