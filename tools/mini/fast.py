"""Loss and gradients of mini without autograd: PyTorch's bf16 matrix products around the fused kernels of kernels.c.

Several times as fast on a CPU as the plain forward and backward of model.py, which stays as the reference (`python fast.py` compares them).
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model import Qwen3

SOURCE = Path(__file__).with_name("kernels.c")


class Fast:
    """`run` adds a batch's gradients to those of the model's parameters and returns the summed loss."""

    def __init__(self, model: Qwen3) -> None:
        self.model, self.shape = model, model.shape
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "kernels.so"
            subprocess.run(["cc", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", str(SOURCE), "-lm", "-o", str(built)], check=True)
            self.c = ctypes.CDLL(str(built))
        self.c.cross_entropy.restype = ctypes.c_float
        self.refresh()

    def _call(self, name: str, *values: object) -> object:
        kinds = {int: ctypes.c_long, float: ctypes.c_float, type(None): ctypes.c_void_p}
        return getattr(self.c, name)(*[ctypes.c_void_p(v.data_ptr()) if isinstance(v, Tensor) else kinds[type(v)](v) for v in values])

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes the weights over after an optimizer step and clears the gradients."""
        w = self.model.table
        self.half, self.grad = {}, {n: torch.zeros_like(p) for n, p in w.items() if p.ndim == 1 or "embed" in n}
        for i in range(self.shape.layers):
            p = f"model.layers.{i}."
            joined = {"qkv": [f"self_attn.{n}_proj" for n in "qkv"], "o": ["self_attn.o_proj"], "gu": ["mlp.gate_proj", "mlp.up_proj"],
                      "d": ["mlp.down_proj"]}
            for name, parts in joined.items():
                whole = torch.cat([w[f"{p}{part}.weight"] for part in parts])
                self.half[i, name], self.grad[i, name] = whole.bfloat16(), torch.zeros_like(whole)
        self.head = w["model.embed_tokens.weight"].detach().bfloat16()

    @torch.no_grad()
    def finish(self) -> None:
        """Hands the gradients to the parameters."""
        for name, p in self.model.table.items():
            p.grad = self.grad.get(name)
        for i in range(self.shape.layers):
            p, s = f"model.layers.{i}.", self.shape
            q, k, v = self.grad[i, "qkv"].split([s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim])
            gate, up = self.grad[i, "gu"].chunk(2)
            for name, g in {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v, "self_attn.o_proj": self.grad[i, "o"],
                            "mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": self.grad[i, "d"]}.items():
                self.model.table[f"{p}{name}.weight"].grad = g

    @torch.no_grad()
    def run(self, ids: Tensor, target: Tensor) -> float:
        s, w = self.shape, {n: p.detach() for n, p in self.model.table.items()}
        batch, length = ids.shape
        rows = batch * length
        cos, sin = (t[0, :, 0].contiguous() for t in self.model._angles(torch.arange(length)[None]))
        x, y, saved = F.embedding(ids, w["model.embed_tokens.weight"]).view(rows, s.hidden), None, []
        for i in range(s.layers):
            x, y, kept = self._layer(i, w, x, y, cos, sin, batch, length)
            saved.append(kept)
        x = x.clone()
        h, inv = torch.empty(rows, s.hidden, dtype=torch.bfloat16), torch.empty(rows)
        self._call("rms_forward", x, y, w["model.norm.weight"], h, inv, rows)
        keep = (target.view(-1) >= 0).nonzero()[:, 0]
        picked, wanted = h[keep], target.view(-1)[keep]
        logits = picked @ self.head.T
        loss = float(self._call("cross_entropy", logits, wanted, len(keep), s.vocab))
        self.grad["model.embed_tokens.weight"] += logits.T @ picked
        dh = torch.zeros_like(h)
        dh[keep] = logits @ self.head
        dx = torch.zeros(rows, s.hidden)
        self._call("rms_backward", dh, x, w["model.norm.weight"], inv, dx, self.grad["model.norm.weight"], rows)
        for i in reversed(range(s.layers)):
            self._layer_backward(i, w, saved[i], dx, cos, sin, batch, length)
        self.grad["model.embed_tokens.weight"].index_add_(0, ids.view(-1), dx)
        return loss

    def _layer(self, i: int, w: dict, x: Tensor, y: Tensor | None, cos: Tensor, sin: Tensor, batch: int, length: int) -> tuple:
        s, rows, p = self.shape, batch * length, f"model.layers.{i}."
        new = lambda *size: torch.empty(*size, dtype=torch.bfloat16)  # noqa: E731
        x1, h1, inv1 = x.clone(), new(rows, s.hidden), torch.empty(rows)
        self._call("rms_forward", x1, y, w[p + "input_layernorm.weight"], h1, inv1, rows)
        qkv = h1 @ self.half[i, "qkv"].T
        q = new(batch * s.kv_heads, s.heads // s.kv_heads * length, s.head_dim)
        k, v = new(batch * s.kv_heads, length, s.head_dim), new(batch * s.kv_heads, length, s.head_dim)
        norms = w[p + "self_attn.q_norm.weight"], w[p + "self_attn.k_norm.weight"]
        self._call("heads_forward", qkv, cos, sin, *norms, q, k, v, batch, length, s.heads, s.kv_heads)
        prob = torch.bmm(q, k.mT)
        self._call("softmax_forward", prob, s.head_dim ** -0.5, batch * s.heads * length, length)
        a = torch.bmm(prob, v).view(batch, s.heads, length, s.head_dim).transpose(1, 2).reshape(rows, -1)
        x2, h2, inv2 = x1.clone(), new(rows, s.hidden), torch.empty(rows)
        self._call("rms_forward", x2, a @ self.half[i, "o"].T, w[p + "post_attention_layernorm.weight"], h2, inv2, rows)
        gu, act = h2 @ self.half[i, "gu"].T, new(rows, s.ffn)
        self._call("swiglu_forward", gu, act, rows, s.ffn)
        return x2, act @ self.half[i, "d"].T, (x1, h1, inv1, qkv, q, k, v, prob, a, x2, h2, inv2, gu, act)

    def _layer_backward(self, i: int, w: dict, kept: tuple, dx: Tensor, cos: Tensor, sin: Tensor, batch: int, length: int) -> None:
        s, rows, p, g = self.shape, batch * length, f"model.layers.{i}.", self.grad
        x1, h1, inv1, qkv, q, k, v, prob, a, x2, h2, inv2, gu, act = kept
        dz, dgu = dx.bfloat16(), torch.empty_like(gu)
        g[i, "d"] += dz.T @ act
        self._call("swiglu_backward", gu, dz @ self.half[i, "d"], dgu, rows, s.ffn)
        g[i, "gu"] += dgu.T @ h2
        name = p + "post_attention_layernorm.weight"
        self._call("rms_backward", dgu @ self.half[i, "gu"], x2, w[name], inv2, dx, g[name], rows)
        dy, dqkv = dx.bfloat16(), torch.empty_like(qkv)
        g[i, "o"] += dy.T @ a
        da = (dy @ self.half[i, "o"]).view(batch, length, s.heads, s.head_dim).transpose(1, 2).reshape(q.shape)
        dprob = torch.bmm(da, v.mT)
        self._call("softmax_backward", prob, dprob, s.head_dim ** -0.5, batch * s.heads * length, length)
        dq, dk, dv = torch.bmm(dprob, k), torch.bmm(dprob.mT, q), torch.bmm(prob.mT, da)
        qn, kn = p + "self_attn.q_norm.weight", p + "self_attn.k_norm.weight"
        self._call("heads_backward", qkv, cos, sin, w[qn], w[kn], dq, dk, dv, dqkv, g[qn], g[kn], batch, length, s.heads, s.kv_heads)
        g[i, "qkv"] += dqkv.T @ h1
        name = p + "input_layernorm.weight"
        self._call("rms_backward", dqkv @ self.half[i, "qkv"], x1, w[name], inv1, dx, g[name], rows)


def main() -> None:
    """Compares loss and gradients with autograd through model.py."""
    torch.manual_seed(0)
    model = Qwen3()
    ids, target = torch.randint(0, 1024, (3, 37)), torch.randint(0, 1024, (3, 37))
    target[:, :20] = -1
    fast = Fast(model)
    loss = fast.run(ids, target)
    keep = target >= 0
    plain = F.cross_entropy(model(ids, pick=keep), target[keep], reduction="sum")
    plain.backward()
    wanted = {n: p.grad.clone() for n, p in model.table.items()}
    fast.finish()
    worst = max((float((p.grad - wanted[n]).norm() / wanted[n].norm()), n) for n, p in model.table.items())
    print(f"loss {loss:.4f} and {plain.item():.4f}; largest relative difference of a gradient: {worst[0]:.4f} in {worst[1]}")
    raise SystemExit(worst[0] > 0.03 or abs(loss - plain.item()) > 0.01 * loss)


if __name__ == "__main__":
    main()
