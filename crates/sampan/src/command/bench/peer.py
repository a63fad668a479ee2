"""The other side of `sampan bench --compare`: llama.cpp, through the low-level interface of its Python package.

Arguments: MODEL THREADS CELLS STREAMS CACHE. Each line on standard input asks for something, each answer is a line of JSON.
Between questions the process waits in a read. Tokens are made up; the text that they stand for does not matter.
"""

import json
import sys
import time


def say(**facts):
    print(json.dumps(facts), flush=True)


def fail(error, hint):
    say(error=error, hint=hint)
    sys.exit(1)


try:
    import llama_cpp as llama
except ImportError as missing:
    fail(
        f"{sys.executable} has no llama.cpp ({missing})",
        "`pip install llama-cpp-python` builds it; --python names the interpreter that has it",
    )

# ggml's numbers of formats; the package does not name all of them.
TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}

complaints = []


@llama.llama_log_callback
def log(level, text, _):
    if level == 4:  # errors; the rest would be many lines about every file
        complaints.append(text.decode(errors="replace").strip())


class Peer:
    def __init__(self, path, threads, cells, streams, cache):
        self.path, self.threads, self.cells, self.streams = path, threads, cells, streams
        self.cache = cache
        self.filled = None

    def open(self):
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(self.path.encode(), params)
        if not self.model:
            self.refuse("cannot load the model")
        params = llama.llama_context_default_params()
        params.n_ctx = self.cells
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_seq_max = self.streams
        params.type_k = params.type_v = TYPES[self.cache]
        params.n_threads = params.n_threads_batch = self.threads
        params.kv_unified = True
        params.swa_full = False
        params.offload_kqv = params.op_offload = False
        self.context = llama.llama_init_from_model(self.model, params)
        if not self.context:
            self.refuse("cannot make a context")
        self.memory = llama.llama_get_memory(self.context)
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))

    def refuse(self, what):
        said = ": " + complaints[-1] if complaints else ""
        fail(
            f"llama.cpp {llama.__version__} {what}{said}",
            "a newer llama-cpp-python may know this file; without --compare it can be measured alone",
        )

    def batch(self, entries, last):
        """Entries are (token, position, sequence); logits are asked for of the last `last`."""
        batch = llama.llama_batch_init(len(entries), 0, 1)
        batch.n_tokens = len(entries)
        for i, (token, position, sequence) in enumerate(entries):
            batch.token[i] = token % self.vocab
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = i + last >= len(entries)
        return batch

    def prompt(self, start, tokens, last):
        """Batches of at most 2,048 made-up tokens for sequence 0."""
        entries = [((start + i) * 7919 + 13, start + i, 0) for i in range(tokens)]
        pieces = [entries[i : i + 2048] for i in range(0, tokens, 2048)]
        return [self.batch(piece, last if piece is pieces[-1] else 0) for piece in pieces]

    def run(self, batches):
        """Seconds that the batches take."""
        begin = time.perf_counter()
        for batch in batches:
            if llama.llama_decode(self.context, batch) != 0:
                self.refuse("cannot compute a batch")
            llama.llama_synchronize(self.context)
        seconds = time.perf_counter() - begin
        for batch in batches:
            llama.llama_batch_free(batch)
        return seconds

    def clear(self):
        llama.llama_memory_clear(self.memory, False)
        self.filled = None

    def fill(self, depth, streams):
        """Brings each stream to a context of `depth` tokens; what is there still is kept."""
        if self.filled == (depth, streams) and all(self.cut(s, depth) for s in range(streams)):
            return
        self.clear()
        self.run(self.prompt(0, depth, 1))
        for stream in range(1, streams):
            llama.llama_memory_seq_cp(self.memory, 0, stream, -1, -1)
        self.filled = (depth, streams)

    def cut(self, stream, depth):
        """Forgets what comes after `depth`; whether that was possible."""
        cut = llama.llama_memory_seq_rm(self.memory, stream, depth, -1)
        return cut and llama.llama_memory_seq_pos_min(self.memory, stream) == 0

    def answer(self, what, numbers):
        if what == "open":
            self.open()
            say(ready=True)
        elif what == "prompt":
            (tokens,) = numbers
            self.clear()
            say(seconds=self.run(self.prompt(0, tokens, 1)))
            self.filled = (tokens, 1)
        elif what == "generate":
            depth, tokens, streams = numbers
            self.fill(depth, streams)
            steps = [[(1000 + 97 * i + s, depth + i, s) for s in range(streams)] for i in range(tokens)]
            say(seconds=self.run([self.batch(step, streams) for step in steps]))
        elif what == "first":
            (tokens,) = numbers
            self.open()
            self.run(self.prompt(0, tokens, 1))
            sampler = llama.llama_sampler_init_greedy()
            say(token=llama.llama_sampler_sample(sampler, self.context, -1))
        elif what == "memory":
            say(peak_bytes=peak_bytes())
        else:
            fail(f"the peer script does not know {what!r}", "report this, please")


def peak_bytes():
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


llama.llama_log_set(log, None)
say(
    version=f"llama-cpp-python {llama.__version__}",
    system=llama.llama_print_system_info().decode(errors="replace").strip(),
)
peer = Peer(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])
for line in sys.stdin:
    words = line.split()
    peer.answer(words[0], list(map(int, words[1:])))
