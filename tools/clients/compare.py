"""The same work for several servers, in turns: a long prompt again and again, and many streams at a time.

    python3 compare.py sampan=http://127.0.0.1:8080 peer=http://127.0.0.1:8000 --turns 3

Each must have the same model. Only what every server with OpenAI's API does is asked of it: /v1/completions, or with --chat
/v1/chat/completions, streamed. A line for each turn, and behind them the
least, the median and the most of each figure."""

import argparse
import json
import random
import statistics
import threading
import time
import urllib.request

flags = argparse.ArgumentParser()
flags.add_argument("servers", nargs="+", metavar="NAME=URL")
flags.add_argument("--streams", type=int, default=16)
flags.add_argument("--words", type=int, default=200, help="words of each stream's prompt")
flags.add_argument("--tokens", type=int, default=64, help="tokens of each stream's answer")
flags.add_argument("--long-words", type=int, default=1500, help="words of the long prompt")
flags.add_argument("--times", type=int, default=20, help="how often the long prompt is sent")
flags.add_argument("--no-end", type=int, action="append", default=[], metavar="ID", help="tokens that would end an answer")
flags.add_argument("--only", choices=["prefix", "streams"])
flags.add_argument("--model", default=None)
flags.add_argument("--chat", action="store_true", help="ask /v1/chat/completions")
flags.add_argument("--turns", type=int, default=1, help="how often each server has its turn")
flags = flags.parse_args()

WORDS = "river boat water stone light morning paper window street garden winter summer letter number music silver".split()


def text(seed, words):
    pick = random.Random(seed)
    return " ".join(pick.choice(WORDS) for _ in range(words))


def says(choice):
    """Whether a piece brings text, or the end: a chat begins with one that only says whose turn it is."""
    delta = choice.get("delta") or {}
    return not flags.chat or choice.get("finish_reason") or delta.get("content") or delta.get("reasoning_content")


def stream(base, prompt, tokens):
    """Seconds to the first piece, seconds in all, and how the answer ended."""
    asked = {"messages": [{"role": "user", "content": prompt}]} if flags.chat else {"prompt": prompt}
    body = asked | {"max_tokens": tokens, "temperature": 0, "stream": True, "logit_bias": {str(token): -100 for token in flags.no_end}}
    path = "/v1/chat/completions" if flags.chat else "/v1/completions"
    if flags.model:
        body["model"] = flags.model
    begun, first, ended = time.monotonic(), None, None
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choice = json.loads(line[6:])["choices"][:1]
                if choice and first is None and says(choice[0]):
                    first = time.monotonic() - begun
                if choice:
                    ended = choice[0].get("finish_reason") or ended
    return first, time.monotonic() - begun, ended


def prefix(base):
    prompt = text(time.time(), flags.long_words)
    firsts = [stream(base, prompt, 1)[0] for _ in range(flags.times)]
    then = statistics.median(firsts[1:])
    return firsts[0], then, max(firsts[1:]), firsts[0] / then


def streams(base):
    outcomes, seed = [None] * flags.streams, time.time()

    def one(i):
        try:
            outcomes[i] = stream(base, text(f"{seed} {i}", flags.words), flags.tokens)
        except Exception as error:
            outcomes[i] = (None, None, repr(error))

    threads = [threading.Thread(target=one, args=[i]) for i in range(flags.streams)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    # An answer that ended at its limit has as many tokens as that; of any other it is not known.
    whole = [o for o in outcomes if o[2] == "length"]
    firsts = sorted(o[0] for o in whole)
    p95 = firsts[min(len(firsts) - 1, int(len(firsts) * 0.95))] if firsts else float("nan")
    median = statistics.median(firsts) if firsts else float("nan")
    others = sorted({str(o[2]) for o in outcomes if o[2] != "length"})
    return seconds, len(whole) * flags.tokens / seconds, median, p95, len(whole), "; ".join(others) or "-"


def table(heads, of):
    """Has each server do `of` in its turns, and prints what is between the turns behind them."""
    print("| server | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    rows = {name: [] for name, _ in servers}
    for _ in range(flags.turns):
        for name, base in servers:
            row = of(base)
            rows[name].append(row)
            print(f"| {name} | " + " | ".join(shown(value) for value in row) + " |", flush=True)
    if flags.turns > 1:
        for name, _ in servers:
            spread = [" / ".join(shown(pick(column)) for pick in (min, statistics.median, max)) if isinstance(column[0], float) else ""
                      for column in zip(*rows[name])]
            print(f"| **{name}, min / median / max** | " + " | ".join(spread) + " |")


def shown(value):
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:.0f}" if isinstance(value, float) else str(value)


servers = [server.split("=", 1) for server in flags.servers]
for _, base in servers:
    stream(base, "warm up", 2)
if flags.only != "streams":
    print(f"the same prompt of {flags.long_words} words, {flags.times} times, seconds to the first token\n")
    table(["first", "then (median)", "then (slowest)", "times sooner"], prefix)
if flags.only != "prefix":
    print(f"\n{flags.streams} streams at a time, prompts of {flags.words} words, answers of {flags.tokens} tokens\n")
    table(["seconds", "answer tokens/s", "first token, median s", "p95 s", "whole answers", "other ends"], streams)
