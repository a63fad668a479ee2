//! Attention over lists and the index that makes them, against plain f64 loops.

use super::*;
use crate::reference;

const FORMATS: [KvFormat; 3] = [KvFormat::F32, KvFormat::F16, KvFormat::Bf16];

fn stored(format: KvFormat, x: &[f32]) -> Vec<f32> {
    let round = |x: &f32| match format {
        KvFormat::F32 => *x,
        KvFormat::F16 => f16::from_f32(*x).to_f32(),
        KvFormat::Bf16 => bf16::from_f32(*x).to_f32(),
        KvFormat::I16 | KvFormat::Q8_0 => unreachable!("latent vectors are floats"),
    };
    x.iter().map(round).collect()
}

/// A store of `keys` in pages dealt out backwards, and its page table.
fn filled(kernels: &Kernels, shape: KvShape, keys: &[f32]) -> (KvStore, Vec<u32>) {
    let count = keys.len() / shape.key_dim;
    let pages = count.div_ceil(shape.per_page());
    let mut store = KvStore::new(shape, pages + 2);
    store.fill(0xff);
    let table: Vec<u32> = (0..pages as u32).rev().map(|page| page + 1).collect();
    let (first, second) = (count / 3, count - count / 3);
    for (rows, start) in [(0..first, 0), (0..second, first)] {
        let keys = &keys[start * shape.key_dim..];
        kernels.kv_write(&mut store, &[Span { pages: &table, rows, start }], keys, &[]);
    }
    (store, table)
}

/// Lists of `sizes` (near, stored) keys each.
fn listed(shape: KvShape, heads: usize, sinks: bool, sizes: &[(usize, usize)]) {
    let mut random = Random(3);
    let (dim, count) = (shape.key_dim, 700);
    let keys = random.vector(count * dim, 1.0);
    let near = random.vector(130 * dim, 1.0);
    let q = random.vector(sizes.len() * heads * dim, 1.0);
    let sinks = sinks.then(|| random.vector(heads, 2.0));
    let scale = 1.0 / (dim as f32).sqrt();
    let spec = AttentionSpec { heads, scale, softcap: None, window: None, sinks: sinks.as_deref() };
    let chosen: Vec<Vec<usize>> = sizes
        .iter()
        .map(|(_, n)| (0..*n).map(|i| (i * 13 + random.next() as usize % 13) % count).collect())
        .collect();
    let [exact, rounded] = [false, true].map(|rounds| {
        let q: Vec<f32> =
            q.iter().map(|q| if rounds { bf16::from_f32(q * scale).to_f32() / scale } else { *q }).collect();
        let lists: Vec<Vec<f32>> = sizes
            .iter()
            .zip(&chosen)
            .map(|((n, _), chosen)| {
                let far = chosen.iter().flat_map(|s| &keys[s * dim..(s + 1) * dim]);
                stored(shape.format, &near[..n * dim].iter().chain(far).copied().collect::<Vec<f32>>())
            })
            .collect();
        reference::attention_listed(heads, dim, shape.value_dim, scale, sinks.as_deref(), &q, &lists)
    });
    let mut bits: Vec<Vec<u32>> = Vec::new();
    for kernels in every_level(1).into_iter().zip(every_level(3)).flat_map(|(one, many)| [one, many]) {
        let (store, table) = filled(&kernels, shape, &keys);
        let number = |s: &usize| {
            (table[s / shape.per_page()] as usize * shape.per_page() + s % shape.per_page()) as u32
        };
        let numbers: Vec<Vec<u32>> = chosen.iter().map(|list| list.iter().map(number).collect()).collect();
        let lists: Vec<Listed<'_>> = sizes
            .iter()
            .zip(&numbers)
            .map(|((n, _), stored)| Listed { near: &near[..n * dim], stored })
            .collect();
        let width = heads * shape.value_dim;
        let mut out = vec![f32::NAN; sizes.len() * width];
        kernels.attend_listed(&spec, &store, &lists, &q, &mut out);
        let (expected, tolerance) = match kernels.bf16 {
            Bf16Products::Dots(_) if shape.format == KvFormat::Bf16 => (&rounded, 0.01),
            _ => (&exact, 5e-5),
        };
        for (i, (a, e)) in out.iter().zip(expected).enumerate() {
            assert!((a - e).abs() < tolerance, "{} {shape:?} row {}: {a} for {e}", kernels.isa, i / width);
        }
        let mut alone = vec![f32::NAN; out.len()];
        for (i, (list, out)) in lists.iter().zip(alone.chunks_exact_mut(width)).enumerate() {
            kernels.attend_listed(&spec, &store, &[*list], &q[i * heads * dim..], out);
        }
        assert_eq!(out, alone, "{} {shape:?}: alone and together", kernels.isa);
        bits.push(out.iter().map(|x| x.to_bits()).collect());
    }
    for pair in bits.chunks_exact(2) {
        assert!(pair[0] == pair[1], "{shape:?}: one thread and three");
    }
}

