"""Qwen3, written out for fast training of something tiny on a CPU. Parameters carry the names of transformers' Qwen3ForCausalLM."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of mini; all matrix widths are multiples of 256, so that every block format can hold them."""

    vocab: int = 1024
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 512
    theta: float = 10000.0
    eps: float = 1e-6
    positions: int = 2048


class Qwen3(nn.Module):
    """`forward` gives logits at the positions asked for; `cache` (one (k, v) per layer) makes it incremental."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape, s = shape, shape
        sizes = {"self_attn.q_proj": (s.heads * s.head_dim, s.hidden), "self_attn.k_proj": (s.kv_heads * s.head_dim, s.hidden),
                 "self_attn.v_proj": (s.kv_heads * s.head_dim, s.hidden), "self_attn.o_proj": (s.hidden, s.heads * s.head_dim),
                 "mlp.gate_proj": (s.ffn, s.hidden), "mlp.up_proj": (s.ffn, s.hidden), "mlp.down_proj": (s.hidden, s.ffn)}
        norms = {"input_layernorm": s.hidden, "post_attention_layernorm": s.hidden, "self_attn.q_norm": s.head_dim,
                 "self_attn.k_norm": s.head_dim}
        self.table: dict[str, nn.Parameter] = {"model.embed_tokens.weight": nn.Parameter(torch.randn(s.vocab, s.hidden) * 0.05)}
        for i in range(s.layers):
            for name, (rows, columns) in sizes.items():
                scale = columns ** -0.5 * (0.1 if name.endswith(("o_proj", "down_proj")) else 1.0)
                self.table[f"model.layers.{i}.{name}.weight"] = nn.Parameter(torch.randn(rows, columns) * scale)
            for name, size in norms.items():
                self.table[f"model.layers.{i}.{name}.weight"] = nn.Parameter(torch.ones(size))
        self.table["model.norm.weight"] = nn.Parameter(torch.ones(s.hidden))
        for name, parameter in self.table.items():
            self.register_parameter(name.replace(".", "/"), parameter)

    def weights(self) -> dict[str, Tensor]:
        """The weights by their names in a checkpoint."""
        return {name: p.detach() for name, p in self.table.items()}

    def load(self, weights: dict[str, Tensor]) -> None:
        """Takes weights saved by `weights`."""
        with torch.no_grad():
            for name, p in self.table.items():
                p.copy_(weights[name])

    def forward(self, ids: Tensor, pick: Tensor | None = None, positions: Tensor | None = None, mask: Tensor | None = None,
                cache: list | None = None) -> Tensor:
        s, w = self.shape, self.table
        batch, length = ids.shape
        x = F.embedding(ids, w["model.embed_tokens.weight"])
        cos, sin = self._angles(torch.arange(length)[None] if positions is None else positions)
        for i in range(s.layers):
            p = f"model.layers.{i}."
            h = F.rms_norm(x, (s.hidden,), w[p + "input_layernorm.weight"], s.eps)
            joined = torch.cat([w[p + f"self_attn.{n}_proj.weight"] for n in "qkv"])
            q, k, v = F.linear(h, joined).view(batch, length, -1, s.head_dim).split([s.heads, s.kv_heads, s.kv_heads], 2)
            q = _rotate(F.rms_norm(q.float(), (s.head_dim,), w[p + "self_attn.q_norm.weight"], s.eps), cos, sin).to(v.dtype)
            k = _rotate(F.rms_norm(k.float(), (s.head_dim,), w[p + "self_attn.k_norm.weight"], s.eps), cos, sin).to(v.dtype)
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            if cache is not None:
                if len(cache) > i:
                    k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
                    cache[i] = (k, v)
                else:
                    cache.append((k, v))
            groups = s.heads // s.kv_heads
            a = F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), attn_mask=mask,
                                               is_causal=mask is None)
            x = x + F.linear(a.transpose(1, 2).reshape(batch, length, -1), w[p + "self_attn.o_proj.weight"])
            h = F.rms_norm(x, (s.hidden,), w[p + "post_attention_layernorm.weight"], s.eps)
            gate, up = F.linear(h, torch.cat([w[p + "mlp.gate_proj.weight"], w[p + "mlp.up_proj.weight"]])).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w[p + "mlp.down_proj.weight"])
        x = x if pick is None else x[pick]
        return F.linear(F.rms_norm(x, (s.hidden,), w["model.norm.weight"], s.eps), w["model.embed_tokens.weight"]).float()

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        s = self.shape
        frequencies = s.theta ** (-torch.arange(0, s.head_dim, 2).float() / s.head_dim)
        angles = positions[..., None].float() * frequencies
        return angles.cos()[:, :, None], angles.sin()[:, :, None]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


@torch.no_grad()
def generate(model: Qwen3, prompts: list[list[int]], end: int, most: int = 200) -> list[list[int]]:
    """Greedy continuations of many prompts at once (padded on the left), up to and without `end`."""
    width, count = max(map(len, prompts)), len(prompts)
    ids = torch.zeros(count, width, dtype=torch.long)
    real = torch.zeros(count, width, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt):] = torch.tensor(prompt)
        real[row, width - len(prompt):] = True
    positions = (real.cumsum(1) - 1).clamp(min=0)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    mask = (causal & real[:, None]) | torch.eye(width, dtype=torch.bool)
    cache: list = []
    logits = model(ids, positions=positions, mask=mask[:, None], cache=cache)[:, -1]
    done, out = torch.zeros(count, dtype=torch.bool), []
    position = positions[:, -1:]
    for _ in range(most):
        token = logits.argmax(-1)
        done |= token == end
        out.append(torch.where(done, end, token))
        if done.all():
            break
        real = torch.cat([real, torch.ones(count, 1, dtype=torch.bool)], 1)
        position = position + 1
        logits = model(token[:, None], positions=position, mask=real[:, None, None], cache=cache)[:, -1]
    rows = torch.stack(out, 1).tolist()
    return [row[:row.index(end)] if end in row else row for row in rows]
