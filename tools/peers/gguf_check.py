"""Does llama.cpp read the GGUF files that sampan writes, and compute the same?

    python gguf_check.py FILES GOLDENS [NAME ...]

FILES holds NAME.gguf as `sampan convert --f32` or the export test writes them; GOLDENS holds
NAME/golden.safetensors with `ids` [n], `logits` [p, vocab] (of all positions, or those in `positions` [p]) and
`greedy` [m]. Prints a table row for each file: the largest difference of a logit over all positions, and how many greedy
tokens are equal before the first that is not. Every file is tried in a process of its own, because a failed assertion
there ends the process. Needs llama-cpp-python and numpy.
"""

import ctypes
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

TYPES = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "U8": np.uint8}


def tensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            yield name, np.frombuffer(data[start:end], TYPES[entry["dtype"]]).reshape(entry["shape"])


def check(path, golden):
    import llama_cpp as ll

    golden = dict(tensors(golden))
    ids, greedy = golden["ids"].tolist(), golden["greedy"].tolist()
    log = []
    keep = ll.llama_log_callback(lambda level, text, _: log.append((level, text.decode(errors="replace"))))
    ll.llama_log_set(keep, ctypes.c_void_p(0))
    ll.llama_backend_init()
    options = ll.llama_model_default_params()
    options.n_gpu_layers = 0
    options.use_mmap = True
    model = ll.llama_model_load_from_file(str(path).encode(), options)
    if not model:
        errors = [text.strip() for level, text in log if level >= 4]
        return {"error": (errors or ["?"])[0]}
    room = len(ids) + len(greedy)
    options = ll.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = max(512, 2 * room), max(512, room), max(512, room)
    options.type_k = options.type_v = 0  # float32
    options.flash_attn_type = 0
    options.n_threads = options.n_threads_batch = 2
    context = ll.llama_init_from_model(model, options)
    if not context:
        errors = [text.strip() for level, text in log if level >= 4]
        return {"error": (errors or ["no context"])[0]}
    vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))

    def feed(tokens, start):
        batch = ll.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, start + i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if ll.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        rows = [np.ctypeslib.as_array(ll.llama_get_logits_ith(context, i), (vocab,)).copy() for i in range(len(tokens))]
        ll.llama_batch_free(batch)
        return np.stack(rows)

    logits = feed(ids, 0)
    positions = golden["positions"].tolist() if "positions" in golden else list(range(len(ids)))
    difference = float(np.abs(logits[positions] - golden["logits"]).max())
    row, equal = logits[-1], 0
    for token in greedy:
        if int(row.argmax()) != token:
            break
        equal += 1
        row = feed([token], len(ids) + equal - 1)[0]
    return {"difference": difference, "greedy": f"{equal}/{len(greedy)}"}


def main():
    if sys.argv[1] == "--one":
        print(json.dumps(check(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    files, goldens, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    names = names or sorted(path.stem for path in files.glob("*.gguf"))
    import llama_cpp

    print(f"llama-cpp-python {llama_cpp.__version__}")
    print("| file | largest difference of a logit | equal greedy tokens | |\n|---|---|---|---|")
    for name in names:
        golden = goldens / name / "golden.safetensors"
        golden = golden if golden.exists() else goldens / f"{name}.golden.safetensors"
        command = [sys.executable, __file__, "--one", str(files / f"{name}.gguf"), str(golden)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
        if lines:
            result = json.loads(lines[-1])
        else:
            told = [line for line in run.stderr.splitlines() if "assert" in line.lower() or "Error" in line]
            told = [line.split("/llama.cpp/")[-1] for line in told]
            result = {"error": (told or [f"ended with status {run.returncode}"])[0]}
        if "error" in result:
            print(f"| {name} | - | - | {result['error']} |", flush=True)
        else:
            print(f"| {name} | {result['difference']:.1e} | {result['greedy']} | |", flush=True)


if __name__ == "__main__":
    main()
