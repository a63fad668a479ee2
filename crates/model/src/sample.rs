//! A small part of a model, with made-up weights: to time what the whole would take, without having it.

use crate::error::LoadError;
use crate::load::{Model, Weight, arena};
use crate::plan::{Attention, Keys, LayerPlan, Mixer, Plan, Role};
use sampan_kernels::attention::KvFormat;
use sampan_kernels::{Format, Kernels};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

/// Rows that are left of a vocabulary at least, and a multiple of what is left.
const LEAST_ROWS: usize = 1_024;

impl Plan {
    /// A plan with fewer layers and a smaller vocabulary that computes like this one: layers of every kind in about the same
    /// shares, in their order, and as large a share of the head. So many that a token reads `bytes` bytes of weights, as far as
    /// there are as many. Tensors that are left out stay in the list, as constants.
    #[must_use]
    pub fn sample(&self, kernels: &Kernels, bytes: u64) -> Plan {
        let chosen = self.chosen(bytes as f64 / self.step_bytes(kernels, KvFormat::I16, 0, 1) as f64);
        let place = |old: usize| chosen.iter().position(|&layer| layer == old);
        let mut plan = self.clone();
        plan.layers = chosen.iter().map(|&layer| self.layers[layer].clone()).collect();
        for layer in &mut plan.layers {
            if let Mixer::Attention(Attention { keys: Keys::Shared { layer: from }, .. }) = &mut layer.mixer {
                *from = place(*from).expect("a layer is chosen with the one whose keys it reads");
            }
        }
        for spec in &mut plan.tensors {
            if spec.layer.is_some_and(|layer| place(layer).is_none()) {
                spec.role = Role::Constant;
            }
        }
        let share = chosen.len() as f64 / self.layers.len().max(1) as f64;
        let rows = ((self.vocab as f64 * share) as usize).next_multiple_of(LEAST_ROWS).min(self.vocab);
        plan.cut_vocabulary(rows);
        plan
    }

