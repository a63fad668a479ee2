//! Saying what a file is that should have been something else.

/// How many of a file's first bytes are looked at.
pub(crate) const HEAD: usize = 512;

/// What the first bytes of a file of `size` bytes look like, and what to do about it, as the end of a sentence.
pub(crate) fn describe(bytes: &[u8], size: usize) -> String {
    const KNOWN: [(&[u8], &str); 15] = [
        (b"GGUF", "it is a GGUF file"),
        (b"FUGG", "it is a big-endian GGUF file; convert the model again as little endian"),
        (b"lmgg", OLD_GGML),
        (b"fmgg", OLD_GGML),
        (b"tjgg", OLD_GGML),
        (b"algg", OLD_GGML),
        (
            b"version https://git-lfs",
            "it is a git-lfs pointer, not the file itself; fetch it with `git lfs pull`",
        ),
        (b"PK\x03\x04", PICKLE),
        (b"\x80\x02", PICKLE),
        (b"\x80\x04", PICKLE),
        (b"\x89HDF", "it is an HDF5 file"),
        (b"\x1f\x8b", "it is a gzip archive; unpack it first"),
        (b"\xfd7zXZ", "it is an xz archive; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "it is a zstd archive; unpack it first"),
        (b"%PDF", "it is a PDF document"),
    ];
    if bytes.is_empty() {
        return "it is empty".into();
    }
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*what).into();
    }
    if looks_like_safetensors(bytes, size) {
        return "it looks like a safetensors file".into();
    }
    let head = &bytes[..bytes.len().min(HEAD)];
    if head.iter().all(|&b| b == 0) {
        return "it starts with zeros; probably a download that was never filled".into();
    }
    let text =
        String::from_utf8_lossy(head).trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']).to_lowercase();
    if text.starts_with("<!doctype") || text.starts_with("<html") || text.starts_with("<?xml") {
        return "it is a web page, probably an error page saved by a download".into();
    }
    if text.starts_with('{') || text.starts_with('[') {
        return "it is JSON text".into();
    }
    let shown: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("it starts with the bytes {}", shown.join(" "))
}

const OLD_GGML: &str = "it is in a GGML format from before GGUF; convert the original model again";

/// Also for `.bin`, `.pt` and `.pth` files seen by name only.
pub(crate) const PICKLE: &str = "it is a PyTorch pickle or zip archive; sampan refuses these because loading one can \
     run code; use a safetensors or GGUF version of the model";

/// A header length that fits, followed by the start of a JSON object.
pub(crate) fn looks_like_safetensors(bytes: &[u8], size: usize) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= (size - 8) as u64
}
