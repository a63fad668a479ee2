//! Dot products of nothing but zeros, as fast as they go: what no product can outrun.

use std::hint::black_box;

use super::level::Level;
use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::cpu::Amx;
use crate::limits::Arithmetic;

/// Rounds of a call: some hundred microseconds.
const ROUNDS: usize = 1 << 14;

/// One way to multiply and add. No memory is read and no result waits for another, so what limits it is the
/// multipliers alone.
pub(crate) struct Peak {
    /// The instructions, in words.
    pub(crate) instructions: &'static str,
    /// Multiplications and additions of a call.
    pub(crate) operations: usize,
    /// Does them.
    pub(crate) run: fn(),
}

/// The ways that `isa` has for numbers of a kind. Where it has none for bf16, those for f32 take its place.
pub(crate) fn peaks(isa: Isa, arithmetic: Arithmetic) -> Vec<Peak> {
    let peak = |instructions, per_round: usize, run: fn()| Peak {
        instructions,
        operations: per_round * ROUNDS,
        run,
    };
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Amx && Amx::detect().is_some() {
        // SAFETY: here and below, the token proves that this CPU has AMX and that this process may use it.
        let int8: fn() = || unsafe { x86::tiles_int8() };
        // SAFETY: as above.
        let bf16: fn() = || unsafe { x86::tiles_bf16() };
        match arithmetic {
            Arithmetic::Int8 => return vec![peak("AMX int8 tiles", 4 * 32_768, int8)],
            Arithmetic::Bf16 => return vec![peak("AMX bf16 tiles", 4 * 16_384, bf16)],
            Arithmetic::F32 => {}
        }
    }
    match (Level::of(isa), arithmetic) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512(_), arithmetic) => {
            // SAFETY: here and in the two below, the level proves that this CPU has the instructions.
            let int8: fn() = || unsafe { x86::vnni() };
            // SAFETY: as above.
            let f32s: fn() = || unsafe { x86::fma512() };
            // SAFETY: as above.
            let bf16: fn() = || unsafe { x86::bf16() };
            let f32s = peak("AVX-512 FMA", 12 * 32, f32s);
            match arithmetic {
                Arithmetic::Int8 => vec![peak("AVX-512 VNNI", 12 * 128, int8)],
                Arithmetic::Bf16 => vec![f32s, peak("AVX-512 BF16", 12 * 64, bf16)],
                Arithmetic::F32 => vec![f32s],
            }
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2(_), arithmetic) => {
            // SAFETY: here and below, the level proves that this CPU has the instructions.
            let int8: fn() = || unsafe { x86::maddubs() };
            // SAFETY: as above.
            let f32s: fn() = || unsafe { x86::fma256() };
            match arithmetic {
                Arithmetic::Int8 => vec![peak("AVX2 maddubs", 8 * 64, int8)],
                Arithmetic::Bf16 | Arithmetic::F32 => vec![peak("AVX2 FMA", 12 * 16, f32s)],
            }
        }
        (_, Arithmetic::Int8) => vec![peak("plain integer loops", 2 * 64, plain_int8)],
        _ => vec![peak("plain float loops", 2 * 32, plain_f32)],
    }
}

fn plain_int8() {
    let codes = black_box([0u8; 64]);
    let mut sums = [0i32; 16];
    for _ in 0..ROUNDS {
        let x: [i32; 4] = black_box([0i8; 4]).map(i32::from);
        for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<4>().0) {
            let c = codes.map(i32::from);
            *sum += (c[0] * x[0] + c[1] * x[1]) + (c[2] * x[2] + c[3] * x[3]);
        }
    }
    black_box(sums);
}

