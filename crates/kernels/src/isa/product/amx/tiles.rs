//! The tile instructions: configurations, and products of tiles into memory.

use std::arch::asm;

use super::super::quantise::{Line, Side256};

#[repr(align(64))]
pub(super) struct Config([u8; 64]);

impl Config {
    /// Tiles 0..4 are results of `rows` rows; 4 and 5 left sides of `bytes` per row; 6 and 7 right sides. `lefts`
    /// says how many of 4..8 are left sides.
    pub(super) fn new(rows: usize, bytes: usize, lefts: usize) -> Config {
        let mut config = [0; 64];
        config[0] = 1;
        for tile in 0..8 {
            let (tile_rows, tile_bytes) = match tile {
                0..4 => (rows, 64),
                _ if tile < 4 + lefts => (rows, bytes),
                _ => (bytes / 4, 64),
            };
            config[16 + 2 * tile] = tile_bytes as u8;
            config[48 + tile] = tile_rows as u8;
        }
        Config(config)
    }

    /// Runs `work` with this configuration.
    ///
    /// # Safety
    /// The CPU has AMX, and this process may use it.
    pub(super) unsafe fn with(&self, work: impl FnOnce()) {
        // SAFETY: the caller's promise; the configuration is of palette 1, within its limits.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly)) };
        work();
        // SAFETY: the caller's promise. Tiles left in use would be saved at every context switch.
        unsafe {
            asm!("tilerelease", out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
                out("tmm5") _, out("tmm6") _, out("tmm7") _, options(nostack, nomem));
        }
    }
}

/// A tile of the activations' sums times the minimums of two panels: exact, for everything is a small integer.
#[inline(always)]
pub(super) unsafe fn products_mins(parts: *const u8, mins: [*const u8; 2], sums: *mut f32) {
    // SAFETY: the caller's promise: a tile of sides, two tiles of minimums, room for two tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tileloadd tmm4, [{a} + {side}*1]",
            "tileloadd tmm5, [{b0} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{b1} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tilestored [{c} + {row}*1], tmm0",
            "tilestored [{c} + {row}*1 + 1024], tmm1",
            a = in(reg) parts,
            b0 = in(reg) mins[0],
            b1 = in(reg) mins[1],
            c = in(reg) sums,
            row = in(reg) 64usize,
            side = in(reg) size_of::<Side256>(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}

/// A tile of activations times both planes of two panels over 256 columns: four sums.
#[inline(always)]
pub(super) unsafe fn products256(lines: *const Line, stride: usize, planes: *const u8, sums: *mut i32) {
    // SAFETY: the caller's promise: four chunks of `stride` lines, four planes of four tiles, room for four tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm5, [{b} + {row}*1]",
            "tdpbsud tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{b} + {row}*1 + 4096]",
            "tdpbssd tmm1, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row}*1 + 8192]",
            "tdpbsud tmm2, tmm4, tmm7",
            "tileloadd tmm5, [{b} + {row}*1 + 12288]",
            "tdpbssd tmm3, tmm4, tmm5",
            "add {a}, {step}",
            "add {b}, 1024",
            "dec {left}",
            "jnz 2b",
            "tilestored [{c} + {row}*1], tmm0",
            "tilestored [{c} + {row}*1 + 1024], tmm1",
            "tilestored [{c} + {row}*1 + 2048], tmm2",
            "tilestored [{c} + {row}*1 + 3072], tmm3",
            a = inout(reg) lines => _,
            b = inout(reg) planes => _,
            c = in(reg) sums,
            row = in(reg) 64usize,
            step = in(reg) 64 * stride,
            left = inout(reg) 4usize => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}

/// A tile of activations times the signed codes of block `i`, with one set of registers or the other.
#[inline(always)]
pub(super) unsafe fn tile_product32<const SET: usize>(
    lines: *const Line,
    stride: usize,
    codes: *const u8,
    i: usize,
    sums: &mut [i32; 256],
) {
    macro_rules! product {
        ($c:tt, $a:tt, $b:tt, $from:expr) => {
            asm!(
                concat!("tilezero ", $c),
                concat!("tileloadd ", $a, ", [{a} + {row}*1]"),
                concat!("tileloadd ", $b, ", [{b} + {row}*1]"),
                concat!("tdpbssd ", $c, ", ", $a, ", ", $b),
                concat!("tilestored [{c} + {row}*1], ", $c),
                a = in(reg) $from,
                b = in(reg) codes.add(512 * i),
                c = in(reg) sums.as_mut_ptr(),
                row = in(reg) 64usize,
                out($c) _, out($a) _, out($b) _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        let from = lines.add(i / 2 * stride).cast::<u8>().add(i % 2 * 32);
        if SET == 0 {
            product!("tmm0", "tmm4", "tmm6", from);
        } else {
            product!("tmm1", "tmm5", "tmm7", from);
        }
    }
}

/// Two tiles of activations times two panels over `chunks` of 32 columns, added to four tiles of sums.
#[inline(always)]
pub(super) unsafe fn products16(
    a: [*const Line; 2],
    step: usize,
    b: [*const u8; 2],
    chunks: usize,
    c: [*mut f32; 4],
) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "tileloadd tmm0, [{c0} + {row}*1]",
            "tileloadd tmm1, [{c1} + {row}*1]",
            "tileloadd tmm2, [{c2} + {row}*1]",
            "tileloadd tmm3, [{c3} + {row}*1]",
            "2:",
            "tileloadd tmm4, [{a0} + {row}*1]",
            "tileloadd tmm6, [{b0} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {row}*1]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {row}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "prefetcht0 [{b0} + 3072]",
            "prefetcht0 [{b1} + 3072]",
            "add {a0}, {step}",
            "add {a1}, {step}",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {left}",
            "jnz 2b",
            "tilestored [{c0} + {row}*1], tmm0",
            "tilestored [{c1} + {row}*1], tmm1",
            "tilestored [{c2} + {row}*1], tmm2",
            "tilestored [{c3} + {row}*1], tmm3",
            a0 = inout(reg) a[0] => _,
            a1 = inout(reg) a[1] => _,
            b0 = inout(reg) b[0] => _,
            b1 = inout(reg) b[1] => _,
            c0 = in(reg) c[0],
            c1 = in(reg) c[1],
            c2 = in(reg) c[2],
            c3 = in(reg) c[3],
            row = in(reg) 64usize,
            step = in(reg) step,
            left = inout(reg) chunks => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}
