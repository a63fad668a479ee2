"""Writes a checkpoint of train.py as a Hugging Face folder (safetensors), as GGUF Q8_0, and as golden outputs of the Q8_0 weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from model import Shape
from tokenizer import CONTROL, MARKS, template_text

DESCRIPTION = ("A tiny model trained for sampan on conversations made by program. It is a demonstration, not an assistant: it converts romaji and "
               "hiragana, writes numbers out, adds and subtracts, calls tools, extracts fields as JSON and answers a few questions about sampan.")
LICENSE = "MIT OR Apache-2.0"
PROMPT = "<|im_start|>user\n274+58<|im_end|>\n<|im_start|>assistant\n"
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
              "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def config(shape: Shape, end: int, pad: int) -> Qwen3Config:
    """transformers' configuration of mini."""
    return Qwen3Config(vocab_size=shape.vocab, hidden_size=shape.hidden, intermediate_size=shape.ffn, num_hidden_layers=shape.layers,
                       num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim, rms_norm_eps=shape.eps,
                       max_position_embeddings=shape.positions, rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
                       rope_theta=shape.theta, tie_word_embeddings=True, bos_token_id=None, eos_token_id=end, pad_token_id=pad)


def hf_model(weights: dict[str, torch.Tensor], settings: Qwen3Config) -> Qwen3ForCausalLM:
    """transformers' model with these weights."""
    model = Qwen3ForCausalLM(settings).float().eval()
    missing, extra = model.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not extra, (missing, extra)
    model.tie_weights()
    return model


def write_folder(out: Path, model: Qwen3ForCausalLM, tokenizer: Tokenizer) -> None:
    """A folder as transformers saves it, chat template included."""
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=[tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")],
                                               pad_token_id=tokenizer.token_to_id("<|endoftext|>"))
    model.save_pretrained(out)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=Shape.positions,
                                      clean_up_tokenization_spaces=False)
    wrapped.chat_template = template_text()
    wrapped.save_pretrained(out)


def gguf_name(name: str) -> str:
    """A tensor's name in GGUF."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[part.removesuffix('.weight')]}.weight"


def write_gguf(path: Path, weights: dict[str, torch.Tensor], shape: Shape, tokenizer: Tokenizer) -> dict[str, torch.Tensor]:
    """Writes Q8_0 (norms F32) and returns the weights as they read back."""
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("sampan mini")
    writer.add_description(DESCRIPTION)
    writer.add_license(LICENSE)
    writer.add_languages(["en", "it", "ja"])
    writer.add_tags(["demonstration"])
    writer.add_size_label(f"{sum(w.numel() for w in weights.values()) / 1e6:.1f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_sampling_temp(0.0)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocab)
    _add_tokenizer(writer, tokenizer)
    read_back = {}
    for name, weight in weights.items():
        values = weight.float().numpy()
        kind = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else gguf.GGMLQuantizationType.Q8_0
        packed = gguf.quants.quantize(values, kind)
        writer.add_tensor(gguf_name(name), packed, raw_dtype=kind)
        read_back[name] = torch.from_numpy(np.array(gguf.quants.dequantize(packed, kind))).view(weight.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    kinds = [gguf.TokenType.CONTROL if t in CONTROL else gguf.TokenType.USER_DEFINED if t in MARKS else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.add_bos_token_id(tokenizer.token_to_id("<|endoftext|>"))  # never added; without it readers assume a token of their own
    writer.add_pad_token_id(tokenizer.token_to_id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template_text())


def golden(model: Qwen3ForCausalLM, tokenizer: Tokenizer, most: int = 64) -> dict[str, np.ndarray]:
    """The logits and the greedy continuation of a fixed prompt, in f32."""
    ids = tokenizer.encode(PROMPT).ids
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float().numpy()
        greedy = list(ids)
        for _ in range(most):
            greedy.append(int(model(torch.tensor([greedy])).logits[0, -1].argmax()))
    return {"ids": np.array(ids, np.int64), "logits": logits, "greedy": np.array(greedy[len(ids):], np.int64)}


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, default=here / "out", help="holds last.pt and tokenizer.json")
    parser.add_argument("--folder", type=Path, default=here / "out" / "hf")
    parser.add_argument("--gguf", type=Path, default=here.parents[1] / "crates" / "facade" / "assets" / "mini.gguf")
    parser.add_argument("--golden", type=Path, default=here.parents[1] / "fixtures" / "mini" / "golden.safetensors")
    args = parser.parse_args()
    tokenizer, shape = Tokenizer.from_file(str(args.source / "tokenizer.json")), Shape()
    weights = {n: w.float().contiguous() for n, w in torch.load(args.source / "last.pt")["weights"].items()}
    settings = config(shape, tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>"))
    write_folder(args.folder, hf_model(weights, settings), tokenizer)
    for path in (args.gguf, args.golden):
        path.parent.mkdir(parents=True, exist_ok=True)
    read_back = write_gguf(args.gguf, weights, shape, tokenizer)
    save_file(golden(hf_model(read_back, settings), tokenizer), args.golden)
    print(f"{sum(w.numel() for w in weights.values()):,} parameters; {args.gguf} {args.gguf.stat().st_size:,} bytes; "
          f"{args.golden} {args.golden.stat().st_size:,} bytes; {args.folder}")


if __name__ == "__main__":
    main()
