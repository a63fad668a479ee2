"""Trains mini on CPU cores: `python train.py --minutes 55`. Stops and resumes at any time; writes checkpoints every few minutes.

Two processes of one thread each train in step (gradients averaged through shared memory): on a busy machine that is faster than one process
of two threads, which wait for each other at every operator.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tokenizers import Tokenizer

import checks
import data
from fast import Fast
from model import Qwen3, generate
from tokenizer import answer_text, prompt_text

HERE = Path(__file__).parent
BASE = {"romaji to hiragana": 1.4, "hiragana to romaji": 1.3, "numbers in English": 0.8, "numbers in Italian": 0.9, "numbers in Japanese": 0.6,
        "addition": 1.2, "subtraction": 1.7, "tool call": 1.7, "tool result": 0.9, "no tool fits": 0.3, "extraction": 1.7, "about sampan": 1.3, "small talk": 0.6}


class Muon:
    """Momentum made orthogonal by Newton-Schulz steps, for the matrices of the layers (Jordan 2024, Muon)."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        shapes = sorted({tuple(p.shape) for p in parameters})
        self.groups = [[p for p in parameters if tuple(p.shape) == s] for s in shapes]
        self.momenta = [torch.zeros(len(g), *g[0].shape) for g in self.groups]

    @torch.no_grad()
    def step(self, rate: float, decay: float, rank: int, world: int) -> None:
        """Each process updates its share of the matrices and hands them to the others."""
        owners = [(i + i // 2) % world for i in range(len(self.groups))]  # like amounts of work for two
        for owner, group, momentum in zip(owners, self.groups, self.momenta):
            gradient = torch.stack([p.grad for p in group])
            momentum.lerp_(gradient, 0.05)
            if owner == rank:
                _apply(group, gradient.lerp(momentum, 0.95), rate, decay)
        for owner, group in zip(owners, self.groups if world > 1 else []):
            joined = torch.stack([p.detach() for p in group])
            dist.broadcast(joined, owner)
            for p, value in zip(group, joined):
                p.copy_(value)


def _apply(group: list[torch.nn.Parameter], direction: torch.Tensor, rate: float, decay: float) -> None:
    update = _orthogonal(direction)
    scale = rate * max(1.0, update.shape[1] / update.shape[2]) ** 0.5
    for p, u in zip(group, update):
        p.mul_(1 - rate * decay).sub_(u, alpha=scale)


def _orthogonal(g: torch.Tensor) -> torch.Tensor:
    tall = g.shape[1] > g.shape[2]
    x = (g.mT if tall else g).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-7)
    for _ in range(4):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).float()


def encode(tokenizer: Tokenizer, item: data.Item) -> tuple[list[int], list[bool]]:
    """Token ids and which of them mini is taught to predict: the answer, and earlier answers but for their first token."""
    prompt = tokenizer.encode(prompt_text(item)).ids
    answer = tokenizer.encode(answer_text(item)).ids
    start, end, role = (tokenizer.token_to_id(t) for t in ("<|im_start|>", "<|im_end|>", "assistant"))
    taught, speaking, since = [], False, 0
    for i, token in enumerate(prompt):
        if token == start:
            speaking, since = i + 1 < len(prompt) and prompt[i + 1] == role, i
        taught.append(speaking and i > since + 3)
        speaking = speaking and token != end
    empty = 4 if not item.thinking else 0  # the template wrote the empty <think> block
    if empty or not any(taught[-4:]):
        tail = max(i for i, t in enumerate(prompt) if t == start)
        taught[tail:] = [False] * (len(prompt) - tail)
    return prompt + answer, taught + [True] * len(answer)