    /// About a share of the layers of each kind, one at least, and those whose keys they read.
    fn chosen(&self, share: f64) -> Vec<usize> {
        let mut kinds: HashMap<Vec<(&[usize], Format)>, Vec<usize>> = HashMap::new();
        let mut signatures = vec![Vec::new(); self.layers.len()];
        for spec in &self.tensors {
            if let Some(signature) = spec.layer.and_then(|layer| signatures.get_mut(layer)) {
                signature.push((&spec.shape[..], spec.format));
            }
        }
        let window = [0usize];
        for (index, (layer, mut signature)) in self.layers.iter().zip(signatures).enumerate() {
            if let Mixer::Attention(Attention { window: Some(_), .. }) = &layer.mixer {
                signature.push((&window[..], Format::F32));
            }
            kinds.entry(signature).or_default().push(index);
        }
        let mut chosen = Vec::new();
        for same in kinds.values() {
            let wanted = (same.len() as f64 * share).ceil().clamp(1.0, same.len() as f64) as usize;
            chosen.extend((0..wanted).map(|i| same[i * same.len() / wanted]));
        }
        let sources: Vec<usize> = chosen.iter().filter_map(|&layer| borrowed(&self.layers[layer])).collect();
        chosen.extend(sources);
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    /// Leaves `rows` tokens in the vocabulary.
    fn cut_vocabulary(&mut self, rows: usize) {
        let mut cut = vec![self.embedding];
        if let Some(head) = self.head.as_mut().filter(|head| head.rows == self.vocab) {
            head.rows = rows;
            cut.extend(head.tensors());
        }
        if let Some(inputs) = &mut self.per_layer {
            inputs.rows = inputs.rows.min(rows);
            self.tensors[inputs.table].shape[0] = inputs.rows;
        }
        cut.extend(self.mixtures().filter_map(|moe| moe.router.table));
        for id in cut {
            self.tensors[id].shape[0] = rows;
        }
        self.vocab = rows;
    }
}

/// The layer whose keys this one reads.
fn borrowed(layer: &LayerPlan) -> Option<usize> {
    match &layer.mixer {
        Mixer::Attention(Attention { keys: Keys::Shared { layer }, .. }) => Some(*layer),
        _ => None,
    }
}

impl Model {
    /// A model of a plan alone, no file needed: small numbers at random in every matrix, the same each time, and vectors that
    /// keep activations in their bounds. It takes as long as the real one and says nothing.
    ///
    /// # Errors
    /// A tensor that the kernels refuse.
    pub fn made_up(plan: Plan, kernels: Arc<Kernels>) -> Result<Model, LoadError> {
        let mut arena = arena(&plan, &kernels);
        let mut numbers: HashMap<Format, MadeUp> = HashMap::new();
        let decays: Vec<usize> = plan
            .layers
            .iter()
            .filter_map(|layer| match &layer.mixer {
                Mixer::Delta(delta) => Some(delta.neg_exp_a),
                _ => None,
            })
            .collect();
        let mut experts: HashMap<usize, usize> = HashMap::new();
        for moe in plan.mixtures() {
            experts.extend(moe.router.table.map(|table| (table, moe.experts.len())));
        }
        let mut weights = Vec::with_capacity(plan.tensors.len());
        for (id, spec) in plan.tensors.iter().enumerate() {
            let count = spec.count() as usize;
            weights.push(match spec.role {
                Role::Constant => Weight::Constant,
                // A state that is multiplied by e^-x forgets; by e^x it would grow without bounds.
                Role::Vector if decays.contains(&id) => Weight::Vector(vec![-1.0; count]),
                Role::Vector => Weight::Vector(vec![1.0; count]),
                Role::Ids => {
                    let among = experts.get(&id).copied().unwrap_or(1).max(1);
                    Weight::Ids((0..count).map(|i| (i % among) as u32).collect())
                }
                Role::Matrix => {
                    let made_up = numbers.entry(spec.format).or_insert_with(|| MadeUp::new(spec.format));
                    let (rows, cols) = spec.rows_cols();
                    let read = |offset: usize, out: &mut [u8]| {
                        made_up.read(id, offset, out);
                        Ok::<(), Infallible>(())
                    };
                    let refused =
                        |source| LoadError::Pack { name: spec.name.clone(), format: spec.format, source };
                    match kernels.pack_from(&mut arena, spec.format, rows, cols, read).map_err(refused)? {
                        Ok(matrix) => Weight::Matrix(matrix),
                        Err(never) => match never {},
                    }
                }
            });
        }
        Ok(Model::from_parts(plan, kernels, weights))
    }
}

/// Some pieces of numbers in a format; any row of them in any order is a row of small numbers.
struct MadeUp {
    pieces: Vec<u8>,
    /// Bytes of a piece.
    bytes: usize,
}

impl MadeUp {
    /// How many pieces there are.
    const PIECES: usize = 64;
    /// Numbers of a piece: whole blocks of every format.
    const NUMBERS: usize = 256;

    fn new(format: Format) -> MadeUp {
        let bytes = Self::NUMBERS / format.block_len() * format.block_bytes();
        let mut pieces = vec![0; Self::PIECES * bytes];
        for (index, piece) in pieces.chunks_exact_mut(bytes).enumerate() {
            let number =
                |i: usize| (mixed((index * Self::NUMBERS + i) as u64) as u16 as f32 / 32_768.0 - 1.0) * 0.05;
            let values: Vec<f32> = (0..Self::NUMBERS).map(number).collect();
            if format.encode(&values, piece).is_err() {
                // Bytes that make finite scales in every format that only others encode.
                piece
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, byte)| *byte = 0x23 ^ (mixed((index + i) as u64) % 7) as u8);
            }
        }
        MadeUp { pieces, bytes }
    }

    /// The bytes from `offset` on of tensor number `id`.
    fn read(&self, id: usize, mut offset: usize, mut out: &mut [u8]) {
        while !out.is_empty() {
            let (number, within) = (offset / self.bytes, offset % self.bytes);
            let piece = mixed(((id as u64) << 40) + number as u64) as usize % Self::PIECES;
            let rest = &self.pieces[piece * self.bytes + within..(piece + 1) * self.bytes];
            let (now, later) = out.split_at_mut(rest.len().min(out.len()));
            now.copy_from_slice(&rest[..now.len()]);
            offset += now.len();
            out = later;
        }
    }
}

/// A number that looks like none of its neighbours (the finalizer of SplitMix64).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
