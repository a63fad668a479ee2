"""Does transformers read the folders that `sampan convert` writes, and compute the same?

    python folders.py SAMPAN GOLDENS [NAME ...]
    python folders.py SAMPAN --tokenizers ../../fixtures/tokenizers
    python folders.py SAMPAN --mini ../../crates/facade/assets/mini.gguf

GOLDENS holds NAME/{config.json, model.safetensors, golden.safetensors}, each of which goes to GGUF (`--f32`) and from there to a
folder, or NAME.gguf beside NAME.golden.safetensors, which goes to a folder. The folder is loaded as any other: AutoModelForCausalLM
in float32, which must find every tensor and know each; a row says the largest difference of a logit from the golden, and how many
greedy tokens are equal before the first that is not. `golden.safetensors`: `ids` [n], `logits` [p, vocab] of all positions or of
those in `positions` [p], `greedy` [m].

`--tokenizers`: NAME.json and NAME.vectors.json (a list of [text, ...]). The tokenizer goes with a made-up model to GGUF and to a
folder again, and AutoTokenizer has to cut every text into the same ids and join them to the same text as it does with the
original.

`--mini`: a model that speaks goes to a folder; a conversation through the template and the answer of both at temperature 0.

Needs torch, transformers and safetensors.
"""

import argparse
import json
import logging
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors import safe_open

ASKED = "What is the capital of France?"


def sampan(program, *arguments):
    run = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(run.stderr.strip().splitlines()[0])
    return run.stdout


def to_folder(program, source, work):
    """A checkpoint (by way of GGUF) or a GGUF file as a folder."""
    file, folder = source, work / "folder"
    if source.is_dir():
        file = work / "file.gguf"
        sampan(program, "convert", "--f32", "--quiet", source, file)
    sampan(program, "convert", "--quiet", "--dtype", "f32", file, folder)
    return folder


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    told = {kind: sorted(keys) for kind, keys in info.items() if keys}
    return model.eval(), told


def compare(program, source, golden, work):
    model, told = load(to_folder(program, source, work))
    with safe_open(golden, "pt") as file:
        golden = {name: file.get_tensor(name) for name in file.keys()}
    ids, greedy = golden["ids"].reshape(1, -1), golden["greedy"].tolist()
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0]
        positions = golden.get("positions", torch.arange(ids.shape[1]))
        difference = (logits[positions] - golden["logits"]).abs().max().item()
        equal = 0
        for token in greedy:
            if model(ids, use_cache=False).logits[0, -1].argmax().item() != token:
                break
            ids, equal = torch.cat([ids, torch.tensor([[token]])], 1), equal + 1
    return f"{difference:.1e}", f"{equal}/{len(greedy)}", "; ".join(f"{k}: {v}" for k, v in told.items())


def models(program, folder, names):
    print("| model | largest difference of a logit | equal greedy tokens | |\n|---|---|---|---|")
    goldens = {path.name: (path, path / "golden.safetensors") for path in folder.iterdir() if path.is_dir()}
    for path in folder.glob("*.gguf"):
        goldens[path.stem] = (path, path.with_suffix(".golden.safetensors"))
    for name in names or sorted(goldens):
        with tempfile.TemporaryDirectory() as work:
            try:
                row = compare(program, *goldens[name], Path(work))
            except Exception as error:  # whatever is wrong with one is a row of the table
                row = ("-", "-", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def tiny(vocab):
    config = transformers.LlamaConfig(
        vocab_size=vocab, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config)


def tokenizers(program, folder):
    print("| tokenizer | texts | other ids | other texts | control tokens |\n|---|---|---|---|---|")
    for path in sorted(folder.glob("*.vectors.json")):
        name = path.name.removesuffix(".vectors.json")
        texts = [text for text, *_ in json.loads(path.read_text())]
        original = json.loads((folder / f"{name}.json").read_text())
        vocab = len(original["model"]["vocab"]) + len(original["added_tokens"])
        with tempfile.TemporaryDirectory() as work:
            model = Path(work) / "model"
            tiny((vocab + 63) // 64 * 64).save_pretrained(model)
            (model / "tokenizer.json").write_bytes((folder / f"{name}.json").read_bytes())
            theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"))
            ours = transformers.AutoTokenizer.from_pretrained(to_folder(program, model, Path(work)))
        special = [token["content"] for token in original["added_tokens"] if token["special"]]
        mixed = "a".join(special) + "b"
        cut = [(theirs(text)["input_ids"], ours(text)["input_ids"]) for text in texts]
        joined = [(theirs.decode(ids), ours.decode(ids)) for ids, _ in cut]
        different = [sum(a != b for a, b in pairs) for pairs in (cut, joined)]
        alike = "alike" if theirs(mixed)["input_ids"] == ours(mixed)["input_ids"] else "other"
        print(f"| {name} | {len(texts)} | {different[0]} | {different[1]} | {len(special)}, {alike} |", flush=True)


def speaks(program, file):
    with tempfile.TemporaryDirectory() as work:
        folder = to_folder(program, file, Path(work))
        model, told = load(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": ASKED}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        out = model.generate(ids, max_new_tokens=24, do_sample=False, temperature=None, top_k=None, top_p=None)
        theirs = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()
        words = ("--temperature", "0", "--max-tokens", "24", "--quiet")
        ours = sampan(program, "run", folder, ASKED, *words).strip()
        print(f"asked: {ASKED}\nsampan:       {ours}\ntransformers: {theirs}\nnot as it should be: {told or 'nothing'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sampan")
    parser.add_argument("goldens", nargs="?", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--tokenizers", type=Path)
    parser.add_argument("--mini", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {re.sub('[+].*', '', torch.__version__)}")
    if arguments.goldens:
        models(arguments.sampan, arguments.goldens, arguments.names)
    if arguments.tokenizers:
        tokenizers(arguments.sampan, arguments.tokenizers)
    if arguments.mini:
        speaks(arguments.sampan, arguments.mini)


if __name__ == "__main__":
    main()