def batches(tokenizer: Tokenizer, rng: random.Random, weights: dict[str, float], count: int, parts: int):
    """`parts` padded groups of like length, together `count` fresh conversations."""
    skills = rng.choices(list(weights), list(weights.values()), k=count)
    coded = sorted((encode(tokenizer, data.sample(rng, s)) for s in skills), key=lambda c: len(c[0]))
    for part in range(parts):
        rows = coded[part * count // parts:(part + 1) * count // parts]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        target = torch.full((len(rows), width), -1)
        for r, (tokens, taught) in enumerate(rows):
            ids[r, :len(tokens)] = torch.tensor(tokens)
            target[r, :len(tokens) - 1] = torch.tensor([t if k else -1 for t, k in zip(tokens[1:], taught[1:])])
        yield ids, target


def judge(model: Qwen3, tokenizer: Tokenizer, rng: random.Random, each: int, skills: list[str] | None = None) -> dict[str, float]:
    """The share of right greedy answers per skill on held-out items."""
    scores, end = {}, tokenizer.token_to_id("<|im_end|>")
    for skill in skills or list(data.SKILLS):
        items = [data.sample(rng, skill, "held_out") for _ in range(each)]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = generate(model, [tokenizer.encode(prompt_text(i)).ids for i in items], end, 140)
        texts = [tokenizer.decode(o, skip_special_tokens=False) for o in outputs]
        scores[skill] = sum(checks.right(i, *checks.split_reasoning(t)) for i, t in zip(items, texts)) / each
    return scores


def work(rank: int, world: int, args: argparse.Namespace) -> None:
    """One training process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{args.out}/meeting", rank=rank, world_size=world)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    torch.manual_seed(args.seed)
    model = Qwen3()
    matrices = [p for n, p in model.table.items() if p.ndim == 2 and "layers" in n]
    others = [p for n, p in model.table.items() if p.ndim == 1 or "layers" not in n]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
    fast = Fast(model)
    weights, spent, step, tokens = dict(BASE), 0.0, 0, 0
    saved = args.out / "last.pt"
    if saved.exists():
        state = torch.load(saved)
        model.load(state["weights"])
        muon.momenta, weights, spent, step, tokens = (state[k] for k in ("momenta", "mix", "spent", "step", "tokens"))
        weights = BASE | weights
        adam.load_state_dict(state["adam"])
    rng = random.Random(args.seed * 1_000_003 + step * world + rank)
    judge_rng, budget = random.Random(args.seed + 99 + step), args.minutes * 60
    began, judged, losses, parameters = time.time(), spent, [], list(model.parameters())
    while True:
        clock = torch.tensor([spent + time.time() - began])
        dist.broadcast(clock, 0)
        done = clock.item() / budget
        if done - judged / budget > args.judge_every * 60 / budget or done >= 1:
            judged = clock.item()
            weights = _assess(rank, world, model, tokenizer, judge_rng, weights, done, step, args)
            if rank == 0:
                torch.save({"weights": model.weights(), "momenta": muon.momenta, "adam": adam.state_dict(), "mix": weights,
                            "spent": clock.item(), "step": step, "tokens": tokens}, args.out / "saving.pt")
                (args.out / "saving.pt").rename(saved)
            if done >= 1:
                break
        scale = min(1.0, (step + 1) / 40) * min(1.0, 2.0 * (1 - done))
        parts = list(batches(tokenizer, rng, weights, args.batch // world, args.parts))
        taught = sum((t >= 0).sum() for _, t in parts)
        count = torch.tensor([float(taught), float(sum(i.numel() for i, _ in parts)), 0.0])
        fast.refresh()
        for ids, target in parts:
            count[2] += fast.run(ids, target)
        fast.finish()
        flat = torch.cat([p.grad.flatten() for p in parameters] + [count])
        dist.all_reduce(flat)
        taught, seen, loss = flat[-3:].tolist()
        at = 0
        for p in parameters:
            p.grad = flat[at:at + p.numel()].view_as(p) / taught
            at += p.numel()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(args.muon * scale, 0.02, rank, world)
        for group in adam.param_groups:
            group["lr"] = args.adam * scale
        adam.step()
        for p in parameters:
            p.grad = None
        step, tokens = step + 1, tokens + int(seen)
        losses.append(loss / taught)
        if rank == 0 and step % 25 == 0:
            now = spent + time.time() - began
            print(f"step {step} at {now:.0f} s, {tokens / now:.0f} tokens/s, loss {sum(losses[-25:]) / 25:.4f}", flush=True)
    dist.destroy_process_group()


def _assess(rank: int, world: int, model: Qwen3, tokenizer: Tokenizer, rng: random.Random, weights: dict[str, float], done: float, step: int,
            args: argparse.Namespace) -> dict[str, float]:
    """Scores the skills, each process its share, and draws more of the weak ones from now on."""
    names = list(data.SKILLS)
    scores = torch.zeros(len(names))
    each = args.each if done < 1 else 2 * args.each
    for i in range(rank, len(names), world):
        scores[i] = judge(model, tokenizer, rng, each, [names[i]])[names[i]]
    dist.all_reduce(scores)
    result = dict(zip(names, scores.tolist()))
    if rank == 0:
        line = {"step": step, "done": round(done, 3), "scores": {k: round(v, 3) for k, v in result.items()}}
        print(json.dumps(line), flush=True)
    return {k: BASE[k] * (0.2 + 1.2 * math.sqrt(max(0.0, 1 - result[k]))) for k in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "out", help="holds tokenizer.json; takes last.pt")
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=40, help="conversations per step")
    parser.add_argument("--parts", type=int, default=2, help="groups of like length per process and step")
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=3e-3)
    parser.add_argument("--judge-every", type=float, default=8, help="minutes")
    parser.add_argument("--each", type=int, default=12, help="held-out items per skill and assessment")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.out = args.out.resolve()
    (args.out / "meeting").unlink(missing_ok=True)
    mp.spawn(work, (args.processes, args), nprocs=args.processes)


if __name__ == "__main__":
    main()
