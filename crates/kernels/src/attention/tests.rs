//! Every format and level against a plain f64 oracle, and bit-for-bit independence of how a batch was cut.

use super::*;
use crate::Kernels;
use crate::cpu::Avx512;
use crate::isa::attention::Bf16Products;
use crate::{Isa, Options};
use half::{bf16, f16};

mod listed;

fn kernels(isa: Isa, threads: usize) -> Kernels {
    Kernels::new(Options { isa: Some(isa), threads, ..Options::default() }).expect("an available level")
}

/// Kernels at every level this CPU can run, those that it would not choose by itself among them.
fn every_level(threads: usize) -> Vec<Kernels> {
    let mut all: Vec<Kernels> = Isa::available().into_iter().map(|isa| kernels(isa, threads)).collect();
    if let Some(token) = Avx512::detect() {
        for bf16 in [Bf16Products::Vectors, Bf16Products::Dots(token)] {
            all.push(Kernels { bf16, ..kernels(Isa::Avx512, threads) });
        }
    }
    all
}

/// A small generator: the tests must not depend on another crate's choice of stream.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Roughly normal, mean 0, deviation 1.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.next() as f32 / (1_u64 << 31) as f32 - 0.5).sum::<f32>() * 1.414
    }

    fn vector(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| self.normal() * size).collect()
    }
}

#[derive(Clone, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    key_dim: usize,
    value_dim: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    sinks: bool,
    /// Values are part of the keys.
    latent: bool,
    /// Deviation of queries.
    size: f32,
    /// Sequences: tokens written before, rows in the batch.
    spans: Vec<(usize, usize)>,
}

const PLAIN: Case = Case {
    heads: 4,
    kv_heads: 2,
    key_dim: 64,
    value_dim: 64,
    window: None,
    softcap: None,
    sinks: false,
    latent: false,
    size: 1.0,
    spans: Vec::new(),
};

const FORMATS: [KvFormat; 5] = [KvFormat::F32, KvFormat::F16, KvFormat::Bf16, KvFormat::I16, KvFormat::Q8_0];

impl KvFormat {
    /// One head's key or value as it is stored.
    fn oracle(self, x: &[f32]) -> Vec<f64> {
        let integers = |block: usize, top: f64, scale: fn(f64) -> f64| {
            let rounded = |x: &[f32]| -> Vec<f64> {
                let most = x.iter().fold(0.0, |most: f64, x| most.max(f64::from(x.abs())));
                let scale = scale(most / top);
                x.iter().map(|x| (f64::from(*x) / scale).round_ties_even() * scale).collect()
            };
            x.chunks(block).flat_map(rounded).collect()
        };
        match self {
            KvFormat::F32 => x.iter().map(|x| f64::from(*x)).collect(),
            KvFormat::F16 => x.iter().map(|x| f16::from_f32(*x).to_f64()).collect(),
            KvFormat::Bf16 => x.iter().map(|x| bf16::from_f32(*x).to_f64()).collect(),
            KvFormat::I16 => integers(128, 32767.0, |scale| scale),
            KvFormat::Q8_0 => integers(32, 127.0, |scale| f16::from_f64(scale).to_f64()),
        }
    }

    /// The formats that a case can be stored in.
    fn of(case: &Case) -> impl Iterator<Item = KvFormat> {
        let latent = case.latent;
        FORMATS.into_iter().filter(move |format| !latent || format.block().is_none())
    }
}

/// Keys, values and queries of every sequence of a case, from position 0 on.
struct Data {
    case: Case,
    format: KvFormat,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
    sinks: Vec<f32>,
}

impl Data {
    fn new(case: &Case, format: KvFormat) -> Data {
        let mut random = Random(7);
        let lengths: Vec<usize> = case.spans.iter().map(|(before, rows)| before + rows).collect();
        let mut all = |width: usize, size: f32| -> Vec<Vec<f32>> {
            lengths.iter().map(|n| random.vector(n * width, size)).collect()
        };
        let keys = all(case.kv_heads * case.key_dim, 1.0);
        let starts = |keys: &Vec<f32>| {
            keys.chunks_exact(case.key_dim).flat_map(|key| &key[..case.value_dim]).copied().collect()
        };
        Data {
            case: case.clone(),
            format,
            values: if case.latent {
                keys.iter().map(starts).collect()
            } else {
                all(case.kv_heads * case.value_dim, 1.0)
            },
            keys,
            queries: all(case.heads * case.key_dim, case.size),
            sinks: random.vector(case.heads, 2.0),
        }
    }

