//! Rotary position embedding.

use crate::Kernels;
use crate::isa::ops;

/// Which numbers of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Dim `i` with dim `i + d_rot / 2` (the layout of Hugging Face checkpoints, "NeoX").
    Half,
    /// Dim `2 i` with dim `2 i + 1`.
    Pairs,
}

/// Cosines and sines of one step's rows: computed once per set of frequencies, used by every layer.
#[derive(Clone, Debug, Default)]
pub struct RopeAngles {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeAngles {
    /// No rows yet; [`Kernels::rope_angles`] fills it and reuses its memory.
    pub fn new() -> RopeAngles {
        RopeAngles::default()
    }

    /// How many rows the angles are for.
    pub fn rows(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// The angles that rotate back.
    pub fn conjugate(&self) -> RopeAngles {
        let sin = self.sin.iter().map(|sin| -sin).collect();
        RopeAngles { half: self.half, cos: self.cos.clone(), sin }
    }

    /// How many dims of a head they rotate.
    pub fn rotated(&self) -> usize {
        2 * self.half
    }
}

impl Kernels {
    /// The angles `position * frequency` of every row as cosine and sine, each times `attention_factor` (1
    /// unless the scaling says otherwise, models.md 1.2). The product is rounded to f32 as the reference
    /// implementations do; its cosine and sine are then exact to the last bit or so at any position.
    pub fn rope_angles(
        &self,
        frequencies: &[f32],
        positions: &[u32],
        attention_factor: f32,
        angles: &mut RopeAngles,
    ) {
        let half = frequencies.len();
        angles.half = half;
        angles.cos.resize(half * positions.len(), 0.0);
        angles.sin.resize(half * positions.len(), 0.0);
        if half == 0 {
            return;
        }
        let rows = angles.cos.chunks_exact_mut(half).zip(angles.sin.chunks_exact_mut(half));
        for ((cos, sin), position) in rows.zip(positions) {
            let outputs = cos.iter_mut().zip(sin);
            for ((cos, sin), frequency) in outputs.zip(frequencies) {
                let (s, c) = sin_cos(*position as f32 * frequency);
                (*cos, *sin) = (c * attention_factor, s * attention_factor);
            }
        }
    }

    /// Rotates the dims `offset..offset + angles.rotated()` of every head; `x` is `rows x heads * head_dim`.
    ///
    /// # Panics
    /// If `x` is not as many rows as the angles, or the rotated dims leave the head.
    pub fn rope(
        &self,
        x: &mut [f32],
        heads: usize,
        head_dim: usize,
        angles: &RopeAngles,
        pairing: Pairing,
        offset: usize,
    ) {
        let (half, dim) = (angles.half, heads * head_dim);
        if half == 0 {
            return;
        }
        assert_eq!(x.len(), angles.rows() * dim, "one row per position");
        assert!(offset + 2 * half <= head_dim, "rotated dims inside the head");
        let level = self.level();
        self.split_rows(x, dim, 1, &|at, rows| {
            for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
                let from = (at / dim + i) * half;
                let (cos, sin) = (&angles.cos[from..from + half], &angles.sin[from..from + half]);
                match pairing {
                    Pairing::Half => ops::rope_half(level, row, head_dim, offset, cos, sin),
                    Pairing::Pairs => ops::rope_pairs(level, row, head_dim, offset, cos, sin),
                }
            }
        });
    }
}

/// Sine and cosine of an angle, rounded from f64.
///
/// The angle is taken modulo a quarter turn with pi / 2 in two parts; the first has 33 bits, so that its product
/// with the number of quarters (below 2^20) is exact. The polynomials are the Taylor series on |r| <= pi / 4.
fn sin_cos(angle: f32) -> (f32, f32) {
    const QUARTER_HIGH: f64 = 1.570_796_326_734_125_6; // pi / 2 cut to 33 bits
    const QUARTER_LOW: f64 = 6.077_100_506_506_192e-11;
    let x = f64::from(angle);
    if x.abs() >= 1e6 {
        let (sin, cos) = x.sin_cos(); // slower, right at any size; infinity gives NaN
        return (sin as f32, cos as f32);
    }
    // Adding 1.5 * 2^52 rounds to a whole number and leaves it in the low bits.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let shifted = x * std::f64::consts::FRAC_2_PI + MAGIC;
    let quarter = shifted.to_bits();
    let n = shifted - MAGIC;
    let r = x - n * QUARTER_HIGH - n * QUARTER_LOW;
    let z = r * r;
    let sin = [
        1.0 / 6_227_020_800.0,
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5_040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
    ];
    let sin = r + r * z * sin.iter().fold(0.0, |sum, c| sum * z + c);
    let cos = [1.0 / 479_001_600.0, -1.0 / 3_628_800.0, 1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5];
    let cos = 1.0 + z * cos.iter().fold(0.0, |sum, c| sum * z + c);
    let (s, c) = if quarter & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let s = if quarter & 2 == 0 { s } else { -s };
    let c = if quarter.wrapping_add(1) & 2 == 0 { c } else { -c };
    (s as f32, c as f32)
}

#[cfg(test)]
mod tests {
    use super::sin_cos;

    #[test]
    fn sines_and_cosines_are_right_to_the_last_bit_or_so() {
        let mut worst = 0.0_f64;
        for i in 0..400_000_u32 {
            let angle = (f64::from(i) * 1.618_034).powi(2) as f32 * if i % 2 == 0 { 1e-3 } else { -1e-6 };
            let (sin, cos) = sin_cos(angle);
            let (exact_sin, exact_cos) = f64::from(angle).sin_cos();
            worst = worst.max((f64::from(sin) - exact_sin).abs()).max((f64::from(cos) - exact_cos).abs());
        }
        assert!(worst < 6e-8, "{worst:e}");
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
    }
}