#[test]
fn lists_agree_with_the_oracle() {
    let sizes = [(1, 0), (0, 1), (128, 40), (127, 8), (3, 30), (0, 33), (40, 600), (0, 513)];
    for format in FORMATS {
        for shape in [
            KvShape::latent(48, 32, format),
            KvShape::rows(48, 48, 8, format),
            KvShape::rows(20, 15, 1, format),
        ] {
            listed(shape, 8, true, &sizes);
            listed(shape, 1, false, &sizes[..3]);
        }
        listed(KvShape::rows(64, 64, 8, format), 128, true, &sizes[..4]);
        listed(KvShape::latent(64, 32, format), 53, false, &sizes[2..4]);
    }
}

#[test]
fn the_index_agrees_with_the_oracle() {
    let (heads, dim) = (5, 24);
    let mut random = Random(11);
    let keys = random.vector(1100 * dim, 1.0);
    let counts = [1, 40, 512, 513, 1100, 7];
    let q = random.vector(counts.len() * heads * dim, 1.0);
    let weights = random.vector(counts.len() * heads, 1.0);
    for format in FORMATS {
        let rounded = stored(format, &keys);
        let scores: Vec<Vec<f32>> = counts
            .iter()
            .enumerate()
            .map(|(r, n)| {
                let (q, weights) = (&q[r * heads * dim..][..heads * dim], &weights[r * heads..][..heads]);
                reference::index_scores(dim, q, weights, &rounded[..n * dim])
            })
            .collect();
        for (shape, kernels) in [KvShape::latent(dim, dim, format), KvShape::rows(dim, dim, 8, format)]
            .into_iter()
            .flat_map(|shape| every_level(3).into_iter().map(move |kernels| (shape, kernels)))
        {
            let (store, pages) = filled(&kernels, shape, &keys);
            let rows = counts.map(|keys| Indexed { pages: &pages, keys });
            for k in [1, 8, 60, 2000] {
                let chosen = kernels.index_top(&store, &rows, heads, &q, &weights, k);
                for (r, (chosen, scores)) in chosen.iter().zip(&scores).enumerate() {
                    // Scores that a rounding apart may swap: the chosen ones are the best up to that.
                    let expected = reference::top_k(scores, k);
                    let sum = |list: &[u32]| list.iter().map(|s| f64::from(scores[*s as usize])).sum::<f64>();
                    assert_eq!(chosen.len(), expected.len(), "{} {shape:?} row {r} k {k}", kernels.isa);
                    assert!(chosen.is_sorted_by(|a, b| a < b), "ascending, each once");
                    let short = sum(&expected) - sum(chosen);
                    assert!(short.abs() < 1e-3, "{} {shape:?} row {r} k {k}: short by {short}", kernels.isa);
                }
                let alone: Vec<Vec<u32>> = (0..counts.len())
                    .flat_map(|r| {
                        let (q, weights) = (&q[r * heads * dim..], &weights[r * heads..]);
                        kernels.index_top(&store, &rows[r..=r], heads, q, weights, k)
                    })
                    .collect();
                assert_eq!(chosen, alone, "{} {shape:?} k {k}: alone and together", kernels.isa);
            }
        }
    }
}

#[test]
fn the_index_takes_the_first_among_equals() {
    for kernels in every_level(1) {
        // Every second key scores nothing, by relu; weights of both signs make zeros of both signs.
        let keys: Vec<f32> = (0..100).flat_map(|s| [if s % 2 == 0 { -1.0 } else { 1.0 }, 0.0]).collect();
        let (store, pages) = filled(&kernels, KvShape::latent(2, 2, KvFormat::F32), &keys);
        let row = [Indexed { pages: &pages, keys: 100 }];
        let odd: Vec<u32> = (0..100).filter(|s| s % 2 == 1).collect();
        assert_eq!(kernels.index_top(&store, &row, 1, &[1.0, 0.0], &[1.0], 7)[0], odd[..7]);
        let mut with_zeros = odd.clone();
        with_zeros.extend([0, 2, 4]);
        with_zeros.sort_unstable();
        assert_eq!(kernels.index_top(&store, &row, 1, &[1.0, 0.0], &[1.0], 53)[0], with_zeros);
        let even: Vec<u32> = (0..100).filter(|s| s % 2 == 0).take(9).collect();
        assert_eq!(kernels.index_top(&store, &row, 1, &[1.0, 0.0], &[-1.0], 9)[0], even);
    }
}