    fn shape(&self) -> KvShape {
        let Case { kv_heads, key_dim, value_dim, .. } = self.case;
        if self.case.latent {
            return KvShape::latent(key_dim, value_dim, self.format);
        }
        KvShape::new(kv_heads, key_dim, value_dim, self.format)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.case.key_dim as f32).sqrt()
    }

    fn spec(&self) -> AttentionSpec<'_> {
        let Case { heads, softcap, window, sinks, .. } = self.case;
        AttentionSpec { heads, scale: self.scale(), softcap, window, sinks: sinks.then_some(&self.sinks[..]) }
    }

    /// Runs the steps, each a list of (sequence, first position, rows); every row's result by sequence. Pages are
    /// dealt out in an order that depends on `deal` and are full of NaN before they are written.
    fn run(&self, kernels: &Kernels, steps: &[Vec<(usize, usize, usize)>], deal: usize) -> Vec<Vec<f32>> {
        let tables: Vec<usize> = self.case.spans.iter().map(|(b, n)| (b + n).div_ceil(PAGE)).collect();
        let pages = tables.iter().sum::<usize>() + 3;
        let mut free: Vec<u32> = (0..pages as u32).collect();
        free.sort_by_key(|page| (*page as usize * 7919 + deal * 104_729) % 1009);
        let tables: Vec<Vec<u32>> = tables.iter().map(|n| free.drain(..n).collect()).collect();
        let mut store = KvStore::new(self.shape(), pages);
        store.fill(0xff);
        let Case { heads, kv_heads, key_dim, value_dim, .. } = self.case;
        let mut results: Vec<Vec<f32>> =
            self.case.spans.iter().map(|(b, n)| vec![f32::NAN; (b + n) * heads * value_dim]).collect();
        for step in steps {
            let mut spans = Vec::new();
            let (mut k, mut v, mut q) = (Vec::new(), Vec::new(), Vec::new());
            let mut row = 0;
            for &(s, start, n) in step {
                let part = |x: &[f32], width: usize| x[start * width..(start + n) * width].to_vec();
                k.extend(part(&self.keys[s], kv_heads * key_dim));
                v.extend(part(&self.values[s], kv_heads * value_dim));
                q.extend(part(&self.queries[s], heads * key_dim));
                spans.push(Span { pages: &tables[s], rows: row..row + n, start });
                row += n;
            }
            let v = if self.case.latent { &[] } else { &v[..] };
            kernels.kv_write(&mut store, &spans, &k, v);
            let mut out = vec![f32::NAN; row * heads * value_dim];
            kernels.attend(&self.spec(), &store, &spans, &q, &mut out);
            for (&(s, start, n), span) in step.iter().zip(&spans) {
                let width = heads * value_dim;
                let from = &out[span.rows.start * width..span.rows.end * width];
                results[s][start * width..(start + n) * width].copy_from_slice(from);
            }
        }
        results
    }

    /// The batch's rows of all sequences in f64, over the numbers as they are stored (with `rounds`, queries in
    /// bf16 too), and the largest score.
    fn oracle(&self, rounds: bool) -> (Vec<Vec<f32>>, f64) {
        let Case { heads, kv_heads, key_dim, value_dim, .. } = self.case;
        let stored = |x: &[f32], dim: usize| -> Vec<f64> {
            x.chunks_exact(dim).flat_map(|x| self.format.oracle(x)).collect()
        };
        let query = |x: f32| {
            let scaled = x * self.scale();
            f64::from(if rounds { bf16::from_f32(scaled).to_f32() } else { scaled })
        };
        let mut largest = 0.0_f64;
        let mut results = Vec::new();
        for s in 0..self.case.spans.len() {
            let mut out = Vec::new();
            let (keys, values) = (stored(&self.keys[s], key_dim), stored(&self.values[s], value_dim));
            let (before, rows) = self.case.spans[s];
            for p in before..before + rows {
                for h in 0..heads {
                    let q: Vec<f64> = self.queries[s][(p * heads + h) * key_dim..][..key_dim]
                        .iter()
                        .map(|x| query(*x))
                        .collect();
                    let first = self.case.window.map_or(0, |w| (p + 1).saturating_sub(w));
                    let kv = |t: usize| t * kv_heads + h / (heads / kv_heads);
                    let score = |t: usize| {
                        let key = &keys[kv(t) * key_dim..][..key_dim];
                        let dot: f64 = key.iter().zip(&q).map(|(k, q)| k * q).sum();
                        self.case.softcap.map_or(dot, |cap| f64::from(cap) * (dot / f64::from(cap)).tanh())
                    };
                    let scores: Vec<f64> = (first..=p).map(score).collect();
                    let sink = self.case.sinks.then(|| f64::from(self.sinks[h]));
                    let max = scores.iter().copied().chain(sink).fold(f64::MIN, f64::max);
                    largest = scores.iter().fold(largest, |l, s| l.max(s.abs()));
                    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                    let sum = weights.iter().sum::<f64>() + sink.map_or(0.0, |s| (s - max).exp());
                    for d in 0..value_dim {
                        let dot: f64 = weights
                            .iter()
                            .enumerate()
                            .map(|(i, w)| w * values[kv(first + i) * value_dim + d])
                            .sum();
                        out.push((dot / sum) as f32);
                    }
                }
            }
            results.push(out);
        }
        (results, largest)
    }

    /// One step that writes what comes before, one with the rows of the batch.
    fn steps(&self) -> Vec<Vec<(usize, usize, usize)>> {
        let spans = self.case.spans.iter().enumerate();
        let before = spans.clone().filter(|(_, span)| span.0 > 0).map(|(s, span)| (s, 0, span.0));
        vec![before.collect(), spans.map(|(s, span)| (s, span.0, span.1)).collect()]
    }
}

