//! A name can never leave the store. The check is that of the crate's own tests.

#[path = "../../../crates/hub/tests/common/check.rs"]
mod check;

/// What names are made of: a byte of input below the count stands for a piece, the others for themselves.
const PIECES: &[&str] = &[
    "..",
    "/",
    "\\",
    ":",
    "@",
    "--",
    "hf.co/",
    "https://",
    "huggingface.co/",
    "modelscope.cn/models/",
    "Qwen",
    "qwen3:4b",
    "Q4_K_M",
    "main",
    "/tree/",
    "/blob/",
    "/resolve/",
    ".gguf",
    ".bin",
    "%2e",
];

#[test]
fn names() {
    bolero::check!().with_max_len(64).with_iterations(20_000).for_each(|input: &[u8]| {
        let text: String = input
            .iter()
            .map(|&b| {
                PIECES.get(usize::from(b)).map_or_else(|| char::from(b).to_string(), |piece| (*piece).into())
            })
            .collect();
        check::name(&text);
    });
}
