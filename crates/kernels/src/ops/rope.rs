//! Rotary position embedding.

use crate::Kernels;

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

    /// How many dims of a head they rotate.
    pub fn rotated(&self) -> usize {
        2 * self.half
    }
}

impl Kernels {
    /// The angles `position * frequency` of every row as cosine and sine, each times `attention_factor` (1
    /// unless the scaling says otherwise, models.md 1.2). The product is rounded to f32 as the reference
    /// implementations do; its cosine and sine are exact to the last bit or so at any position.
    pub fn rope_angles(
        &self,
        frequencies: &[f32],
        positions: &[u32],
        attention_factor: f32,
        angles: &mut RopeAngles,
    ) {
        angles.half = frequencies.len();
        angles.cos.clear();
        angles.sin.clear();
        for position in positions {
            for frequency in frequencies {
                let (sin, cos) = f64::from(*position as f32 * frequency).sin_cos();
                angles.cos.push(cos as f32 * attention_factor);
                angles.sin.push(sin as f32 * attention_factor);
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
        let half = angles.half;
        assert_eq!(x.len(), angles.rows() * heads * head_dim, "one row per position");
        assert!(offset + 2 * half <= head_dim, "rotated dims inside the head");
        if half == 0 {
            return;
        }
        let rows = angles.cos.chunks_exact(half).zip(angles.sin.chunks_exact(half));
        for (row, (cos, sin)) in x.chunks_exact_mut(heads * head_dim).zip(rows) {
            for head in row.chunks_exact_mut(head_dim) {
                let head = &mut head[offset..offset + 2 * half];
                for i in 0..half {
                    let (a, b) = match pairing {
                        Pairing::Half => (i, i + half),
                        Pairing::Pairs => (2 * i, 2 * i + 1),
                    };
                    let (x, y) = (head[a], head[b]);
                    head[a] = x * cos[i] - y * sin[i];
                    head[b] = y * cos[i] + x * sin[i];
                }
            }
        }
    }
}