/// Runs a case at every level in every format and compares the batch's rows with the oracle.
fn check(case: Case) {
    let levels = every_level(2);
    for format in KvFormat::of(&case) {
        let data = Data::new(&case, format);
        let [exact, rounded] = [false, true].map(|rounds| data.oracle(rounds));
        for kernels in &levels {
            // Values are up to 4 or so, and a weight feels its score's error in full: some last bits of f32, with
            // tiles of 2^-17. Dot products also round weights to bf16, 2^-9. Integers round queries to a step of the sum
            // of their magnitudes over 2^16, or of the largest over 2^15, and a page's weights to one of theirs over
            // 2^15; a stored number that lies between two may have become the other one.
            let ((expected, largest), per_score, rounding) = match (format, kernels.bf16) {
                (KvFormat::Bf16, Bf16Products::Dots(_)) => (&rounded, 1e-6, 0.008),
                (KvFormat::Bf16, Bf16Products::Tiles(_)) => (&exact, 1e-5, 2e-5),
                (KvFormat::I16, _) => (&exact, 1e-3, 1e-3),
                (KvFormat::Q8_0, _) => (&exact, 3e-4, 1e-3),
                _ => (&exact, 1e-6, 4e-6),
            };
            let tolerance = (rounding + per_score * largest) as f32;
            let actual = data.run(kernels, &data.steps(), 1);
            let width = case.heads * case.value_dim;
            for (s, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                let before = case.spans[s].0;
                for (i, (a, e)) in actual[before * width..].iter().zip(expected).enumerate() {
                    assert!(
                        (a - e).abs() <= tolerance,
                        "{} {:?} {format:?} {case:?}: sequence {s}, position {}, head {}, dim {}: {a} for {e}",
                        kernels.isa,
                        kernels.bf16,
                        before + i / width,
                        i / case.value_dim % case.heads,
                        i % case.value_dim,
                    );
                }
            }
        }
    }
}

fn ragged() -> Vec<(usize, usize)> {
    vec![(0, 37), (70, 1), (0, 1), (31, 2), (32, 33), (500, 30)]
}

#[test]
fn agrees_with_the_oracle_for_every_group_size() {
    for (heads, kv_heads) in [(2, 2), (4, 2), (4, 1), (8, 1), (16, 2), (5, 1), (14, 2)] {
        check(Case { heads, kv_heads, spans: vec![(0, 37), (70, 1), (33, 5)], ..PLAIN });
    }
    check(Case { heads: 128, kv_heads: 1, spans: vec![(40, 3)], ..PLAIN });
    check(Case { heads: 53, kv_heads: 1, key_dim: 16, value_dim: 16, spans: vec![(4, 3)], ..PLAIN });
}

