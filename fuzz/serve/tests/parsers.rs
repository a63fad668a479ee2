//! Reasoning and tool calls in every format, cut at a place of the input's choice and at every character: nothing is lost and
//! nothing depends on the cuts. The checks are those of the crate's own tests.

#[path = "../../../crates/text/tests/output/check.rs"]
mod check;

use check::{FORMATS, PIECES, check_cut};
use sampan_text::Start;

#[test]
fn parsers() {
    bolero::check!().with_max_len(96).with_iterations(20_000).for_each(|input: &[u8]| {
        let [format, start, cut, rest @ ..] = input else { return };
        let format = FORMATS[usize::from(*format) % FORMATS.len()];
        let start = [Start::Inside, Start::Either, Start::Answer][usize::from(*start) % 3];
        let mut output = String::new();
        for &byte in rest {
            match PIECES.get(usize::from(byte)) {
                Some(piece) => output.push_str(piece),
                None => output.push(char::from(byte)),
            }
        }
        let cut = output.floor_char_boundary(usize::from(*cut) * output.len() / 256);
        let chars: Vec<String> = output.chars().map(String::from).collect();
        let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
        check_cut(format, start, &output, &[&[&output[..cut], &output[cut..]], &chars]);
    });
}
