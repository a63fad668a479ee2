//! Times attention over keys and values of every format, for a prompt and for one token.
//!
//!     cargo run --release -p sampan-kernels --example attention -- [ISA] [CONTEXT] [ROWS] [HEADS] [KV_HEADS] [DIM] [THREADS] [FORMAT]

use std::time::Instant;

use sampan_kernels::attention::{AttentionSpec, KvFormat, KvShape, KvStore, PAGE, Span};
use sampan_kernels::{Isa, Kernels, Options, cpu};

/// Enough layers that no cache holds them.
const LAYERS: usize = 28;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let isa =
        args.first().filter(|arg| *arg != "-").map(|arg| arg.parse::<Isa>().expect("an instruction set"));
    let number = |i: usize, default| args.get(i).map_or(default, |arg| arg.parse().expect("a number"));
    let (context, rows, heads, kv_heads, dim) =
        (number(1, 4096), number(2, 512), number(3, 16), number(4, 8), number(5, 128));
    let threads = number(6, cpu::default_threads());
    let kernels = Kernels::new(Options { isa, threads, exact: false }).expect("a level of this CPU");
    println!("{} on {threads} threads: {heads}/{kv_heads} heads of {dim}, {context} tokens", kernels.isa());
    println!("{:<6}{:>6}{:>12}{:>10}{:>10}", "format", "rows", "us/layer", "GB/s", "Gop/s");
    for format in [KvFormat::F32, KvFormat::F16, KvFormat::Bf16, KvFormat::I16, KvFormat::Q8_0] {
        if args.get(7).is_some_and(|name| *name != format!("{format:?}").to_lowercase()) {
            continue;
        }
        let shape = KvShape::new(kv_heads, dim, dim, format);
        let pages: Vec<u32> = (0..context.div_ceil(PAGE) as u32).collect();
        let numbers = |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect() };
        let data = numbers(context * kv_heads * dim);
        let mut stores: Vec<KvStore> = (0..LAYERS).map(|_| KvStore::new(shape, pages.len())).collect();
        for store in &mut stores {
            kernels.kv_write(store, &[Span { pages: &pages, rows: 0..context, start: 0 }], &data, &data);
        }
        let spec = AttentionSpec {
            heads,
            scale: 1.0 / (dim as f32).sqrt(),
            softcap: None,
            window: None,
            sinks: None,
        };
        for rows in [rows, 1] {
            let (q, mut out) = (numbers(rows * heads * dim), vec![0.0; rows * heads * dim]);
            let span = [Span { pages: &pages, rows: 0..rows, start: context - rows }];
            let mut best = f64::INFINITY;
            for _ in 0..7 {
                let start = Instant::now();
                for store in &stores {
                    kernels.attend(&spec, store, &span, &q, &mut out);
                }
                best = best.min(start.elapsed().as_secs_f64() / LAYERS as f64);
            }
            let seen: usize = (context - rows + 1..=context).sum();
            println!(
                "{:<6}{rows:>6}{:>12.1}{:>10.1}{:>10.0}",
                format!("{format:?}").to_lowercase(),
                best * 1e6,
                (pages.len() * shape.page_bytes()) as f64 / best / 1e9,
                (seen * heads * dim * 4) as f64 / best / 1e9,
            );
        }
    }
}