fn plain_f32() {
    let weights = black_box([0f32; 32]);
    let mut sums = [0f32; 32];
    for _ in 0..ROUNDS {
        let x = black_box(0f32);
        sums.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight * x);
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::ROUNDS;
    use std::arch::asm;

    /// Runs the lines of `$body`, which use the vectors 0 to 15, [`ROUNDS`] times. All begin as zeros: what is left in
    /// registers could be numbers that slow a multiplier down.
    macro_rules! rounds {
        ($($body:expr),+ $(,)?) => {
            asm!(
                "vzeroall",
                "2:",
                $($body,)+
                "dec {left}",
                "jnz 2b",
                left = inout(reg) ROUNDS => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack, nomem),
            )
        };
    }

    /// Twelve instructions with a sum of their own each: more than any takes cycles, times as many as run at once.
    macro_rules! twelve {
        ($op:literal, $v:literal) => {
            concat!(
                $op, " ", $v, "0, ", $v, "14, ", $v, "15\n", $op, " ", $v, "1, ", $v, "14, ", $v, "15\n",
                $op, " ", $v, "2, ", $v, "14, ", $v, "15\n", $op, " ", $v, "3, ", $v, "14, ", $v, "15\n",
                $op, " ", $v, "4, ", $v, "14, ", $v, "15\n", $op, " ", $v, "5, ", $v, "14, ", $v, "15\n",
                $op, " ", $v, "6, ", $v, "14, ", $v, "15\n", $op, " ", $v, "7, ", $v, "14, ", $v, "15\n",
                $op, " ", $v, "8, ", $v, "14, ", $v, "15\n", $op, " ", $v, "9, ", $v, "14, ", $v, "15\n",
                $op, " ", $v, "10, ", $v, "14, ", $v, "15\n", $op, " ", $v, "11, ", $v, "14, ", $v, "15",
            )
        };
    }

    /// A product of 32 bytes in the three instructions that AVX2 needs for it.
    macro_rules! triple {
        ($sum:literal, $product:literal) => {
            concat!(
                "vpmaddubsw ymm",
                $product,
                ", ymm14, ymm15\nvpmaddwd ymm",
                $product,
                ", ymm",
                $product,
                ", ymm13\nvpaddd ymm",
                $sum,
                ", ymm",
                $sum,
                ", ymm",
                $product,
            )
        };
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(super) fn vnni() {
        // SAFETY: registers only.
        unsafe { rounds!(twelve!("vpdpbusd", "zmm")) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(super) fn bf16() {
        // SAFETY: registers only.
        unsafe { rounds!(twelve!("vdpbf16ps", "zmm")) }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(super) fn fma512() {
        // SAFETY: registers only.
        unsafe { rounds!(twelve!("vfmadd231ps", "zmm")) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn fma256() {
        // SAFETY: registers only.
        unsafe { rounds!(twelve!("vfmadd231ps", "ymm")) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn maddubs() {
        // SAFETY: registers only.
        unsafe {
            rounds!(
                triple!("0", "8"),
                triple!("1", "9"),
                triple!("2", "10"),
                triple!("3", "11"),
                triple!("4", "8"),
                triple!("5", "9"),
                triple!("6", "10"),
                triple!("7", "11"),
            )
        }
    }

    /// Eight whole tiles: 16 rows of 64 bytes.
    #[repr(align(64))]
    struct Config([u8; 64]);

    /// Four products with a sum of their own each, [`ROUNDS`] times.
    macro_rules! tiles {
        ($op:literal) => {{
            let mut config = Config([0; 64]);
            config.0[0] = 1;
            for tile in 0..8 {
                config.0[16 + 2 * tile] = 64;
                config.0[48 + tile] = 16;
            }
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tilezero tmm4",
                "tilezero tmm5",
                "tilezero tmm6",
                "tilezero tmm7",
                "2:",
                concat!($op, " tmm0, tmm4, tmm6"),
                concat!($op, " tmm1, tmm4, tmm7"),
                concat!($op, " tmm2, tmm5, tmm6"),
                concat!($op, " tmm3, tmm5, tmm7"),
                "dec {left}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) config.0.as_ptr(),
                left = inout(reg) ROUNDS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _,
                out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            )
        }};
    }

    /// # Safety
    /// The CPU has AMX, and this process may use it.
    pub(super) unsafe fn tiles_int8() {
        // SAFETY: the caller's promise; the configuration is of palette 1, within its limits.
        unsafe { tiles!("tdpbssd") }
    }

    /// # Safety
    /// The CPU has AMX, and this process may use it.
    pub(super) unsafe fn tiles_bf16() {
        // SAFETY: the caller's promise; the configuration is of palette 1, within its limits.
        unsafe { tiles!("tdpbf16ps") }
    }
}
