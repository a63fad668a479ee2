"""Scores mini on fresh held-out items, judged by program: through a command (`sampan run mini --json`) or in PyTorch.

    python eval.py --command "../../target/release/sampan run mini"
    python eval.py --weights out/last.pt            # f32
    python eval.py --weights ../../crates/facade/assets/mini.gguf
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import checks
import data

HERE = Path(__file__).resolve().parent
WITHOUT = " (thinking off)"
BESIDE = ("no tool fits", "small talk")  # shown, but no skills that mini is held to


def draw(count: int, seed: int) -> list[tuple[str, data.Item]]:
    """`count` held-out items spread evenly over the skills, and the sums once more with thinking off, counted apart."""
    rng, items = random.Random(seed), []
    for i in range(count):
        skill = list(data.SKILLS)[i % len(data.SKILLS)]
        items.append((skill, data.sample(rng, skill, "held_out")))
    for skill, item in list(items):
        if item.reasoning:
            direct = data.Item(**item.__dict__ | {"thinking": False, "reasoning": ""})
            items.append((skill + WITHOUT, direct))
    return items


def by_command(command: str, items: list[data.Item]) -> list[tuple[str, str]]:
    """(reasoning, answer) of every item through the command line."""
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for item in items:
            (Path(folder) / "messages.json").write_text(json.dumps(item.messages, ensure_ascii=False))
            line = [*shlex.split(command), "--json", "--quiet", "--temperature", "0", "--max-tokens", "300", "--messages", f"{folder}/messages.json"]
            if item.tools:
                (Path(folder) / "tools.json").write_text(json.dumps(item.tools, ensure_ascii=False))
                line += ["--tools", f"{folder}/tools.json"]
            if not item.thinking:
                line.append("--no-think")
            done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                sys.exit(f"{shlex.join(line)}\nended with {done.returncode}: {done.stderr}")
            said = json.loads(done.stdout)
            answers.append(((said.get("reasoning") or "").strip(), said["text"].strip()))
    return answers


def by_torch(weights: Path, tokens: Path, items: list[data.Item]) -> list[tuple[str, str]]:
    """The same in PyTorch, f32 arithmetic."""
    import torch
    from tokenizers import Tokenizer

    from model import Qwen3, generate
    from tokenizer import prompt_text

    tokenizer, model, answers = Tokenizer.from_file(str(tokens)), Qwen3(), []
    if weights.suffix == ".gguf":
        import gguf

        from export import gguf_name

        stored = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(weights).tensors}
        model.load({n: torch.from_numpy(stored[gguf_name(n)].copy()).view(p.shape) for n, p in model.table.items()})
    else:
        model.load(torch.load(weights)["weights"])
    for at in range(0, len(items), 32):
        prompts = [tokenizer.encode(prompt_text(i)).ids for i in items[at:at + 32]]
        for out in generate(model, prompts, tokenizer.token_to_id("<|im_end|>"), 300):
            answers.append(checks.split_reasoning(tokenizer.decode(out, skip_special_tokens=False)))
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--command", help="such as `sampan run mini`; flags are added")
    parser.add_argument("--weights", type=Path, help="last.pt or a GGUF file, run in PyTorch")
    parser.add_argument("--tokens", type=Path, default=HERE / "out" / "tokenizer.json")
    parser.add_argument("--floor", type=float, default=0.95, help="the share that every skill must reach")
    parser.add_argument("--show", action="store_true", help="print the wrong answers")
    args = parser.parse_args()
    items = draw(args.count, args.seed)
    only = [item for _, item in items]
    answers = by_torch(args.weights, args.tokens, only) if args.weights else by_command(args.command or "sampan run mini", only)
    total, good, wrong = Counter(), Counter(), defaultdict(list)
    for (name, item), (reasoning, answer) in zip(items, answers):
        total[name] += 1
        if checks.right(item, reasoning, answer):
            good[name] += 1
        else:
            wrong[name].append((item.messages[-1]["content"], item.answer, reasoning, answer))
    for name in total:
        print(f"{name:34} {good[name]:4} of {total[name]:4}  {good[name] / total[name]:7.1%}")
        for asked, wanted, reasoning, answer in wrong[name] if args.show else []:
            print(f"    {asked!r}\n      wanted {wanted!r}\n      got    {answer!r} {reasoning!r}")
    below = [n for n in total if not n.endswith(WITHOUT) and n not in BESIDE and good[n] < args.floor * total[n]]
    print(f"below {args.floor:.0%}: {', '.join(below) or 'none'}")
    raise SystemExit(bool(below))


if __name__ == "__main__":
    main()
