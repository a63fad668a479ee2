//! How fast a vocabulary loads and encodes: `encode_speed VOCAB.gguf TEXT…`. Prints seconds and MB/s.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
#[allow(dead_code)]
mod common;

use sampan_text::{Special, Tokenizer};
use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let vocab = common::read(arguments.next().expect("a vocabulary").as_ref());
    let start = Instant::now();
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    println!("load    {:.2} s", start.elapsed().as_secs_f64());
    for file in arguments {
        let text = std::fs::read_to_string(&file).unwrap();
        let start = Instant::now();
        let ids = tokenizer.encode(&text, Special::AsText).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let back = tokenizer.decode(&ids, false);
        let decode = start.elapsed().as_secs_f64();
        let mb = text.len() as f64 / 1e6;
        println!(
            "{file}: {mb:.2} MB, {} ids, encode {seconds:.2} s ({:.2} MB/s), decode {decode:.2} s, {}",
            ids.len(),
            mb / seconds,
            if back == text { "round trip" } else { "differs" }
        );
    }
}
