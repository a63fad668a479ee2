//! Files: GGUF, safetensors and config.json as named tensors and metadata; writing them.
