"""Tiny checkpoints with goldens that llama.cpp can run, where those of fixtures/families have sizes that it has no code for.

    python gguf_variants.py FOLDER [NAME ...]

Writes FOLDER/NAME/{config.json, model.safetensors, golden.safetensors}. Weights, prompts and goldens are made as for the fixtures
(tools/fixtures/families.py); only the configurations differ, each for the reason beside it. Needs torch and transformers.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fixtures"))

import configurations as base
import families
from configurations import FULL, WINDOW, Fixture

SAME_WIDTH = dict(linear_key_head_dim=32, linear_value_head_dim=32)

VARIANTS = {
    # It has no layers without experts.
    "qwen2_moe": Fixture(dict(base.QWEN2_MOE, mlp_only_layers=[])),
    # Keys and values of the delta rule are as wide as each other there.
    "qwen3_next": Fixture(dict(base.QWEN3_NEXT, **SAME_WIDTH)),
    "qwen3_5": Fixture(dict(base.QWEN3_5, **SAME_WIDTH)),
    "qwen3_5_moe": Fixture(dict(base.QWEN3_5_MOE, text_config=dict(base.QWEN3_5_MOE_TEXT, **SAME_WIDTH)), ids_below=250),
    # Known by its number of layers.
    "deepseek_v2_lite": Fixture(dict(base.V2_LITE, num_hidden_layers=27), gap=1e-6),
    # Groups are scored as in V3 there: without groups.
    "deepseek_v2": Fixture(dict(base.V2_GROUPS, topk_method="greedy", n_group=1, topk_group=1)),
    # Its rotation of the index has 64 dimensions or more.
    "deepseek_v32": Fixture(dict(base.DEEPSEEK_V32, index_head_dim=64)),
    # Entries of 4 and 128 only.
    "deepseek_v4": Fixture(dict(base.DEEPSEEK_V4, compress_ratios=[0, 4, 128, 4, 0]), prompt=300, gap=1e-5),
    # Bounds and slopes of gates are those of the releases, and borders of YaRN are rounded.
    "gpt_oss": Fixture(dict(base.GPT_OSS, swiglu_limit=7.0, rope_scaling=dict(base.GPT_OSS["rope_scaling"], truncate=True))),
    # Scores are divided by the width of a head, and every second or sixth layer has no window.
    "gemma2": Fixture(dict(base.GEMMA2, query_pre_attn_scalar=32, num_hidden_layers=4), lead=0.004),
    "gemma3": Fixture(dict(base.GEMMA3, query_pre_attn_scalar=32, num_hidden_layers=7, sliding_window_pattern=6), lead=0.01),
    # Widths of the released model are fixed there.
    "gemma3n": Fixture(dict(base.GEMMA3N, num_hidden_layers=30, intermediate_size=[96] * 30, hidden_size_per_layer_input=256,
                            vocab_size_per_layer_input=256, laurel_rank=64, num_kv_shared_layers=10,
                            layer_types=([WINDOW] * 4 + [FULL]) * 6, activation_sparsity_pattern=[0.95] * 10 + [0.0] * 20),
                       lead=0.004),
    # Keys are shared with the last two layers that have some: one with a window and one without.
    "gemma4_e2b": Fixture(base.gemma4(num_hidden_layers=6, layer_types=[WINDOW, WINDOW, FULL, WINDOW, WINDOW, FULL],
                                      num_kv_shared_layers=3, use_double_wide_mlp=True, num_key_value_heads=1,
                                      hidden_size_per_layer_input=16), lead=0.01),
}


def write(fixture: Fixture, folder: pathlib.Path, seed: int) -> None:
    model, listing, _ = families.build(fixture, seed)
    ids, greedy, _ = families.decide(model, fixture, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fixture.config, indent=2) + "\n")
    tensors = {name: families.values(seed, name, listing["kinds"][kind], shape) for name, (kind, *shape) in listing["tensors"].items()}
    save_file(tensors, folder / "model.safetensors", metadata=dict(format="pt"))
    logits = families.logits(model, ids, list(range(len(ids)))).numpy()
    save_file(dict(ids=np.array(ids, np.int64), logits=logits, greedy=np.array(greedy, np.int64)), folder / "golden.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of " + ", ".join(VARIANTS))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for name in args.names or VARIANTS:
        write(VARIANTS[name], args.folder / name, args.seed)
        print(name, flush=True)


if __name__ == "__main__":
    main()