#[test]
fn agrees_with_the_oracle_for_every_head_size() {
    for (key_dim, value_dim) in [
        (16, 16),
        (24, 24),
        (32, 32),
        (64, 64),
        (80, 80),
        (96, 96),
        (128, 128),
        (192, 128),
        (15, 7),
        (40, 144),
        (256, 256),
    ] {
        check(Case { key_dim, value_dim, spans: vec![(0, 37), (70, 1), (0, 1), (31, 2)], ..PLAIN });
    }
}

#[test]
fn agrees_with_the_oracle_with_windows_softcaps_and_sinks() {
    for window in [None, Some(1), Some(2), Some(31), Some(33), Some(128), Some(10_000)] {
        check(Case { window, key_dim: 32, value_dim: 32, spans: ragged(), ..PLAIN });
    }
    check(Case { softcap: Some(5.0), size: 8.0, spans: ragged(), ..PLAIN });
    check(Case { sinks: true, spans: ragged(), ..PLAIN });
    let everything = Case { window: Some(40), softcap: Some(30.0), sinks: true, ..PLAIN };
    check(Case { heads: 8, spans: ragged(), ..everything });
}

#[test]
fn agrees_with_the_oracle_over_several_partitions() {
    check(Case { key_dim: 32, value_dim: 32, spans: vec![(1020, 5), (0, 600), (1500, 1)], ..PLAIN });
    check(Case { key_dim: 16, window: Some(515), sinks: true, spans: vec![(1020, 40), (1500, 1)], ..PLAIN });
}

/// Values that are not stored, over everything that can be ragged.
#[test]
fn agrees_with_the_oracle_for_latent_pages() {
    let latent = Case { latent: true, kv_heads: 1, ..PLAIN };
    for (key_dim, value_dim) in [(48, 32), (576, 512), (15, 7), (20, 20), (72, 40)] {
        for heads in [1, 4, 16] {
            check(Case {
                heads,
                key_dim,
                value_dim,
                spans: vec![(0, 37), (70, 1), (31, 2)],
                ..latent.clone()
            });
        }
    }
    check(Case { heads: 128, key_dim: 48, value_dim: 32, spans: vec![(40, 3)], ..latent.clone() });
    check(Case { window: Some(33), sinks: true, spans: ragged(), ..latent.clone() });
    check(Case {
        key_dim: 32,
        value_dim: 32,
        softcap: Some(9.0),
        spans: vec![(1020, 5), (0, 600)],
        ..latent
    });
}

#[test]
fn survives_a_huge_range_of_scores() {
    for size in [0.0, 30.0, 1000.0] {
        check(Case { size, spans: vec![(0, 70), (515, 3)], ..PLAIN });
    }
}

/// The same rows, cut in other ways: not a bit may differ.
#[test]
fn does_not_depend_on_chunks_batches_threads_or_pages() {
    let cases = [
        Case { key_dim: 32, value_dim: 48, spans: vec![(0, 75); 8], ..PLAIN },
        Case { heads: 16, kv_heads: 2, key_dim: 32, value_dim: 32, spans: vec![(0, 600), (0, 90)], ..PLAIN },
        Case {
            heads: 6,
            window: Some(45),
            softcap: Some(20.0),
            sinks: true,
            key_dim: 24,
            spans: vec![(0, 140), (0, 33)],
            ..PLAIN
        },
        Case { heads: 2, kv_heads: 1, key_dim: 16, value_dim: 16, spans: vec![(0, 1050)], ..PLAIN },
        Case {
            heads: 16,
            kv_heads: 1,
            key_dim: 48,
            value_dim: 32,
            latent: true,
            spans: vec![(0, 540), (0, 90)],
            ..PLAIN
        },
    ];
    for (one, many) in every_level(1).into_iter().zip(every_level(3)) {
        let level = (one.isa, one.bf16);
        for case in &cases {
            for format in KvFormat::of(case) {
                let data = Data::new(case, format);
                let sequences: Vec<(usize, usize)> =
                    case.spans.iter().map(|span| span.1).enumerate().collect();
                let alone: Vec<_> = sequences.iter().map(|&(s, n)| vec![(s, 0, n)]).collect();
                let expected = data.run(&one, &alone, 0);
                let together = vec![sequences.iter().map(|&(s, n)| (s, 0, n)).collect()];
                let chunks = |sizes: &[usize]| -> Vec<Vec<(usize, usize, usize)>> {
                    let longest = sequences.iter().map(|s| s.1).max().unwrap_or(0);
                    let (mut steps, mut at, mut sizes) = (Vec::new(), 0, sizes.iter().cycle());
                    while at < longest {
                        let size = *sizes.next().expect("a cycle");
                        let left = sequences.iter().filter(|s| s.1 > at);
                        steps.push(left.map(|&(s, n)| (s, at, size.min(n - at))).collect());
                        at += size;
                    }
                    steps
                };
                let ways = [
                    ("together", together),
                    ("token by token", chunks(&[1])),
                    ("in chunks", chunks(&[7, 33, 1, 64, 20])),
                ];
                for (name, steps) in &ways {
                    for (kernels, threads) in [(&one, 1), (&many, 3)] {
                        let actual = data.run(kernels, steps, threads);
                        assert!(
                            same_bits(&actual, &expected),
                            "{level:?} {format:?} {case:?} {name} on {threads} threads"
                        );
                    }
                }
            }
        }
    }
}

