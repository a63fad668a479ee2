//! `--quant`: float checkpoints quantised while they are loaded.

use crate::support::Folder;
use crate::vectors::{numbers, write_folder, write_gguf};
use serde_json::Value;

fn cosine(a: &Value, b: &Value) -> f64 {
    let vector = |made: &Value| numbers(&made["data"][0]["embedding"]);
    vector(a).iter().zip(vector(b)).map(|(x, y)| x * y).sum()
}

#[test]
fn vectors_stay_close_and_memory_shrinks() {
    for (model, write) in
        [("model", (|f| write_folder(f, "model.")) as fn(&Folder)), ("model.gguf", |f| write_gguf(f, 3, &[]))]
    {
        let folder = Folder::new();
        write(&folder);
        let float = folder.sampan(&format!("embed {model} sampan")).json();
        let weights = |flags: &str| {
            let shown = folder.sampan(&format!("show {model} --json{flags}")).json();
            let formats: Vec<String> = shown["held"]
                .as_array()
                .unwrap()
                .iter()
                .map(|h| h["format"].as_str().unwrap().into())
                .collect();
            (shown["memory"]["weights_bytes"].as_f64().unwrap(), formats)
        };
        let (whole, formats) = weights("");
        assert_eq!(formats, ["F32"]);
        // Rows of 64 and 160 are no blocks of 256: the K formats fall back to blocks of 32.
        for (mix, formats, share, least) in [
            ("q8_0", &["Q8_0"][..], 0.30, 0.99),
            ("q6_k", &["Q8_0"], 0.30, 0.99),
            ("Q4_K_M", &["Q5_0", "Q8_0"], 0.28, 0.9),
            ("q4_0", &["Q4_0", "Q8_0"], 0.28, 0.8),
        ] {
            let (bytes, mut held) = weights(&format!(" --quant {mix}"));
            held.sort();
            assert_eq!(held, formats, "{mix}");
            assert!(bytes < share * whole, "{mix}: {bytes} of {whole}");
            let made = folder.sampan(&format!("embed {model} sampan --quant {mix}")).json();
            let cosine = cosine(&float, &made);
            assert!(cosine > least && made != float, "{mix}: {cosine}");
        }
    }
}

#[test]
fn what_cannot_be_quantised_is_refused() {
    let folder = Folder::new();
    write_folder(&folder, "");
    let unknown = folder.sampan("embed model a --quant q9");
    assert!(unknown.code == 1 && unknown.stderr.contains("q4_k_m"), "{unknown:#?}");
    let mini = folder.sampan("run mini a --quant q4_0");
    mini.mistake(&["quantised already"], "leave --quant out").unwrap();
    let path = folder.path("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
    let end = data + header["layers.0.mlp.down_proj.weight"]["data_offsets"][1].as_u64().unwrap() as usize;
    bytes[end - 4..end].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
    let damaged = folder.sampan("embed model a --quant q8_0");
    damaged.mistake(&["down_proj", "NaN"], "damaged").unwrap();
}
