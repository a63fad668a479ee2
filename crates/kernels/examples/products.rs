//! Times products on the shapes of a 0.6B model and prints them as shares of what the machine reads.
//!
//!     cargo run --release -p sampan-kernels --example products -- [ISA] [FORMAT,...] [N,...] [THREADS]

use std::time::Instant;

use sampan_kernels::{Arena, Floats, Format, Isa, Job, Kernels, MatmulScratch, Matrix, Options, cpu, limits};

/// Products that share their activations: inner dimension and the rows of each.
const LAYER: [(usize, &[usize]); 4] =
    [(1024, &[2048, 1024, 1024]), (2048, &[1024]), (1024, &[3072, 3072]), (3072, &[1024])];
/// Enough layers that no cache holds them.
const LAYERS: usize = 28;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let isa =
        args.first().filter(|arg| *arg != "-").map(|arg| arg.parse::<Isa>().expect("an instruction set"));
    let formats: Vec<Format> = match args.get(1).filter(|arg| *arg != "-") {
        Some(names) => names.split(',').map(|name| Format::from_name(name).expect("a format")).collect(),
        None => Format::ALL.to_vec(),
    };
    let batches: Vec<usize> = match args.get(2).filter(|arg| *arg != "-") {
        Some(list) => list.split(',').map(|n| n.parse().expect("a number of rows")).collect(),
        None => vec![1, 8, 512],
    };
    let threads =
        args.get(3).map_or_else(cpu::default_threads, |arg| arg.parse().expect("a number of threads"));
    let kernels = Kernels::new(Options { isa, threads, exact: false }).expect("a level of this CPU");
    println!("{} on {threads} threads", kernels.isa());
    println!(
        "{:<8}{:>6}{:>12}{:>10}{:>10}{:>10}{:>12}",
        "format", "n", "us/layer", "GB/s", "share", "Gop/s", "tokens/s"
    );
    for format in formats {
        // As a model's: side by side, on huge pages.
        let packed = |&(cols, rows): &(usize, &[usize])| {
            rows.iter()
                .map(|&rows| kernels.packed_bytes(format, rows, cols).next_multiple_of(64))
                .sum::<usize>()
        };
        let mut arena = Arena::new(LAYERS * LAYER.iter().map(packed).sum::<usize>());
        let layers: Vec<Vec<(usize, Vec<Matrix>)>> =
            (0..LAYERS).map(|_| layer(&kernels, &mut arena, format)).collect();
        let matrices = layers.iter().flatten().flat_map(|(_, group)| group);
        let bandwidth = limits::measure_bandwidth_of(kernels.pool(), matrices.clone());
        let bytes: usize = matrices.clone().map(Matrix::bytes).sum();
        let values: usize = matrices.map(|m| m.rows() * m.cols()).sum();
        for &n in &batches {
            let seconds = time(&kernels, &layers, n);
            let rate = bytes as f64 / seconds;
            println!(
                "{:<8}{n:>6}{:>12.1}{:>10.1}{:>9.0}%{:>10.0}{:>12.0}",
                format.name(),
                seconds / LAYERS as f64 * 1e6,
                rate / 1e9,
                rate / bandwidth * 100.0,
                2.0 * (values * n) as f64 / seconds / 1e9,
                n as f64 / seconds,
            );
        }
    }
}

fn layer(kernels: &Kernels, arena: &mut Arena, format: Format) -> Vec<(usize, Vec<Matrix>)> {
    let mut matrix = |rows: usize, cols: usize| {
        let bytes = format.row_bytes(cols).expect("whole blocks") * rows;
        // Any bytes do; 0x23 makes finite scales in every format.
        let data: Vec<u8> =
            (0..bytes).map(|i| if format.block_len() == 1 { 0x11 } else { 0x23 ^ (i % 7) as u8 }).collect();
        kernels.pack_in(arena, format, rows, cols, &data).expect("a matrix")
    };
    LAYER.iter().map(|&(cols, rows)| (cols, rows.iter().map(|&rows| matrix(rows, cols)).collect())).collect()
}

/// Seconds of a pass over all layers: the best of several.
fn time(kernels: &Kernels, layers: &[Vec<(usize, Vec<Matrix>)>], n: usize) -> f64 {
    let mut x = Floats::default();
    x.resize(n * 3072);
    // Many small numbers and few large ones, as in a model.
    let uniform = |i: usize, step: usize| (i * step % 1009) as f32 / 504.0 - 1.0;
    x.iter_mut().enumerate().for_each(|(i, x)| *x = uniform(i, 37) + uniform(i, 411) + uniform(i, 777));
    let mut outs: [Floats; 3] = Default::default();
    outs.iter_mut().for_each(|out| out.resize(n * 3072));
    let mut scratch = MatmulScratch::default();
    let mut best = f64::INFINITY;
    for _ in 0..if n >= 64 { 3 } else { 12 } {
        let (start, cpu) = (Instant::now(), cpu_time());
        for (cols, group) in layers.iter().flatten() {
            let mut jobs: Vec<Job<'_>> = group
                .iter()
                .zip(&mut outs)
                .map(|(weights, out)| Job {
                    weights,
                    bias: None,
                    out: &mut out[..n * weights.rows()],
                    accumulate: false,
                })
                .collect();
            kernels.matmul(&x[..n * cols], n, &mut scratch, &mut jobs);
        }
        let wall = start.elapsed().as_secs_f64();
        let elapsed = match (kernels.pool().threads(), cpu, cpu_time()) {
            // One thread on a busy machine: the time it ran.
            (1, Some(before), Some(after)) => after - before,
            _ => wall,
        };
        best = best.min(elapsed);
    }
    best
}

/// Seconds that this thread has run, where the system says so.
fn cpu_time() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? * 1e-9)
}
