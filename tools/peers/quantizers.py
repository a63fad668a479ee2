"""Sampan's quantizer beside llama.cpp's: what each leaves of the same weights, and how long it takes.

    python quantizers.py SAMPAN SOURCE.gguf [MIX ...] [--heavy] [--tensors]

SAMPAN is the program; SOURCE.gguf is first decoded to float32 (`mini.gguf` of the repository has weights that were
trained). Each MIX (default: all that both know) is written by both from the same file; the table gives for each mix and
type the root-mean-square error of the weights relative to their own root mean square, of both, their ratio (below 1:
sampan is nearer to the original), and the bits per weight. With `--text FILE` llama.cpp also reads the text with the
original and both files, and a second table gives the mean Kullback-Leibler divergence from the original, in nats. All three are read as
float32: with quantised weights llama.cpp rounds activations to eight bits too, which costs as much as six-bit weights do and is nobody's
quantizer. Which way each weight is rounded is chance, and a model has few enough for it to show: `--draws N` repeats the whole with N
originals, in which every weight is moved by 1 % of their root mean square and channels stand in another order (of a dense Qwen3: the
same function, with other weights side by side in a block; the first original is as it is); the table has the means and the standard error
of the ratio. `--tensors` has a row for each tensor. `--heavy` replaces the weights by made-up ones of the same shapes with heavy tails
(Student's t, 4 degrees of freedom). Says where the two chose different types. Needs llama-cpp-python, gguf and numpy.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import gguf
import llama_cpp as ll
import numpy as np

# llama_ftype
MIXES = {
    "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13,
    "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25,
}  # fmt: skip


def decode(source, target, heavy=False, draw=0):
    """The same file in float32; `draw`: moved a little, each number another way."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
    writer.add_file_type(0)
    rng = np.random.default_rng(1 + draw)
    all_values = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if heavy and values.ndim > 1:
            values = (rng.standard_t(4, values.shape) * values.std()).astype(np.float32)
        elif draw and values.ndim > 1:
            values = values + rng.standard_normal(values.shape, np.float32) * np.float32(0.01 * values.std())
        all_values[tensor.name] = values
    if draw and reader.fields["general.architecture"].contents() == "qwen3":
        rearrange(all_values, reader.fields["qwen3.attention.head_count_kv"].contents(), rng)
    for name, values in all_values.items():
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rearrange(values, kv_heads, rng):
    """Channels of the residual stream, of each feed-forward layer and of each value head in another order."""
    stream = rng.permutation(values["token_embd.weight"].shape[1])
    for name in values:
        kind = name.split(".")[-2]
        if kind in ("attn_norm", "ffn_norm", "output_norm", "attn_output", "ffn_down"):
            values[name] = values[name][stream]
        elif kind in ("token_embd", "output", "attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"):
            values[name] = values[name][:, stream]
    for name in [name for name in values if name.endswith("ffn_down.weight")]:
        block = name.removesuffix("ffn_down.weight")
        inner = rng.permutation(values[name].shape[1])
        values[name] = values[name][:, inner]
        for kind in ("ffn_gate", "ffn_up"):
            values[f"{block}{kind}.weight"] = values[f"{block}{kind}.weight"][inner]
        v, out = values[f"{block}attn_v.weight"], values[f"{block}attn_output.weight"]
        size = v.shape[0] // kv_heads
        orders = [rng.permutation(size) for _ in range(kv_heads)]
        values[f"{block}attn_v.weight"] = v[np.concatenate([order + i * size for i, order in enumerate(orders)])]
        heads = out.shape[1] // size
        columns = [orders[head * kv_heads // heads] + head * size for head in range(heads)]
        values[f"{block}attn_output.weight"] = out[:, np.concatenate(columns)]


def weights(path):
    tensors = gguf.GGUFReader(path).tensors
    return {t.name: (t.tensor_type.name, gguf.dequantize(t.data, t.tensor_type), t.n_bytes) for t in tensors}


def by_llama(source, target, mix):
    params = ll.llama_model_quantize_default_params()
    params.ftype, params.nthread = MIXES[mix], 2
    if ll.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp cannot write {mix}")


def by_sampan(program, source, target, mix):
    command = [program, "quantize", source, target, "--to", mix, "--quiet", "--force", "--threads", "2", "--no-report"]
    subprocess.run(command, check=True)


def timed(call, *arguments):
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def compare(mix, original, ours, theirs, each_tensor):
    """Rows of (mix, what, tensors, our error, their error, bits of ours, bits of theirs)."""
    groups = defaultdict(list)
    for name, (kind, x, _) in original.items():
        (our_kind, a, our_bytes), (their_kind, b, their_bytes) = ours[name], theirs[name]
        if our_kind != their_kind:
            print(f"{mix}: {name} is {our_kind} here and {their_kind} there")
        if our_kind != kind:
            row = (np.square(a - x).sum(), np.square(b - x).sum(), np.square(x).sum(), our_bytes, their_bytes, x.size)
            groups["all"].append(row)
            groups[our_kind if our_kind == their_kind else f"{our_kind}/{their_kind}"].append(row)
            if each_tensor:
                groups[f"{name} {our_kind}"].append(row)
    for what, rows in groups.items():
        a, b, x, our_bytes, their_bytes, n = (sum(column) for column in zip(*rows))
        yield mix, what, len(rows), (a / x) ** 0.5, (b / x) ** 0.5, 8 * our_bytes / n, 8 * their_bytes / n


def thoughts(path, text):
    """Logarithms of probabilities after each of the first 4,096 tokens, in windows of 512."""
    model = ll.Llama(str(path), n_ctx=512, n_batch=512, logits_all=True, verbose=False, n_threads=2)
    ids = model.tokenize(text, add_bos=False, special=True)[:4096]
    rows = []
    for start in range(0, len(ids), 512):
        window = ids[start : start + 512]
        model.reset()
        model.eval(window)
        x = np.array(model.scores[: len(window)], dtype=np.float64)
        x -= x.max(axis=1, keepdims=True)
        rows.append(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))
    return np.concatenate(rows)


def divergence(original, changed):
    return (np.exp(original) * (original - changed)).sum(axis=1).mean()


def losses(arguments, folder):
    """For each mix the divergences of sampan's files and of llama.cpp's, one pair for each draw."""
    text = arguments.text.read_bytes()
    pairs = defaultdict(list)
    source, file, floats = (folder / f"{name}.gguf" for name in ("source", "file", "floats"))
    for draw in range(arguments.draws):
        decode(arguments.source, source, draw=draw)
        before = thoughts(source, text)
        for mix in arguments.mixes:
            by_sampan(arguments.sampan, source, file, mix)
            decode(file, floats)
            ours = divergence(before, thoughts(floats, text))
            by_llama(source, file, mix)
            decode(file, floats)
            pairs[mix].append((ours, divergence(before, thoughts(floats, text))))
    return pairs


def report(pairs):
    print("\n| mix | sampan | llama.cpp | ratio |\n|---|--:|--:|--:|")
    for mix, each in pairs.items():
        ours, theirs = np.array(each).T
        ratios = np.log(ours / theirs)
        error = ratios.std(ddof=1) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
        ratio = np.exp(ratios.mean())
        print(f"| {mix} | {ours.mean():.5f} | {theirs.mean():.5f} | {ratio:.3f} +- {ratio * error:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sampan")
    parser.add_argument("source")
    parser.add_argument("mixes", nargs="*", default=list(MIXES))
    parser.add_argument("--text", type=Path)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--heavy", action="store_true")
    parser.add_argument("--tensors", action="store_true")
    arguments = parser.parse_args()
    keep = ll.llama_log_callback(lambda *_: None)
    ll.llama_log_set(keep, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory() as folder:
        source, ours, theirs = (Path(folder) / f"{name}.gguf" for name in ("source", "ours", "theirs"))
        decode(arguments.source, source, arguments.heavy)
        original = weights(source)
        print("| mix | type | tensors | sampan | llama.cpp | ratio | bits | bits there |")
        print("|---|---|--:|--:|--:|--:|--:|--:|")
        times = {}
        for mix in arguments.mixes:
            a = timed(by_sampan, arguments.sampan, source, ours, mix)
            b = timed(by_llama, source, theirs, mix)
            times[mix] = (a, b)
            for row in compare(mix, original, weights(ours), weights(theirs), arguments.tensors):
                mix, what, count, a, b, bits, their_bits = row
                print(f"| {mix} | {what} | {count} | {a:.5f} | {b:.5f} | {a / b:.3f} | {bits:.2f} | {their_bits:.2f} |")
        if arguments.text:
            report(losses(arguments, Path(folder)))
        print("\nseconds: " + ", ".join(f"{mix} {a:.1f} / {b:.1f}" for mix, (a, b) in times.items()))


if __name__ == "__main__":
    main()
