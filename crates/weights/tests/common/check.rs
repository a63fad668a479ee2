//! What must hold for a parser on any bytes whatever: it does not panic, and what it accepts is sound.
//! The fuzz targets run the same checks.

use sampan_weights::{GgufVocab, Tensor, TensorInfo, gguf, safetensors};
use std::path::Path;

/// Whether the bytes were accepted as GGUF; panics when something accepted is unsound.
pub(crate) fn gguf_bytes(bytes: &[u8]) -> bool {
    let header = match gguf::parse(Path::new("some.gguf"), bytes) {
        Ok(header) => header,
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "an error is a message, not a dump");
            return false;
        }
    };
    assert!(header.alignment.is_power_of_two());
    sound(&header.tensors, header.data_start, bytes, header.alignment);
    for (key, value) in header.metadata.iter() {
        assert_eq!(header.metadata.get(key).map(|v| format!("{v:?}")), Some(format!("{value:?}")));
        let _ = header.metadata.per_layer(key, 3);
        let _ = header.metadata.f32(key);
    }
    if let Ok(Some(vocab)) = GgufVocab::read(&header.metadata) {
        let ids = [vocab.bos, vocab.eos, vocab.eot, vocab.pad, vocab.unk];
        assert!(ids.into_iter().flatten().all(|id| (id as usize) < vocab.tokens.len()));
    }
    true
}

/// Whether the bytes were accepted as safetensors; panics when something accepted is unsound.
pub(crate) fn safetensors_bytes(bytes: &[u8]) -> bool {
    let header = match safetensors::parse(Path::new("some.safetensors"), bytes) {
        Ok(header) => header,
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "an error is a message, not a dump");
            return false;
        }
    };
    sound(&header.tensors, header.data_start, bytes, 1);
    true
}

fn sound(tensors: &[TensorInfo], data_start: usize, bytes: &[u8], alignment: usize) {
    let mut ranges = Vec::new();
    for TensorInfo { name, shape, dtype, offset, size } in tensors {
        assert!(*offset >= data_start && offset.is_multiple_of(alignment));
        let data = &bytes[*offset..offset + size];
        if let Ok(tensor) = Tensor::new(name, shape, *dtype, data) {
            let values = tensor.to_f32().map(|v| v.len()).or_else(|_| tensor.to_i64s().map(|v| v.len()));
            assert!(values.is_err() || values.ok() == Some(tensor.count()));
        }
        ranges.push((*offset, offset + size));
    }
    ranges.sort();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no two tensors share bytes");
}
