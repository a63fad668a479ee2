//! How fast weights are packed: `packing [FORMAT] [ROWS] [COLS] [MATRICES]`.

use std::time::Instant;

use sampan_kernels::{Arena, Format, Kernels, Options};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default| args.get(i).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (rows, cols, count) = (number(2, 3072), number(3, 1024), number(4, 200));
    let kernels = Kernels::new(Options::default()).expect("a level of this CPU");
    for format in Format::ALL {
        if args.get(1).is_some_and(|name| name != "all" && name != format.name()) {
            continue;
        }
        let bytes = rows * format.row_bytes(cols).expect("whole blocks");
        let data: Vec<u8> = (0..bytes * count).map(|i| (i * 7 + i / 255) as u8).collect();
        for _ in 0..2 {
            let start = Instant::now();
            let mut arena = Arena::new(count * kernels.packed_bytes(format, rows, cols));
            let mut matrices = Vec::new();
            for data in data.chunks_exact(bytes) {
                let packed = kernels.pack_in(&mut arena, format, rows, cols, data);
                matrices.push(packed.expect("a matrix"));
            }
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{format:7} {:6.2} GB/s of the file, {:.0} ms",
                data.len() as f64 / seconds / 1e9,
                seconds * 1e3
            );
        }
    }
}
