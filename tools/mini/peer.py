"""Compares the GGUF with another engine: llama.cpp (llama-cpp-python) must give the golden's logits and greedy tokens.

Needs `pip install llama-cpp-python safetensors numpy`, in any environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import Llama
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]


def plain_buffers() -> None:
    """Keeps llama.cpp from repacking weights: on processors with AMX its repacked Q8_0 ends in a segmentation fault on a model this small."""
    defaults = llama_cpp.llama_model_default_params

    def without() -> object:
        params = defaults()
        params.use_extra_bufts = False
        return params

    llama_cpp.llama.llama_cpp.llama_model_default_params = without


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, default=ROOT / "crates" / "facade" / "assets" / "mini.gguf")
    parser.add_argument("--golden", type=Path, default=ROOT / "fixtures" / "mini" / "golden.safetensors")
    args = parser.parse_args()
    golden = load_file(args.golden)
    plain_buffers()
    llama = Llama(str(args.gguf), n_ctx=512, n_threads=1, logits_all=True, verbose=False)
    text = llama.detokenize(golden["ids"].tolist(), special=True)
    same_ids = llama.tokenize(text, add_bos=False, special=True) == golden["ids"].tolist()
    llama.eval(golden["ids"].tolist())
    # llama.cpp rounds activations to 8 bits, so its logits are close, not equal.
    away = np.abs(llama.scores[:len(golden["ids"])] - golden["logits"]).max()
    greedy = []
    for _ in golden["greedy"]:
        greedy.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        llama.eval([greedy[-1]])
    same = greedy == golden["greedy"].tolist()
    print(f"tokens equal: {same_ids}; largest logit difference {away:.4f}; greedy tokens equal: {same}")
    print(llama.detokenize(greedy, special=True).decode())
    raise SystemExit(not (same and same_ids))


if __name__ == "__main__":
    main()