fn same_bits(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    a.iter().flatten().map(|x| x.to_bits()).eq(b.iter().flatten().map(|x| x.to_bits()))
}

#[test]
fn pages_before_the_window_are_not_read() {
    let case = Case { window: Some(40), spans: vec![(0, 200)], ..PLAIN };
    for kernels in every_level(1) {
        let data = Data::new(&case, KvFormat::F16);
        let expected = data.run(&kernels, &[vec![(0, 0, 200)]], 0);
        let mut store = KvStore::new(data.shape(), 7);
        let full: Vec<u32> = (0..7).collect();
        let span = |pages| [Span { pages, rows: 0..200, start: 0 }];
        kernels.kv_write(&mut store, &span(&full), &data.keys[0], &data.values[0]);
        // The last row sees 160..200, which is in the last two pages.
        let table = [u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, 5, 6];
        let span = [Span { pages: &table, rows: 0..1, start: 199 }];
        let (q, width) = (&data.queries[0][199 * 4 * 64..], 4 * 64);
        let mut out = vec![f32::NAN; width];
        kernels.attend(&data.spec(), &store, &span, q, &mut out);
        assert_eq!(out, expected[0][199 * width..]);
    }
}

#[test]
fn a_copied_page_reads_like_the_original() {
    let case = Case { spans: vec![(0, 50)], ..PLAIN };
    for format in FORMATS {
        let kernels = kernels(Isa::detect(), 1);
        let data = Data::new(&case, format);
        let mut store = KvStore::new(data.shape(), 5);
        store.fill(0xff);
        let attend = |store: &KvStore, pages: &[u32]| {
            let mut out = vec![f32::NAN; 50 * 4 * 64];
            let span = [Span { pages, rows: 0..50, start: 0 }];
            kernels.attend(&data.spec(), store, &span, &data.queries[0], &mut out);
            out
        };
        let span = [Span { pages: &[1, 2], rows: 0..50, start: 0 }];
        kernels.kv_write(&mut store, &span, &data.keys[0], &data.values[0]);
        let expected = attend(&store, &[1, 2]);
        kernels.kv_copy_page(&mut store, 2, 4);
        kernels.kv_copy_page(&mut store, 1, 0);
        assert_eq!(attend(&store, &[0, 4]), expected);
    }
}

#[test]
fn half_precision_saturates_instead_of_overflowing() {
    let shape = KvShape::new(1, 16, 16, KvFormat::F16);
    for kernels in every_level(1) {
        let mut store = KvStore::new(shape, 2);
        let span = [Span { pages: &[0, 1], rows: 0..40, start: 0 }];
        kernels.kv_write(&mut store, &span, &[1e9; 40 * 16], &[-1e9; 40 * 16]);
        let spec = AttentionSpec { heads: 1, scale: 1.0, softcap: None, window: None, sinks: None };
        let mut out = [0.0; 40 * 16];
        kernels.attend(&spec, &store, &span, &[0.5; 40 * 16], &mut out);
        assert!(out.iter().all(|x| (x + 65504.0).abs() < 1.0), "{}: {out:?}", kernels.isa);
    }
}
