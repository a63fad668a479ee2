//! Outcomes of decoding and encoding, over all formats.

use std::path::PathBuf;

use super::*;

/// Bits, so that -0.0 and 0.0 differ and a message shows what went wrong.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn golden(format: Format, extension: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/formats")
        .join(format!("{format}.{extension}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn decodes_the_golden_blocks_bit_for_bit() {
    for format in Format::ALL {
        let blocks = golden(format, "blocks");
        let mut expected = vec![0.0; golden(format, "f32").len() / 4];
        Format::F32.decode(&golden(format, "f32"), &mut expected);
        assert!(expected.len() >= 5 * format.block_len(), "{format}: too few golden blocks");
        let mut values = vec![0.0; expected.len()];
        format.decode(&blocks, &mut values);
        assert_eq!(bits(&values), bits(&expected), "{format}");
    }
}
